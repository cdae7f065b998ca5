"""The generational genetic algorithm of the reference system, with its two strategies.

``simple`` and ``mu_plus_lambda`` have the operators and the order of DEAP's eaSimple and eaMuPlusLambda (Fortin et
al. 2012; Baeck, Fogel & Michalewicz 2000, chapter 7): tournament selection, uniform crossover, and each parameter's
own mutation. Four things differ. Randomness is keyed by (seed, generation, operator, index), so that a resumed search
asks the identical sequence. A configuration that was evaluated before takes its known fitness unless ``reevaluate``.
A failed trial ranks last. Offspring that the space's constraints do not allow are varied again.

With several objectives tournaments go by the order of NSGA-II (Deb et al. 2002), and those survive that are first.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workflow.errors import InputError
from workflow.search.base import keyed_rng, losses_of
from workflow.search.pareto import ranks
from workflow.search.settings import SearchSettings
from workflow.search.variation import Variation
from workflow.space import Genome, Space
from workflow.trial import Objective, Outcome, Params, Trial, loss_of

# What a random draw is for: the second part of its key, after the generation.
_INITIAL, _SELECT, _CROSS, _MUTATE, _VARY, _SURVIVE = range(6)


@dataclass(eq=False)
class _Evaluation:
    """The losses of a genome; shared by all individuals that have them from the same trial."""

    trial_id: int | None = None
    losses: tuple[float, ...] | None = None


@dataclass(eq=False)
class _Individual:
    """A genome of a population; ``parents`` are ids of trials."""

    genome: Genome
    evaluation: _Evaluation
    parents: tuple[int, ...] = ()

    @property
    def losses(self) -> tuple[float, ...]:
        assert self.evaluation.losses is not None, "selection reads evaluated individuals only"
        return self.evaluation.losses

    @property
    def fitness(self) -> float:
        """The loss by the first objective."""
        return self.losses[0]

    @property
    def trial_ids(self) -> tuple[int, ...]:
        return () if self.evaluation.trial_id is None else (self.evaluation.trial_id,)


@dataclass(frozen=True)
class GenerationStatistics:
    """Over the population after a generation's selection, in the first objective's unit, without failed trials."""

    generation: int
    nevals: int
    avg: float
    std: float
    min: float
    max: float


@dataclass
class GeneticSearch:
    """The strategies ``simple`` and ``mu_plus_lambda``.

    The first of the ``objectives`` is an outcome's value, further ones are among its metrics. ``initial`` are
    configurations that take the first places of the initial population. ``statistics`` holds one entry a finished
    generation.

    A generation may run all at once, and is over when each of its trials has been told of:

    >>> from workflow.space_file import parse_space
    >>> space = parse_space([{"name": "x", "type": "float", "lower": -1, "upper": 1}], "an example")
    >>> search = GeneticSearch(space, SearchSettings(strategy="simple", num_iterations=3, population_size=8))
    >>> while not search.done:
    ...     for trial in list(iter(search.ask, None)):
    ...         search.tell(Outcome(trial.id, 1, "ok", trial.params["x"] ** 2))
    >>> [row.generation for row in search.statistics]
    [1, 2, 3]
    """

    space: Space
    settings: SearchSettings
    objectives: Sequence[Objective] = (Objective(),)
    initial: Sequence[Params] = ()

    repeatable = True

    def __post_init__(self) -> None:
        self.generation = 1
        self.statistics: list[GenerationStatistics] = []
        self.message = ""
        self.done = False
        self._variation = Variation(self.space, self.settings.cx_indpb, self.settings.mut_indpb)
        self._next_id = 0
        self._evaluated = 0
        self._known: dict[Genome, _Evaluation] = {}
        self._queue: deque[_Individual] = deque()
        self._lost: deque[Trial] = deque()
        self._recorded: dict[int, tuple[Trial | None, Outcome | None]] = {}
        self._running: dict[int, _Individual] = {}
        self._population: list[_Individual] = []
        self._offspring: list[_Individual] = []
        self._enqueue([self._draw(index) for index in range(self.settings.population_size)])

    @property
    def budget(self) -> int:
        later = self.settings.population_size if self.settings.strategy == "simple" else self.settings.offspring
        return int(min(self.settings.population_size + (self.settings.num_iterations - 1) * later, self._ceiling))

    @property
    def _ceiling(self) -> float:
        return math.inf if self.settings.reevaluate else self.space.size

    def ask(self) -> Trial | None:
        if self._lost:
            return self._lost.popleft()
        return self._next_trial() if self._queue else None

    def tell(self, outcome: Outcome) -> None:
        if outcome.trial_id in self._recorded:
            trial, _ = self._recorded[outcome.trial_id]
            self._recorded[outcome.trial_id] = trial, outcome
            return
        self._learn(outcome)
        self._replay()

    def restore(self, trial: Trial, outcome: Outcome | None) -> None:
        """Take a recorded trial as it is, once its generation has come.

        Trials of which the record was lost (a corrupt line) are asked for again: their draws are keyed, and their
        outcome may be needed before later records fit. Raises InputError if a record doesn't fit this search.
        """
        self._recorded[trial.id] = trial, outcome
        self._replay()

    def _learn(self, outcome: Outcome) -> None:
        individual = self._running.pop(outcome.trial_id)
        individual.evaluation.losses = losses_of(outcome, self.objectives)
        self._settle()

    def _replay(self) -> None:
        """Ask again what the records say was asked, as far as what is known allows."""
        while self._recorded and self._queue:
            trial, outcome = self._recorded.pop(self._next_id, (None, None))
            if trial is None:
                self._lost.append(self._next_trial())
                continue
            if trial.generation != self.generation:
                raise InputError(f"journal: trial {trial.id} of generation {trial.generation} does not fit the search")
            self._queue[0].genome = self.space.genome(trial.params)
            self._next_trial()
            if outcome is not None:
                self._learn(outcome)
        if self._recorded and self.done:
            raise InputError(
                f"journal: has {len(self._recorded)} trials beyond generation {self.generation}\n"
                "    -> raise search.num_iterations to what it was, or more"
            )

    def _next_trial(self) -> Trial:
        individual = self._queue.popleft()
        trial_id, self._next_id = self._next_id, self._next_id + 1
        individual.evaluation.trial_id = trial_id
        self._evaluated += 1
        self._running[trial_id] = individual
        known = self._known.setdefault(individual.genome, individual.evaluation)
        params = self.space.params(individual.genome)
        config_id = trial_id if known.trial_id is None else known.trial_id
        return Trial(trial_id, config_id, params, self.generation, individual.parents)

    # -- generations ---------------------------------------------------------------------------------------------

    def _enqueue(self, individuals: list[_Individual]) -> None:
        """Start a generation: queue its individuals that need an evaluation, and share the evaluations known."""
        self._offspring = individuals
        self._evaluated = 0
        for individual in individuals:
            if individual.evaluation.losses is not None:
                continue
            if not self.settings.reevaluate:
                known = self._known.setdefault(individual.genome, individual.evaluation)
                if known is not individual.evaluation:
                    individual.evaluation = known
                    continue
            self._queue.append(individual)

    def _settle(self) -> None:
        """Once nothing runs and nothing waits: end the generation, and begin the next that needs an evaluation."""
        while not self._queue and not self._running and not self.done:
            self._end_generation()
            if self.generation >= self.settings.num_iterations:
                self.done = True
            elif len(self._known) >= self._ceiling:
                self.done = True
                self.message = f"the space holds only {int(self._ceiling)} configurations, and each one was evaluated"
            else:
                self.generation += 1
                vary = self._vary_simple if self.settings.strategy == "simple" else self._vary_mu_plus_lambda
                self._enqueue(vary())

    def _end_generation(self) -> None:
        if self.generation == 1 or self.settings.strategy == "simple":
            self._population = self._offspring
        else:
            survivors = self.settings.population_size - self.settings.offspring
            pool = self._population + self._offspring
            several = len(self.objectives) > 1
            self._population = self._best(pool, survivors) if several else self._select(pool, survivors, _SURVIVE)
        self.statistics.append(self._describe())

    def _describe(self) -> GenerationStatistics:
        mode = self.objectives[0].mode
        values = [loss_of(i.fitness, mode) for i in self._population if math.isfinite(i.fitness)] or [math.nan]
        average, deviation = float(np.mean(values)), float(np.std(values))
        return GenerationStatistics(self.generation, self._evaluated, average, deviation, min(values), max(values))

    # -- selection and variation ---------------------------------------------------------------------------------

    def _rng(self, operator: int, index: int) -> np.random.Generator:
        return keyed_rng(self.settings.seed, self.generation, operator, index)

    def _draw(self, index: int) -> _Individual:
        if index < len(self.initial):
            genome = self.space.genome(self.initial[index])
        else:
            genome = self._variation.draw(self._rng(_INITIAL, index))
        return _Individual(genome, _Evaluation())

    def _select(self, individuals: list[_Individual], count: int, operator: int) -> list[_Individual]:
        """``count`` winners of tournaments drawn with replacement; the first drawn wins a tie."""
        rank = ranks([individual.losses for individual in individuals])
        winners = []
        for index in range(count):
            drawn = self._rng(operator, index).integers(len(individuals), size=self.settings.tournsize)
            winners.append(individuals[min(drawn, key=rank.__getitem__)])
        return winners

    def _best(self, individuals: list[_Individual], count: int) -> list[_Individual]:
        """The first in NSGA-II's order; a genome comes twice only where there are too few."""
        rank = ranks([individual.losses for individual in individuals])
        first = {genome: at for at, genome in reversed(list(enumerate(i.genome for i in individuals)))}
        order = sorted(range(len(individuals)), key=lambda at: (first[individuals[at].genome] != at, rank[at]))
        return [individuals[at] for at in order[:count]]

    def _vary_simple(self) -> list[_Individual]:
        """Crossover of neighbours *and* mutation; an offspring that neither touched keeps its evaluation."""
        selected = self._select(self._population, len(self._population), _SELECT)
        offspring = [_Individual(i.genome, i.evaluation, i.trial_ids) for i in selected]
        for index in range(1, len(offspring), 2):
            rng = self._rng(_CROSS, index)
            if rng.random() < self.settings.cx_prob:
                first, second = offspring[index - 1], offspring[index]
                parents = first.parents + second.parents
                genomes = self._variation.crossed(first.genome, second.genome, rng)
                offspring[index - 1 : index + 1] = [_Individual(g, _Evaluation(), parents) for g in genomes]
        for index, individual in enumerate(offspring):
            rng = self._rng(_MUTATE, index)
            if rng.random() < self.settings.mut_prob:
                genome = self._variation.mutated(individual.genome, rng)
                offspring[index] = _Individual(genome, _Evaluation(), individual.parents)
        return offspring

    def _vary_mu_plus_lambda(self) -> list[_Individual]:
        return [self._vary_one(self._rng(_VARY, index)) for index in range(self.settings.offspring)]

    def _vary_one(self, rng: np.random.Generator) -> _Individual:
        """An offspring from crossover *or* mutation *or* reproduction, of parents drawn uniformly."""
        choice = rng.random()
        if choice < self.settings.cx_prob and len(self._population) > 1:
            first, second = (self._population[i] for i in rng.choice(len(self._population), size=2, replace=False))
            genome, _ = self._variation.crossed(first.genome, second.genome, rng)
            return _Individual(genome, _Evaluation(), first.trial_ids + second.trial_ids)
        parent = self._population[int(rng.integers(len(self._population)))]
        if choice < self.settings.cx_prob + self.settings.mut_prob:
            return _Individual(self._variation.mutated(parent.genome, rng), _Evaluation(), parent.trial_ids)
        return _Individual(parent.genome, parent.evaluation, parent.trial_ids)
