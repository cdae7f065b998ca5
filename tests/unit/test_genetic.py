"""The genetic algorithm's operators and book-keeping, on cases that can be checked by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from workflow.errors import Problems
from workflow.search import GeneticSearch, SearchSettings
from workflow.search.base import keyed_rng
from workflow.search.genetic import _SELECT, _Evaluation, _Individual
from workflow.space import Space
from workflow.space_file import parse_space
from workflow.trial import Objective, Outcome, Trial

GENES = 8


def floats(count: int = GENES) -> Space:
    return parse_space([{"name": f"x{i}", "type": "float", "lower": 0, "upper": 1} for i in range(count)], "floats")


def digits(count: int, elements: int) -> Space:
    entry = {"type": "categorical", "element_type": "int", "values": list(range(elements))}
    return parse_space([{"name": f"d{i}", **entry} for i in range(count)], "digits")


def search(space: Space | None = None, mode: str = "min", **keys: Any) -> GeneticSearch:
    return GeneticSearch(space or floats(), SearchSettings(**keys), [Objective(mode=mode)])


def answer(search: GeneticSearch, values: list[float | None]) -> list[Trial]:
    """Ask for as many trials as there are values, then tell these; None for a failed trial."""
    trials = [search.ask() for _ in values]
    for trial, value in zip(trials, values, strict=True):
        search.tell(Outcome(trial.id, 1, "failed" if value is None else "ok", value))
    return trials


def generation(search: GeneticSearch) -> list[Trial]:
    """Ask for a whole generation and tell the sums of its hyperparameters."""
    trials = []
    while (trial := search.ask()) is not None:
        trials.append(trial)
    for trial in trials:
        search.tell(Outcome(trial.id, 1, "ok", float(sum(trial.params.values()))))
    return trials


def individual(fitness: float, *genome: float, trial_id: int | None = None) -> _Individual:
    return _Individual(genome, _Evaluation(trial_id, (fitness,)))


# -- selection -------------------------------------------------------------------------------------------------------


def test_each_tournament_is_won_by_the_best_of_those_drawn() -> None:
    it = search(tournsize=3, seed=5)
    population = [individual(fitness) for fitness in (5.0, 1.0, 4.0, math.inf, 2.0, 3.0)]
    winners = it._select(population, 50, _SELECT)
    for index, winner in enumerate(winners):
        drawn = keyed_rng(5, it.generation, _SELECT, index).integers(6, size=3)
        assert winner.fitness == min(population[i].fitness for i in drawn)


def test_tournament_of_one_is_a_random_draw_and_a_large_one_finds_the_best() -> None:
    population = [individual(float(fitness)) for fitness in range(6)]
    assert len({i.fitness for i in search(tournsize=1)._select(population, 100, _SELECT)}) == 6
    assert {i.fitness for i in search(tournsize=200)._select(population, 20, _SELECT)} == {0.0}


def test_failed_individuals_win_only_against_failed_ones() -> None:
    population = [individual(math.inf), individual(math.inf), individual(1e300)]
    winners = search(tournsize=200)._select(population, 20, _SELECT)
    assert {winner.fitness for winner in winners} == {1e300}
    assert len(search()._select(population[:2], 5, _SELECT)) == 5


# -- several objectives ----------------------------------------------------------------------------------------------

SIZE = Objective("size")
FRONT = [(0.0, 10.0), (10.0, 0.0), (1.0, 6.0), (4.0, 5.0)]
"""By hand: (4, 5) is less crowded than (1, 6), and the ends are the least crowded."""


def several(*losses: tuple[float, float], genomes: str = "abcdefghij") -> list[_Individual]:
    return [_Individual((genome,), _Evaluation(None, each)) for genome, each in zip(genomes, losses, strict=False)]


def test_survivors_are_the_first_by_front_and_crowding() -> None:
    it = GeneticSearch(floats(), SearchSettings(), [Objective(), SIZE])
    pool = several((11.0, 11.0), (math.inf, math.inf), *FRONT)
    assert [i.losses for i in it._best(pool, 5)] == [FRONT[0], FRONT[1], FRONT[3], FRONT[2], (11.0, 11.0)]


def test_a_genome_survives_twice_only_for_want_of_others() -> None:
    it = GeneticSearch(floats(), SearchSettings(), [Objective(), SIZE])
    pool = several(FRONT[0], FRONT[0], FRONT[1], (11.0, 11.0), genomes="aabc")
    assert [i.genome for i in it._best(pool, 4)] == [("a",), ("b",), ("c",), ("a",)]


def test_tournaments_of_several_objectives_go_by_front_and_crowding() -> None:
    it = GeneticSearch(floats(), SearchSettings(tournsize=200), [Objective(), SIZE])
    winners = it._select(several(*FRONT[2:], (11.0, 11.0), FRONT[0], FRONT[1]), 20, _SELECT)
    assert {winner.losses for winner in winners} == set(FRONT[:2])


@pytest.mark.parametrize(("strategy", "size"), [("mu_plus_lambda", 40), ("simple", 20)])
def test_a_front_is_found_from_end_to_end(strategy: str, size: int) -> None:
    """It has all x, and the least y."""
    space = parse_space([{"name": n, "type": "float", "lower": 0, "upper": 1} for n in "xy"], "s")
    settings = SearchSettings(strategy=strategy, num_iterations=20, population_size=size)
    it = GeneticSearch(space, settings, [Objective(), Objective("gain", "max")])
    while (trial := it.ask()) is not None:
        x, y = trial.params["x"], trial.params["y"]
        it.tell(Outcome(trial.id, 1, "ok", x + y, {"gain": x - y}))
    losses = np.array([i.losses for i in it._population])
    assert losses.sum(axis=1).max() < 0.6 and losses.sum(axis=1).min() < 0.1
    assert losses[:, 0].min() < 0.1 and losses[:, 0].max() > 0.9


# -- mu_plus_lambda --------------------------------------------------------------------------------------------------

SIZES = [(16, 0.5, 8), (10, 0.29, 2), (100, 0.29, 29), (5, 0.5, 2), (3, 0.34, 1), (80, 0.5, 40), (10, 0.3, 3)]


@pytest.mark.parametrize(("size", "proportion", "offspring"), SIZES)
def test_mu_plus_lambda_makes_offspring_and_keeps_the_rest(size: int, proportion: float, offspring: int) -> None:
    it = search(population_size=size, offspring_proportion=proportion, num_iterations=3, reevaluate=True)
    assert len(generation(it)) == size
    assert [len(generation(it)) for _ in range(2)] == [offspring, offspring]
    assert len(it._population) == size - offspring
    assert it.done


def test_mu_plus_lambda_survivors_come_from_parents_and_offspring() -> None:
    it = search(num_iterations=2, tournsize=8)
    generation(it)
    parents, offspring = set(it._population), set(it._offspring)
    generation(it)
    survivors = set(it._population)
    assert survivors <= parents | offspring
    assert survivors & parents
    assert survivors & offspring


@pytest.mark.parametrize(("cross", "mutate", "parents"), [(1.0, 0.0, 2), (0.0, 1.0, 1)])
def test_mu_plus_lambda_offspring_come_from_one_operator(cross: float, mutate: float, parents: int) -> None:
    it = search(num_iterations=2, cx_prob=cross, mut_prob=mutate, mut_indpb=1.0)
    first = {trial.id: trial for trial in generation(it)}
    for child in generation(it):
        assert len(child.parents) == len(set(child.parents)) == parents
        assert all(parent in first for parent in child.parents)
        inherited = [{first[parent].params[name] for parent in child.parents} for name in child.params]
        kept = [value in values for value, values in zip(child.params.values(), inherited, strict=True)]
        assert all(kept) if parents == 2 else not any(kept)


@pytest.mark.parametrize("seed", range(20))
def test_crossover_takes_two_different_individuals(seed: int) -> None:
    it = search(population_size=2, num_iterations=2, cx_prob=1.0, mut_prob=0.0, reevaluate=True, seed=seed)
    generation(it)
    (child,) = generation(it)
    assert set(child.parents) == {0, 1}


def test_population_of_one_mutates_where_it_cannot_cross() -> None:
    it = search(population_size=2, num_iterations=5, cx_prob=1.0, mut_prob=0.0, reevaluate=True)
    while generation(it):
        pass
    assert len(it._population) == 1
    assert [row.nevals for row in it.statistics] == [2, 1, 1, 1, 1]


# -- simple ----------------------------------------------------------------------------------------------------------


def test_simple_replaces_the_population_by_its_offspring() -> None:
    it = search(strategy="simple", num_iterations=2, mut_prob=1.0, mut_indpb=1.0)
    first = generation(it)
    second = generation(it)
    assert len(first) == len(second) == 16
    assert [i.evaluation.trial_id for i in it._population] == [trial.id for trial in second]


def test_simple_crosses_neighbours_and_then_mutates_them() -> None:
    it = search(strategy="simple", num_iterations=2, cx_prob=1.0, mut_prob=0.5, mut_indpb=1.0)
    first = {trial.id: trial for trial in generation(it)}
    mutated = 0
    for child in generation(it):
        assert len(child.parents) == 2
        genes = [[first[parent].params[name] for parent in child.parents] for name in child.params]
        mutated += not all(value in pair for value, pair in zip(child.params.values(), genes, strict=True))
    assert 0 < mutated < 16


def test_odd_population_leaves_its_last_without_a_partner() -> None:
    it = search(
        strategy="simple", population_size=5, num_iterations=2, cx_prob=1.0, cx_indpb=0.5, mut_prob=0.0, reevaluate=True
    )
    generation(it)
    assert len(generation(it)) == 4


# -- evaluations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["simple", "mu_plus_lambda"])
@pytest.mark.parametrize("reevaluate", [False, True])
def test_unchanged_offspring_are_not_evaluated_again(strategy: str, reevaluate: bool) -> None:
    it = search(strategy=strategy, cx_prob=0.0, mut_prob=0.0, reevaluate=reevaluate)
    assert len(generation(it)) == 16
    assert it.done
    assert it.ask() is None
    assert [row.nevals for row in it.statistics] == [16, 0, 0, 0, 0]
    assert {i.genome for i in it._population} <= set(it._known)


def test_unchanged_offspring_keep_their_own_fitness() -> None:
    it = search(strategy="simple", population_size=2, num_iterations=2, cx_prob=0.0, mut_prob=0.0, tournsize=50)
    trials = answer(it, [3.0, 1.0])
    assert [(i.evaluation.trial_id, i.fitness) for i in it._population] == [(trials[1].id, 1.0)] * 2


def test_known_configurations_are_told_from_memory() -> None:
    space = digits(2, 8)
    it = search(space, num_iterations=30, seed=3)
    seen: set[tuple[Any, ...]] = set()
    while trials := generation(it):
        configurations = {tuple(trial.params.values()) for trial in trials}
        assert len(configurations) == len(trials)
        assert not configurations & seen
        seen |= configurations
    assert it.done
    varied = [row.nevals for row in it.statistics[1:]]
    assert min(varied) < 8
    assert sum(row.nevals for row in it.statistics) == len(seen)


def test_duplicates_within_a_generation_share_one_evaluation() -> None:
    it = search(digits(1, 3), population_size=12, num_iterations=1)
    trials = generation(it)
    assert len(trials) == len({trial.params["d0"] for trial in trials}) <= 3
    assert len(it._population) == 12
    for one in it._population:
        assert one.fitness == one.genome[0]


def test_crossover_without_effect_is_evaluated_again_only_with_reevaluate() -> None:
    keys: dict[str, Any] = {"strategy": "simple", "num_iterations": 2, "cx_prob": 1.0, "cx_indpb": 0.0, "mut_prob": 0.0}
    nevals = {}
    for reevaluate in (False, True):
        it = search(reevaluate=reevaluate, **keys)
        while generation(it):
            pass
        nevals[reevaluate] = it.statistics[1].nevals
    assert nevals == {False: 0, True: 16}


def test_replicates_share_the_config_id_of_the_first() -> None:
    it = search(strategy="simple", num_iterations=3, cx_prob=1.0, cx_indpb=0.0, mut_prob=0.0, reevaluate=True)
    first = {tuple(trial.params.values()): trial.id for trial in generation(it)}
    for _ in range(2):
        for trial in generation(it):
            assert trial.config_id == first[tuple(trial.params.values())]
            assert trial.config_id != trial.id


def test_generation_of_known_configurations_is_passed_at_once() -> None:
    it = search(digits(4, 4), num_iterations=3, cx_prob=1.0, cx_indpb=0.0, mut_prob=0.0)
    generation(it)
    assert it.done
    assert [row.generation for row in it.statistics] == [1, 2, 3]


# -- statistics ------------------------------------------------------------------------------------------------------


def describe(mode: str, values: list[float | None]) -> tuple[float, ...]:
    it = search(mode=mode, population_size=len(values), num_iterations=1)
    answer(it, values)
    (row,) = it.statistics
    return row.generation, row.nevals, row.avg, row.std, row.min, row.max


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 2.0, 3.0, 4.0], (1, 4, 2.5, math.sqrt(1.25), 1.0, 4.0)),
        ([1.0, None, 3.0, None], (1, 4, 2.0, 1.0, 1.0, 3.0)),
        ([-7.0], (1, 1, -7.0, 0.0, -7.0, -7.0)),
    ],
)
def test_statistics_by_hand(mode: str, values: list[float | None], expected: tuple[float, ...]) -> None:
    assert describe(mode, values) == pytest.approx(expected)


def test_statistics_of_a_generation_of_failures_are_nan() -> None:
    generation, nevals, *numbers = describe("min", [None, None])
    assert (generation, nevals) == (1, 2)
    assert all(math.isnan(number) for number in numbers)


def test_statistics_describe_the_selected_population() -> None:
    it = search(num_iterations=2)
    generation(it)
    generation(it)
    values = [i.fitness for i in it._population]
    row = it.statistics[1]
    assert (row.generation, row.min, row.max) == (2, min(values), max(values))
    assert row.avg == pytest.approx(sum(values) / len(values))


# -- settings --------------------------------------------------------------------------------------------------------


def problems(**keys: Any) -> str:
    found = Problems("experiment.yaml")
    SearchSettings(**{"strategy": "mu_plus_lambda", **keys}).check(found)
    return found.text()


def test_defaults_are_those_of_the_reference() -> None:
    """But for the strategy."""
    assert problems() == ""
    it = SearchSettings()
    assert (it.num_iterations, it.population_size, it.seed) == (5, 16, 1)
    assert (it.mut_prob, it.cx_prob, it.mut_indpb, it.cx_indpb, it.tournsize) == (0.8, 0.2, 0.5, 0.5, 4)
    assert (it.offspring_proportion, it.offspring, it.reevaluate) == (0.5, 8, False)


@pytest.mark.parametrize(("cross", "mutate"), [(0.3, 0.8), (1.0, 0.1), (1.0, 1.0)])
def test_mu_plus_lambda_refuses_probabilities_above_one_in_sum(cross: float, mutate: float) -> None:
    assert "search.mut_prob" in problems(cx_prob=cross, mut_prob=mutate)
    assert problems(strategy="simple", cx_prob=cross, mut_prob=mutate) == ""


def test_rounding_is_no_sum_above_one() -> None:
    assert problems(cx_prob=0.1, mut_prob=0.9) == problems(cx_prob=0.7, mut_prob=0.3) == ""


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("strategy", "nsga2"),
        ("num_iterations", 0),
        ("population_size", 0),
        ("tournsize", 0),
        ("seed", -1),
        ("offspring_proportion", 1.1),
        ("offspring_proportion", 0.0),
        ("offspring_proportion", 1.0),
        ("offspring_proportion", 0.01),
        ("mut_prob", -0.1),
        ("cx_prob", 1.01),
        ("mut_indpb", math.nan),
        ("cx_indpb", 2),
        ("evaluations", 10),
    ],
)
def test_settings_out_of_range_are_named(key: str, value: object) -> None:
    assert f"experiment.yaml: search.{key}: " in problems(**{key: value})


def test_random_search_takes_a_number_of_evaluations() -> None:
    assert problems(strategy="random", evaluations=10) == ""
    assert "search.evaluations" in problems(strategy="random", evaluations=0)
    assert SearchSettings(strategy="random").trials_without_generations == 16 + 4 * 8


def test_large_seeds_are_seeds_of_their_own() -> None:
    draws = {seed: generation(search(seed=seed))[0].params["x0"] for seed in (0, 1, 2**32, 2**32 + 1, 2**80)}
    assert len(set(draws.values())) == len(draws)
