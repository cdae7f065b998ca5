"""The asynchronous evolutionary search: no generations, and children that a model has screened.

With a fidelity, trials start small, and those go on of which the model expects the best whole trainings, by the rule of
asynchronous successive halving; the model learns from all of them. Measured for budgets of 40 to 440 evaluations and
batches of 8 and 40 (scripts/bench_search.py).

With several objectives the parents are the first in NSGA-II's order, and each ask's model is of the losses in one
weighting, drawn for it (ParEGO, Knowles 2006).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from workflow.search.base import Earlier, keyed_rng, losses_of
from workflow.search.cube import Cube, Rows
from workflow.search.earlier import beside, typical
from workflow.search.halving import Ladder, Losses
from workflow.search.pareto import ranks, tchebycheff
from workflow.search.screening import Observations, Screen
from workflow.search.steady import SteadySearch
from workflow.space import Genome
from workflow.trial import Outcome, Trial

_DESIGN = 8
"""Results before the first child is made; until then trials are points of Latin hypercubes."""

_HYPERCUBE = 16

# What else an ask draws: the last part of its key.
_LATIN, _WEIGHTS = 1, 2

_OWN = 0.0
"""In the model's context the source of the campaign's own results; earlier runs' are 1, 2, ..."""

_ROUNDING = 1e-9
"""Of sums of costs."""


class _Training(NamedTuple):
    """Of a configuration, on a rung of the fidelity."""

    config_id: int
    rung: int


@dataclass
class AsyncSearch(SteadySearch):
    """The strategy ``async``. The same order of tells gives the same asks.

    Without a fidelity there is one rung, of whole trainings. What ``earlier`` runs found informs the model, which
    learns how far each of them is to be trusted.
    """

    earlier: Sequence[Earlier] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self._fidelity = fidelity = self.settings.fidelity
        whole = Ladder([1.0], math.inf, resumes=False)
        self._ladder = Ladder(fidelity.rungs, fidelity.eta, resumes=fidelity.resumes) if fidelity else whole
        self._cube = Cube(self.space)
        self._earlier = typical(self.earlier, self.space)
        self._earlier_losses = {known.genome: known.loss for known in reversed(self._earlier)}
        context = [False] * bool(fidelity) + [True] * bool(self._earlier)
        target = [1.0] * bool(fidelity) + [_OWN] * bool(self._earlier)
        self._screen = Screen(self._cube, context, target, cost_aware=self.settings.cost_aware)
        self._spent = 0.0
        """In whole trainings."""
        self._genomes: dict[int, Genome] = {}
        self._rows: dict[int, Rows] = {}
        self._pending: dict[int, _Training] = {}
        self._ended: list[tuple[_Training, Losses]] = []
        self._seconds: list[float] = []

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
            losses = losses_of(outcome, self.mode, self.further)
            self._ended.append((training, losses))
            self._seconds.append(outcome.seconds if outcome.kind == "ok" else 0.0)
            self._ladder.end(*training, losses)

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
        rung, waiting = found
        if self._learns():
            expected = self._screen.means(np.array([self._rows[config_id] for config_id in waiting]))
        else:
            expected = self._scalar(np.array(list(waiting.values())))
        _, config_id = min(zip(expected, waiting, strict=True))
        return _Training(config_id, rung) if self._is_affordable(self._ladder.cost(rung, config_id)) else None

    def _suggest(self, rng: np.random.Generator, trial_id: int) -> Genome | None:
        rows = self._candidates(rng) if self._is_designed else self._design(rng, trial_id)
        allowed = filter(self.space.allows, map(self._cube.decode, rows))
        return next(filter(self._is_new, allowed), None)

    @property
    def _is_designed(self) -> bool:
        return len(self._earlier) >= _DESIGN or sum(math.isfinite(losses[0]) for _, losses in self._ended) >= _DESIGN

    def _design(self, rng: np.random.Generator, trial_id: int) -> Rows:
        """The point of this ask in a Latin hypercube that several of them share, and others beside it."""
        block, number = divmod(trial_id, _HYPERCUBE)
        points = self._cube.latin(keyed_rng(self.settings.seed, block, _LATIN), _HYPERCUBE)
        return np.vstack([points[number][None, :], self._cube.uniform(rng, 4 * _HYPERCUBE)])

    def _candidates(self, rng: np.random.Generator) -> Rows:
        """The best first."""
        elite = self._elite()
        return self._screen.children(rng, elite) if self._learns() else self._screen.bred(rng, elite)

    def _elite(self) -> Rows:
        """The best configurations, by their results on the highest rung that each has reached."""
        highest: dict[int, tuple[int, NDArray[np.float64]]] = {}
        for (training, _), losses in zip(self._ended, self._levelled(), strict=True):
            known = highest.get(training.config_id)
            if known is None or training.rung > known[0]:
                highest[training.config_id] = training.rung, losses
        best = {config_id: losses for config_id, (_, losses) in highest.items() if math.isfinite(losses[0])}
        ranked = sorted(zip(ranks(list(best.values())), best, strict=True)) if best else []
        own = [self._rows[config_id] for _, config_id in ranked[: self.settings.population_size]]
        theirs = self._earlier[: self.settings.from_earlier_runs]
        return np.array([*own, *(self._cube.encode(known.genome) for known in theirs)])

    def _learns(self) -> bool:
        """Bring the model up to date; False where it cannot be fitted."""
        if not self._is_designed:
            return False
        return self._screen.learn(self._observations())

    def _observations(self) -> Observations:
        """What earlier runs have found, what this one has, and what is pending."""
        trainings = [*(training for training, _ in self._ended), *self._pending.values()]
        rows = [self._rows[training.config_id] for training in trainings]
        context = [self._context(self._ladder.rungs[training.rung], _OWN) for training in trainings]
        losses = self._scalar(self._levelled()) if self._ended else np.zeros(0)
        if self._earlier:
            losses = beside(losses, [self._genomes[t.config_id] for t, _ in self._ended], self._earlier_losses)
        known = self._earlier
        return Observations(
            np.array([*(self._cube.encode(each.genome) for each in known), *rows]),
            np.array([*(self._context(self._ladder.rungs[-1], each.source) for each in known), *context]),
            np.array([*(each.loss for each in known), *losses]),
            np.array([0.0] * len(known) + self._seconds),
        )

    def _context(self, rung: float, source: float) -> list[float]:
        """What a result depends on beside the configuration, of what there is more than one of."""
        fidelity = [self._fidelity.position(rung)] if self._fidelity else []
        return [*fidelity, source] if self._earlier else fidelity

    def _levelled(self) -> NDArray[np.float64]:
        """All losses so far, those of lower rungs brought to the level of the highest."""
        gains = self._ladder.gains()
        return np.array([np.array(losses) + gains[training.rung] for training, losses in self._ended])

    def _scalar(self, losses: NDArray[np.float64]) -> NDArray[np.float64]:
        """One loss for each row; of several objectives in the weighting of the ask that is due."""
        if not self.further:
            return losses[:, 0]
        weights = keyed_rng(self.settings.seed, self._free_id, _WEIGHTS).dirichlet(np.ones(losses.shape[1]))
        return tchebycheff(losses, weights)
