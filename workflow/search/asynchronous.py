"""The asynchronous evolutionary search: no generations, and a Gaussian process that screens the children.

Every ask takes the state of that moment. The children of a population in the unit cube, by mutation, crossover and
differential evolution (Storn & Price 1997), are screened by a Gaussian process under expected improvement (Jones et al.
1998), upper confidence bounds and probability of improvement in turn; where a fit is impossible, as on a plateau, a
child is taken as it comes. Measured for budgets of 40 to 440 evaluations and batches of 8 and 40.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr

from workflow.search.base import fitness, keyed_rng
from workflow.search.cube import Cube, Rows
from workflow.search.gaussian_process import GaussianProcess
from workflow.search.steady import SteadySearch
from workflow.space import Genome
from workflow.trial import Outcome

_DESIGN = 8
"""Results before the first child is made; until then trials are points of Latin hypercubes."""

_HYPERCUBE = 16
_FITTED = 150
"""The most results that the model is fitted on and predicts from."""

_PENDING = 80
"""The most pending trials that narrow its variance."""

_REFIT = 1.15
"""Growth of the number of results after which the model's parameters are fitted anew."""

_CHILDREN, _ROUNDS = 120, 3
_SURVIVORS = 12
_CAP = 0.75
"""Quantile of the losses at which those above are capped: diverged trainings would bend the model."""

_DIFFERENTIAL = 0.25
"""Share of asks that take the model's best of a few differential children: robust where the model is wrong."""

_FEW = 5


class AsyncSearch(SteadySearch):
    """The strategy ``async``. The same order of tells gives the same asks."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._cube = Cube(self.space)
        self._model = GaussianProcess(self._cube.categorical)
        self._pending: dict[int, Rows] = {}
        self._rows: list[Rows] = []
        self._losses: list[float] = []
        self._fitted_at = 0

    def tell(self, outcome: Outcome) -> None:
        row = self._pending.pop(outcome.trial_id, None)
        if row is not None:
            self._rows.append(row)
            self._losses.append(fitness(outcome, self.mode))

    def _added(self, trial_id: int, genome: Genome) -> None:
        self._pending[trial_id] = self._cube.encode(genome)

    # -- which configuration ---------------------------------------------------------------------------------------

    def _suggest(self, rng: np.random.Generator, trial_id: int) -> Genome | None:
        candidates = filter(self.space.allows, self._candidates(rng, trial_id))
        return next(filter(self._is_new, candidates), None)

    def _candidates(self, rng: np.random.Generator, trial_id: int) -> Iterable[Genome]:
        """Configurations, the best first."""
        losses = np.array(self._losses)
        succeeded = np.flatnonzero(np.isfinite(losses))
        if len(succeeded) < _DESIGN:
            return map(self._cube.decode, self._design(rng, trial_id))
        rows = np.array(self._rows)
        elite = rows[succeeded[np.argsort(losses[succeeded], kind="stable")]][: self.settings.population_size]
        try:
            best = self._learn(rows, losses)
            found = self._screened(rng, elite, best)
        except np.linalg.LinAlgError:
            found = self._children(rng, elite, _CHILDREN)
            rng.shuffle(found)
        return map(self._cube.decode, found)

    def _design(self, rng: np.random.Generator, trial_id: int) -> Rows:
        """The point of this ask in a Latin hypercube that several of them share, and others beside it."""
        block, number = divmod(trial_id, _HYPERCUBE)
        points = self._cube.latin(keyed_rng(self.settings.seed, block, 1), _HYPERCUBE)
        return np.vstack([points[number][None, :], self._cube.uniform(rng, 4 * _HYPERCUBE)])

    def _children(self, rng: np.random.Generator, elite: Rows, count: int) -> Rows:
        """Mutants, crossed mutants, differential children and immigrants."""
        mutants = self._cube.mutate(self._picked(rng, elite, count // 3), rng)
        crossed = self._cube.cross(self._picked(rng, elite, count // 3), self._picked(rng, elite, count // 3), rng)
        crossed = np.where(rng.random((len(crossed), 1)) < 0.5, self._cube.mutate(crossed, rng), crossed)
        immigrants = self._cube.uniform(rng, count // 12)
        return np.vstack([mutants, crossed, self._differential(rng, elite, count // 4), immigrants])

    def _differential(self, rng: np.random.Generator, elite: Rows, count: int) -> Rows:
        base, plus, minus = (self._picked(rng, elite, count) for _ in range(3))
        return self._cube.differ(base, plus, minus, rng)

    def _picked(self, rng: np.random.Generator, elite: Rows, count: int) -> Rows:
        """Rows of the elite, better ones more often."""
        return elite[np.minimum(*rng.integers(len(elite), size=(2, count)))]

    def _learn(self, rows: Rows, losses: NDArray[np.float64]) -> float:
        """Fit the model where that is due, and condition it; the best mean at a result. Raises LinAlgError."""
        if rows.shape[1] == 0:
            raise np.linalg.LinAlgError("nothing varies")
        cap = np.quantile(losses[np.isfinite(losses)], _CAP)
        capped = np.minimum(losses, cap)
        chosen = self._chosen(capped)
        rows, values = rows[chosen], capped[chosen]
        deviation = values.std()
        if not deviation > 1e-12 * max(1.0, abs(float(values.mean()))) or not np.isfinite(deviation):
            raise np.linalg.LinAlgError("a plateau")
        values = (values - values.mean()) / deviation
        if len(losses) >= _REFIT * self._fitted_at:
            self._fitted_at = len(losses)
            self._model.fit(rows, values)
        pending = np.array(list(self._pending.values())[-_PENDING:]).reshape(-1, rows.shape[1])
        self._model.condition(rows, values, pending)
        return float(self._model.predict(rows)[0].min())

    def _chosen(self, losses: NDArray[np.float64]) -> NDArray[np.intp]:
        """The results that the model sees: all, or the best and the last."""
        if len(losses) <= _FITTED:
            return np.arange(len(losses))
        best = np.argsort(losses, kind="stable")[: _FITTED // 2]
        others = np.setdiff1d(np.arange(len(losses)), best)[-(_FITTED - len(best)) :]
        return np.sort(np.concatenate([best, others]))

    def _screened(self, rng: np.random.Generator, elite: Rows, best: float) -> Rows:
        """Children in the order of what the model expects of them."""
        rule, weight = rng.random(), rng.exponential(2.0)
        if rng.random() < _DIFFERENTIAL:
            few = self._differential(rng, elite, _FEW)
            return few[np.argsort(-self._worth(few, best, rule, weight), kind="stable")]
        pool = self._children(rng, elite, _CHILDREN)
        for _ in range(_ROUNDS - 1):
            order = np.argsort(-self._worth(pool, best, rule, weight), kind="stable")
            parents = pool[order[:_SURVIVORS]]
            children = self._cube.mutate(np.repeat(parents, _CHILDREN // _SURVIVORS // 2, axis=0), rng)
            crossed = self._cube.cross(children, self._picked(rng, parents, len(children)), rng)
            pool = np.vstack([parents, children, crossed])
        return pool[np.argsort(-self._worth(pool, best, rule, weight), kind="stable")]

    def _worth(self, rows: Rows, best: float, rule: float, weight: float) -> NDArray[np.float64]:
        """Half of the asks by expected improvement, a quarter each by a confidence bound and by its probability."""
        mean, deviation = self._model.predict(rows)
        better = (best - mean) / deviation
        if rule < 0.5:
            return _log_expected_improvement(better) + np.log(deviation)
        return weight * deviation - mean if rule < 0.75 else log_ndtr(better)


def _log_expected_improvement(better: NDArray[np.float64]) -> NDArray[np.float64]:
    """log(phi(z) + z Phi(z)); far below by its asymptote, phi(z) / z^2."""
    density = np.exp(-0.5 * better**2) / math.sqrt(2 * math.pi)
    far = better < -5.0
    near = np.where(far, 1.0, density + better * ndtr(better))
    tail = -0.5 * better**2 - 0.5 * math.log(2 * math.pi) - 2 * np.log(np.where(far, -better, 1.0))
    return np.where(far, tail, np.log(near))
