"""Where values lie on the axes of a report's plots and models."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from tests.synthetic import write_run
from workflow.report.axes import Axis, axes_of
from workflow.report.history import load_run


def column(directory: Path, *values: object) -> Axis:
    """The axis of a table's only hyperparameter."""
    lines = [f"1,{i},{value},val_loss,0.5,1" for i, value in enumerate(values)]
    (directory / "hpo.csv").write_text("\n".join(["iteration,sample,x,metric,result,walltime", *lines]))
    (axis,) = axes_of(load_run(directory / "hpo.csv"))
    return axis


def test_axes_are_those_of_the_space(tmp_path: Path) -> None:
    axes = {axis.name: axis for axis in axes_of(load_run(write_run(tmp_path / "run", 3)))}
    assert axes["learning_rate"] == Axis("learning_rate", 1e-6, 0.1, log=True)
    assert axes["num_layers"] == Axis("num_layers", 1, 12, whole=True)
    assert axes["batch_size"] == Axis("batch_size", labels=("16", "32", "64", "128", "256", "512"))
    assert axes["optimizer"] == Axis("optimizer", labels=("Adam", "SGD", "RMSprop"), ordered=False)
    assert axes["amsgrad"] == Axis("amsgrad", labels=("false", "true"), ordered=False)
    assert "epochs" not in axes


@pytest.mark.parametrize(
    ("values", "axis"),
    [
        ((0.1, 0.4), Axis("x", 0.1, 0.4)),
        ((1e-5, 0.1), Axis("x", 1e-5, 0.1, log=True)),
        ((64, 16, 64), Axis("x", labels=("16", "64"))),
        (range(20), Axis("x", 0, 19)),
        (("b", "a", 3), Axis("x", labels=("3", "a", "b"), ordered=False)),
        (("true", "false"), Axis("x", labels=("false", "true"), ordered=False)),
        (("", ""), Axis("x", labels=(), ordered=False)),
    ],
)
def test_axes_of_a_table_are_told_by_its_values(tmp_path: Path, values: tuple[object, ...], axis: Axis) -> None:
    assert column(tmp_path, *values) == axis


def test_places_of_values() -> None:
    rate, choice = Axis("rate", 1e-4, 1.0, log=True), Axis("choice", labels=("a", "b", "true"))
    assert [rate.place(value) for value in (0.01, 3)] == [0.01, 3.0]
    assert [rate.place(value) for value in (None, "x", math.nan, math.inf, -1.0, True)] == [None] * 6
    assert [choice.place(value) for value in ("a", "b", True, "c", None)] == [0.0, 1.0, 2.0, None, None]


def test_a_range_may_be_that_of_all_floats() -> None:
    axis = Axis("x", -1.7e308, 1.7e308)
    assert axis.units([-1.7e308, 0.0, 1.7e308]).tolist() == [0.0, 0.5, 1.0]
    assert axis.places(np.array([0.0, 0.5, 1.0])).tolist() == [-1.7e308, 0.0, 1.7e308]


def test_units_and_back() -> None:
    rate, choice = Axis("rate", 1e-4, 1.0, log=True), Axis("choice", labels=("a", "b"))
    assert rate.units([1e-4, 0.01, 1.0, None]) == pytest.approx([0.0, 0.5, 1.0, 0.5])
    assert rate.places(np.array([0.0, 0.5, 1.0])) == pytest.approx([1e-4, 0.01, 1.0])
    assert choice.units([0.0, 1.0, None]) == pytest.approx([0.25, 0.75, 0.5])
    assert list(choice.places(np.array([0.0, 0.3, 0.6, 1.0]))) == [0, 0, 1, 1]
    unordered = Axis("u", labels=("a", "b"), ordered=False)
    assert list(unordered.units([1.0, None])) == [1.0, 0.0] and list(unordered.places(np.array([1.0]))) == [1.0]
    assert list(Axis("same", 2.0, 2.0).units([2.0, None])) == [0.5, 0.5]


def test_columns_of_numbers_are_known() -> None:
    assert Axis("x").is_numeric and Axis("x", labels=("16", "0.5")).is_numeric
    assert not Axis("x", labels=("16", "none")).is_numeric
