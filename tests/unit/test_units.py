"""Numbers of a report, as people read them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from workflow.report.units import Unit, change, charge, cost_unit, duration, moment, number, percent, plotted, time_unit
from workflow.trial import Outcome


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.515, "0.5150"), (1.36648e-5, "1.366e-5"), (1e-4, "1.000e-4"), (0.001, "0.001000"), (12345.6, "12,346"),
        (42, "42"), (10_000, "10,000"), (0, "0"), (-3.5, "-3.500"), (2.5e7, "2.500e7"), (1234.0, "1,234"),
        (math.nan, "nan"), (math.inf, "inf"), (None, "\N{EN DASH}"), (1234.4, "1,234"),
    ],
)  # fmt: skip
def test_numbers_have_four_digits(value: float | None, text: str) -> None:
    assert number(value) == text


def test_parts_and_changes() -> None:
    assert [percent(part).replace("\N{NO-BREAK SPACE}", " ") for part in (0, 0.00012, 0.0312, 0.5, 1)] == [
        "0 %", "0 %", "3.1 %", "50 %", "100 %"
    ]  # fmt: skip
    assert change(-0.123).startswith("-12.3") and change(0.02).startswith("+2.0")


def test_times_have_the_largest_unit_that_fits() -> None:
    assert time_unit(7200) == Unit("hours", 3600) and time_unit(59).name == "seconds" and time_unit(0).name == "seconds"
    assert duration(90).replace("\N{NO-BREAK SPACE}", " ") == "1.500 min"
    assert moment(0) == "1970-01-01 00:00 UTC"


def test_cost_is_that_of_all_gpus() -> None:
    two = Outcome(0, 1, "ok", 1.0, started=0.0, ended=3600.0, gpu="0,1")
    assert charge(replace(two, gpu="0"), trials_per_gpu=2) == 1800
    assert charge(two) == 7200 and cost_unit([two]).name == "GPU-hours" and cost_unit([two]).show(7200) == "2 GPU-hours"
    assert cost_unit([Outcome(0, 1, "ok", started=0.0, ended=90.0)]).name == "worker-minutes"
    assert cost_unit([]).name == "worker-seconds"


def test_what_is_plotted_is_finite_and_short() -> None:
    assert [plotted(value) for value in (0.123456789, True)] == [0.123457, 1]
    assert [plotted(value) for value in (math.nan, -math.inf, None, "x")] == [None] * 4
