"""Initial populations from a CSV and from an earlier run's directory."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow.config.initial import read_initial, write_initial
from workflow.errors import InputError
from workflow.space import Space
from workflow.space_file import parse_space
from workflow.trial import Params

SPACE = parse_space(
    [
        {"name": "lr", "type": "float", "lower": 0, "upper": 1},
        {"name": "epochs", "type": "constant", "value": 150},
        {"name": "n", "type": "int", "lower": 1, "upper": 9},
        {"name": "bias", "type": "logical"},
        {"name": "opt", "type": "categorical", "element_type": "string", "values": ["Adam", "a, b", "", "1"]},
        {"name": "size", "type": "ordered", "element_type": "int", "values": [16, 32, 64]},
        {"name": "drop", "type": "ordered", "element_type": "float", "values": [0, 0.1, 1e-7]},
        {"name": "fast", "type": "categorical", "element_type": "logical", "values": [True]},
    ],
    "space.json",
)
HEADER = "lr,n,bias,opt,size,drop,fast"
GOOD = ["0.5,3,true,Adam,16,0.1,true", '1e-3,9,false,"a, b",64,0.0,true', "1,1,True,,32,1e-07,1"]


def write(directory: Path, *rows: str, header: str = HEADER, name: str = "initial.csv", ending: str = "\n") -> Path:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + ending for line in (header, *rows)).encode())
    return path


def read(path: Path, size: int = 16, space: Space = SPACE) -> list[dict[str, Any]]:
    return [dict(params) for params in read_initial(path, space, size)]


def refusal(path: Path, size: int = 16, space: Space = SPACE) -> str:
    with pytest.raises(InputError) as caught:
        read_initial(path, space, size)
    return str(caught.value).replace(f"{path.parent}/", "")


RELATED = parse_space(
    [
        {"name": "momentum", "type": "float", "lower": 0, "upper": 1, "condition": {"optimizer": "SGD"}},
        {"name": "optimizer", "type": "categorical", "element_type": "string", "values": ["Adam", "SGD"]},
        {"name": "label", "type": "categorical", "element_type": "string", "values": ["", "x"], "default": "x"},
        {"name": "layers", "type": "int", "lower": 1, "upper": 9, "constraint": "layers < 5 or optimizer == 'Adam'"},
    ],
    "space.json",
)


# -- a CSV -----------------------------------------------------------------------------------------------------------


def test_rows_become_configurations_in_the_order_of_the_file(tmp_path: Path) -> None:
    first, second, third = read(write(tmp_path, *GOOD))
    assert list(first.items()) == [
        ("lr", 0.5), ("epochs", 150), ("n", 3), ("bias", True), ("opt", "Adam"), ("size", 16), ("drop", 0.1),
        ("fast", True),
    ]  # fmt: skip
    assert (second["lr"], second["n"], second["bias"], second["opt"], second["drop"]) == (1e-3, 9, False, "a, b", 0.0)
    assert (third["lr"], third["opt"], third["drop"], third["fast"]) == (1.0, "", 1e-7, True)


def test_values_have_the_types_of_the_space(tmp_path: Path) -> None:
    (params,) = read(write(tmp_path, "1,3.0,1,1,16,0,TRUE"))
    assert {name: type(value) for name, value in params.items()} == {
        "lr": float, "epochs": int, "n": int, "bias": bool, "opt": str, "size": int, "drop": float, "fast": bool,
    }  # fmt: skip


def test_other_columns_and_their_order_do_not_matter(tmp_path: Path) -> None:
    plain = read(write(tmp_path, GOOD[0]))
    header = "fast,comment,drop,size,opt,bias,n,epochs,lr,result"
    assert read(write(tmp_path, "true,x,0.1,16,Adam,true,3,999,0.5,", header=header)) == plain


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_files_of_other_systems(tmp_path: Path, ending: str, mark: str) -> None:
    assert len(read(write(tmp_path, *GOOD, header=mark + HEADER, ending=ending))) == 3


def test_rows_that_are_equal_are_taken_once(tmp_path: Path) -> None:
    equal = GOOD[0].replace("0.5", "5e-1").replace("true", "TRUE")
    assert len(read(write(tmp_path, GOOD[0], GOOD[1], GOOD[0], equal))) == 2


@pytest.mark.parametrize(("size", "taken"), [(1, 1), (2, 2), (3, 3), (16, 3)])
def test_no_more_rows_are_taken_than_the_population_holds(tmp_path: Path, size: int, taken: int) -> None:
    assert read(write(tmp_path, *GOOD), size) == read(write(tmp_path, *GOOD))[:taken]


def test_equal_rows_do_not_count_against_the_size(tmp_path: Path) -> None:
    assert len(read(write(tmp_path, GOOD[0], GOOD[0], GOOD[1]), size=2)) == 2


WRONG = [
    ("lr", "1.5", "a number from 0.0 to 1.0"),
    ("lr", "-0.1", "a number from 0.0 to 1.0"),
    ("lr", "fast", "a number from 0.0 to 1.0"),
    ("lr", "", "a number from 0.0 to 1.0"),
    ("lr", "nan", "a number from 0.0 to 1.0"),
    ("lr", "inf", "a number from 0.0 to 1.0"),
    ("n", "0", "a whole number from 1 to 9"),
    ("n", "2.5", "a whole number from 1 to 9"),
    ("n", "three", "a whole number from 1 to 9"),
    ("n", "1e999", "a whole number from 1 to 9"),
    ("bias", "yes", "true or false"),
    ("bias", "", "true or false"),
    ("opt", "adam", "one of "),
    ("size", "48", "one of 16, 32, 64"),
    ("size", "x", "one of 16, 32, 64"),
    ("drop", "0.2", "one of 0.0, 0.1, 1e-07"),
    ("fast", "false", "one of "),
]


@pytest.mark.parametrize(("column", "text", "remedy"), WRONG)
def test_a_wrong_value_is_named_with_line_and_column(tmp_path: Path, column: str, text: str, remedy: str) -> None:
    cells = GOOD[0].split(",")
    cells[HEADER.split(",").index(column)] = text
    problem, _, hint = refusal(write(tmp_path, GOOD[0], GOOD[1], ",".join(cells))).partition("\n    -> ")
    assert problem == f"initial.csv: line 4: {column}: {text!r} is not in the space"
    assert hint.startswith(f"write {remedy}")


def test_all_wrong_values_are_reported_at_once(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, "2,3,true,Adam,16,0.1,true", GOOD[0], "0.5,0,maybe,Adam,16,0.1,true"))
    assert [line.split(": ")[1:3] for line in message.splitlines()[::2]] == [
        ["line 2", "lr"], ["line 4", "n"], ["line 4", "bias"],
    ]  # fmt: skip


def test_wrong_values_beyond_the_size_are_reported_too(tmp_path: Path) -> None:
    assert "line 3: lr" in refusal(write(tmp_path, GOOD[0], "2" + GOOD[0]), size=1)


def test_a_row_that_is_too_short(tmp_path: Path) -> None:
    assert "line 2: fast: '' is not in the space" in refusal(write(tmp_path, GOOD[0].rpartition(",")[0]))


def test_missing_columns_are_named(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, "0.5,true", header="lr,bias"))
    assert message.startswith("initial.csv: header: has no column n, opt, size, drop, fast\n    -> add one column")


@pytest.mark.parametrize("header", [HEADER, "", "lr"])
def test_a_file_without_rows(tmp_path: Path, header: str) -> None:
    assert refusal(write(tmp_path, header=header)).startswith("initial.csv: has no row\n    -> write one configuration")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.csv").startswith(
        "none.csv: cannot be read (No such file or directory)\n    -> give"
    )


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b'lr\n"' + b"x" * 200_000])
def test_a_file_that_is_no_csv(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "initial.csv"
    path.write_bytes(data)
    assert refusal(path).startswith("initial.csv: is not a CSV file: ")


# -- a run's directory -----------------------------------------------------------------------------------------------

SIMPLE = parse_space([{"name": "x", "type": "int", "lower": 0, "upper": 99}], "space.json")
RUN_HEADER = "iteration,sample,x,metric,result,walltime"


def run(directory: Path, *results: tuple[object, str], mode: str = "min") -> Path:
    """An earlier run with these values of x and results."""
    (directory / "run").mkdir()
    (directory / "run" / "experiment.yaml").write_text(f"objective: {{metric: val_loss, mode: {mode}}}\n")
    rows = [f"001,{number:04d},{x},val_loss,{result},7" for number, (x, result) in enumerate(results)]
    write(directory / "run", *rows, header=RUN_HEADER, name="hpo.csv")
    return directory / "run"


RESULTS = [(1, "0.5"), (2, "1.2e-05"), (3, ""), (4, "-3"), (5, "0.5"), (6, "100")]


@pytest.mark.parametrize(("mode", "order"), [("min", [4, 2, 1, 5, 6]), ("max", [6, 1, 5, 2, 4])])
def test_a_run_gives_its_best_first_and_leaves_out_what_failed(tmp_path: Path, mode: str, order: list[int]) -> None:
    """Best by its own objective, whatever is searched for now."""
    assert [params["x"] for params in read(run(tmp_path, *RESULTS, mode=mode), space=SIMPLE)] == order


def test_a_run_gives_its_best_only(tmp_path: Path) -> None:
    assert [params["x"] for params in read(run(tmp_path, *RESULTS), size=2, space=SIMPLE)] == [4, 2]


def test_a_configuration_that_was_evaluated_twice_is_taken_once(tmp_path: Path) -> None:
    results = [(1, "0.5"), (2, "0.4"), (1, "0.1")]
    assert [params["x"] for params in read(run(tmp_path, *results), space=SIMPLE)] == [1, 2]


def test_values_of_a_run_outside_this_space_name_the_file_and_the_line(tmp_path: Path) -> None:
    message = refusal(run(tmp_path, (1, "0.5"), (100, "0.1")), space=SIMPLE)
    assert "run/hpo.csv: line 3: x: '100' is not in the space\n    -> write a whole number from 0 to 99" in message


def test_a_failed_trial_outside_this_space_is_no_harm(tmp_path: Path) -> None:
    assert len(read(run(tmp_path, (1, "0.5"), (100, "")), space=SIMPLE)) == 1


def test_a_run_of_which_all_failed(tmp_path: Path) -> None:
    assert "hpo.csv: has no trial that succeeded\n    -> name another run" in refusal(
        run(tmp_path, (1, ""), (2, "")), space=SIMPLE
    )


def test_a_run_that_does_not_say_what_it_searched_for(tmp_path: Path) -> None:
    directory = run(tmp_path, (1, "0.5"))
    (directory / "experiment.yaml").write_text("objective: 5\n")
    assert "experiment.yaml: objective: is 5" in refusal(directory, space=SIMPLE)


def test_a_directory_that_is_no_run(tmp_path: Path) -> None:
    assert "hpo.csv: cannot be read" in refusal(tmp_path, space=SIMPLE)


@pytest.mark.parametrize("result", ["broken", "0,5x", "--1"])
def test_a_result_that_is_no_number_names_its_line(tmp_path: Path, result: str) -> None:
    message = refusal(run(tmp_path, (1, "0.5"), (2, f'"{result}"')), space=SIMPLE)
    assert f"hpo.csv: line 3: result: {result!r}" in message


# -- the copy that a resume reads ------------------------------------------------------------------------------------


def copied(directory: Path, space: Space, initial: list[Params]) -> list[dict[str, Any]]:
    path = directory / "copy.csv"
    write_initial(path, space, initial)
    return read(path, len(initial), space=space)


def test_the_copy_of_a_run_gives_the_same_configurations(tmp_path: Path) -> None:
    initial = read_initial(write(tmp_path, *GOOD), SPACE, 16)
    again = copied(tmp_path, SPACE, initial)
    assert repr(again) == repr([dict(params) for params in initial])


TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1, unique=True)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(values=TEXTS, lr=st.floats(0, 1), number=st.integers(-(2**63) + 1, 2**63 - 1))
def test_the_copy_of_a_run_keeps_any_value(
    values: list[str], lr: float, number: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    space = parse_space(
        [
            {"name": "text", "type": "categorical", "element_type": "string", "values": values},
            {"name": "lr", "type": "float", "lower": 0, "upper": 1},
            {"name": "big", "type": "int", "lower": -(2**63) + 1, "upper": 2**63 - 1},
        ],
        "space.json",
    )
    initial: list[Params] = [{"text": value, "lr": lr, "big": number} for value in values]
    assert repr(copied(tmp_path_factory.getbasetemp(), space, initial)) == repr(initial)


@pytest.mark.parametrize("number", [2**53 + 1, 2**62 + 1, 2**53 - 1, -(2**53) - 1])
def test_the_copy_of_a_run_keeps_large_ints(tmp_path: Path, number: int) -> None:
    space = parse_space([{"name": "big", "type": "int", "lower": -(2**63) + 1, "upper": 2**63 - 1}], "space.json")
    assert copied(tmp_path, space, [{"big": number}]) == [{"big": number}]


def test_the_copy_of_a_run_keeps_a_single_empty_text(tmp_path: Path) -> None:
    entry = {"name": "text", "type": "categorical", "element_type": "string", "values": ["", "a"]}
    space = parse_space([entry], "space.json")
    assert copied(tmp_path, space, [{"text": ""}, {"text": "a"}]) == [{"text": ""}, {"text": "a"}]


# -- spaces with conditions and constraints ----------------------------------------------------------------------------

RELATED_HEADER = "layers,label,optimizer,momentum"


def test_cells_of_what_does_not_exist_may_be_empty_or_hold_anything(tmp_path: Path) -> None:
    rows = ["9,,Adam,", "8,x,Adam,0.5", "7,x,Adam,text", "4,,SGD,0.5"]
    assert read(write(tmp_path, *rows, header=RELATED_HEADER), space=RELATED) == [
        {"optimizer": "Adam", "label": "", "layers": 9},
        {"optimizer": "Adam", "label": "x", "layers": 8},
        {"optimizer": "Adam", "label": "x", "layers": 7},
        {"momentum": 0.5, "optimizer": "SGD", "label": "", "layers": 4},
    ]


def test_rows_that_differ_in_what_does_not_exist_are_taken_once(tmp_path: Path) -> None:
    assert len(read(write(tmp_path, "9,x,Adam,", "9,x,Adam,0.5", header=RELATED_HEADER), space=RELATED)) == 1


def test_what_exists_needs_a_value_and_what_is_not_allowed_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "4,x,SGD,", "9,x,SGD,0.5", "9,x,Adam,", header=RELATED_HEADER)
    assert refusal(path, space=RELATED).splitlines() == [
        "initial.csv: line 2: momentum: '' is not in the space",
        "    -> write a number from 0.0 to 1.0",
        "initial.csv: line 3: does not meet \"layers < 5 or optimizer == 'Adam'\"",
        "    -> change or remove this line",
    ]


def test_configurations_with_empty_cells_are_read_back(tmp_path: Path) -> None:
    drawn = RELATED.draws(np.random.default_rng(1))
    initial = [RELATED.params(genome) for genome in dict.fromkeys(itertools.islice(drawn, 50))]
    write_initial(tmp_path / "initial.csv", RELATED, initial)
    assert read(tmp_path / "initial.csv", 50, RELATED) == initial
