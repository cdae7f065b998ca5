"""The genetic algorithm against DEAP's eaSimple and eaMuPlusLambda, in distribution.

Both run the same space, objective and settings with ``reevaluate``, many times from different seeds. Counts are
compared by chi-square tests of homogeneity (of fit where the distribution is known), best values by the two-sample
Kolmogorov-Smirnov test. Each of the ``COMPARISONS`` is made at significance ``ALPHA``; all seeds are fixed, so a run is
deterministic. ``test_a_wrong_setting_would_be_found`` shows that the counts suffice to tell neighbouring settings.
"""

from __future__ import annotations

import itertools
import math
import random
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest
from deap import algorithms, base, tools
from scipy import stats

from workflow.search import GeneticSearch, SearchSettings
from workflow.search.genetic import _SELECT, _Evaluation, _Individual
from workflow.space_file import parse_space
from workflow.trial import Outcome, Trial

ALPHA = 1e-3
COMPARISONS = 67
"""With this many at ``ALPHA`` each, a correct search fails somewhere with 7 % of all seeds: hence the fixed ones."""

SEEDS = range(1000, 1200)
GENERATIONS = 5
SIZE = 16
OFFSPRING = 8
ELEMENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
LOWER, UPPER, SIGMA = 0.0, 1.0, 0.1

SPACE = parse_space(
    [{"name": f"x{i}", "type": "float", "lower": LOWER, "upper": UPPER, "sigma": SIGMA} for i in range(3)]
    + [
        {"name": "c", "type": "categorical", "element_type": "float", "values": list(ELEMENTS)},
        {"name": "o", "type": "ordered", "element_type": "float", "values": list(ELEMENTS), "sigma": 1},
        {"name": "l", "type": "logical"},
    ],
    "mixed",
)
GENES = len(SPACE.varying)

STRATEGIES = ("simple", "mu_plus_lambda")
CASES: dict[str, dict[str, Any]] = {
    "reference": {"cx_prob": 0.2, "mut_prob": 0.8, "cx_indpb": 0.5, "mut_indpb": 0.5, "tournsize": 4},
    "with reproduction": {"cx_prob": 0.5, "mut_prob": 0.2, "cx_indpb": 0.3, "mut_indpb": 0.25, "tournsize": 3},
}
each = pytest.mark.parametrize("strategy", STRATEGIES)
each_case = pytest.mark.parametrize("case", sorted(CASES))


def objective(genome: tuple[float, ...] | list[float]) -> float:
    """A sphere around 0.3, with an interaction and a penalty for true."""
    *numbers, logical = (float(value) for value in genome)
    return sum((x - 0.3) ** 2 for x in numbers) + 0.5 * numbers[0] * numbers[3] + 0.1 * logical


@dataclass
class Record:
    """What one run did. ``operators`` counts what made the individuals, ``ranks`` those that were selected."""

    seed: int
    tournsize: int
    nevals: list[int] = field(default_factory=list)
    operators: Counter[str] = field(default_factory=Counter)
    ranks: Counter[tuple[int, int]] = field(default_factory=Counter)
    pools: list[tuple[int, int]] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    last: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)

    def selected(self, pool: list[float], chosen: list[float]) -> None:
        """Count (size of the pool, rank from 0) of the chosen.

        A rank within a tie is drawn with the probabilities of a tournament over a strict order. So the ranks are
        independent draws whatever the pool, as the chi-square tests need them.
        """
        size, ordered = len(pool), sorted(pool)
        self.pools.append((size, len(chosen)))
        for value in chosen:
            better, with_ties = bisect_left(ordered, value), bisect_right(ordered, value)
            weight = self._rng.uniform((size - with_ties) ** self.tournsize, (size - better) ** self.tournsize)
            self.ranks[size, size - math.ceil(weight ** (1 / self.tournsize))] += 1


# -- ours ------------------------------------------------------------------------------------------------------------


class Observed(GeneticSearch):
    def __post_init__(self) -> None:
        self.record = Record(self.settings.seed, self.settings.tournsize)
        super().__post_init__()

    def _select(self, individuals: list[_Individual], count: int, operator: int) -> list[_Individual]:
        winners = super()._select(individuals, count, operator)
        self.record.selected([i.fitness for i in individuals], [i.fitness for i in winners])
        return winners


def ours(strategy: str, seed: int, **keys: Any) -> Record:
    settings = SearchSettings(
        strategy=strategy, seed=seed, num_iterations=GENERATIONS, population_size=SIZE, reevaluate=True, **keys
    )
    search = Observed(SPACE, settings)
    record, trials = search.record, []
    while (trial := search.ask()) is not None:
        value = objective(tuple(trial.params.values()))
        trials.append(trial)
        record.values.append(value)
        search.tell(Outcome(trial.id, 1, "ok", value))
    record.nevals = [row.nevals for row in search.statistics]
    record.last = [i.fitness for i in search._population]
    record.operators = operators(strategy, trials)
    return record


def operators(strategy: str, trials: list[Trial]) -> Counter[str]:
    """What made the offspring; for ``simple`` in pairs for crossover, and mutants among the individuals not crossed."""
    parents = Counter(len(trial.parents) for trial in trials)
    made = (GENERATIONS - 1) * (SIZE if strategy == "simple" else OFFSPRING)
    crossed, mutated = parents[2], parents[1]
    if strategy == "simple":
        return Counter({"crossed pair": crossed // 2, "pair": made // 2, "mutated": mutated, "whole": made - crossed})
    return Counter({"crossed": crossed, "mutated": mutated, "reproduced": made - crossed - mutated})


# -- DEAP ------------------------------------------------------------------------------------------------------------


class Fitness(base.Fitness):
    weights = (-1.0,)


class Individual(list[Any]):
    def __init__(self, genome: Iterator[float]) -> None:
        super().__init__(genome)
        self.fitness = Fitness()


def draw_individual() -> Individual:
    numbers = [random.uniform(LOWER, UPPER) for _ in range(3)]
    return Individual(iter([*numbers, random.choice(ELEMENTS), random.choice(ELEMENTS), random.random() < 0.5]))


def mutate_gene(index: int, value: float) -> float:
    """The format's mutations, written anew from its description."""
    if index < 3:
        return min(max(value + random.gauss(0, SIGMA), LOWER), UPPER)
    if index == 3:
        return random.choice(ELEMENTS)
    if index == 4:
        return ELEMENTS[min(max(ELEMENTS.index(value) + random.choice((-1, 1)), 0), len(ELEMENTS) - 1)]
    return not value


def toolbox(record: Record, keys: dict[str, Any]) -> base.Toolbox:
    def mate(first: Individual, second: Individual) -> tuple[Individual, Individual]:
        record.operators["mate"] += 1
        first.crossed = second.crossed = True
        return tools.cxUniform(first, second, keys["cx_indpb"])

    def mutate(one: Individual) -> tuple[Individual]:
        record.operators["mutate"] += 1
        record.operators["mutate alone"] += not getattr(one, "crossed", False)
        for index, value in enumerate(one):
            if random.random() < keys["mut_indpb"]:
                one[index] = mutate_gene(index, value)
        return (one,)

    def select(individuals: list[Individual], count: int) -> list[Individual]:
        chosen = tools.selTournament(individuals, count, keys["tournsize"])
        record.selected([i.fitness.values[0] for i in individuals], [i.fitness.values[0] for i in chosen])
        return chosen

    def clone(one: Individual) -> Individual:
        copy = Individual(iter(one))
        copy.fitness.values = one.fitness.values
        return copy

    def evaluate(one: Individual) -> tuple[float]:
        record.values.append(objective(one))
        return (record.values[-1],)

    box = base.Toolbox()
    for name, function in {
        "mate": mate, "mutate": mutate, "select": select, "clone": clone, "evaluate": evaluate
    }.items():  # fmt: skip
        box.register(name, function)
    return box


def deaps(strategy: str, seed: int, **keys: Any) -> Record:
    random.seed(seed)
    record = Record(seed + len(SEEDS), keys["tournsize"])
    box = toolbox(record, keys)
    population = [draw_individual() for _ in range(SIZE)]
    options = {"cxpb": keys["cx_prob"], "mutpb": keys["mut_prob"], "ngen": GENERATIONS - 1, "verbose": False}
    if strategy == "simple":
        population, log = algorithms.eaSimple(population, box, **options)
    else:
        mu = SIZE - OFFSPRING
        population, log = algorithms.eaMuPlusLambda(population, box, mu=mu, lambda_=OFFSPRING, **options)
    record.nevals = log.select("nevals")
    record.last = [i.fitness.values[0] for i in population]
    record.operators = deap_operators(strategy, record.operators)
    return record


def deap_operators(strategy: str, counted: Counter[str]) -> Counter[str]:
    made = (GENERATIONS - 1) * (SIZE if strategy == "simple" else OFFSPRING)
    if strategy == "simple":
        alone = {"mutated": counted["mutate alone"], "whole": made - 2 * counted["mate"]}
        return Counter({"crossed pair": counted["mate"], "pair": made // 2, **alone})
    mated, mutated = counted["mate"], counted["mutate"]
    return Counter({"crossed": mated, "mutated": mutated, "reproduced": made - mated - mutated})


@pytest.fixture(autouse=True)
def global_random_state() -> Iterator[None]:
    state = random.getstate()
    yield
    random.setstate(state)


@cache
def both(strategy: str, case: str) -> tuple[list[Record], list[Record]]:
    keys = CASES[case]
    mine = [ours(strategy, seed, **keys) for seed in SEEDS]
    return mine, [deaps(strategy, seed, **keys) for seed in SEEDS]


def total(records: list[Record], name: str) -> Counter[Any]:
    return sum((getattr(record, name) for record in records), Counter())


def homogeneity(first: Counter[Any], second: Counter[Any]) -> float:
    """The p-value that both were counted from one distribution; rare values are put together, to be 10 at least."""
    rows: list[list[int]] = [[0, 0]]
    for key in sorted(first.keys() | second.keys()):
        if sum(rows[-1]) >= 20:
            rows.append([0, 0])
        rows[-1] = [rows[-1][0] + first[key], rows[-1][1] + second[key]]
    if len(rows) > 1 and sum(rows[-1]) < 20:
        a, b = rows.pop()
        rows[-1] = [rows[-1][0] + a, rows[-1][1] + b]
    return 1.0 if len(rows) == 1 else float(stats.chi2_contingency(np.array(rows), correction=False).pvalue)


def share(hits: int, number: int) -> Counter[bool]:
    return Counter({True: hits, False: number - hits})


# -- evaluations and operators ---------------------------------------------------------------------------------------


@each
@each_case
def test_evaluations_per_generation(strategy: str, case: str) -> None:
    mine, theirs = both(strategy, case)
    assert {len(record.nevals) for record in mine + theirs} == {GENERATIONS}
    assert {record.nevals[0] for record in mine + theirs} == {SIZE}
    for generation in range(1, GENERATIONS):
        counts = [Counter(record.nevals[generation] for record in records) for records in (mine, theirs)]
        assert homogeneity(*counts) > ALPHA, (generation, counts)


def test_evaluations_are_as_many_as_offspring_where_an_operator_always_acts() -> None:
    for record in itertools.chain(*both("mu_plus_lambda", "reference")):
        assert record.nevals == [SIZE] + [OFFSPRING] * (GENERATIONS - 1)


@each_case
def test_share_of_operators_in_mu_plus_lambda(case: str) -> None:
    mine, theirs = (total(records, "operators") for records in both("mu_plus_lambda", case))
    assert homogeneity(mine, theirs) > ALPHA, (mine, theirs)
    made = mine.total()
    for name, key in (("crossed", "cx_prob"), ("mutated", "mut_prob")):
        assert stats.binomtest(mine[name], made, CASES[case][key]).pvalue > ALPHA, (name, mine)


@each_case
def test_share_of_operators_in_simple(case: str) -> None:
    """Crossover by pairs and mutation among the individuals that weren't crossed: two independent binomials."""
    mine, theirs = (total(records, "operators") for records in both("simple", case))
    for hit, whole, key in (("crossed pair", "pair", "cx_prob"), ("mutated", "whole", "mut_prob")):
        counts = [share(counted[hit], counted[whole]) for counted in (mine, theirs)]
        assert homogeneity(*counts) > ALPHA, (hit, counts)
        assert stats.binomtest(mine[hit], mine[whole], CASES[case][key]).pvalue > ALPHA, (hit, mine)


def mutants_of_crossed(seed: int) -> Counter[bool]:
    """Among offspring of crossover in ``simple``, how many have a gene of neither parent."""
    keys = {"cx_prob": 0.7, "mut_prob": 0.4, "cx_indpb": 0.5, "mut_indpb": 1.0}
    search = Observed(SPACE, SearchSettings(strategy="simple", seed=seed, num_iterations=2, reevaluate=True, **keys))
    trials: dict[int, Trial] = {}
    while (trial := search.ask()) is not None:
        trials[trial.id] = trial
        search.tell(Outcome(trial.id, 1, "ok", objective(tuple(trial.params.values()))))
    crossed = [trial for trial in trials.values() if len(trial.parents) == 2]
    inherited = [{trials[parent].params["x0"] for parent in trial.parents} for trial in crossed]
    return Counter(trial.params["x0"] not in genes for trial, genes in zip(crossed, inherited, strict=True))


def test_simple_mutates_crossed_offspring_at_the_same_rate() -> None:
    counted = sum((mutants_of_crossed(seed) for seed in SEEDS), Counter())
    assert stats.binomtest(counted[True], counted.total(), 0.4).pvalue > ALPHA, counted


# -- selection -------------------------------------------------------------------------------------------------------

POOL, DRAWS = 20, 10_000


def tournament_probabilities(tournsize: int, pool: int = POOL) -> list[float]:
    """Of the rank 0 (best) to the last one to win a tournament drawn with replacement."""
    weights = [(pool - rank) ** tournsize - (pool - rank - 1) ** tournsize for rank in range(pool)]
    return [weight / pool**tournsize for weight in weights]


@cache
def our_winners(tournsize: int) -> Counter[int]:
    search = GeneticSearch(SPACE, SearchSettings(tournsize=tournsize, population_size=2))
    pool = [_Individual((), _Evaluation(rank, (float(rank),))) for rank in range(POOL)]
    return Counter(int(winner.fitness) for winner in search._select(pool, DRAWS, _SELECT))


@cache
def deap_winners(tournsize: int) -> Counter[int]:
    random.seed(tournsize)
    pool = [Individual(iter([float(rank)])) for rank in range(POOL)]
    for rank, one in enumerate(pool):
        one.fitness.values = (float(rank),)
    return Counter(int(winner[0]) for winner in tools.selTournament(pool, DRAWS, tournsize))


def goodness_of_fit(counted: Counter[int], probabilities: list[float]) -> float:
    """The p-value of the chi-square test; the last ranks are put together, to expect 10 at least."""
    expected = [probability * counted.total() for probability in probabilities]
    tail = max(rank for rank in range(len(expected)) if sum(expected[rank:]) >= 10)
    observed = [counted[rank] for rank in range(len(expected))]
    bins = [[*row[:tail], sum(row[tail:])] for row in (observed, expected)]
    return float(stats.chisquare(*bins).pvalue)


@pytest.mark.parametrize("tournsize", [1, 2, 4, 7])
def test_tournament_pressure(tournsize: int) -> None:
    mine, theirs = our_winners(tournsize), deap_winners(tournsize)
    probabilities = tournament_probabilities(tournsize)
    assert math.isclose(sum(probabilities), 1.0)
    assert goodness_of_fit(mine, probabilities) > ALPHA
    assert goodness_of_fit(theirs, probabilities) > ALPHA
    assert homogeneity(mine, theirs) > ALPHA


@each
@each_case
def test_selection_of_parents_and_survivors(strategy: str, case: str) -> None:
    """Ranks of the selected among all from whom they were; the pools' sizes are equal, generation by generation."""
    mine, theirs = both(strategy, case)
    assert {tuple(record.pools) for record in mine} == {tuple(record.pools) for record in theirs}
    for pool in {size for record in mine for size, _ in record.pools}:
        counts = [ranks_of(records, pool) for records in (mine, theirs)]
        assert homogeneity(*counts) > ALPHA, (pool, counts)
        probabilities = tournament_probabilities(CASES[case]["tournsize"], pool)
        assert goodness_of_fit(counts[0], probabilities) > ALPHA, (pool, counts)


def ranks_of(records: list[Record], pool: int) -> Counter[int]:
    return Counter({rank: number for (size, rank), number in total(records, "ranks").items() if size == pool})


# -- results ---------------------------------------------------------------------------------------------------------

RESULTS = {
    "best of the run": lambda record: min(record.values),
    "mean of the last population": lambda record: float(np.mean(record.last)),
    "best of the initial population": lambda record: min(record.values[:SIZE]),
}


@each
@each_case
@pytest.mark.parametrize("result", RESULTS)
def test_results_after_all_generations(strategy: str, case: str, result: str) -> None:
    mine, theirs = ([RESULTS[result](record) for record in records] for records in both(strategy, case))
    assert stats.ks_2samp(mine, theirs).pvalue > ALPHA


@each
def test_selection_improves_the_population(strategy: str) -> None:
    for records in both(strategy, "reference"):
        first = [float(np.mean(record.values[:SIZE])) for record in records]
        last = [float(np.mean(record.last)) for record in records]
        assert stats.wilcoxon(first, last, alternative="greater").pvalue < ALPHA


def test_a_wrong_setting_would_be_found() -> None:
    assert homogeneity(our_winners(4), deap_winners(3)) < ALPHA
    keys = {**CASES["reference"], "cx_prob": 0.3, "mut_prob": 0.7}
    wrong = total([deaps("mu_plus_lambda", seed, **keys) for seed in SEEDS], "operators")
    assert homogeneity(total(both("mu_plus_lambda", "reference")[0], "operators"), wrong) < ALPHA
