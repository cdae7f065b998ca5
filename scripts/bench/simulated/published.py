"""Published campaigns, and what a training would have given at a configuration that they did not evaluate.

A training is like a published one that is drawn from those near its configuration: it takes as long, and diverges if
that one did. Else its loss is what is expected here, with the noise of any training that did not diverge. ``kernel``
and ``forest`` are two notions of what is near.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workflow.parameters import Choice, Number, Parameter
from workflow.search.base import keyed_rng
from workflow.space import Space
from workflow.space_file import parse_space
from workflow.trial import Params

TABLES = Path(__file__).resolve().parents[1] / "tables"

_BANDWIDTH = 0.05
"""Of the unit cube; of .01, .02, .05 and .1 the best for walltimes in cross-validation."""

_CAP = 0.75
"""Quantile of the losses above which trainings count as diverged: in an expectation they have this loss."""

_FOLDS = 5

Array = NDArray[np.float64]
Weights = Callable[[Array], Array]
"""For points (m, d) of the cube how near each of n rows is, (m, n); for a point they sum to 1."""


class Row(NamedTuple):
    """A published training; ``generation`` counts from 1."""

    generation: int
    params: Params
    loss: float
    seconds: float


@dataclass(frozen=True)
class Published:
    """A campaign of the reference system, in its order."""

    name: str
    space: Space
    rows: tuple[Row, ...]

    @property
    def generations(self) -> list[list[Row]]:
        numbers = sorted({row.generation for row in self.rows})
        return [[row for row in self.rows if row.generation == number] for number in numbers]

    @cached_property
    def _known(self) -> list[Parameter]:
        """The hyperparameters that the rows tell: of IGTD's all but the dropout."""
        return [parameter for parameter in self.space.varying if parameter.name in self.rows[0].params]

    def place(self, params: Params) -> Array:
        """A configuration in the unit cube of what the rows tell, numbers by their logarithm."""
        return np.array([_position(parameter, params) for parameter in self._known])

    @cached_property
    def places(self) -> Array:
        return np.array([self.place(row.params) for row in self.rows])


def _position(parameter: Parameter, params: Params) -> float:
    if isinstance(parameter, Choice):
        return parameter.to_unit(params[parameter.name])
    assert isinstance(parameter, Number), "published spaces have no others"
    lower, upper = math.log(parameter.lower), math.log(parameter.upper)
    return (math.log(float(params[parameter.name])) - lower) / (upper - lower)


def read(name: str) -> Published:
    """The campaign ``NAME.csv`` in the tables, with its ``NAME.space.json``."""
    space = parse_space(json.loads((TABLES / f"{name}.space.json").read_text()), name)
    with (TABLES / f"{name}.csv").open() as file:
        rows = tuple(_row(space, cells) for cells in csv.DictReader(file))
    return Published(name, space, rows)


def names() -> list[str]:
    return sorted(path.stem for path in TABLES.glob("*.csv"))


def _row(space: Space, cells: dict[str, str]) -> Row:
    params = {p.name: p.parse(cells[p.name]) for p in space.varying if p.name in cells}
    return Row(int(cells["iteration"]), params, float(cells["result"]), float(cells["walltime"]))


def kernel(places: Array, rows: Iterable[Row]) -> Weights:
    """By the distance in the cube."""

    def weights(points: Array) -> Array:
        squares = ((places - points[:, None]) ** 2).sum(axis=2)
        near = np.exp(-(squares - squares.min(axis=1, keepdims=True)) / (2 * _BANDWIDTH**2))
        return np.asarray(near / near.sum(axis=1, keepdims=True))

    return weights


def forest(places: Array, rows: Iterable[Row]) -> Weights:
    """By the leaves that they share in a forest of regression trees (Meinshausen 2006)."""
    from sklearn.ensemble import ExtraTreesRegressor  # of the extra "demo"

    targets = np.column_stack([_standard(_capped(rows)), _standard(_durations(rows))])
    trees = ExtraTreesRegressor(100, min_samples_leaf=3, random_state=0).fit(places, targets)
    leaves = trees.apply(places)

    def weights(points: Array) -> Array:
        shared = (own[:, None] == leaf for own, leaf in zip(trees.apply(points).T, leaves.T, strict=True))
        return np.asarray(sum(same / same.sum(axis=1, keepdims=True) for same in shared) / leaves.shape[1])

    return weights


MODELS = {"kernel": kernel, "forest": forest}


def _capped(rows: Iterable[Row]) -> Array:
    losses = np.log([row.loss for row in rows])
    return np.minimum(losses, np.quantile(losses, _CAP))


def _durations(rows: Iterable[Row]) -> Array:
    return np.log([max(1.0, row.seconds) for row in rows])


def _standard(values: Array) -> Array:
    return (values - values.mean()) / values.std()


class Training(NamedTuple):
    loss: float
    seconds: float


class Model:
    """What trainings give, by a published campaign; ``name`` is one of ``MODELS``."""

    def __init__(self, published: Published, name: str) -> None:
        self.published = published
        self._weights = MODELS[name](published.places, published.rows)
        self._losses = _capped(published.rows)
        self._converged = self._losses < self._losses.max()
        self._noise = (self._losses - self._weights(published.places) @ self._losses)[self._converged]

    def draw(self, params: Params, rng: np.random.Generator) -> Training:
        weights = self._near(params)
        drawn = min(int(np.searchsorted(np.cumsum(weights), rng.random())), len(weights) - 1)
        row, loss = self.published.rows[drawn], self.published.rows[drawn].loss
        if self._converged[drawn]:
            loss = math.exp(weights @ self._losses + rng.choice(self._noise))
        return Training(loss, row.seconds)

    def expected(self, params: Params) -> float:
        """The loss, without noise."""
        return math.exp(self._near(params) @ self._losses)

    def luck(self) -> float:
        """The probability that a training of the best configuration that was published, by its expected loss, is as
        good as the best training that was.
        """
        best = min((row.params for row in self.published.rows), key=self.expected)
        wanted = math.log(min(row.loss for row in self.published.rows) / self.expected(best))
        return float(self._near(best)[self._converged].sum() * (self._noise <= wanted).mean())

    def _near(self, params: Params) -> Array:
        (weights,) = self._weights(self.published.place(params)[None, :])
        return np.asarray(weights)


@dataclass(frozen=True)
class Trainings:
    """Those of a campaign: what one gives depends on its number and configuration, and on the seed."""

    model: Model
    seed: int

    def run(self, number: int, params: Params) -> Training:
        return self.model.draw(params, keyed_rng(self.seed, number))


class Fit(NamedTuple):
    """The share of the variance of logarithms that configurations explain which were left out."""

    loss: float
    seconds: float


def cross_validated(published: Published, model: str) -> Fit:
    """Repetitions of a configuration are left out together."""
    _, groups = np.unique(published.places, axis=0, return_inverse=True)
    folds = np.random.default_rng(0).permutation(groups.max() + 1)[groups.ravel()] % _FOLDS
    found = np.zeros((2, len(folds)))
    actual = np.array([_capped(published.rows), _durations(published.rows)])
    for fold in range(_FOLDS):
        kept = folds != fold
        rows = [row for row, keep in zip(published.rows, kept, strict=True) if keep]
        weights = MODELS[model](published.places[kept], rows)
        found[:, ~kept] = actual[:, kept] @ weights(published.places[~kept]).T
    errors = ((found - actual) ** 2).sum(axis=1) / ((actual - actual.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    return Fit(*(1 - errors))
