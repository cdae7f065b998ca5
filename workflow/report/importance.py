"""How much each hyperparameter matters: the variance of a model of the results, taken apart.

The model is the search's Gaussian process; its mean is decomposed over the whole space by variance-based sensitivity
analysis (Sobol' 1993), as functional ANOVA does for hyperparameters on a random forest (Hutter, Hoos & Leyton-Brown
2014). Estimators: first order and pairs by Saltelli (2002), as improved by Saltelli et al. (2010), total by Jansen
(1999).

The model is fitted on the normal scores of the results' ranks, so that a few diverged trainings don't decide, and
judged by what it predicts for configurations that it has not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import qmc, rankdata

from workflow.search.gaussian_process import GaussianProcess

Array = NDArray[np.float64]
Settle = Callable[[Array], Array]
"""Rows as configurations: what does not exist in one is put to its place."""

BELIEVABLE = 0.3
"""The least R2 with which a model tells of its parameters."""

FEWEST = 20
"""Trials below which no model is tried."""

_FITTED, _FOLDS, _SEED = 200, 5, 0
_POINTS_LOG2 = 10
_BATCH = 8192


@dataclass(frozen=True)
class Importance:
    """Shares of the variance: ``main`` by a parameter alone, ``total`` with its interactions, ``pairs`` by (i, j).

    ``r2`` is that of predictions for unseen configurations. ``trials`` is how many the model was fitted on.
    """

    r2: float
    trials: int
    main: tuple[float, ...] = ()
    total: tuple[float, ...] = ()
    pairs: tuple[tuple[int, int, float], ...] = ()

    @property
    def believable(self) -> bool:
        return self.r2 >= BELIEVABLE


def importance(rows: Array, losses: Array, sizes: Sequence[int], settle: Settle) -> Importance | None:
    """Of the columns of ``rows`` (n, d); ``sizes`` has the number of values of one without order, and 0 else.

    None where nothing can be told: too few trials, or no difference between them.
    """
    if len(losses) < FEWEST or np.ptp(losses) == 0 or rows.shape[1] == 0:
        return None
    chosen = np.random.Generator(np.random.PCG64(_SEED)).permutation(len(losses))[:_FITTED]
    rows, values = rows[chosen], _scores(losses[chosen])
    unordered = np.array([size > 0 for size in sizes])
    try:
        r2 = _tested(rows, values, unordered)
        if r2 < BELIEVABLE:
            return Importance(r2, len(values))
        model = _fitted(rows, values, unordered)
    except np.linalg.LinAlgError:
        return None
    return Importance(r2, len(values), *_shares(model, sizes, settle))


def _scores(losses: Array) -> Array:
    """Normal scores of the ranks, with mean 0 and variance 1."""
    scores = ndtri((rankdata(losses) - 0.5) / len(losses))
    return np.asarray((scores - scores.mean()) / (scores.std() or 1.0))


def _fitted(rows: Array, values: Array, unordered: NDArray[np.bool_]) -> GaussianProcess:
    model = GaussianProcess(unordered)
    model.fit(rows, values)
    model.condition(rows, values, np.empty((0, rows.shape[1])))
    return model


def _tested(rows: Array, values: Array, unordered: NDArray[np.bool_]) -> float:
    """R2 of a cross-validation in which trials of one configuration stay together."""
    _, group = np.unique(rows, axis=0, return_inverse=True)
    order = np.random.Generator(np.random.PCG64(_SEED)).permutation(group.max() + 1)
    fold = order[group.ravel()] % _FOLDS
    guesses = np.zeros_like(values)
    for number in np.unique(fold):
        known = fold != number
        if known.any():
            guesses[~known] = _fitted(rows[known], values[known], unordered).predict(rows[~known])[0]
    return float(1 - ((values - guesses) ** 2).sum() / ((values - values.mean()) ** 2).sum())


def _shares(
    model: GaussianProcess, sizes: Sequence[int], settle: Settle
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[tuple[int, int, float], ...]]:
    width = len(sizes)
    points = qmc.Sobol(2 * width, scramble=True, seed=_SEED).random_base2(_POINTS_LOG2)
    one, other = _placed(points[:, :width], sizes), _placed(points[:, width:], sizes)
    at = _evaluator(model, settle)
    first, second = at(one), at(other)
    centre = np.concatenate([first, second]).mean()
    first, second = first - centre, second - centre
    with_other = [at(_with_column(one, other, i)) - centre for i in range(width)]
    with_one = [at(_with_column(other, one, i)) - centre for i in range(width)]
    variance = float(np.concatenate([first, second]).var()) or 1.0
    main = [float((second * (each - first)).mean() / variance) for each in with_other]
    total = [float(((first - each) ** 2).mean() / 2 / variance) for each in with_other]
    pairs = [
        (i, j, float((with_one[i] * with_other[j] - first * second).mean() / variance) - main[i] - main[j])
        for i, j in combinations(range(width), 2)
    ]
    return _clipped(main), _clipped(total), tuple((i, j, max(0.0, share)) for i, j, share in pairs)


def _clipped(shares: Sequence[float]) -> tuple[float, ...]:
    """Without the estimators' noise below 0."""
    return tuple(min(1.0, max(0.0, share)) for share in shares)


def _placed(points: Array, sizes: Sequence[int]) -> Array:
    counts = np.array(sizes)
    return np.where(counts > 0, np.floor(points * np.maximum(counts, 1)), points)


def _with_column(rows: Array, others: Array, column: int) -> Array:
    mixed = rows.copy()
    mixed[:, column] = others[:, column]
    return mixed


def _evaluator(model: GaussianProcess, settle: Settle) -> Callable[[Array], Array]:
    """The model's mean, in batches that fit into memory."""

    def evaluate(rows: Array) -> Array:
        settled = settle(rows)
        batches = [settled[start : start + _BATCH] for start in range(0, len(settled), _BATCH)]
        return np.concatenate([model.predict(batch)[0] for batch in batches])

    return evaluate
