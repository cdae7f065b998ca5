"""What the plots of a report are drawn from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.synthetic import SPACE, START, run_of, write_run
from workflow.report.axes import axes_of
from workflow.report.figures import (
    KINDS,
    Analysis,
    cost,
    data,
    groups,
    influence,
    kind_of,
    pareto,
    settled,
    timeline,
    trials,
    until_best,
)
from workflow.report.history import Controller, load_run
from workflow.space_file import parse_space
from workflow.trial import Objective, Outcome


def ok(number: int, value: float, started: float = 100.0, seconds: float = 10.0, **keys: Any) -> Outcome:
    return Outcome(number, 1, "ok", value, started=started, ended=started + seconds, host="n1", **keys)


def lost(number: int, started: float, attempt: int = 1, **keys: Any) -> Outcome:
    return Outcome(
        number, attempt, "lost", started=started, ended=started + 5, host="n1", cause="infrastructure", **keys
    )


def test_trials_are_columns_in_the_order_of_their_ends() -> None:
    run = run_of(ok(0, 3.0, 100, 50), ok(1, 2.0, 100, 20), lost(2, 110), ok(2, 2.5, 130, 10), ok(3, 1.0, 140, 40))
    found = trials(run, axes_of(run))
    assert found["id"] == [1, 2, 0, 3]
    assert found["params"] == [[1, 2, 0, 3]]
    assert (
        found["cost"] == pytest.approx([25 / 60, 35 / 60, 85 / 60, 125 / 60], abs=1e-5)
        and found["unit"] == "worker-minutes"
    )
    assert found["at"] == pytest.approx([20 / 60, 40 / 60, 50 / 60, 80 / 60], abs=1e-5) and found["clock"] == "minutes"
    assert found["best"] == [0, 3]
    assert until_best(run) == 125


def test_the_best_so_far_is_by_the_mode_and_of_successes() -> None:
    stopped = Outcome(2, 1, "stopped", None, {"val_loss": 9.0}, started=130.0, ended=135.0)
    run = run_of(
        ok(0, 1.0, 100), ok(1, math.nan, 110), stopped, ok(3, 2.0, 140), objectives=(Objective("val_loss", "max"),)
    )
    found = trials(run, axes_of(run))
    assert found["value"] == [1.0, None, 9.0, 2.0] and found["best"] == [0, 3]
    assert [KINDS[kind] for kind in found["kind"]] == ["ok", "ok", "stopped", "ok"]


def test_trainings_of_less_than_full_fidelity_are_told_apart() -> None:
    settings = {"search": {"fidelity": {"parameter": "epochs", "max": 9.0}}}
    run = run_of(ok(0, 1.0), ok(1, 1.0), ok(2, 1.0), lost(3, 100), fidelity={0: 3, 1: 9}, experiment=settings)
    assert [kind_of(run, outcome) for outcome in run.attempts] == ["below", "ok", "ok", "lost"]


def test_groups_are_parts_where_there_are_no_generations() -> None:
    run = run_of(*(ok(i, float(i), 100 + i) for i in range(12)))
    first, second, third = groups(run)
    assert (first["label"], first["trials"], first["quartiles"]) == ("1 to 5", 5, [0, 1, 2, 3, 4])
    assert (second["label"], third["label"], third["trials"]) == ("6 to 10", "11 to 12", 2)


def test_groups_are_generations(tmp_path: Path) -> None:
    found = groups(load_run(write_run(tmp_path / "run", 150)))
    assert [group["label"] for group in found] == ["1", "2"]
    assert sum(group["trials"] for group in found) == 150
    assert found[0]["without"] == 7  # failed and stopped ones


def test_a_group_may_have_no_result() -> None:
    assert groups(run_of(Outcome(0, 1, "failed", started=1.0, ended=2.0)))[0]["quartiles"] is None


# -- time and cost ---------------------------------------------------------------------------------------------------


def test_workers_of_a_host_are_told_apart_by_what_runs_at_a_time() -> None:
    run = run_of(ok(0, 1.0, 100, 10), ok(1, 1.0, 105, 10), ok(2, 1.0, 111, 10))
    found = timeline(run)
    assert found is not None and found["lanes"] == ["n1 worker 1", "n1 worker 2"]
    assert found["bars"]["lane"] == [0, 1, 0] and found["bars"]["start"] == [0, 5, 11] and found["clock"] == "seconds"
    assert found["spans"] == [[0, 21]]


def test_lanes_are_in_the_order_of_their_numbers() -> None:
    run = run_of(*(Outcome(i, 1, "ok", 1.0, started=100.0, ended=101.0, host=f"n{i}", gpu="0") for i in (10, 9, 1)))
    found = timeline(run)
    assert found is not None and found["lanes"] == ["n1 GPU 0", "n9 GPU 0", "n10 GPU 0"]


def test_a_timeline_needs_a_clock(tmp_path: Path) -> None:
    (tmp_path / "hpo.csv").write_text(
        "iteration,sample,x,metric,result,walltime\n1,0,1,val_loss,1,5\n1,1,2,val_loss,0,3\n"
    )
    table = load_run(tmp_path / "hpo.csv")
    assert timeline(table) is None and timeline(run_of(Outcome(0, 1, "failed"))) is None
    assert trials(table, axes_of(table))["cost"] == [5, 8] and trials(table, axes_of(table))["at"] is None


def test_cost_is_told_by_how_attempts_ended() -> None:
    run = run_of(
        ok(0, 1.0, 100, 60, gpu="0,1"), lost(1, 100, gpu="2"),
        Outcome(1, 2, "failed", started=110.0, ended=117.0, gpu="2"),
        controllers=[Controller(90.0, 200.0, {"workers": 2})],
    )  # fmt: skip
    found = cost(run)
    assert dict(found.by_kind) == {"ok": 120, "lost": 5, "failed": 7} and found.total == 132
    assert found.wall == 72 and found.available == 2 * 60 and found.utilization == pytest.approx(0.6)
    assert cost(run_of(ok(0, 1.0))).utilization is None


# -- importances -----------------------------------------------------------------------------------------------------


def test_influence_is_that_of_what_varied(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path / "run", 300))
    found = influence(run, axes_of(run))
    assert found.fixed == () and found.trials == 278 and found.found is not None and found.found.believable
    total = dict(zip(found.axes, found.found.total, strict=True))
    assert total["learning_rate"] > total["dropout"] > max(total["num_layers"], total["batch_size"], total["momentum"])
    strongest = max(found.found.pairs, key=lambda pair: pair[2])
    assert {found.axes[i] for i in strongest[:2]} == {"learning_rate", "optimizer"}


def test_what_is_the_same_in_all_trials_has_no_influence() -> None:
    run = run_of(*(ok(i, float(i)) for i in range(3)), space=[
        {"name": "x", "type": "int", "lower": 0, "upper": 9}, {"name": "y", "type": "float", "lower": 0, "upper": 1},
    ], params={i: {"y": 0.5} for i in range(3)})  # fmt: skip
    found = influence(run, axes_of(run))
    assert (found.axes, found.fixed, found.found) == (("x",), ("y",), None)


def test_settled_rows_are_configurations() -> None:
    space = parse_space(SPACE, "space.json")
    run = run_of(ok(0, 1.0), space=SPACE)
    axes = axes_of(run)
    names = [axis.name for axis in axes]
    rows = np.full((3, len(axes)), 0.9)
    rows[:, names.index("optimizer")] = (0, 1, 2)
    momentum = settled(space, axes)(rows)[:, names.index("momentum")]
    assert list(momentum) == [0.5, 0.9, 0.5] and np.all(rows[:, names.index("momentum")] == 0.9)


# -- all together ----------------------------------------------------------------------------------------------------


def test_the_front_is_of_those_with_all_objectives() -> None:
    objectives = (Objective("a"), Objective("b", "max"))
    run = run_of(
        ok(0, 1.0, metrics={"b": 1.0}), ok(1, 2.0, metrics={"b": 2.0}), ok(2, 3.0, metrics={"b": 1.0}), ok(3, 1.0),
        objectives=objectives,
    )  # fmt: skip
    found = pareto(run)
    assert found is not None and found["metrics"] == ["a min", "b max"]
    assert (found["id"], found["front"]) == ([0, 1, 2], [0, 1]) and found["values"] == [[1, 2, 3], [1, 2, 1]]
    assert pareto(run_of(ok(0, 1.0))) is None


def test_data_of_several_runs_has_a_common_unit() -> None:
    runs = [run_of(ok(0, 2.0), ok(1, 1.0, 110)), run_of(ok(0, 3.0, seconds=7200.0)), run_of(Outcome(0, 1, "failed"))]
    found = data(Analysis(runs[0]), runs)
    assert found["unit"] == "worker-hours" and found["winner"] == 1
    assert [each["value"] for each in found["progress"]] == [[2, 1, 1], [3, 3], []]
    assert found["progress"][0]["cost"] == pytest.approx([10 / 3600, 20 / 3600, 20 / 3600], rel=1e-4)
    assert found["progress"][0]["trial"] == [1, 2, 2]


def test_times_are_since_the_first_start(tmp_path: Path) -> None:
    found = data(Analysis(run := load_run(write_run(tmp_path / "run", 40, gpus=2))), [run])
    assert min(found["timeline"]["bars"]["start"]) == 0 and found["timeline"]["lanes"] == ["node1 GPU 0", "node1 GPU 1"]
    assert run.controllers[0].began == START
