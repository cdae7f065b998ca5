"""The asynchronous evolutionary search: no generations, and a Gaussian process that screens the children.

Every ask takes the state of that moment. The children of a population in the unit cube, by mutation, crossover and
differential evolution (Storn & Price 1997), are screened by a Gaussian process under expected improvement (Jones et al.
1998), upper confidence bounds and probability of improvement in turn; where a fit is impossible, as on a plateau, a
child is taken as it comes. Measured for budgets of 40 to 440 evaluations and batches of 8 and 40.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr

from workflow.search.base import SearchSettings, fitness, keyed_rng
from workflow.search.cube import Cube, Rows
from workflow.search.gaussian_process import GaussianProcess
from workflow.space import Space
from workflow.trial import Outcome, Params, Trial, Value

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
_LARGEST_GRID = 20_000

Genome = tuple[Value, ...]


@dataclass
class AsyncSearch:
    """The strategy ``async``. The same order of tells gives the same asks.

    ``initial`` are configurations that are asked for first. A configuration is asked for twice only with
    ``reevaluate``.
    """

    space: Space
    settings: SearchSettings
    mode: str = "min"
    initial: Sequence[Params] = ()
    message: str = ""
    repeatable: bool = False

    def __post_init__(self) -> None:
        self._cube = Cube(self.space)
        self._model = GaussianProcess(self._cube.categorical)
        self._initial = deque(tuple(params[p.name] for p in self.space.varying) for params in self.initial)
        self._next_id = 0
        self._gaps: deque[int] = deque()
        """Ids of trials whose record was lost: whatever is asked for next takes them."""
        self._exhausted = False
        self._known: dict[Genome, int] = {}
        self._pending: dict[int, Rows] = {}
        self._rows: list[Rows] = []
        self._losses: list[float] = []
        self._fitted_at = 0

    @property
    def budget(self) -> int:
        ceiling = math.inf if self.settings.reevaluate else self.space.size
        return int(min(self.settings.trials_without_generations, ceiling))

    @property
    def done(self) -> bool:
        if not self._exhausted and (self._gaps or self._next_id < self.budget):
            return False
        if self.budget < self.settings.trials_without_generations:
            self.message = f"the space holds only {self.budget} configurations, and each one was asked for"
        return True

    def ask(self) -> Trial | None:
        if self.done:
            return None
        trial_id = self._gaps[0] if self._gaps else self._next_id
        genome = self._propose(keyed_rng(self.settings.seed, trial_id), trial_id)
        if genome is None:
            self._exhausted = True
            return None
        return self._record(genome, trial_id)

    def tell(self, outcome: Outcome) -> None:
        row = self._pending.pop(outcome.trial_id, None)
        if row is not None:
            self._rows.append(row)
            self._losses.append(fitness(outcome, self.mode))

    def restore(self, trial: Trial, outcome: Outcome | None) -> None:
        """Take a recorded trial as it is. One whose record was lost comes as another one under its id."""
        self._gaps.extend(range(self._next_id, trial.id))
        genome = tuple(trial.params[p.name] for p in self.space.varying)
        if genome in self._initial:
            self._initial.remove(genome)
        self._record(genome, trial.id)
        if outcome is not None:
            self.tell(outcome)

    def _record(self, genome: Genome, trial_id: int) -> Trial:
        if self._gaps and self._gaps[0] == trial_id:
            self._gaps.popleft()
        self._next_id = max(self._next_id, trial_id + 1)
        config_id = self._known.setdefault(genome, trial_id)
        self._pending[trial_id] = self._cube.encode(genome)
        params = self.space.complete(dict(zip((p.name for p in self.space.varying), genome, strict=True)))
        return Trial(trial_id, config_id, params)

    # -- which configuration ---------------------------------------------------------------------------------------

    def _propose(self, rng: np.random.Generator, trial_id: int) -> Genome | None:
        """None if there is no configuration left."""
        while self._initial:
            genome = self._initial.popleft()
            if self._is_new(genome):
                return genome
        candidates = self._candidates(rng, trial_id)
        return next(filter(self._is_new, candidates), None) or self._rest(rng)

    def _is_new(self, genome: Genome) -> bool:
        return self.settings.reevaluate or genome not in self._known

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

    def _rest(self, rng: np.random.Generator) -> Genome | None:
        """Any configuration that is left, where all the candidates are known."""
        if self.space.size <= _LARGEST_GRID:
            left = [genome for genome in self.space.grid() if self._is_new(genome)]
            return left[int(rng.integers(len(left)))] if left else None
        drawn = (tuple(p.draw(rng) for p in self.space.varying) for _ in itertools.count())
        return next(filter(self._is_new, itertools.islice(drawn, 1000)), None)


def _log_expected_improvement(better: NDArray[np.float64]) -> NDArray[np.float64]:
    """log(phi(z) + z Phi(z)); far below by its asymptote, phi(z) / z^2."""
    density = np.exp(-0.5 * better**2) / math.sqrt(2 * math.pi)
    far = better < -5.0
    near = np.where(far, 1.0, density + better * ndtr(better))
    tail = -0.5 * better**2 - 0.5 * math.log(2 * math.pi) - 2 * np.log(np.where(far, -better, 1.0))
    return np.where(far, tail, np.log(near))
