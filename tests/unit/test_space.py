"""A space: its configurations, defaults, conditions and constraints."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from tests.unit.test_space_file import CATEGORICAL, CONSTANT, FLOAT, INT, ORDERED, refusal, related
from workflow.search.base import keyed_rng
from workflow.space import Space
from workflow.space_file import parse_space

# -- the space as a whole --------------------------------------------------------------------------------------------


def mixed() -> Space:
    names = ("a", "b", "c", "d")
    entries = [{**entry, "name": n} for entry, n in zip((INT, CONSTANT, ORDERED, CATEGORICAL), names, strict=True)]
    return parse_space(entries, "space.json")


def test_varying_parameters_are_those_that_are_not_constant() -> None:
    assert [p.name for p in mixed().varying] == ["a", "c", "d"]


def test_size_counts_configurations() -> None:
    assert mixed().size == 9 * 1 * 3 * 2
    assert parse_space([FLOAT], "s").size == math.inf
    assert parse_space([{**CATEGORICAL, "values": ["a", "b", "a"]}], "s").size == 2


def test_grid_holds_every_configuration_once() -> None:
    grid = list(mixed().grid())
    assert len(grid) == len(set(grid)) == mixed().size


def test_complete_adds_the_constants_in_the_order_of_the_file() -> None:
    complete = mixed().complete({"d": "SGD", "a": 3, "c": 32})
    assert list(complete.items()) == [("a", 3), ("b", 5), ("c", 32), ("d", "SGD")]


@pytest.mark.parametrize(
    ("sigma", "warned"), [(0.001, True), (0.019, True), (0.021, False), (0.1, False), (None, False)]
)
def test_a_sigma_that_was_meant_for_the_linear_scale_is_warned_of(sigma: float | None, warned: bool) -> None:
    entry = {"name": "lr", "type": "float", "lower": 1e-6, "upper": 1e-4, "use_log_scale": True}
    space = parse_space([entry if sigma is None else {**entry, "sigma": sigma}], "space.json")
    assert [("space.json" in w, "'lr'" in w, "decades" in w) for w in space.warnings] == [(True,) * 3] * warned


@pytest.mark.parametrize("entry", [{**FLOAT, "sigma": 0}, {**FLOAT, "sigma": 0.019}, {**INT, "sigma": 0.07}])
def test_a_sigma_that_barely_moves_a_value_is_warned_of(entry: dict[str, Any]) -> None:
    (warning,) = parse_space([entry], "space.json").warnings
    assert f"entry 1 'x': sigma {entry['sigma']} is below a hundredth of the range's" in warning
    assert parse_space([{**entry, "sigma": 0.1}], "space.json").warnings == ()


@pytest.mark.parametrize(
    ("entry", "tries"),
    [
        ({**FLOAT, "sigma": 2.1}, "0.2"),
        ({**FLOAT, "sigma": 2.0}, None),
        ({**FLOAT, "lower": 1, "upper": 1, "sigma": 5}, None),
        ({**INT, "sigma": 9}, "0.8"),
        ({**FLOAT, "lower": 1e-6, "upper": 1e-4, "use_log_scale": True, "sigma": 2.5}, "0.2"),
        ({**ORDERED, "sigma": 3}, "0.2"),
        ({**ORDERED, "sigma": 2}, None),
        ({**ORDERED, "values": [16]}, None),
    ],
)
def test_a_sigma_that_is_larger_than_the_range_is_warned_of(entry: dict[str, Any], tries: str | None) -> None:
    warnings = parse_space([entry], "space.json").warnings
    if tries is None:
        assert warnings == ()
    else:
        (warning,) = warnings
        assert warning.startswith("space.json: entry 1 'x': sigma ")
        assert "larger than the whole range" in warning
        assert f"(try {tries})" in warning


# -- defaults --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "default"),
    [
        ({**FLOAT, "default": 1}, 1.0),
        ({**FLOAT, "default": 2.5}, 2.5),
        ({**INT, "default": 3.0}, 3),
        ({**ORDERED, "default": 32}, 32),
        ({**CATEGORICAL, "default": "SGD"}, "SGD"),
        ({"name": "x", "type": "logical", "default": False}, False),
    ],
)
def test_defaults_have_the_type_of_their_parameter(entry: dict[str, Any], default: object) -> None:
    space = parse_space([entry], "s")
    assert space.defaults == {"x": default}
    assert type(space.defaults["x"]) is type(default)


def test_a_default_on_a_constant_is_ignored_like_any_other_key() -> None:
    assert parse_space([{**CONSTANT, "default": [1]}], "s") == parse_space([CONSTANT], "s")


# -- conditions ------------------------------------------------------------------------------------------------------


def genomes(space: Space, count: int = 300) -> list[Any]:
    return list(itertools.islice(space.draws(np.random.default_rng(1)), count))


def test_a_parameter_exists_where_all_of_its_condition_is_met() -> None:
    condition = {"optimizer": ["SGD", "RMSprop"], "nesterov": True, "layers": 3}
    space = parse_space(related(momentum={"condition": condition}, layers={"upper": 3}), "s")
    for params in map(space.params, genomes(space)):
        met = params["optimizer"] != "Adam" and params["nesterov"] and params["layers"] == 3
        assert ("momentum" in params) is met


def test_a_parameter_does_not_exist_where_one_that_it_needs_does_not_exist() -> None:
    changes = {"momentum": {"condition": {"nesterov": False}}, "nesterov": {"condition": {"optimizer": "SGD"}}}
    space = parse_space(related(**changes), "s")
    found = list(map(space.params, genomes(space)))
    assert {len(params) for params in found} == {4, 5, 6}
    assert all(("nesterov" in params) is (params["optimizer"] == "SGD") for params in found)
    assert all(("momentum" in params) is (params.get("nesterov") is False) for params in found)


def test_a_constant_may_have_a_condition() -> None:
    space = parse_space(related(epochs={"condition": {"layers": [1, 2]}}), "s")
    for params in map(space.params, genomes(space)):
        assert params.get("epochs") == (20 if params["layers"] < 3 else None)


def test_configurations_that_differ_in_what_does_not_exist_are_the_same() -> None:
    space = parse_space(related(momentum={"condition": {"optimizer": "SGD"}}), "s")
    one, other = ("Adam", 0.5, True, 3, 16), ("Adam", 0.9, True, 3, 16)
    assert space.settle(one) == space.settle(other) == ("Adam", None, True, 3, 16)
    assert space.settle(("SGD", 0.5, True, 3, 16)) == ("SGD", 0.5, True, 3, 16)


def test_params_and_genome_are_each_others_inverse() -> None:
    space = parse_space(related(momentum={"condition": {"optimizer": "SGD"}}), "s")
    for genome in genomes(space):
        params = space.params(genome)
        assert space.genome(params) == genome
        assert list(params) == [p.name for p in space.parameters if p.name in params]


def test_size_counts_configurations_that_differ() -> None:
    entries = [entry for entry in related(batch={"condition": {"optimizer": "SGD"}}) if entry["name"] != "momentum"]
    space = parse_space(entries, "s")
    assert space.size == (2 + 3) * 2 * 9
    grid = list(space.grid())
    assert len(set(grid)) == len(grid) == space.size


def test_size_is_an_upper_bound_where_configurations_cannot_be_counted() -> None:
    entries = [{**INT, "upper": 10**6}, {**INT, "name": "y", "condition": {"x": 5}}]
    assert parse_space(entries, "s").size == 9 * 10**6
    assert parse_space(related(momentum={"condition": {"optimizer": "SGD"}}), "s").size == math.inf


@pytest.mark.parametrize(
    ("condition", "exists", "warning"),
    [
        ({"epochs": 20}, True, "space.json: layers: condition: epochs is a constant: it always holds"),
        ({"epochs": [10, 20], "optimizer": "SGD"}, None, "space.json: layers: condition: epochs is a constant"),
        ({"epochs": 10}, False, "condition: epochs is the constant 20, so layers never exists"),
        ({"epochs": [10, "ten"], "optimizer": "SGD"}, False, "epochs is the constant 20, so layers never exists"),
    ],
)
def test_a_condition_on_a_constant_is_decided_at_once(condition: Any, exists: bool | None, warning: str) -> None:
    space = parse_space(related(layers={"condition": condition}), "space.json")
    assert [warning in text for text in space.warnings] == [True]
    assert ("layers" in [p.name for p in space.parameters]) is (exists is not False)
    found = {"layers" in space.params(genome) for genome in genomes(space)}
    assert found == ({exists} if exists is not None else {True, False})


def test_what_depends_on_what_never_exists_never_exists() -> None:
    changes = {
        "layers": {"condition": {"epochs": 10}, "default": 3},
        "batch": {"condition": {"layers": [1, 2]}, "constraint": "batch > layers"},
    }
    space = parse_space(related(**changes), "s")
    assert [p.name for p in space.parameters] == ["optimizer", "momentum", "nesterov", "epochs"]
    assert space.defaults == {}
    assert "layers never exists, so batch never exists" in space.warnings[1]


# -- constraints -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "constraint", ["layers * batch < 100", ["layers * batch < 100"], ["layers > 0", "layers * batch < 100"]]
)
def test_draws_and_grid_meet_the_constraints(constraint: Any) -> None:
    entries = [entry for entry in related(layers={"constraint": constraint}) if entry["name"] != "momentum"]
    space = parse_space(entries, "s")
    products = [params["layers"] * params["batch"] for params in map(space.params, genomes(space))]
    assert max(products) == 96
    assert space.size == len(list(space.grid())) == 3 * 2 * (6 + 3 + 1)


def test_constraints_of_what_does_not_exist_do_not_apply() -> None:
    changes = {"momentum": {"condition": {"optimizer": "SGD"}, "constraint": "momentum < 0.5 and layers == 1"}}
    space = parse_space(related(**changes), "s")
    found = list(map(space.params, genomes(space)))
    assert all(params["layers"] == 1 and params["momentum"] < 0.5 for params in found if params["optimizer"] == "SGD")
    assert {params["layers"] for params in found} == set(range(1, 10))


def test_a_single_allowed_configuration_of_a_small_space_is_found() -> None:
    entries = [{**INT, "upper": 20_000, "constraint": "x == 12345"}]
    space = parse_space(entries, "s")
    assert space.example == (12345,)
    assert space.size == 1


RARE = [{**FLOAT, "constraint": "x > 2.499 and y > 2.499"}, {**FLOAT, "name": "y"}]
"""A quarter of a millionth of all configurations is allowed."""


def test_what_no_draw_meets_needs_defaults_that_do() -> None:
    assert "is met by none of 10,000 random configurations\n    -> loosen it, or write defaults" in refusal(RARE)
    space = parse_space([{**entry, "default": 2.4995} for entry in RARE], "s")
    assert space.example == (2.4995, 2.4995)
    walked = list(itertools.islice(space.rest(keyed_rng(1)), 50))
    assert all(map(space.allows, walked))
    assert len(set(walked)) > 20
    assert np.ptp([x for x, _ in walked]) > 0.0005, "the walk gets around"


def test_the_way_to_what_is_not_allowed_ends_where_it_is() -> None:
    number = {"type": "float", "lower": 0, "upper": 2}
    entries = [
        {**number, "name": "x", "constraint": "x + y < 1"},
        {**number, "name": "y"},
        {"name": "flag", "type": "logical"},
        {**ORDERED, "name": "batch"},
    ]
    space = parse_space(entries, "s")
    begin, end = (0.0, 0.0, False, 16), (2.0, 2.0, True, 64)
    found = [space.towards(begin, end, keyed_rng(seed)) for seed in range(50)]
    assert {(x, y, batch) for x, y, _, batch in found} == {(0.25, 0.25, 16)}
    assert 0 < sum(bool(flag) for _, _, flag, _ in found) < 20
    assert space.towards(begin, (0.5, 0.25, True, 64), keyed_rng(1)) == (0.5, 0.25, True, 64)


@pytest.mark.parametrize("key", ["conditions", "conditon", "constraints", "Constraint", "defaults"])
def test_a_key_that_looks_like_an_optional_one_is_warned_of(key: str) -> None:
    (warning,) = parse_space([{**FLOAT, key: {}}], "space.json").warnings
    assert f"entry 1 'x': the key '{key}' is ignored: did you mean '" in warning


def test_entries_keep_the_keys_that_are_read() -> None:
    entry = {**FLOAT, "default": 1, "condition": {"y": True}, "constraint": "x > 1 or not y", "comment": "no"}
    entries = [entry, {"name": "y", "type": "logical"}]
    space = parse_space(entries, "s")
    assert parse_space(list(space.entries), "s") == space
    assert "comment" not in space.entries[0]
