"""The asynchronous evolutionary search: no generations, and children that a model has screened.

With a fidelity, trials start small, and those go on of which the model expects the best whole trainings, by the rule of
asynchronous successive halving; the model learns from all of them. Measured for budgets of 40 to 440 evaluations and
batches of 8 and 40 (scripts/bench_search.py).

With several objectives the parents are the first in NSGA-II's order, and each ask's model is of the losses in one
weighting, drawn for it (ParEGO, Knowles 2006).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from workflow.search.arrays import Array, Indices
from workflow.search.base import Earlier, keyed_rng, losses_of
from workflow.search.cube import Cube, Rows
from workflow.search.earlier import beside, typical
from workflow.search.halving import Ladder, Losses
from workflow.search.pareto import ranks, tchebycheff
from workflow.search.screening import Observations, Screen, smallest
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


class _Column(NamedTuple):
    """Something that a result depends on beside its configuration, as a column of the model.

    ``unordered`` tells whether its values have no order, ``wanted`` is that of what the search is for, and ``of`` gives
    the column by the rungs and the sources of results.
    """

    unordered: bool
    wanted: float
    of: Callable[[Indices, Sequence[float]], Array]


class _Results:
    """What has ended, a row each, in arrays that grow: an ask that built them anew would take longer with every one.

    ``losses`` (n, objectives), ``places`` (n, parameters) of the cube, and of shape (n,) ``trainings``' two numbers and
    ``seconds``, 0 of a failed one.
    """

    def __init__(self, objectives: int, parameters: int) -> None:
        self._data = np.empty((64, objectives + parameters + 3))
        self._objectives = objectives
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, training: _Training, losses: Losses, seconds: float, place: Rows) -> None:
        if self._count == len(self._data):
            self._data = np.concatenate([self._data, np.empty_like(self._data)])
        self._data[self._count] = [*losses, *place, *training, seconds]
        self._count += 1

    @property
    def losses(self) -> Array:
        return self._data[: self._count, : self._objectives]

    @property
    def places(self) -> Rows:
        return self._data[: self._count, self._objectives : -3]

    @property
    def config_ids(self) -> Indices:
        return self._data[: self._count, -3].astype(np.intp)

    @property
    def rungs(self) -> Indices:
        return self._data[: self._count, -2].astype(np.intp)

    @property
    def seconds(self) -> Array:
        return self._data[: self._count, -1]


@dataclass
class AsyncSearch(SteadySearch):
    """The strategy ``async``. The same order of tells gives the same asks.

    Without a fidelity there is one rung, of whole trainings. What ``earlier`` runs found informs the model, which
    learns how far each of them is to be trusted.

    Whenever a worker is free there is a trial for it; here there are two workers, and the later one ends first:

    >>> from workflow.search.settings import SearchSettings
    >>> from workflow.space_file import parse_space
    >>> space = parse_space([{"name": "x", "type": "float", "lower": -1, "upper": 1}], "an example")
    >>> search = AsyncSearch(space, SearchSettings(evaluations=30))
    >>> running, values = [search.ask(), search.ask()], []
    >>> while running:
    ...     trial = running.pop()
    ...     values.append(trial.params["x"] ** 2)
    ...     search.tell(Outcome(trial.id, 1, "ok", values[-1]))
    ...     if (following := search.ask()) is not None:
    ...         running.append(following)
    >>> len(values), min(values) < 0.001
    (30, True)
    """

    earlier: Sequence[Earlier] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self._fidelity = fidelity = self.settings.fidelity
        whole = Ladder([1.0], math.inf, resumes=False)
        self._ladder = Ladder(fidelity.rungs, fidelity.eta, resumes=fidelity.resumes) if fidelity else whole
        self._cube = Cube(self.space)
        self._earlier = typical(self.earlier, self.space)
        rows = np.array([self._cube.encode(known.genome) for known in self._earlier])
        self._earlier_rows = rows.reshape(len(self._earlier), len(self._cube.parameters))
        self._earlier_losses = {known.genome: known.loss for known in reversed(self._earlier)}
        self._context = list(self._columns())
        unordered = [column.unordered for column in self._context]
        wanted = [column.wanted for column in self._context]
        self._screen = Screen(self._cube, unordered, wanted, cost_aware=self.settings.cost_aware)
        self._spent = 0.0
        """In whole trainings."""
        self._genomes: dict[int, Genome] = {}
        self._rows: dict[int, Rows] = {}
        self._pending: dict[int, _Training] = {}
        self._ended = _Results(len(self.objectives), len(self._cube.parameters))
        self._successes = 0

    def _columns(self) -> Iterator[_Column]:
        """Those of which there is more than one value."""
        if self._fidelity is not None:
            positions = np.array([self._fidelity.position(rung) for rung in self._ladder.rungs])
            yield _Column(unordered=False, wanted=1.0, of=lambda rungs, sources: positions[rungs])
        if self._earlier:
            yield _Column(unordered=True, wanted=_OWN, of=lambda rungs, sources: np.array(sources))

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
            losses = losses_of(outcome, self.objectives)
            seconds = outcome.seconds if outcome.kind == "ok" else 0.0
            self._ended.append(training, losses, seconds, self._rows[training.config_id])
            self._successes += math.isfinite(losses[0])
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
        if self._update_model():
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
        return len(self._earlier) >= _DESIGN or self._successes >= _DESIGN

    def _design(self, rng: np.random.Generator, trial_id: int) -> Rows:
        """The point of this ask in a Latin hypercube that several of them share, and others beside it."""
        block, number = divmod(trial_id, _HYPERCUBE)
        points = self._cube.latin(keyed_rng(self.settings.seed, block, _LATIN), _HYPERCUBE)
        return np.vstack([points[number][None, :], self._cube.uniform(rng, 4 * _HYPERCUBE)])

    def _candidates(self, rng: np.random.Generator) -> Rows:
        """The best first."""
        elite = self._elite()
        return self._screen.children(rng, elite) if self._update_model() else self._screen.bred(rng, elite)

    def _elite(self) -> Rows:
        """The best configurations, by their results on the highest rung that each has reached."""
        losses = self._levelled()
        near = self._contenders(losses)
        config_ids, rungs = self._ended.config_ids[near], self._ended.rungs[near]
        order = np.lexsort((-rungs, config_ids))  # of one rung the first that ended stays first
        highest = near[order[np.unique(config_ids[order], return_index=True)[1]]]
        best = highest[np.isfinite(losses[highest, 0])]
        ranked = best[np.argsort(ranks(losses[best]), kind="stable")]  # of equals the one that was asked for first
        own = self._ended.places[ranked[: self.settings.population_size]]
        return np.vstack([own, self._earlier_rows[: self.settings.from_earlier_runs]])

    def _contenders(self, losses: Array) -> Indices:
        """The results among which the elite is: of all only where a configuration has several, or several losses."""
        if len(self.objectives) > 1 or self._fidelity or self.settings.reevaluate:
            return np.arange(len(losses))
        return smallest(losses[:, 0], self.settings.population_size)

    def _update_model(self) -> bool:
        """Bring the model up to date; False where it cannot be fitted."""
        if not self._is_designed:
            return False
        return self._screen.learn(self._observations())

    def _observations(self) -> Observations:
        """What earlier runs have found, what this one has, and what is pending."""
        losses = self._scalar(self._levelled())
        if self._earlier:
            genomes = [self._genomes[config_id] for config_id in self._ended.config_ids.tolist()]
            losses = beside(losses, genomes, self._earlier_losses)
        known, pending = self._earlier, list(self._pending.values())
        places = np.array([self._rows[training.config_id] for training in pending])
        rungs = np.array([*self._ended.rungs, *(training.rung for training in pending)], dtype=np.intp)
        theirs = self._context_of(np.full(len(known), len(self._ladder.rungs) - 1), [each.source for each in known])
        return Observations(
            np.vstack(
                [self._earlier_rows, self._ended.places, places.reshape(len(pending), len(self._cube.parameters))]
            ),
            np.vstack([theirs, self._context_of(rungs, [_OWN] * len(rungs))]),
            np.concatenate([[each.loss for each in known], losses]),
            np.concatenate([np.zeros(len(known)), self._ended.seconds]),
        )

    def _context_of(self, rungs: Indices, sources: Sequence[float]) -> Rows:
        """A row for each result, a column for each of ``_context``."""
        columns = [column.of(rungs, sources) for column in self._context]
        return np.array(columns).reshape(len(columns), len(rungs)).T

    def _levelled(self) -> Array:
        """All losses so far, those of lower rungs brought to the level of the highest."""
        losses = self._ended.losses
        gains = np.array([np.broadcast_to(gain, losses.shape[1]) for gain in self._ladder.gains()])
        return np.asarray(losses + gains[self._ended.rungs])

    def _scalar(self, losses: Array) -> Array:
        """One loss for each row; of several objectives in the weighting of the ask that is due."""
        if len(self.objectives) == 1:
            return losses[:, 0]
        weights = keyed_rng(self.settings.seed, self._free_id, _WEIGHTS).dirichlet(np.ones(losses.shape[1]))
        return tchebycheff(losses, weights)
