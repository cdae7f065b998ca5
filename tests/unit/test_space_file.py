"""Space files: what loads, and what is refused with its place and remedy."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from workflow.errors import InputError
from workflow.parameters import Choice, Constant, Logical, Number
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
    assert refusal(entries).startswith(
        f"dir/space.json: {entries!r} is a {kind}, not a list\n    -> write a list of dictionaries"
    )


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
