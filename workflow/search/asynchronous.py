"""The asynchronous evolutionary search: no generations, and children that a model has screened.

With a fidelity, trials start small, and those go on of which the model expects the best whole trainings, by the rule of
asynchronous successive halving; the model learns from all of them. Measured for budgets of 40 to 440 evaluations and
batches of 8 and 40 (scripts/bench_search.py).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workflow.search.base import fitness, keyed_rng
from workflow.search.cube import Cube, Rows
from workflow.search.halving import Ladder
from workflow.search.screening import Observations, Screen
from workflow.search.steady import Genome, SteadySearch
from workflow.trial import Outcome, Trial

_DESIGN = 8
"""Results before the first child is made; until then trials are points of Latin hypercubes."""

_HYPERCUBE = 16
_ROUNDING = 1e-9
"""Of sums of costs."""


class _Training(NamedTuple):
    """Of a configuration, on a rung of the fidelity."""

    config_id: int
    rung: int


class AsyncSearch(SteadySearch):
    """The strategy ``async``. The same order of tells gives the same asks.

    Without a fidelity there is one rung, of whole trainings.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._fidelity = fidelity = self.settings.fidelity
        whole = Ladder([1.0], math.inf, resumes=False)
        self._ladder = Ladder(fidelity.rungs, fidelity.eta, resumes=fidelity.resumes) if fidelity else whole
        self._cube = Cube(self.space)
        self._screen = Screen(self._cube, [False], [1.0]) if fidelity else Screen(self._cube)
        self._spent = 0.0
        """In whole trainings."""
        self._genomes: dict[int, Genome] = {}
        self._rows: dict[int, Rows] = {}
        self._pending: dict[int, _Training] = {}
        self._ended: list[tuple[_Training, float]] = []

    @property
    def budget(self) -> int:
        """With a fidelity ``evaluations`` counts whole trainings, and smaller ones by their share."""
        if self._fidelity is None:
            return super().budget
        ceiling = math.inf if self.settings.reevaluate else self.space.size * len(self._ladder.rungs)
        return int(min(self.settings.trials_without_generations / self._ladder.cost(0) + _ROUNDING, ceiling))

    @property
    def _has_budget(self) -> bool:
        return self._is_affordable(self._ladder.cost(0)) if self._fidelity else super()._has_budget

    @property
    def _may_go_on(self) -> bool:
        return self._fidelity is not None and bool(self._pending)

    def ask(self) -> Trial | None:
        promoted = None if self.done else self._promotion()
        if promoted is None:
            return super().ask()
        return self._record(self._genomes[promoted.config_id], self._free_id, self._ladder.rungs[promoted.rung])

    def tell(self, outcome: Outcome) -> None:
        training = self._pending.pop(outcome.trial_id, None)
        if training is not None:
            loss = fitness(outcome, self.mode)
            self._ended.append((training, loss))
            self._ladder.end(*training, loss)

    def _first_fidelity(self) -> float | None:
        if self._fidelity is None:
            return None
        rung = self._ladder.start
        return self._ladder.rungs[rung if self._is_affordable(self._ladder.cost(rung)) else 0]

    def _added(self, trial: Trial, genome: Genome) -> None:
        training = _Training(trial.config_id, self._ladder.rung(trial.fidelity))
        self._spent += self._ladder.cost(training.rung, training.config_id)
        self._genomes[training.config_id] = genome
        self._rows[training.config_id] = self._cube.encode(genome)
        self._pending[trial.id] = training
        self._ladder.begin(*training)

    def _is_affordable(self, cost: float) -> bool:
        return self._spent + cost <= self.settings.trials_without_generations + _ROUNDING

    # -- which configuration ---------------------------------------------------------------------------------------

    def _promotion(self) -> _Training | None:
        """The configuration that is to go on: the one of which the model expects the best whole training."""
        found = self._ladder.promotable()
        if found is None:
            return None
        rung, losses = found
        if self._learns():
            rows = np.array([self._rows[config_id] for config_id in losses])
            losses = dict(zip(losses, self._screen.means(rows), strict=True))
        config_id = min(losses, key=lambda config: (losses[config], config))
        return _Training(config_id, rung) if self._is_affordable(self._ladder.cost(rung, config_id)) else None

    def _suggest(self, rng: np.random.Generator, trial_id: int) -> Genome | None:
        rows = self._candidates(rng) if self._is_designed else self._design(rng, trial_id)
        return next(filter(self._is_new, map(self._cube.decode, rows)), None)

    @property
    def _is_designed(self) -> bool:
        return sum(math.isfinite(loss) for _, loss in self._ended) >= _DESIGN

    def _design(self, rng: np.random.Generator, trial_id: int) -> Rows:
        """The point of this ask in a Latin hypercube that several of them share, and others beside it."""
        block, number = divmod(trial_id, _HYPERCUBE)
        points = self._cube.latin(keyed_rng(self.settings.seed, block, 1), _HYPERCUBE)
        return np.vstack([points[number][None, :], self._cube.uniform(rng, 4 * _HYPERCUBE)])

    def _candidates(self, rng: np.random.Generator) -> Rows:
        """The best first."""
        elite = self._elite()
        return self._screen.children(rng, elite) if self._learns() else self._screen.bred(rng, elite)

    def _elite(self) -> Rows:
        """The best configurations, by their results on the highest rung that each has reached."""
        highest: dict[int, tuple[int, float]] = {}
        for (training, _), loss in zip(self._ended, self._levelled(), strict=True):
            known = highest.get(training.config_id, (-1, math.inf))
            highest[training.config_id] = max(known, (training.rung, float(loss)), key=lambda result: result[0])
        ranked = sorted((loss, config_id) for config_id, (_, loss) in highest.items() if math.isfinite(loss))
        return np.array([self._rows[config_id] for _, config_id in ranked[: self.settings.population_size]])

    def _learns(self) -> bool:
        """Bring the model up to date; False where it cannot be fitted."""
        if not self._is_designed:
            return False
        trainings = [*(training for training, _ in self._ended), *self._pending.values()]
        rows = np.array([self._rows[training.config_id] for training in trainings])
        fidelity, rungs = self._fidelity, self._ladder.rungs
        context = [[fidelity.position(rungs[training.rung])] if fidelity else [] for training in trainings]
        return self._screen.learn(Observations(rows, np.array(context), self._levelled()))

    def _levelled(self) -> NDArray[np.float64]:
        """All losses so far, those of lower rungs brought to the level of the highest."""
        gains = self._ladder.gains()
        return np.array([loss + gains[training.rung] for training, loss in self._ended])
