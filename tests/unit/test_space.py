"""Reading hyperparameter spaces: what loads, and what is refused with which message."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workflow.errors import InputError
from workflow.parameters import Choice, Constant, Logical, Number
from workflow.search.base import keyed_rng
from workflow.space import Space
from workflow.space_file import load_space, parse_space

DATA = Path(__file__).parent.parent / "data"

FLOAT = {"name": "x", "type": "float", "lower": 0.5, "upper": 2.5}
INT = {"name": "x", "type": "int", "lower": 1, "upper": 9}
ORDERED = {"name": "x", "type": "ordered", "element_type": "int", "values": [16, 32, 64]}
CATEGORICAL = {"name": "x", "type": "categorical", "element_type": "string", "values": ["Adam", "SGD"]}
CONSTANT = {"name": "x", "type": "constant", "value": 5}


def one(entry: dict[str, Any]) -> Any:
    """The parameter that a single entry stands for."""
    return parse_space([entry], "space.json").parameters[0]


def refusal(entries: object) -> str:
    with pytest.raises(InputError) as caught:
        parse_space(entries, "dir/space.json")
    return str(caught.value)


def without(entry: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in entry.items() if k != key}


# -- what loads ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", ["text", "", "1000 500 100", "two words", 5, -3, 1.5, 1e-5, True, False, "ä 日本 *;$(x)"]
)
def test_constant_keeps_its_value_and_type(value: object) -> None:
    parameter = one({"name": "x", "type": "constant", "value": value})
    assert parameter == Constant("x", value)
    assert type(parameter.value) is type(value)


def test_float_with_all_keys() -> None:
    entry = {**FLOAT, "lower": 1e-6, "upper": 1e-2, "use_log_scale": True, "sigma": 0.3}
    assert one(entry) == Number("x", 1e-6, 1e-2, 0.3, log=True, integer=False)


def test_int_with_all_keys() -> None:
    entry = {**INT, "lower": 1, "upper": 1000, "use_log_scale": True, "sigma": 0.5}
    assert one(entry) == Number("x", 1, 1000, 0.5, log=True, integer=True)


@pytest.mark.parametrize(
    ("entry", "sigma"),
    [
        ({**FLOAT, "lower": 0, "upper": 5}, 0.5),
        ({**FLOAT, "lower": -2.5, "upper": 2.5}, 0.5),
        ({**FLOAT, "lower": 1e-6, "upper": 1e-2, "use_log_scale": True}, 0.4),
        ({**FLOAT, "lower": 1e-6, "upper": 1e-2, "use_log_scale": False}, (1e-2 - 1e-6) / 10),
        ({**INT, "lower": 0, "upper": 50}, 5),
        ({**INT, "lower": 1, "upper": 100, "use_log_scale": True}, 0.2),
    ],
)
def test_sigma_is_a_tenth_of_the_range_by_default(entry: dict[str, Any], sigma: float) -> None:
    assert one(entry).sigma == pytest.approx(sigma)


@pytest.mark.parametrize(("length", "step"), [(1, 1), (4, 1), (10, 1), (14, 1), (16, 2), (30, 3), (100, 10)])
def test_largest_step_of_ordered_is_a_tenth_of_its_list_by_default(length: int, step: int) -> None:
    assert one({**ORDERED, "values": list(range(length))}).max_step == step


@pytest.mark.parametrize(("sigma", "step"), [(1, 1), (3, 3), (0.5, 1), (0.1, 1), (0, 1), (2.4, 2), (2.6, 3), ("3", 3)])
def test_sigma_of_ordered_is_rounded_to_a_step_of_at_least_one(sigma: object, step: int) -> None:
    assert one({**ORDERED, "sigma": sigma}).max_step == step


def test_logical() -> None:
    assert one({"name": "x", "type": "logical"}) == Logical("x")


LISTS = [
    ("int", [16, 32, 64]),
    ("int", [-1]),
    ("float", [0.1, 0.25]),
    ("string", ["Adam", "1000 500 100", ""]),
    ("logical", [True, False]),
]


@pytest.mark.parametrize("kind", ["categorical", "ordered"])
@pytest.mark.parametrize(("element_type", "values"), LISTS)
def test_lists_of_every_element_type(kind: str, element_type: str, values: list[Any]) -> None:
    parameter = one({"name": "x", "type": kind, "element_type": element_type, "values": values})
    assert isinstance(parameter, Choice)
    assert parameter.elements == tuple(values)
    assert [type(e) for e in parameter.elements] == [type(v) for v in values]
    assert (parameter.max_step is None) == (kind == "categorical")


def test_whole_numbers_become_floats_in_a_list_of_floats() -> None:
    elements = one({**CATEGORICAL, "element_type": "float", "values": [0, 0.5, 1]}).elements
    assert elements == (0.0, 0.5, 1.0)
    assert all(type(element) is float for element in elements)


@pytest.mark.parametrize("text", ["0.000495", "1e-3", " 0.5 ", "2"])
def test_sigma_may_be_a_number_in_quotes(text: str) -> None:
    assert one({**FLOAT, "sigma": text}).sigma == float(text)


@pytest.mark.parametrize("entry", [{**INT, "lower": 7, "upper": 7}, {**INT, "lower": 7, "upper": 7, "sigma": 2}])
def test_equal_bounds_of_an_int_are_a_fixed_value(entry: dict[str, Any]) -> None:
    assert list(one(entry).values()) == [7]


@pytest.mark.parametrize("log", [False, True])
def test_equal_bounds_of_a_float_are_a_fixed_value(log: bool) -> None:
    parameter = one({**FLOAT, "lower": 0.1, "upper": 0.1, "use_log_scale": log})
    assert list(parameter.values()) == [0.1]
    assert parameter.size == 1


def test_bounds_of_a_float_may_be_json_ints() -> None:
    parameter = one({**FLOAT, "lower": 0, "upper": 1})
    assert (type(parameter.lower), type(parameter.upper)) == (float, float)


@pytest.mark.parametrize(("lower", "upper"), [(1.0, 9.0), (1e1, 1e3)])
def test_bounds_of_an_int_may_be_whole_json_floats(lower: float, upper: float) -> None:
    parameter = one({**INT, "lower": lower, "upper": upper})
    assert (type(parameter.lower), type(parameter.upper)) == (int, int)


def related(**changes: dict[str, Any]) -> list[dict[str, Any]]:
    """A valid space with entries of all kinds, with keys added to those that are named."""
    entries = [
        {"name": "optimizer", "type": "categorical", "element_type": "string", "values": ["Adam", "SGD", "RMSprop"]},
        {"name": "momentum", "type": "float", "lower": 0, "upper": 0.99},
        {"name": "nesterov", "type": "logical"},
        {"name": "layers", "type": "int", "lower": 1, "upper": 9},
        {"name": "batch", "type": "ordered", "element_type": "int", "values": [16, 32, 64]},
        {"name": "epochs", "type": "constant", "value": 20},
    ]
    return [{**entry, **changes.get(entry["name"], {})} for entry in entries]


EXTRA = {
    "comment": "why",
    "debug_value": 3,
    "def_values": [1, 2],
    "orig_values": {"a": None},
    "value": None,
    "sigmaa": "no number",
}


@pytest.mark.parametrize("entry", [FLOAT, INT, ORDERED, CATEGORICAL, {"name": "x", "type": "logical"}])
def test_other_keys_are_ignored(entry: dict[str, Any]) -> None:
    assert one({**entry, **EXTRA}) == one(entry)


@pytest.mark.parametrize("extra", [{"element_type": "string"}, {"use_log_scale": "x"}, {"sigma": -1}, {"lower": "a"}])
def test_keys_of_other_types_are_ignored_on_a_constant(extra: dict[str, Any]) -> None:
    assert one({**CONSTANT, **extra}) == one(CONSTANT)


def test_values_of_several_words_stay_one_string() -> None:
    assert one({**CATEGORICAL, "values": ["1000 500 100", "64"]}).elements == ("1000 500 100", "64")


@pytest.mark.parametrize("name", ["x", "_x", "learning_rate", "a.b", "a-b", "X1"])
def test_names_that_options_have(name: str) -> None:
    assert one({**FLOAT, "name": name}).name == name


# -- files -----------------------------------------------------------------------------------------------------------


def test_sample_file_of_the_page() -> None:
    space = load_space(DATA / "improve_sample.json")
    span = math.log10(1e-4) - math.log10(1e-6)
    assert span == pytest.approx(2)
    assert space.parameters == (
        Constant("train_ml_data_dir", "<train_data_dir>"),
        Constant("val_ml_data_dir", "<val_data_dir>"),
        Constant("model_outdir", "<desired_outdir>"),
        Number("learning_rate", 1e-6, 1e-4, 0.1, log=True, integer=False),
        Number("num_layers", 1, 9, 0.8, log=False, integer=True),
        Choice("batch_size", (16, 32, 64, 128, 256, 512), "int", 1),
        Choice("warmup_type", ("none", "linear", "quadratic", "exponential"), "string", 1),
        Choice("optimizer", ("Adam", "SGD", "RMSprop"), "string", None),
        Constant("epochs", 150),
    )
    assert space.warnings == ()


@pytest.mark.parametrize("file", sorted((DATA / "spaces").glob("*.json")), ids=lambda path: path.name)
def test_space_of_a_published_campaign(file: Path) -> None:
    entries = json.loads(file.read_text())
    space = load_space(file)
    assert [p.name for p in space.parameters] == [e["name"] for e in entries]
    assert [p.name for p in space.varying] == [e["name"] for e in entries if e["type"] != "constant"]


def test_there_are_published_spaces_to_test() -> None:
    assert len(list((DATA / "spaces").glob("*.json"))) >= 4


def test_a_byte_order_mark_is_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "space.json"
    file.write_text(json.dumps([FLOAT]), encoding="utf-8-sig")
    assert load_space(file).parameters == (one(FLOAT),)


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


def test_a_chain_of_a_thousand_conditions() -> None:
    entries = [{"name": f"x{n}", "type": "logical", "condition": {f"x{n + 1}": True}} for n in range(1000)]
    space = parse_space([*entries, {"name": "x1000", "type": "logical"}], "s")
    assert len(space.params(next(space.draws(np.random.default_rng(1))))) >= 1


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


# -- what is refused -------------------------------------------------------------------------------------------------

NAN, INF = math.nan, math.inf

REFUSED: list[tuple[dict[str, Any], str, str, str]] = [
    # entry, key, what the message says of the value, remedy
    ({**FLOAT, "type": "flaot"}, "type", "'flaot' is not a type", "did you mean 'float'?"),
    ({**FLOAT, "type": "Float"}, "type", "'Float' is not a type", "known: constant, int, float, logical, categorical"),
    ({**FLOAT, "type": None}, "type", "None is not a type", "known: constant"),
    ({**FLOAT, "type": ["float"]}, "type", "['float'] is not a type", "known: constant"),
    (without(FLOAT, "type"), "type", "is missing", "one of constant, int, float, logical, categorical, ordered"),
    (without(CONSTANT, "value"), "value", "is missing", "type constant needs value"),
    (without(FLOAT, "lower"), "lower", "is missing", "type float needs lower, upper"),
    (without(FLOAT, "upper"), "upper", "is missing", "type float needs lower, upper"),
    (without(INT, "lower"), "lower", "is missing", "type int needs lower, upper"),
    (without(INT, "upper"), "upper", "is missing", "type int needs lower, upper"),
    (without(CATEGORICAL, "values"), "values", "is missing", "type categorical needs values, element_type"),
    (without(CATEGORICAL, "element_type"), "element_type", "is missing", "type categorical needs values"),
    (without(ORDERED, "values"), "values", "is missing", "type ordered needs values, element_type"),
    (without(ORDERED, "element_type"), "element_type", "is missing", "type ordered needs values"),
    ({**without(FLOAT, "lower"), "lowr": 1}, "lower", "is missing", "'lowr' looks like a misspelling of it"),
    ({**without(FLOAT, "upper"), "Upper": 1}, "upper", "is missing", "'Upper' looks like a misspelling of it"),
    ({**without(ORDERED, "values"), "value": [1]}, "values", "is missing", "type ordered needs values"),
    ({**without(CONSTANT, "value"), "vlaue": 1}, "value", "is missing", "'vlaue' looks like a misspelling of it"),
    ({**FLOAT, "lower": 3}, "lower", "3.0 is greater than upper 2.5", "swap lower and upper"),
    ({**INT, "lower": 10}, "lower", "10 is greater than upper 9", "swap lower and upper"),
    ({**FLOAT, "lower": 0, "use_log_scale": True}, "lower", "0.0 has no logarithm", "give a lower > 0"),
    ({**INT, "lower": -2, "use_log_scale": True}, "lower", "-2 has no logarithm", "leave use_log_scale out"),
    ({**FLOAT, "use_log_scale": "true"}, "use_log_scale", "'true' is not logical", "without quotes"),
    ({**FLOAT, "use_log_scale": 1}, "use_log_scale", "1 is not logical", "write true or false"),
    ({**FLOAT, "lower": "1"}, "lower", "'1' is a string, not a number", "without quotes"),
    ({**FLOAT, "upper": True}, "upper", "True is a logical, not a number", "write a number"),
    ({**FLOAT, "upper": None}, "upper", "None is a null, not a number", "write a number"),
    ({**FLOAT, "upper": [2]}, "upper", "[2] is a list, not a number", "write a number"),
    ({**FLOAT, "upper": NAN}, "upper", "nan is not finite", "write a finite number"),
    ({**FLOAT, "lower": -INF}, "lower", "-inf is not finite", "write a finite number"),
    ({**INT, "upper": INF}, "upper", "inf is not finite", "write a finite number"),
    ({**FLOAT, "upper": 10**400}, "upper", "is not finite", "write a finite number"),
    ({**FLOAT, "lower": -1.7e308, "upper": 1.7e308}, "upper", "1.7e+308 is too far from lower", "narrow the range"),
    ({**INT, "lower": 1.5}, "lower", "1.5 is not a whole number", "or use type float"),
    ({**INT, "upper": 2**63}, "upper", "9223372036854775808 does not fit into 64 bits", "narrow the range"),
    ({**FLOAT, "sigma": "wide"}, "sigma", "'wide' is not a size", "write a finite number >= 0"),
    ({**FLOAT, "sigma": -0.1}, "sigma", "-0.1 is not a size", "write a finite number >= 0"),
    ({**INT, "sigma": NAN}, "sigma", "nan is not a size", "or leave it out"),
    ({**INT, "sigma": "inf"}, "sigma", "'inf' is not a size", "or leave it out"),
    ({**ORDERED, "sigma": True}, "sigma", "True is not a size", "or leave it out"),
    ({**ORDERED, "sigma": [1]}, "sigma", "[1] is not a size", "or leave it out"),
    ({**ORDERED, "sigma": None}, "sigma", "None is not a size", "or leave it out"),
    ({**CATEGORICAL, "values": []}, "values", "is an empty list", "give at least one element"),
    ({**ORDERED, "values": []}, "values", "is an empty list", "give at least one element"),
    ({**CATEGORICAL, "values": "Adam"}, "values", "'Adam' is a string, not a list", "write a list"),
    ({**CATEGORICAL, "values": {"a": 1}}, "values", "{'a': 1} is a dictionary, not a list", "write a list"),
    ({**CATEGORICAL, "element_type": "str"}, "element_type", "'str'", "did you mean 'string'? known: int, float"),
    ({**CATEGORICAL, "element_type": None}, "element_type", "None", "known: int, float, string, logical"),
    ({**ORDERED, "values": [16, "32"]}, "values element 2", "'32' is not of element_type int", "whole number"),
    ({**ORDERED, "values": [16.5]}, "values element 1", "16.5 is not of element_type int", "whole number"),
    ({**ORDERED, "values": [True]}, "values element 1", "True is not of element_type int", "whole number"),
    ({**ORDERED, "values": [1, None]}, "values element 2", "None is not of element_type int", "whole number"),
    ({**CATEGORICAL, "values": ["a", 5]}, "values element 2", "5 is not of element_type string", "put it in quotes"),
    ({**CATEGORICAL, "values": [["a"]]}, "values element 1", "['a'] is not of element_type string", "put it in"),
    ({**ORDERED, "element_type": "float", "values": ["1"]}, "values element 1", "'1' is not of", "without quotes"),
    ({**CATEGORICAL, "element_type": "logical", "values": [1]}, "values element 1", "1 is not of", "true or false"),
    ({**CATEGORICAL, "element_type": "float", "values": [1.0, NAN]}, "values element 2", "nan is not", "finite"),
    ({**CATEGORICAL, "values": ["a\0b"]}, "values element 1", "NUL", "remove that character"),
    ({**CONSTANT, "value": None}, "value", "None is a null", "give a string, a number or true/false"),
    ({**CONSTANT, "value": [1, 2]}, "value", "[1, 2] is a list", "give a string, a number or true/false"),
    ({**CONSTANT, "value": {}}, "value", "{} is a dictionary", "give a string, a number or true/false"),
    ({**CONSTANT, "value": NAN}, "value", "nan is not finite", "write a finite number"),
    ({**CONSTANT, "value": "a\0b"}, "value", "NUL character", "remove that character"),
    ({**CONSTANT, "value": "\ud800"}, "value", "half a surrogate pair", "remove that character"),
]


@pytest.mark.parametrize(("entry", "key", "what", "remedy"), REFUSED)
def test_refusal_names_file_entry_name_key_value_and_remedy(
    entry: dict[str, Any], key: str, what: str, remedy: str
) -> None:
    problem, _, hint = refusal([{**FLOAT, "name": "first"}, entry]).partition("\n    -> ")
    assert problem.startswith(f"dir/space.json: entry 2 'x': {key}: ")
    assert what in problem
    assert remedy in hint
    assert "\n" not in hint, "one problem gives one refusal"


REFUSED_RELATIONS: list[tuple[str, dict[str, Any], str, str, str]] = [
    # name, keys added, key of the problem, what the message says, remedy
    ("momentum", {"default": 1}, "default", "1 is not in the space", "a number from 0.0 to 0.99"),
    ("momentum", {"default": "0.5"}, "default", "'0.5' is not in the space", "write a number"),
    ("momentum", {"default": None}, "default", "None is not in the space", "write a number"),
    ("momentum", {"default": NAN}, "default", "nan is not in the space", "write a number"),
    ("momentum", {"default": 10**400}, "default", "is not in the space", "write a number"),
    ("momentum", {"default": True}, "default", "True is not in the space", "write a number"),
    ("layers", {"default": 2.5}, "default", "2.5 is not in the space", "a whole number from 1 to 9"),
    ("nesterov", {"default": 1}, "default", "1 is not in the space", "true or false"),
    ("batch", {"default": 48}, "default", "48 is not in the space", "one of 16, 32, 64"),
    ("optimizer", {"default": ["SGD"]}, "default", "['SGD'] is not in", "one of 'Adam', 'SGD'"),
    ("momentum", {"condition": "SGD"}, "condition", "'SGD' is a string, not a dictionary", "write {"),
    ("momentum", {"condition": None}, "condition", "None is a null, not a dictionary", "write {"),
    ("momentum", {"condition": {"optimiser": "SGD"}}, "condition", "'optimiser' is no hyperparameter",
     "did you mean 'optimizer'?"),
    ("momentum", {"condition": {"momentum": 0.5}}, "condition", "this parameter itself", "another"),
    ("layers", {"condition": {"momentum": 0.5}}, "condition", "'momentum' is a float", "a constraint"),
    ("momentum", {"condition": {"optimizer": "sgd"}}, "condition: optimizer",
     "'sgd' is never its value", "one of 'Adam', 'SGD', 'RMSprop'"),
    ("momentum", {"condition": {"layers": [1, 10]}}, "condition: layers", "10 is never its value",
     "a whole number from 1 to 9"),
    ("momentum", {"condition": {"nesterov": 1}}, "condition: nesterov", "1 is never its value",
     "true or false"),
    ("momentum", {"condition": {"batch": [{}]}}, "condition: batch", "{} is never its value", "one of"),
    ("momentum", {"condition": {"optimizer": []}}, "condition: optimizer", "is an empty list",
     "give at least one value"),
    ("momentum", {"constraint": 5}, "constraint", "5 is a number, not a string", "in quotes"),
    ("momentum", {"constraint": ["layers > 1", None]}, "constraint 2", "None is a null", "in quotes"),
    ("momentum", {"constraint": "layer > 1"}, "constraint", "'layer > 1': character 1: 'layer' is no",
     "did you mean 'layers'?"),
    ("momentum", {"constraint": ["layers > 1", "layers >"]}, "constraint 2",
     "'layers >': character 9: ends too early", "use names"),
    ("momentum", {"constraint": "optimizer > 3"}, "constraint", "character 11: > cannot compare", "kind"),
    ("momentum", {"constraint": "batch > 'x'"}, "constraint", "a number with a string", "kind"),
    ("momentum", {"constraint": "epochs == 'x'"}, "constraint", "a number with a string", "kind"),
    ("momentum", {"constraint": "momentum > 1"}, "constraint", "'momentum > 1' is met by no", "loosen"),
    ("momentum", {"constraint": "1 / 0 > 0"}, "constraint", "is met by none of 10,000 random", "defaults"),
    ("momentum", {"default": 0.5, "constraint": "momentum > 0.6"}, "constraint",
     "'momentum > 0.6' is not met by the default configuration", "change a default"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "keys", "key", "what", "remedy"), REFUSED_RELATIONS)
def test_refusal_of_what_relates_entries(name: str, keys: dict[str, Any], key: str, what: str, remedy: str) -> None:
    problem, _, hint = refusal(related(**{name: keys})).partition("\n    -> ")
    number = 1 + [entry["name"] for entry in related()].index(name)
    assert problem.startswith(f"dir/space.json: entry {number} '{name}': {key}: ")
    assert what in problem
    assert remedy in hint
    assert "\n" not in hint, "one problem gives one refusal"


def test_conditions_in_a_circle_are_refused_at_each_of_them() -> None:
    changes = {
        "optimizer": {"condition": {"layers": 1}},
        "momentum": {"condition": {"optimizer": "SGD"}},
        "nesterov": {"condition": {"optimizer": "SGD"}},
        "layers": {"condition": {"nesterov": True, "batch": 16}},
    }
    problems = [line for line in refusal(related(**changes)).splitlines() if not line.startswith("    -> ")]
    assert [problem.partition(": depends on itself: ")[::2] for problem in problems] == [
        ("dir/space.json: entry 1 'optimizer': condition", "optimizer -> layers -> nesterov -> optimizer"),
        ("dir/space.json: entry 3 'nesterov': condition", "nesterov -> optimizer -> layers -> nesterov"),
        ("dir/space.json: entry 4 'layers': condition", "layers -> nesterov -> optimizer -> layers"),
    ]


def test_constraints_that_exclude_each_other_are_refused() -> None:
    changes = {"layers": {"constraint": ["layers < 3", "layers > 7"]}}
    assert "dir/space.json: all the constraints together are met by none of" in refusal(related(**changes))


def test_defaults_that_no_allowed_configuration_has_are_refused() -> None:
    changes = {"layers": {"constraint": ["layers * batch < 17", "layers >= batch / 32"], "default": 2}}
    assert "entry 4 'layers': constraint 1: 'layers * batch < 17' is not met by the default" in refusal(
        related(**changes)
    )
    changes = {"layers": {"constraint": ["nesterov or layers < 2", "not nesterov or layers < 2"], "default": 2}}
    assert "no configuration with these defaults meets all the constraints" in refusal(related(**changes))


def test_relations_with_entries_that_cannot_be_read_are_no_further_problems() -> None:
    changes = {
        "optimizer": {"values": 5},
        "momentum": {"condition": {"optimizer": "SGD"}, "constraint": "optimizer == 'SGD' or optimizer > 5"},
        "layers": {"condition": {"optimiser": 1}, "constraint": "layers <"},
    }
    problems = [line for line in refusal(related(**changes)).splitlines() if not line.startswith("    -> ")]
    places = [": ".join(problem.split(": ")[1:3]) for problem in problems]
    assert places == ["entry 1 'optimizer': values", "entry 4 'layers': condition", "entry 4 'layers': constraint"]


@pytest.mark.parametrize("name", ["", "a b", "--x", "-x", "1x", "ä", "x=1", "x\n", "x\0", "*", "$(x)", "\ud800"])
def test_name_that_no_option_can_have(name: str) -> None:
    problem, _, hint = refusal([FLOAT, {**FLOAT, "name": name}]).partition("\n    -> ")
    assert problem.startswith("dir/space.json: entry 2 ")
    assert f"name: {name!r} cannot be an option's name" in problem
    assert "starts with a letter" in hint


@pytest.mark.parametrize("name", [None, 5, True, ["x"], {}])
def test_name_that_is_no_string(name: object) -> None:
    assert f"dir/space.json: entry 1: name: {name!r} cannot be an option's name" in refusal([{**FLOAT, "name": name}])


def test_missing_name() -> None:
    assert "dir/space.json: entry 1: name: is missing\n    -> give the" in refusal([without(FLOAT, "name")])


def test_misspelt_name_key() -> None:
    assert "'nmae' looks like a misspelling of it" in refusal([{**without(FLOAT, "name"), "nmae": "x"}])


def test_duplicate_name_says_where_the_first_is() -> None:
    problem, _, hint = refusal([FLOAT, {**FLOAT, "name": "y"}, INT]).partition("\n    -> ")
    assert problem == "dir/space.json: entry 3 'x': name: 'x' is defined a second time (first in entry 1)"
    assert "rename or remove" in hint


@pytest.mark.parametrize(
    ("entries", "kind"),
    [({"x": 1}, "dictionary"), ("text", "string"), (5, "number"), (None, "null"), (True, "logical")],
)
def test_a_space_that_is_no_list(entries: object, kind: str) -> None:
    assert refusal(entries).startswith(f"dir/space.json: is a {kind}, not a list\n    -> write a list of dictionaries")


def test_an_empty_space() -> None:
    assert refusal([]) == "dir/space.json: is an empty list\n    -> define at least one hyperparameter"


@pytest.mark.parametrize("entry", ["x", 5, None, ["name", "x"], True])
def test_an_entry_that_is_no_dictionary(entry: object) -> None:
    assert refusal([FLOAT, entry]).startswith(f"dir/space.json: entry 2: {entry!r} is not a dictionary\n    -> write")


def test_all_problems_of_a_file_are_reported_at_once() -> None:
    entries = [
        {**FLOAT, "name": "a", "lower": "0", "sigma": -1},
        {**INT, "name": "b", "lower": 10},
        {"name": "c", "type": "flaot"},
        "nonsense",
        {**ORDERED, "name": "b", "values": [1, "2", None], "sigma": "x"},
        {"name": "fine", "type": "logical"},
        {"nam": "d", "type": "categorical"},
    ]
    problems = [line for line in refusal(entries).splitlines() if not line.startswith("    -> ")]
    places = [": ".join(line.split(": ")[1:3]) for line in problems]
    assert sorted(places) == sorted([
        "entry 1 'a': lower", "entry 1 'a': sigma", "entry 2 'b': lower", "entry 3 'c': type",
        "entry 4: 'nonsense' is not a dictionary", "entry 5 'b': values element 2", "entry 5 'b': values element 3",
        "entry 5 'b': sigma", "entry 5 'b': name", "entry 7: name", "entry 7: values", "entry 7: element_type",
    ])  # fmt: skip


# -- files that cannot be read ---------------------------------------------------------------------------------------


def file_refusal(file: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_space(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n    -> " in str(caught.value)
    return str(caught.value).removeprefix(f"{file}: ")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "line 1 column 1"),
        ("   \n", "line 2 column 1"),
        ("[", "line 1 column 2"),
        ('[{"name": "x",\n  "type": "float"\n  "lower": 1}]', "line 3 column 3"),
        ('[{"name": "x",\n  "type": float}]', "line 2 column 11"),
        ("[{'name': 'x'}]", "line 1 column 3"),
        ('[{"name": "x"}] extra', "line 1 column 17"),
        ('[{"name": "a\tb"}]', "line 1 column 13"),
    ],
)
def test_broken_json_gives_line_and_column(tmp_path: Path, text: str, place: str) -> None:
    file = tmp_path / "space.json"
    file.write_text(text)
    assert file_refusal(file).startswith(f"{place}: is not JSON: ")


def test_key_that_is_given_twice_in_an_entry(tmp_path: Path) -> None:
    file = tmp_path / "space.json"
    file.write_text('[{"name": "x", "type": "int", "lower": 1, "lower": 2, "upper": 3}]')
    assert file_refusal(file).startswith("entry 1 'x': lower: is given more than once\n    -> keep one of them")


def test_numbers_that_overflow_in_json(tmp_path: Path) -> None:
    file = tmp_path / "space.json"
    file.write_text('[{"name": "x", "type": "float", "lower": 0, "upper": 1e999}]')
    assert file_refusal(file).startswith("entry 1 'x': upper: inf is not finite")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    message = file_refusal(tmp_path / "none.json")
    assert message.startswith("cannot be read (No such file or directory)\n    -> check the path")


def test_a_directory_in_place_of_the_file(tmp_path: Path) -> None:
    assert file_refusal(tmp_path).startswith("cannot be read (Is a directory)")


@pytest.mark.parametrize("data", [b"\xff\xfe[\x00]\x00", b"[\xe4]", bytes(range(128, 256))])
def test_a_file_that_is_no_utf8(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "space.json"
    file.write_bytes(data)
    assert "is not UTF-8 text (byte " in file_refusal(file)


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 100_000 + "]" * 100_000, "[" + "9" * 5000 + "]"])
def test_json_beyond_what_python_reads(tmp_path: Path, text: str) -> None:
    file = tmp_path / "space.json"
    file.write_text(text)
    assert file_refusal(file).startswith("cannot be read as JSON (")


@pytest.mark.parametrize("name", ["iteration", "sample", "metric", "result", "walltime", "pareto", "result_pcc"])
def test_columns_of_the_result_table_are_no_names_of_hyperparameters(name: str) -> None:
    entry = {"name": name, "type": "float", "lower": 0, "upper": 1}
    assert f"entry 1 '{name}': name: '{name}' is a column of hpo.csv\n    -> rename" in refusal([entry])
    parse_space([{"name": name, "type": "constant", "value": 1}], "dir/space.json")
