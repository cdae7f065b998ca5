"""GPU-hours, wall time and targets: what is used of them, and what the user reads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from workflow.budgets import Budgets
from workflow.config.experiment import Experiment
from workflow.doctor.rehearsal import _estimate
from workflow.finals import FinalistsSettings
from workflow.journal import Fold
from workflow.report.snapshot import Surroundings, plain_line, snapshot
from workflow.report.tables import Table, summary
from workflow.report.tally import Outline, Tally
from workflow.rundir import RunDir
from workflow.runtimes import Model
from workflow.search import SearchSettings
from workflow.site import Site
from workflow.space_file import parse_space
from workflow.state import State
from workflow.trial import Objective, Outcome, Trial

HOUR = 3600.0

_Fold = TypeVar("_Fold", bound=Fold)


def ended(number: int, hours: float, value: float | None = 0.5, **keys: Any) -> Outcome:
    return Outcome(number, 1, keys.pop("kind", "ok"), value, started=0.0, ended=hours * HOUR, **keys)


def state(*outcomes: Outcome, elapsed: float = 0.0) -> State:
    return folded(State(), *outcomes, elapsed=elapsed)


def folded(fold: _Fold, *outcomes: Outcome, elapsed: float = 0.0, **about: Any) -> _Fold:
    """Trials of one controller, whose last record comes after ``elapsed`` seconds."""
    fold.apply({"type": "campaign", "at": 0.0, **about})
    for outcome in outcomes:
        asked = Trial(outcome.trial_id, outcome.trial_id, {"x": 1}).to_json()
        fold.apply({"type": "asked", "at": 0.0, "trial": asked})
        fold.apply({"type": "outcome", "at": 0.0, "outcome": outcome.to_json()})
    fold.apply({"type": "note", "at": elapsed})
    return fold


@dataclass
class Search:
    done: bool = False
    message: str = ""
    budget: int = 40


# -- what is used ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpu", "trials_per_gpu", "hours"), [("0", 1, 3.0), ("0,1,2,3", 1, 12.0), ("0", 2, 1.5), (None, 1, 3.0)]
)
def test_gpu_hours_are_wall_time_by_gpus(gpu: str | None, trials_per_gpu: int, hours: float) -> None:
    lost = ended(1, 2.0, None, kind="lost", cause="infrastructure", gpu=gpu)
    spent = state(ended(0, 1.0, gpu=gpu), lost)
    budgets = Budgets(gpu_hours=100.0, trials_per_gpu=trials_per_gpu)
    assert [(use.part, use.text) for use in budgets.uses(spent)] == [(hours / 100, f"{hours:g}/100 GPU-hours")]
    assert budgets.reached(spent) == ""
    assert Budgets(gpu_hours=hours, trials_per_gpu=trials_per_gpu).reached(spent)


def test_without_gpus_they_are_hours_of_workers() -> None:
    assert (
        Budgets(gpu_hours=1.0, gpus=False, trials_per_gpu=2).reached(state(ended(0, 1.5)))
        == "1.5/1 worker-hours are used"
    )


def test_wall_time_is_that_of_the_controllers() -> None:
    budgets = Budgets(wall_time=HOUR)
    assert budgets.reached(state(ended(0, 9.0), elapsed=3599.0)) == ""
    assert budgets.reached(state(elapsed=3700.0)) == "1:01:40/1:00:00 of wall time are used"


@pytest.mark.parametrize(
    ("mode", "value", "kind", "met"),
    [("min", 0.2, "ok", True), ("min", 0.3, "ok", False), ("max", 0.2, "ok", True), ("max", 0.1, "ok", False),
     ("min", None, "failed", False)],
)  # fmt: skip
def test_a_target_is_met_by_a_success_at_or_beyond_it(mode: str, value: float | None, kind: str, met: bool) -> None:
    sign = "<=" if mode == "min" else ">="
    reached = Budgets(target=0.2, metric="mse", mode=mode).reached(state(ended(7, 1.0, value, kind=kind)))
    assert reached == (f"trial 7 has reached the target, mse {sign} 0.2" if met else "")


def test_an_outcome_without_its_trial_meets_no_target() -> None:
    folded = state(ended(0, 1.0, 0.9))
    folded.apply({"type": "outcome", "at": 0.0, "outcome": ended(5, 1.0, 0.1).to_json()})
    assert Budgets(target=0.2).reached(folded) == ""


def test_the_first_trial_that_met_a_target_is_named_also_after_better_ones() -> None:
    folded = state(ended(0, 1.0, 0.9), ended(1, 1.0, 0.15), ended(2, 1.0, 0.1))
    assert Budgets(target=0.2, metric="mse").reached(folded) == "trial 1 has reached the target, mse <= 0.2"
    assert Budgets(target=0.95, metric="mse", mode="max").reached(folded) == ""


def test_an_outcome_that_was_taken_back_meets_no_target() -> None:
    folded = state(ended(0, 1.0, 0.9), ended(1, 1.0, 0.1))
    folded.apply({"type": "retracted", "at": 0.0, "trials": [1], "signature": "s", "reason": "r"})
    assert Budgets(target=0.2).reached(folded) == ""
    folded.apply({"type": "outcome", "at": 0.0, "outcome": ended(1, 1.0, 0.15).to_json()})
    assert Budgets(target=0.2).reached(folded)


def test_a_search_that_was_done_was_ended_by_no_budget() -> None:
    budgets, folded = Budgets(gpu_hours=1.0), state(ended(0, 2.0))
    assert budgets.cut(Search(done=False), folded) == "2/1 GPU-hours are used"
    assert budgets.cut(Search(done=True), folded) == ""
    folded.apply({"type": "asked", "at": 0.0, "trial": Trial(1, 1, {"x": 1}).to_json()})
    assert budgets.cut(Search(done=True), folded), "a trial that was asked for didn't run"


# -- what the user reads ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", ["", "the space holds only 6 configurations"])
def test_the_summary_says_which_budget_ended_the_search(message: str) -> None:
    table = Table(("x",), [Objective("mse")], 8, 2, budgets=Budgets(gpu_hours=1.0))
    said = summary(table, state(ended(0, 2.0)), Search(message=message), RunDir(Path("run")))["message"]
    assert said == "2/1 GPU-hours are used"
    assert summary(table, state(ended(0, 0.5)), Search(message=message), RunDir(Path("run")))["message"] == message


def experiment(**search: Any) -> Experiment:
    settings = SearchSettings(strategy="random", evaluations=40, **search)
    space = parse_space([{"name": "x", "type": "float", "lower": 0, "upper": 1}], "test")
    return Experiment("try", Model("none", "improve", "", None, "."), {}, space, (Objective("mse"),), settings)


@pytest.mark.parametrize(
    ("search", "elapsed", "parts"),
    [
        ({}, 60.0, ["best 0.5 (#0)", "19:00:00 left"]),
        ({"gpu_hours": 10.0}, 60.0, ["2/10 GPU-hours", "best 0.5 (#0)", "4:00:00 left"]),
        (
            {"gpu_hours": 10.0, "wall_time": 2 * HOUR}, HOUR,
            ["1:00:00/2:00:00 of wall time", "best 0.5 (#0)", "1:00:00 left"],
        ),
        ({"gpu_hours": 100.0}, 60.0, ["best 0.5 (#0)", "19:00:00 left"]),
        ({"target": 0.1}, 60.0, ["best 0.5 (#0), target 0.1", "19:00:00 left"]),
        ({"gpu_hours": 1.0}, 60.0, ["2/1 GPU-hours", "best 0.5 (#0)"]),
    ],
)  # fmt: skip
def test_progress_shows_the_budget_that_ends_first(search: dict[str, Any], elapsed: float, parts: list[str]) -> None:
    budgets = experiment(**search).budgets(gpus=True, trials_per_gpu=1)
    outline = Outline("mse", "min", ("x",), trials=40, budgets=budgets)
    tally = folded(Tally(), ended(0, 1.0), ended(1, 1.0), elapsed=elapsed, outline=outline.to_json())
    shot = snapshot(tally, Surroundings("run", "/run", now=0.0, alive=True), lambda trial: {"x": 1})
    assert plain_line(shot).split(" | ") == ["2/40 trials, 0 running, 0 failed", *parts]


@pytest.mark.parametrize(
    ("search", "site", "text"),
    [
        ({}, {"gpus": ("0", "1")}, "at most 40 trials of about 0:30:00: 20 GPU-hours, 10:00:00 on 2 workers"),
        ({"gpu_hours": 4.0, "wall_time": 7200.0}, {"gpus": ("0", "1")},
         "10:00:00 on 2 workers; it ends sooner at 4 GPU-hours or 2:00:00 of wall time"),
        ({"gpu_hours": 4.0, "target": 0.1}, {}, "on 2 workers; it ends sooner at 4 worker-hours or mse <= 0.1"),
        ({}, {"gpus": ("0", "1", "2", "3"), "gpus_per_trial": 2}, "40 GPU-hours, 10:00:00 on 2 workers"),
        ({}, {"trials_per_gpu": 2}, "20 worker-hours, 10:00:00 on 2 workers"),
        ({}, {"gpus": ("0",), "trials_per_gpu": 2}, "10 GPU-hours, 10:00:00 on 2 workers"),
    ],
)  # fmt: skip
def test_the_estimate_of_the_check_mentions_budgets(search: dict[str, Any], site: dict[str, Any], text: str) -> None:
    assert text in _estimate(experiment(**search), Site("here", "local", workers=2, **site), 1800.0).text


def test_the_estimate_of_the_check_counts_reruns() -> None:
    with_finals = replace(experiment(), finalists=FinalistsSettings(2, 5, "seed"))
    text = _estimate(with_finals, Site("here", "local", workers=2, gpus=("0", "1")), 1800.0).text
    assert text == "at most 40 trials and 10 re-runs of about 0:30:00: 25 GPU-hours, 12:30:00 on 2 workers"
