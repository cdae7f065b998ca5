"""Several objectives in one order: that of NSGA-II (Deb et al. 2002), and ParEGO's scalar loss (Knowles 2006).

Losses have the shape (n, objectives): rows are trials, columns the losses by each objective, all to be minimised; a
failed trial has infinity in all. What is told of each row has the shape (n,).

>>> losses = [[1.0, 5.0], [2.0, 2.0], [5.0, 1.0], [3.0, 3.0]]
>>> fronts(losses), is_non_dominated(losses)
(array([0, 0, 0, 1]), array([ True,  True,  True, False]))
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workflow.search.arrays import Array, Indices, Mask

LossTable = Sequence[Sequence[float]] | Sequence[Array] | Array

_SUM = 0.05
"""Weight of the sum in a scalar loss: ParEGO's rho, by which no dominated trial is as good as its dominator."""

_TYPICAL = 0.75
"""Quantile up to which a loss has its range: a diverged training would make all others equal."""


def is_non_dominated(losses: LossTable) -> Mask:
    """Which rows no other one dominates; equal rows do not dominate each other."""
    rows, place = _distinct(losses)
    found = np.zeros(len(rows), dtype=bool)
    found[_first_front(rows)] = True
    return found[place]


def fronts(losses: LossTable) -> Indices:
    """The front of each row by non-dominated sorting, 0 for what nothing dominates."""
    rows, place = _distinct(losses)
    return _fronts(rows)[place]


def crowding(losses: LossTable) -> Array:
    """The crowding distance of each row within one front, infinite at the front's ends.

    Equal rows count once and share a distance (Fortin & Parizeau 2013).
    """
    rows, place = _distinct(losses)
    return _crowding(rows)[place]


def ranks(losses: LossTable) -> Indices:
    """Places in NSGA-II's order, 0 the best: by front, within a front the less crowded first.

    Of equal rows one stands there, the next behind the rest of the front and so on (Fortin & Parizeau 2013): else
    copies of its ends would take over a population. By one objective all equal rows share the place of their loss.
    """
    rows, place = _distinct(losses)
    if rows.shape[1] == 1:
        return place
    front = _fronts(rows)
    distance = np.zeros(len(rows))
    for number in range(front.max(initial=-1) + 1):
        distance[front == number] = _crowding(rows[front == number])
    keys = np.column_stack([front[place], _copies(place), -distance[place]])
    return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)


def tchebycheff(losses: Array, weights: Array) -> Array:
    """The augmented Tchebycheff loss of each row (Knowles 2006), after each column was scaled by its range.

    ``weights`` (objectives,) are positive and sum to 1.
    """
    succeeded = np.isfinite(losses).all(axis=1)
    scalar = np.full(len(losses), np.inf)
    scaled = weights * _scaled(losses[succeeded])
    scalar[succeeded] = scaled.max(axis=1) + _SUM * scaled.sum(axis=1)
    return scalar


def _distinct(losses: LossTable) -> tuple[Array, Indices]:
    """Distinct rows in lexicographic order, and the place among them of each row."""
    array = np.asarray(losses, dtype=float)
    if not len(array):
        return array.reshape(0, 1), np.zeros(0, dtype=np.intp)
    rows, place = np.unique(array, axis=0, return_inverse=True)
    return rows, place.reshape(-1)


def _copies(place: Indices) -> Indices:
    """How many equal rows come before each row."""
    order = np.argsort(place, kind="stable")
    before = np.zeros(len(place), dtype=np.intp)
    before[order] = np.arange(len(place)) - np.searchsorted(place[order], place[order])
    return before


def _first_front(rows: Array) -> Indices:
    """Of distinct rows in lexicographic order, in which no row dominates one before it."""
    left, found = np.arange(len(rows)), []
    while len(left):
        found.append(left[0])
        left = left[(rows[left] < rows[left[0]]).any(axis=1)]
    return np.array(found, dtype=np.intp)


def _fronts(rows: Array) -> Indices:
    front = np.zeros(len(rows), dtype=np.intp)
    left, number = np.arange(len(rows)), 0
    while len(left):
        first = _first_front(rows[left])
        front[left[first]] = number
        left, number = np.delete(left, first), number + 1
    return front


def _crowding(rows: Array) -> Array:
    distance = np.zeros(len(rows))
    for column in rows.T / 2:  # halves, of which no difference overflows
        order = np.argsort(column, kind="stable")
        distance[order[:1]] = distance[order[-1:]] = np.inf
        if len(rows) > 2 and (spread := column[order[-1]] - column[order[0]]) > 0:
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / spread
    return distance


def _scaled(losses: Array) -> Array:
    """From 0 for the best to 1 for a typical bad one; a column whose losses are all equal becomes 0."""
    if not len(losses):
        return losses
    halves = losses / 2  # of which no difference overflows
    best, worst = halves.min(axis=0), halves.max(axis=0)
    typical = np.quantile(halves, _TYPICAL, axis=0)
    spread = np.where(typical > best, typical - best, worst - best)
    scaled: Array = (halves - best) / np.where(spread > 0, spread, 1.0)
    return scaled
