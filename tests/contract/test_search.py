"""What every search promises. A new search joins with one line in ``STRATEGIES``."""

from __future__ import annotations

import json
import math
import random
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow.errors import InputError
from workflow.search import WITHOUT_GENERATIONS, Search, SearchSettings, make_search
from workflow.search.halving import Fidelity
from workflow.space import Space
from workflow.space_file import parse_space
from workflow.trial import Objective, Outcome, Params, Trial

SEVERAL_OBJECTIVES = ("multi-objective mu_plus_lambda", "multi-objective async")
WHOLE = ("random", "simple", "mu_plus_lambda", "async", "optuna", *SEVERAL_OBJECTIVES)
STRATEGIES = (*WHOLE, "multi-fidelity")
"""The last one is ``async`` with trainings of 2, 7 and 20 epochs; its configurations are asked for several times."""
SEQUENCE_FREE_OF_ORDER = ("random", "simple", "mu_plus_lambda", "multi-objective mu_plus_lambda")
"""Searches whose asks don't depend on the order of the tells: all but the asynchronous ones that learn."""
GENERATIONAL = ("simple", "mu_plus_lambda", "multi-objective mu_plus_lambda")

each = pytest.mark.parametrize("strategy", STRATEGIES)
each_whole = pytest.mark.parametrize("strategy", WHOLE)
each_free_of_order = pytest.mark.parametrize("strategy", SEQUENCE_FREE_OF_ORDER)
each_generational = pytest.mark.parametrize("strategy", GENERATIONAL)

EPOCHS = {"name": "epochs", "type": "constant", "value": 20}
ENTRIES: list[dict[str, Any]] = [
    EPOCHS,
    {"name": "rate", "type": "float", "lower": 1e-5, "upper": 0.1, "use_log_scale": True, "sigma": 0.5},
    {"name": "layers", "type": "int", "lower": 1, "upper": 9},
    {"name": "batch", "type": "ordered", "element_type": "int", "values": [16, 32, 64, 128], "sigma": 1},
    {"name": "optimizer", "type": "categorical", "element_type": "string", "values": ["Adam", "SGD", "RMSprop"]},
    {"name": "warmup", "type": "logical"},
]
SPACE = parse_space(ENTRIES, "test")

SIX = parse_space(
    [
        {"name": "a", "type": "logical"},
        {"name": "b", "type": "categorical", "element_type": "int", "values": [1, 2, 3]},
    ],
    "six configurations",
)


def make(strategy: str, space: Space = SPACE, mode: str = "min", initial: Sequence[Params] = (), **keys: Any) -> Search:
    keys = {"num_iterations": 4, "population_size": 6, **keys}
    further = [Objective("size", mode)] if "multi-objective" in strategy else []
    objectives = [Objective(mode=mode), *further]
    strategy = strategy.removeprefix("multi-objective ")
    if strategy == "multi-fidelity":
        strategy, keys["fidelity"] = "async", Fidelity("epochs", 2, 20)
    return make_search(space, SearchSettings(strategy=strategy, **keys), objectives, initial)


Values = Callable[[Trial], float | None]


def number(trial: Trial) -> float:
    """An objective without structure: a number from 0 to 1 that depends on the configuration alone."""
    return zlib.crc32(json.dumps(dict(trial.params), sort_keys=True).encode()) / 2**32


def outcome_of(trial: Trial, objective: Values) -> Outcome:
    """With a size of the objective's sign that has nothing else to do with it, but for values beyond all others."""
    value = objective(trial)
    if value is None:
        return Outcome(trial.id, 1, "failed")
    size = value if abs(value) > 1e10 else math.copysign(number(replace(trial, params={"of": trial.params})), value)
    return Outcome(trial.id, 1, "ok", value, {"size": size})


OTHERWISE: dict[str, Any] = {
    "num_iterations": 5, "population_size": 7, "offspring_proportion": 0.9, "mut_prob": 0.3, "cx_prob": 0.0,
    "mut_indpb": 1.0, "cx_indpb": 1.0, "tournsize": 1, "seed": 2,
}  # fmt: skip
"""Another value of each setting of the genetic algorithm."""

OTHERS = {
    "strategy", "reevaluate", "evaluations", "initial_population", "sampler", "sampler_options", "gpu_hours",
    "wall_time", "target", "fidelity", "cost_aware", "warm_start",
}  # fmt: skip
"""Settings of other searches, of all, or of the campaign, which have tests of their own."""


@dataclass
class Driver:
    """A campaign without work: asks while fewer than ``pending`` run, then tells one of them at random.

    ``events`` is what a journal would hold, in order: a Trial where it was asked for, an Outcome where it was told.
    """

    search: Search
    objective: Values = number
    pending: int = 4
    seed: int = 0
    known: dict[int, Outcome] = field(default_factory=dict)
    running: list[Trial] = field(default_factory=list)
    events: list[Trial | Outcome] = field(default_factory=list)

    @property
    def asked(self) -> list[Trial]:
        return [event for event in self.events if isinstance(event, Trial)]

    def run(self) -> list[Trial]:
        """Drive the search to its end; returns the trials in the order in which they were asked for."""
        order = random.Random(self.seed)
        while True:
            self._fill()
            if not self.running:
                assert self.search.done, "nothing runs, nothing is asked for, and the search is not done"
                return self.asked
            self._tell(self.running.pop(order.randrange(len(self.running))))

    def _fill(self) -> None:
        while len(self.running) < self.pending and (trial := self.search.ask()) is not None:
            self.events.append(trial)
            if trial.id in self.known:
                self.search.tell(self.known[trial.id])
            else:
                self.running.append(trial)

    def _tell(self, trial: Trial) -> None:
        outcome = outcome_of(trial, self.objective)
        self.events.append(outcome)
        self.search.tell(outcome)


def drive(search: Search, objective: Values = number, pending: int = 4, seed: int = 0) -> list[Trial]:
    return Driver(search, objective, pending, seed).run()


def genome(trial: Trial, space: Space = SPACE) -> tuple[Any, ...]:
    values = tuple(trial.params.get(p.name) for p in space.varying)
    return values if trial.fidelity is None else (*values, trial.fidelity)


def from_disk(trial: Trial) -> Trial:
    return Trial.from_json(json.loads(json.dumps(trial.to_json())))


def resume(search: Search, trials: Iterable[Trial], outcomes: dict[int, Outcome], seed: int = 0) -> list[Trial]:
    """Restore what a journal holds and go on; returns all trials, restored and asked for, by id.

    An outcome of a trial that isn't restored (its record was lost) is told as soon as the trial is asked for again.
    """
    restored = [from_disk(trial) for trial in sorted(trials, key=lambda trial: trial.id)]
    for trial in restored:
        search.restore(trial, outcomes.get(trial.id))
    running = [trial for trial in restored if trial.id not in outcomes]
    asked = Driver(search, seed=seed, known=outcomes, running=running).run()
    return sorted(restored + asked, key=lambda trial: trial.id)


# -- any space -------------------------------------------------------------------------------------------------------

finite = {"allow_nan": False, "allow_infinity": False, "allow_subnormal": False}
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
sigmas = st.one_of(st.none(), st.floats(0, 50, **finite), st.just("0.000495"))
elements = {
    "int": st.integers(-1000, 1000),
    "float": st.one_of(st.floats(-1e6, 1e6, **finite), st.integers(-5, 5)),
    "string": texts,
    "logical": st.booleans(),
}


@st.composite
def number_entries(draw: st.DrawFn) -> dict[str, Any]:
    kind, log = draw(st.sampled_from(["int", "float"])), draw(st.booleans())
    least = (1 if kind == "int" else 1e-8) if log else -1000
    bound = st.integers(math.ceil(least), 1000)
    if kind == "float":
        bound = st.one_of(bound, st.floats(least, 1e6, **finite))
    lower, upper = sorted([draw(bound), draw(bound)])
    entry = {"type": kind, "lower": lower, "upper": upper, "use_log_scale": log, "sigma": draw(sigmas)}
    return {key: value for key, value in entry.items() if value is not None}


@st.composite
def choice_entries(draw: st.DrawFn) -> dict[str, Any]:
    element_type = draw(st.sampled_from(sorted(elements)))
    values = draw(st.lists(elements[element_type], min_size=1, max_size=5))
    entry = {"type": draw(st.sampled_from(["categorical", "ordered"])), "element_type": element_type, "values": values}
    sigma = draw(sigmas)
    return entry if sigma is None else {**entry, "sigma": sigma}


constants = st.one_of(st.integers(-5, 5), st.floats(-1e6, 1e6, **finite), texts, st.booleans())
one_entry = st.one_of(
    constants.map(lambda value: {"type": "constant", "value": value}),
    number_entries(),
    choice_entries(),
    st.just({"type": "logical"}),
)
plain_spaces = st.lists(one_entry, min_size=1, max_size=6).map(
    lambda entries: [{"name": f"p{index}", **entry} for index, entry in enumerate(entries)] + [dict(EPOCHS)]
)


def values_of(entry: dict[str, Any]) -> st.SearchStrategy[Any]:
    if entry["type"] == "constant":
        return st.just(entry["value"])
    if entry["type"] == "logical":
        return st.booleans()
    if entry["type"] == "int":
        return st.integers(entry["lower"], entry["upper"])
    if entry["type"] == "float":
        return st.floats(entry["lower"], entry["upper"], **finite)
    return st.sampled_from(entry["values"])


@st.composite
def conditions(draw: st.DrawFn, earlier: list[dict[str, Any]]) -> dict[str, Any]:
    parents = draw(st.lists(st.sampled_from(earlier), min_size=1, max_size=2))
    return {
        parent["name"]: draw(st.one_of(values_of(parent), st.lists(values_of(parent), min_size=1, max_size=3)))
        for parent in parents
        if parent["type"] != "float"
    }


@st.composite
def constraints(draw: st.DrawFn, entries: list[dict[str, Any]]) -> str:
    """In the part of the language that Python reads alike, so that it can judge the trials."""

    def is_number(entry: dict[str, Any]) -> bool:
        value = entry.get("value", 0) if entry["type"] == "constant" else entry.get("values", [0])[0]
        return entry["type"] != "logical" and isinstance(value, int | float) and not isinstance(value, bool)

    logical = st.sampled_from([entry["name"] for entry in entries if entry["type"] == "logical"] or ["1 == 1"])
    numbers = [entry for entry in entries if is_number(entry)]
    if not numbers:
        return draw(logical)
    one, other = draw(st.sampled_from(numbers)), draw(st.sampled_from(numbers))
    comparison = draw(st.sampled_from(["<", "<=", "!=", ">="]))
    right = draw(st.one_of(values_of(one).map(repr), st.just(f"1.5 * {other['name']} - 1")))
    text = f"{one['name']} {comparison} {right}"
    return draw(st.sampled_from([text, f"not ({text})", f"{text} or not {draw(logical)}"]))


@st.composite
def related_spaces(draw: st.DrawFn) -> list[dict[str, Any]]:
    """With defaults, conditions (in an order of their own) and constraints; without those that allow nothing."""
    entries = draw(plain_spaces)
    order = draw(st.permutations(range(len(entries))))
    for place, index in enumerate(order):
        entry = entries[index]
        if draw(st.booleans()):
            entry["default"] = draw(values_of(entry))
        if place and draw(st.booleans()):
            entry["condition"] = draw(conditions([entries[other] for other in order[:place]]))
        if draw(st.integers(0, 3)) == 0:
            entry["constraint"] = draw(constraints(entries))
    try:
        parse_space(entries, "generated")
    except InputError as error:
        assert "constraint" in str(error)
        return [{key: value for key, value in entry.items() if key != "constraint"} for entry in entries]
    return entries


spaces = st.one_of(plain_spaces, related_spaces())
any_space = settings(max_examples=40, deadline=None, derandomize=True, database=None)


def check_value(entry: dict[str, Any], value: object) -> None:
    kind = entry["type"]
    if kind in ("categorical", "ordered"):
        assert value in entry["values"]
        kind = entry["element_type"]
    elif kind == "constant":
        assert value == entry["value"]
        assert type(value) is type(entry["value"])
        return
    elif kind != "logical":
        assert entry["lower"] <= value <= entry["upper"]
    assert type(value) is {"int": int, "float": float, "string": str, "logical": bool}[kind]


def existing(entries: list[dict[str, Any]], params: Params) -> list[dict[str, Any]]:
    """The entries that exist in a configuration."""
    named = {entry["name"]: entry for entry in entries}

    def exists(entry: dict[str, Any]) -> bool:
        return all(
            exists(named[parent]) and params[parent] in (values if isinstance(values, list) else [values])
            for parent, values in entry.get("condition", {}).items()
        )

    return list(filter(exists, entries))


def is_allowed(entries: list[dict[str, Any]], params: Params) -> bool:
    texts = [entry["constraint"] for entry in entries if "constraint" in entry]
    return all(eval(text, {}, dict(params)) for text in texts if set(re.findall(r"p\d|epochs", text)) <= params.keys())


@each
@any_space
@given(entries=spaces)
def test_asks_are_in_the_space_and_of_its_types(strategy: str, entries: list[dict[str, Any]]) -> None:
    trials = drive(make(strategy, parse_space(entries, "generated"), num_iterations=3))
    assert trials
    for trial in trials:
        whole = {**trial.params, "epochs": 20} if "epochs" in trial.params else trial.params
        assert trial.params.get("epochs", trial.fidelity) in (20, trial.fidelity)
        expected = existing(entries, whole)
        assert list(trial.params) == [entry["name"] for entry in expected]
        for entry in expected:
            check_value(entry, whole[entry["name"]])
        assert is_allowed(entries, whole)


@each
@any_space
@given(entries=related_spaces(), seed=st.integers(0, 5))
def test_the_first_trial_is_the_default_configuration(strategy: str, entries: list[dict[str, Any]], seed: int) -> None:
    first = make(strategy, parse_space(entries, "generated"), seed=seed).ask()
    for entry in existing(entries, {**first.params, "epochs": 20} if "epochs" in first.params else first.params):
        if entry["type"] != "constant" and "default" in entry:
            assert first.params[entry["name"]] == entry["default"]


@each
@any_space
@given(entries=spaces, reevaluate=st.booleans())
def test_any_space_ends_within_the_budget_without_repeats(
    strategy: str, entries: list[dict[str, Any]], reevaluate: bool
) -> None:
    space = parse_space(entries, "generated")
    search = make(strategy, space, reevaluate=reevaluate)
    trials = drive(search)
    assert [trial.id for trial in trials] == list(range(len(trials)))
    assert len(trials) <= search.budget
    assert reevaluate or len({genome(trial, space) for trial in trials}) == len(trials)


@each_free_of_order
@any_space
@given(entries=spaces, cut=st.integers(0, 200), data=st.data())
def test_any_space_is_resumed_with_the_identical_sequence(
    strategy: str, entries: list[dict[str, Any]], cut: int, data: st.DataObject
) -> None:
    space = parse_space(entries, "generated")
    unbroken = Driver(make(strategy, space))
    unbroken.run()
    events = unbroken.events[:cut]
    resumed = resume(make(strategy, space), *split(events), seed=data.draw(st.integers(0, 99)))
    assert resumed == sorted(unbroken.asked, key=lambda trial: trial.id)


# -- asking ----------------------------------------------------------------------------------------------------------


@each
def test_ids_count_from_zero_in_the_order_of_the_asks(strategy: str) -> None:
    trials = drive(make(strategy))
    assert [trial.id for trial in trials] == list(range(len(trials)))


@each
def test_same_seed_asks_the_same_and_another_seed_others(strategy: str) -> None:
    assert drive(make(strategy, seed=7)) == drive(make(strategy, seed=7))
    assert drive(make(strategy, seed=7)) != drive(make(strategy, seed=8))


@each
def test_global_random_states_are_neither_read_nor_changed(strategy: str) -> None:
    expected = drive(make(strategy))
    random.seed(5)
    np.random.seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist()
    assert drive(make(strategy)) == expected
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


@each
def test_parents_were_asked_for_before_and_generations_count_from_one(strategy: str) -> None:
    trials = drive(make(strategy))
    for trial in trials:
        assert all(parent < trial.id for parent in trial.parents)
        assert trial.generation is None or trial.generation >= 1
    if strategy in GENERATIONAL:
        generations = [trial.generation for trial in trials]
        assert generations == sorted(generations)
        assert generations[0] == 1


@each
def test_end_is_done_with_none_for_ever(strategy: str) -> None:
    search = make(strategy)
    drive(search)
    assert search.done
    assert [search.ask() for _ in range(3)] == [None] * 3
    assert search.message == ""


@pytest.mark.parametrize("key", OTHERWISE)
@pytest.mark.parametrize("strategy", ["simple", "mu_plus_lambda"])
def test_each_setting_of_the_genetic_algorithm_does_something(strategy: str, key: str) -> None:
    usual = {"num_iterations": 6, "population_size": 12}
    changes = drive(make(strategy, **{**usual, key: OTHERWISE[key]})) != drive(make(strategy, **usual))
    assert changes == ((strategy, key) != ("simple", "offspring_proportion"))


@pytest.mark.parametrize("key", OTHERWISE)
@pytest.mark.parametrize("strategy", WITHOUT_GENERATIONS)
def test_a_setting_of_the_genetic_algorithm_counts_as_unused_where_it_does_nothing(strategy: str, key: str) -> None:
    changes = drive(make(strategy, **{key: OTHERWISE[key]})) != drive(make(strategy))
    unused = SearchSettings(strategy=strategy, **{key: OTHERWISE[key]}).unused
    assert unused == ([] if changes else [key])


def test_each_setting_is_known_to_some_test() -> None:
    assert {each.name for each in fields(SearchSettings)} == OTHERWISE.keys() | OTHERS


@each_generational
def test_a_generation_waits_for_its_last_trial(strategy: str) -> None:
    search = make(strategy)
    trials = [search.ask() for _ in range(6)]
    for trial in trials:
        assert search.ask() is None
        assert not search.done
        search.tell(outcome_of(trial, number))
    following = search.ask()
    assert following.id == 6
    assert following.generation == 2


def budget(strategy: str, iterations: int, size: int, proportion: float) -> int:
    later = size if strategy == "simple" else math.floor(size * proportion)
    return size + (iterations - 1) * later


@each_whole
@pytest.mark.parametrize(("iterations", "size", "proportion"), [(1, 5, 0.5), (4, 6, 0.5), (3, 10, 0.3), (6, 7, 0.5)])
def test_budget_is_that_of_the_sizes_and_never_exceeded(
    strategy: str, iterations: int, size: int, proportion: float
) -> None:
    keys = {"num_iterations": iterations, "population_size": size, "offspring_proportion": proportion}
    search = make(strategy, **keys)
    assert search.budget == budget(strategy, iterations, size, proportion)
    trials = drive(search)
    assert size <= len(trials) <= search.budget


@each
@pytest.mark.parametrize("pending", [1, 2, 5, 6, 50, 1000])
def test_one_to_a_thousand_pending(strategy: str, pending: int) -> None:
    modelled = 1000 if pending == 1000 else min(200, 20 * pending)
    most = {"optuna": min(150, 20 * pending), "multi-fidelity": min(80, 4 * pending)}
    most |= {"async": modelled, "multi-objective async": modelled}
    size = min(1000, most.get(strategy, 1000))  # of those whose asks take milliseconds
    search = make(strategy, num_iterations=2, population_size=size)
    trials = drive(search, pending=pending)
    assert size < len(trials) <= search.budget
    assert len({trial.id for trial in trials}) == len(trials)


# -- telling ---------------------------------------------------------------------------------------------------------


@each_free_of_order
@pytest.mark.parametrize("pending", [1, 3, 6, 1000])
def test_order_of_tells_does_not_change_the_asks(strategy: str, pending: int) -> None:
    expected = drive(make(strategy), pending=1)
    for seed in range(10):
        assert drive(make(strategy), pending=pending, seed=seed) == expected


def sometimes(trial: Trial) -> float | None:
    value = number(trial)
    return None if value < 0.4 else value


@each
@pytest.mark.parametrize("reevaluate", [False, True])
@pytest.mark.parametrize("objective", [sometimes, lambda trial: None], ids=["some fail", "all fail"])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_failures_end_no_search(strategy: str, objective: Values, reevaluate: bool, mode: str) -> None:
    search = make(strategy, mode=mode, reevaluate=reevaluate)
    assert len(drive(search, objective)) > 6
    assert search.done


@each_free_of_order
@pytest.mark.parametrize(("mode", "worst"), [("min", 1e100), ("max", -1e100)])
def test_a_failed_trial_ranks_as_the_worst_value(strategy: str, mode: str, worst: float) -> None:
    def with_worst(trial: Trial) -> float:
        value = sometimes(trial)
        return worst if value is None else value

    failing = drive(make(strategy, mode=mode, num_iterations=8), sometimes)
    assert failing == drive(make(strategy, mode=mode, num_iterations=8), with_worst)


@each
@pytest.mark.parametrize("kind", ["failed", "stopped"])
def test_every_final_kind_without_value_is_taken(strategy: str, kind: str) -> None:
    search = make(strategy)
    trials = []
    while (trial := search.ask()) is not None:
        trials.append(trial)
        search.tell(Outcome(trial.id, 1, kind))
    assert search.done
    assert len(trials) > 6


@each
def test_minimising_mirrors_maximising(strategy: str) -> None:
    down = drive(make(strategy, mode="min", num_iterations=8), number)
    up = drive(make(strategy, mode="max", num_iterations=8), lambda trial: -number(trial))
    assert down == up


@each_generational
def test_the_mode_decides_what_is_selected(strategy: str) -> None:
    assert drive(make(strategy, mode="min")) != drive(make(strategy, mode="max"))


# -- configurations --------------------------------------------------------------------------------------------------


@each_whole
@pytest.mark.parametrize("seed", range(5))
def test_no_configuration_twice(strategy: str, seed: int) -> None:
    trials = drive(make(strategy, SIX, seed=seed, num_iterations=50))
    assert len({genome(trial, SIX) for trial in trials}) == len(trials)
    assert all(trial.config_id == trial.id for trial in trials)


@each_whole
def test_exhausted_space_ends_with_a_message(strategy: str) -> None:
    search = make(strategy, SIX, num_iterations=300)
    trials = drive(search)
    assert search.budget == 6
    assert len({genome(trial, SIX) for trial in trials}) == 6
    assert "6 configurations" in search.message
    assert search.ask() is None


@each_whole
def test_space_of_one_configuration_is_evaluated_once(strategy: str) -> None:
    search = make(strategy, parse_space(ENTRIES[:1], "constants only"))
    assert [dict(trial.params) for trial in drive(search)] == [{"epochs": 20}]
    assert search.message


@each_whole
def test_reevaluate_repeats_under_one_config_id(strategy: str) -> None:
    trials = drive(make(strategy, SIX, num_iterations=10, reevaluate=True))
    first: dict[tuple[Any, ...], int] = {}
    for trial in trials:
        assert trial.config_id == first.setdefault(genome(trial, SIX), trial.id)
    assert len(first) < len(trials)


RELATED = parse_space(
    [
        {"name": "optimizer", "type": "categorical", "element_type": "string", "values": ["Adam", "SGD"]},
        {"name": "momentum", "type": "ordered", "element_type": "float", "values": [0, 0.5, 0.9], "default": 0.9},
        {"name": "nesterov", "type": "logical", "condition": {"momentum": [0.5, 0.9]}},
        {"name": "deep", "type": "logical", "constraint": "not deep or optimizer == 'Adam'"},
    ],
    "three times five configurations",
)


@each_whole
def test_exhausted_space_with_relations_ends_with_a_message(strategy: str) -> None:
    search = make(strategy, RELATED, num_iterations=300, population_size=20)
    trials = drive(search)
    assert search.budget == len(trials) == len({genome(trial, RELATED) for trial in trials}) == 15
    assert "15 configurations" in search.message


FEW_OF_MANY = parse_space(
    [
        {"name": "deep", "type": "logical", "constraint": "not deep"},
        {"name": "layers", "type": "int", "lower": 1, "upper": 10**12, "condition": {"deep": True}},
        {"name": "rate", "type": "float", "lower": 0, "upper": 1, "condition": {"deep": True}},
        {"name": "batch", "type": "ordered", "element_type": "int", "values": [16, 32, 64]},
    ],
    "three configurations, which cannot be counted",
)


@each_whole
def test_a_space_that_cannot_be_counted_ends_where_nothing_new_is_found(strategy: str) -> None:
    search = make(strategy, FEW_OF_MANY, num_iterations=10)
    assert sorted(trial.params["batch"] for trial in drive(search)) == [16, 32, 64]
    assert strategy in GENERATIONAL or search.message


RARE = parse_space(
    [
        {"name": "a", "type": "int", "lower": 1, "upper": 1000, "constraint": "a * 50 <= b"},
        {"name": "b", "type": "int", "lower": 1, "upper": 1000},
    ],
    "one configuration in a hundred is allowed",
)


@pytest.mark.parametrize("strategy", WITHOUT_GENERATIONS)
def test_the_last_configurations_of_a_space_are_found(strategy: str) -> None:
    """Draws hardly ever hit the last ones."""
    entry = {"name": "n", "type": "int", "lower": 1, "upper": 500, "constraint": "n > 10"}
    search = make(strategy, parse_space([entry], "s"), evaluations=1000)
    assert sorted(trial.params["n"] for trial in drive(search, lambda trial: None)) == list(range(11, 501))


@each_generational
def test_offspring_that_no_variation_makes_allowed_are_replaced(strategy: str) -> None:
    """Both flip in every mutation of the only parent, to what is not allowed."""
    entries = [
        {"name": "a", "type": "logical", "default": True, "constraint": "a or b"},
        {"name": "b", "type": "logical", "default": True},
        {"name": "x", "type": "float", "lower": 0, "upper": 1, "default": 0.5},
    ]
    space = parse_space(entries, "s")
    keys = {"num_iterations": 2, "population_size": 2, "mut_prob": 1.0, "cx_prob": 0.0, "mut_indpb": 1.0}
    both = [{"a": True, "b": True, "x": x} for x in (0.5, 0.25)]
    for seed in range(5):
        trials = drive(make(strategy, space, initial=both, seed=seed, **keys))
        assert [dict(trial.params) for trial in trials[:2]] == both
        assert len(trials) > 2
        assert all(trial.params["a"] or trial.params["b"] for trial in trials)


@each
def test_rare_configurations_are_found(strategy: str) -> None:
    trials = drive(make(strategy, RARE, num_iterations=4))
    assert len(trials) > 6
    assert all(50 * trial.params["a"] <= trial.params["b"] for trial in trials)


@pytest.mark.parametrize("strategy", WITHOUT_GENERATIONS)
def test_a_campaign_does_not_end_for_want_of_allowed_configurations(strategy: str) -> None:
    """One draw of 20,000 is allowed."""
    entries = [{"name": name, "type": "float", "lower": 0, "upper": 1, "default": 0.004} for name in "xy"]
    space = parse_space([{**entries[0], "constraint": "x + y < 0.01"}, *entries[1:]], "s")
    trials = drive(make(strategy, space, evaluations=9))
    assert len(trials) == 9
    assert all(sum(map(float, trial.params.values())) < 0.01 for trial in trials)


@each_generational
def test_what_comes_into_existence_in_an_offspring_is_drawn(strategy: str) -> None:
    """Not its default or bound alone, which parents without it would hand on."""
    entries = [
        {"name": "optimizer", "type": "categorical", "element_type": "string", "values": ["Adam", "SGD"]},
        {"name": "momentum", "type": "float", "lower": 0, "upper": 1, "condition": {"optimizer": "SGD"}},
    ]
    space = parse_space(entries, "s")
    adam = [{"optimizer": "Adam"}]
    keys = {"population_size": 2, "num_iterations": 2, "mut_indpb": 1.0, "mut_prob": 1.0, "cx_prob": 0.0}
    momenta = set()
    for seed in range(20):
        trials = drive(make(strategy, space, initial=adam, seed=seed, **keys))
        momenta |= {t.params["momentum"] for t in trials[2:] if t.params["optimizer"] == "SGD"}
    assert len(momenta) > 5
    assert max(momenta) - min(momenta) > 0.5


@each
def test_the_default_configuration_is_evaluated_once_and_before_initial_ones(strategy: str) -> None:
    entries = [{**ENTRIES[1], "default": 0.01}, {**ENTRIES[2], "default": 3}, ENTRIES[3]]
    space = parse_space(entries, "s")
    default = dict(make(strategy, space).ask().params)
    assert (default["rate"], default["layers"]) == (0.01, 3)
    other = {"rate": 0.001, "layers": 2, "batch": 16}
    trials = drive(make(strategy, space, initial=[other, default]))
    assert [dict(trial.params) for trial in trials[:2]] == [default, other]
    assert len({genome(trial, space) for trial in trials}) == len(trials)
    assert len({make(strategy, space, seed=seed).ask().params["batch"] for seed in range(20)}) == 4


def some_params(count: int, seed: int = 99) -> list[Params]:
    rng = np.random.default_rng(seed)
    return [{p.name: p.draw(rng) for p in SPACE.parameters} for _ in range(count)]


@each_whole
@pytest.mark.parametrize("count", [1, 3, 6, 9])
def test_initial_configurations_come_first(strategy: str, count: int) -> None:
    initial = some_params(count)
    trials = drive(make(strategy, initial=initial))
    expected = initial[:6]
    assert [trial.params for trial in trials[: len(expected)]] == expected
    assert len(trials) > 6


@each_whole
def test_initial_configurations_given_twice_are_evaluated_once(strategy: str) -> None:
    initial = some_params(2)
    trials = drive(make(strategy, initial=[initial[0], initial[0], initial[1]]))
    assert all(params in [trial.params for trial in trials[:3]] for params in initial)
    assert len({genome(trial) for trial in trials}) == len(trials)


# -- resuming --------------------------------------------------------------------------------------------------------


def split(events: Iterable[Trial | Outcome]) -> tuple[list[Trial], dict[int, Outcome]]:
    events = list(events)
    outcomes = {event.trial_id: event for event in events if isinstance(event, Outcome)}
    return [event for event in events if isinstance(event, Trial)], outcomes


def unbroken(strategy: str, **keys: Any) -> Driver:
    driver = Driver(make(strategy, **keys), seed=3)
    driver.run()
    return driver


@each_free_of_order
@pytest.mark.parametrize("reevaluate", [False, True])
@pytest.mark.parametrize("space", [SPACE, SIX, RELATED], ids=["large", "finite", "related"])
def test_resume_at_every_cut_asks_the_identical_sequence(strategy: str, reevaluate: bool, space: Space) -> None:
    keys = {"space": space, "reevaluate": reevaluate}
    whole = unbroken(strategy, **keys)
    for cut in range(len(whole.events) + 1):
        assert resume(make(strategy, **keys), *split(whole.events[:cut]), seed=cut) == whole.asked, f"cut at {cut}"


@each_free_of_order
def test_resume_after_every_event_asks_the_identical_sequence(strategy: str) -> None:
    whole = unbroken(strategy)
    events: list[Trial | Outcome] = []
    while len(events) < len(whole.events):
        trials, outcomes = split(events)
        search = make(strategy)
        for trial in trials:
            search.restore(from_disk(trial), outcomes.get(trial.id))
        running = [trial for trial in trials if trial.id not in outcomes]
        asked = search.ask() if len(running) < 3 else None
        events.append(outcome_of(running[0], number) if asked is None else asked)
    assert split(events)[0] == whole.asked


@each
def test_resume_of_a_finished_search_is_done(strategy: str) -> None:
    whole = unbroken(strategy)
    search = make(strategy)
    trials, outcomes = split(whole.events)
    for trial in trials:
        search.restore(from_disk(trial), outcomes[trial.id])
    assert search.done
    assert search.ask() is None


@each
def test_nothing_restored_is_asked_for_again(strategy: str) -> None:
    whole = unbroken(strategy)
    search = make(strategy)
    trials, outcomes = split(whole.events[:15])
    for trial in trials:
        search.restore(from_disk(trial), outcomes.get(trial.id))
    asked = Driver(search, running=[trial for trial in trials if trial.id not in outcomes]).run()
    assert [trial.id for trial in asked] == list(range(len(trials), len(whole.asked)))


@each_free_of_order
def test_initial_configurations_survive_a_resume(strategy: str) -> None:
    keys = {"initial": some_params(4)}
    whole = unbroken(strategy, **keys)
    for cut in range(0, len(whole.events), 3):
        assert resume(make(strategy, **keys), *split(whole.events[:cut])) == whole.asked


@each_free_of_order
def test_lost_asked_records_of_the_last_generation_are_asked_again_identically(strategy: str) -> None:
    whole = unbroken(strategy, population_size=8)
    for seed in range(60):
        rng = random.Random(seed)
        trials, outcomes = split(whole.events[: rng.randrange(1, 13)])
        kept = rng.sample(trials, rng.randrange(len(trials)))
        assert resume(make(strategy, population_size=8), kept, outcomes, seed) == whole.asked, f"seed {seed}"


@each_free_of_order
def test_lost_asked_records_of_any_generation_are_asked_again_identically(strategy: str) -> None:
    whole = unbroken(strategy)
    for seed in range(60):
        rng = random.Random(seed)
        trials, outcomes = split(whole.events[: rng.randrange(1, len(whole.events))])
        lost = rng.choice(trials)
        kept = [trial for trial in trials if trial is not lost]
        assert resume(make(strategy), kept, outcomes, seed) == whole.asked, f"seed {seed}, trial {lost.id} lost"


@each_free_of_order
def test_lost_outcomes_of_any_generation_are_told_later(strategy: str) -> None:
    whole = unbroken(strategy)
    for seed in range(60):
        rng = random.Random(seed)
        trials, outcomes = split(whole.events[: rng.randrange(2, len(whole.events))])
        lost = rng.sample(sorted(outcomes), min(len(outcomes), rng.randrange(1, 4)))
        kept = {key: outcome for key, outcome in outcomes.items() if key not in lost}
        assert resume(make(strategy), trials, kept, seed) == whole.asked, f"seed {seed}, outcomes {lost} lost"


@each_free_of_order
@pytest.mark.parametrize("cut", [5, 17, 10_000])
def test_extended_budget_equals_an_unbroken_run(strategy: str, cut: int) -> None:
    short = unbroken(strategy, num_iterations=3)
    whole = unbroken(strategy, num_iterations=5)
    assert len(short.asked) < len(whole.asked)
    assert resume(make(strategy, num_iterations=5), *split(short.events[:cut])) == whole.asked


@pytest.mark.parametrize("strategy", WITHOUT_GENERATIONS)
def test_evaluations_are_a_budget_that_can_be_extended(strategy: str) -> None:
    short, whole = unbroken(strategy, evaluations=7), unbroken(strategy, evaluations=19)
    assert [len(short.asked), len(whole.asked)] == [7, 19]
    resumed = resume(make(strategy, evaluations=19), *split(short.events))
    assert resumed[:7] == short.asked
    assert len(resumed) == 19
    assert resumed == whole.asked or strategy not in SEQUENCE_FREE_OF_ORDER
