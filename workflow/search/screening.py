"""Children of the best configurations, screened by a Gaussian process.

Children come by mutation and differential evolution (Storn & Price 1997) in the unit cube, and are taken in the order
of expected improvement (Jones et al. 1998) or a confidence bound. What each part is worth is measured
(``scripts/bench_search.py table ablations``); crossover and the probability of improvement were worth nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from workflow.search.arrays import Array, Indices, Mask
from workflow.search.cost import Cost
from workflow.search.cube import Cube, Rows
from workflow.search.gaussian_process import GaussianProcess

_FITTED = 150
"""The most results that the model is fitted on and predicts from."""

_PENDING = 80
"""The most pending trials that narrow its variance."""

_REFIT = 1.15
"""Growth of the number of results after which the model's parameters are fitted anew."""

_NEIGHBOURS = 5
"""A failure counts where at least half of as many nearest results failed, too."""

_CHILDREN = 120
_SURVIVORS = 12
_FEW = 5


@dataclass(frozen=True)
class Observations:
    """n results, and m pending trials after them: a row each of ``rows`` (n + m, d).

    ``context`` (n + m, c) holds what else a result depends on. ``losses`` (n,) are infinite for failed ones, and
    ``seconds`` (n,) durations, 0 where they tell nothing.
    """

    rows: Rows
    context: Rows
    losses: Array
    seconds: Array


class Screen:
    """``context`` tells which columns of the observations' context have no order, ``target`` what is wanted of them.

    ``cost_aware`` weighs what is expected of a configuration by the seconds that it is expected to take. The settings
    that are attributes of the class are those that the ablations vary.
    """

    cap = 0.75
    """Quantile of the losses at which those above are capped: diverged trainings would bend the model."""

    differential = 0.25
    """Share of asks that take the model's best of a few differential children: robust where the model is wrong."""

    rounds = 3
    """Generations of children that are bred by the model before one is taken."""

    improvement = 0.75
    """Share of asks by expected improvement; the others go by a lower confidence bound."""

    boldness = 2.0
    """Mean number of deviations below the mean at which that bound lies; it is drawn for each ask, exponentially."""

    def __init__(
        self, cube: Cube, context: Sequence[bool] = (), target: Sequence[float] = (), *, cost_aware: bool = False
    ) -> None:
        self._cube = cube
        self._target = np.array(target, dtype=float)
        categorical = np.concatenate([cube.categorical, np.array(context, dtype=bool)])
        self._model = GaussianProcess(categorical)
        self._cost = Cost(categorical) if cost_aware else None
        self._fitted_at = 0

    def learn(self, known: Observations) -> bool:
        """Fit the model where that is due, and condition it; False where that is impossible, as on a plateau."""
        try:
            self._learn(known)
        except np.linalg.LinAlgError:
            return False
        return True

    def means(self, rows: Rows) -> Array:
        """What the model expects at ``rows``, in the wanted context. After ``learn``."""
        return self._model.predict(self._as_wanted(rows))[0]

    def children(self, rng: np.random.Generator, elite: Rows) -> Rows:
        """Children of ``elite`` (rows in the order of their losses), the most promising first. After ``learn``."""
        best = float(self.means(elite).min())
        weight = None if rng.random() < self.improvement else rng.exponential(self.boldness)
        if rng.random() < self.differential:
            few = self._cube.allowed(self._differential(rng, elite, _FEW), elite, rng)
            return few[np.argsort(-self._worth(few, best, weight), kind="stable")]
        pool = self._bred(rng, elite, _CHILDREN)
        for _ in range(self.rounds - 1):
            order = np.argsort(-self._worth(pool, best, weight), kind="stable")
            parents = pool[order[:_SURVIVORS]]
            children = self._cube.mutate(np.repeat(parents, _CHILDREN // _SURVIVORS, axis=0), rng)
            pool = np.vstack([parents, self._cube.allowed(children, elite, rng)])
        return pool[np.argsort(-self._worth(pool, best, weight), kind="stable")]

    def bred(self, rng: np.random.Generator, elite: Rows) -> Rows:
        """Children of ``elite`` in no order, for want of a model."""
        found = self._bred(rng, elite, _CHILDREN)
        rng.shuffle(found)
        return found

    def _bred(self, rng: np.random.Generator, elite: Rows, count: int) -> Rows:
        """Mutants, differential children and immigrants."""
        mutants = self._cube.mutate(self._picked(rng, elite, count * 2 // 3), rng)
        immigrants = self._cube.uniform(rng, count // 12)
        bred = np.vstack([mutants, self._differential(rng, elite, count // 4), immigrants])
        return self._cube.allowed(bred, elite, rng)

    def _differential(self, rng: np.random.Generator, elite: Rows, count: int) -> Rows:
        base, plus, minus = (self._picked(rng, elite, count) for _ in range(3))
        return self._cube.differ(base, plus, minus, rng)

    def _picked(self, rng: np.random.Generator, elite: Rows, count: int) -> Rows:
        """Rows of the elite, better ones more often."""
        return elite[np.minimum(*rng.integers(len(elite), size=(2, count)))]

    def _learn(self, known: Observations) -> None:
        if known.rows.shape[1] == 0:
            raise np.linalg.LinAlgError("nothing varies")
        rows = np.hstack([known.rows, known.context])
        number = len(known.losses)
        capped = np.minimum(known.losses, np.quantile(known.losses[np.isfinite(known.losses)], self.cap))
        chosen = self._without_strays(rows, known.losses, _chosen(capped))
        values = capped[chosen]
        deviation = values.std()
        if not deviation > 1e-12 * max(1.0, abs(float(values.mean()))) or not np.isfinite(deviation):
            raise np.linalg.LinAlgError("a plateau")
        values = (values - values.mean()) / deviation
        if number >= _REFIT * self._fitted_at:
            self._fitted_at = number
            self._model.fit(rows[chosen], values)
        if self._cost is not None:
            self._cost.fit(rows[:number], known.seconds)
        self._model.condition(rows[chosen], values, rows[number:][-_PENDING:])

    def _without_strays(self, rows: Rows, losses: Array, chosen: Indices) -> Indices:
        """The chosen results without failures among successes, which tell of no region that fails."""
        failed = ~np.isfinite(losses[chosen])
        if not failed.any():
            return chosen
        likeness = self._model.covariance(rows[chosen], rows[chosen])
        np.fill_diagonal(likeness, -np.inf)
        nearest = np.argsort(-likeness, axis=1, kind="stable")[:, :_NEIGHBOURS]
        counts: Mask = ~failed | (failed[nearest].mean(axis=1) >= 0.5)
        return chosen[counts]

    def _as_wanted(self, rows: Rows) -> Rows:
        return np.hstack([rows, np.tile(self._target, (len(rows), 1))])

    def _worth(self, rows: Rows, best: float, weight: float | None) -> Array:
        """Expected improvement on ``best``; or a bound, ``weight`` deviations below the mean.

        The improvement is a rate, per second, where costs count (Snoek et al. 2012).
        """
        rows = self._as_wanted(rows)
        mean, deviation = self._model.predict(rows)
        if weight is not None:
            return weight * deviation - mean
        cost = 0.0 if self._cost is None else self._cost.predict(rows)
        return _log_expected_improvement((best - mean) / deviation) + np.log(deviation) - cost


def _chosen(losses: Array) -> Indices:
    """The results that the model sees: all, or the best and the last."""
    if len(losses) <= _FITTED:
        return np.arange(len(losses))
    near = smallest(losses, _FITTED // 2)
    best = near[np.argsort(losses[near], kind="stable")][: _FITTED // 2]
    last = np.arange(len(losses) - _FITTED, len(losses))  # of which at most half are among the best
    return np.sort(np.concatenate([best, np.setdiff1d(last, best)[-(_FITTED - len(best)) :]]))


def smallest(values: Array, count: int) -> Indices:
    """Indices of the ``count`` least values and all that equal the largest of them, in their order, in linear time."""
    if len(values) <= count:
        return np.arange(len(values))
    return np.flatnonzero(values <= np.partition(values, count - 1)[count - 1])


def _log_expected_improvement(better: Array) -> Array:
    """log(phi(z) + z Phi(z)), n numbers; far below by its asymptote, phi(z) / z^2 (Ament et al. 2023)."""
    density = np.exp(-0.5 * better**2) / math.sqrt(2 * math.pi)
    far = better < -5.0
    near = np.where(far, 1.0, density + better * ndtr(better))
    tail = -0.5 * better**2 - 0.5 * math.log(2 * math.pi) - 2 * np.log(np.where(far, -better, 1.0))
    return np.where(far, tail, np.log(near))
