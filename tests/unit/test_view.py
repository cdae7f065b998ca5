"""What people see of a campaign: the snapshot, its plain line, and the view at any width."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from workflow.budgets import Budgets
from workflow.report.snapshot import Snapshot, Surroundings, plain_line, snapshot
from workflow.report.tally import Outline, Sign, Tally
from workflow.report.view import View, sparkline
from workflow.state import Record
from workflow.trial import FIRST_RERUN, Outcome, Params, Trial

PARAMS: Params = {"learning_rate": 1.25e-05, "optimizer": "Adam", "batch_size": 128, "name": "ä" * 90}
OUTLINE = Outline("val_loss", "min", tuple(PARAMS), 48, 5, workers_per_node=4, budgets=Budgets(gpu_hours=10.0))


def ended(number: int, value: float | None, **keys: Any) -> Record:
    kind: Any = "ok" if value is not None else "failed"
    times = {"started": 100.0, "ended": 100.0 + 36.0 * (number + 1), "gpu": "0", "host": "node1"}
    return {"type": "outcome", "outcome": Outcome(number, 1, kind, value, **{**times, **keys}).to_json()}


def campaign(trials: int = 12, **outline: Any) -> Tally:
    """Every third trial failed, the last four still run."""
    tally = Tally()
    about = {"outline": replace(OUTLINE, **outline).to_json(), "workers": 4, "site": "polaris"}
    tally.apply({"type": "campaign", "at": 90.0, **about})
    for number in range(trials):
        tally.apply({"type": "asked", "at": 100.0, "trial": Trial(number, number, PARAMS, 1 + number // 8).to_json()})
        tally.apply({"type": "attempt", "at": 100.0, "trial": number, "attempt": 1})
    for number in range(trials - 4):
        value = None if number % 3 == 2 else 1.0 / (number + 1)
        tally.apply({"at": 400.0, **ended(number, value, evidence=f"exit code {number}; last line: [x", cause="model")})
    return tally


def shot(tally: Tally, **keys: Any) -> Snapshot:
    signs = {8: Sign("node1", 380.0, False), 9: Sign("node2", 390.0, False), 10: Sign("node2", 300.0, True)}
    words = {8: "step 7: val_loss 0.51", 9: "[bold]\x1b[31mred"}
    around = Surroundings("demo", "/runs/my demo", 410.0, True, "resume it", "process 7 on login1", signs, words)
    return snapshot(tally, replace(around, **keys), lambda trial: PARAMS)


def text(shown: Snapshot, width: int = 80, height: int | None = None, encoding: str = "utf-8") -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace")
    Console(file=file, width=width, force_terminal=False, highlight=False).print(View(shown, height))
    file.seek(0)
    return file.read()


def test_it_shows_how_a_campaign_stands() -> None:
    lines = text(shot(campaign())).splitlines()
    assert lines[0] == "demo  running  0:05:20 on polaris"
    assert lines[2] == "trials      8 of 48 ended, 2 failed"
    assert lines[3].startswith("time left   0:23:50, ends ")
    assert lines[4] == "best        0.125 val_loss, trial 7"
    assert "learning_rate=1.25e-05, optimizer=Adam, batch_size=128" in lines[6]
    assert "generation  2 of 5: 0 of 4 ended" in lines
    assert "workers     2 busy, 1 idle, 1 lost" in lines
    assert ["node1", "1/4", "node2", "1/4"] in [line.split() for line in lines]
    assert "failed      1 exit code 2, 1 exit code 5" in lines
    assert "used        0.36/10 GPU-hours" in lines
    assert lines[-5].split() == ["trial", "host", "time", "expected", "last", "in", "the", "log"]
    assert lines[-4].split() == ["10", "node2", "0:01:50", "0:03:00"]
    assert lines[-3].split() == ["8", "node1", "0:00:30", "0:03:00", "step", "7:", "val_loss", "0.51"]
    assert lines[-2].split() == ["9", "node2", "0:00:20", "0:03:00", "[bold]red"]
    assert lines[-1].split() == ["11", "waits", "0:03:00"]


@pytest.mark.parametrize("width", [20, 40, 59, 80, 200])
@pytest.mark.parametrize("height", [1, 8, 20, None])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_it_is_no_wider_and_no_higher_than_the_terminal(width: int, height: int | None, encoding: str) -> None:
    lines = text(shot(campaign(trials=40)), width, height, encoding).splitlines()
    assert all(cell_len(line) <= width for line in lines)
    assert len(lines) <= (height or 25)
    assert lines[0].startswith("demo  running")


def test_a_terminal_without_unicode_gets_none() -> None:
    plain = replace(OUTLINE, varying=("learning_rate",))
    shown = text(shot(campaign(varying=plain.varying)), 40, encoding="ascii")
    assert "\\u" not in shown and "#" in shown


def test_of_many_trials_and_nodes_a_few_are_shown() -> None:
    signs = {number: Sign(f"node{number:03d}", 100.0 + number, False) for number in range(400)}
    tally = campaign()
    for number in range(12, 400):
        tally.apply({"type": "attempt", "at": 100.0, "trial": number, "attempt": 1})
    lines = text(shot(tally, signs=signs)).splitlines()
    assert lines[-1] == "and 384 more"
    assert sum("node" in line for line in lines) == 2 + 8
    assert any(line.endswith("+394") for line in lines)


def test_nothing_is_shown_of_what_there_is_not_yet() -> None:
    assert text(shot(Tally(), alive=False, signs={})).split("\n") == [
        "demo  new  0:00:00", "trials      0 ended", "used        0 GPU-hours", "",
    ]  # fmt: skip


def test_the_json_is_complete_and_plain() -> None:
    data = json.loads(json.dumps(shot(campaign()).to_json(), allow_nan=False))
    assert data["trials"]["done"] == 8 and data["trials"]["budget"] == 48
    assert data["best"] == {"trial": 7, "value": 1 / 8, "params": dict(PARAMS)}
    assert data["workers"]["nodes"][1] == {"host": "node2", "workers": 4, "busy": 1, "silent": 1, "shunned": ""}
    assert data["running"][1]["last"] == "step 7: val_loss 0.51"
    assert data["failures"] == {"exit code 2": 1, "exit code 5": 1}
    assert data["resume"] is None


@pytest.mark.parametrize(
    ("record", "alive", "condition"),
    [
        (None, True, "running"),
        (None, False, "stale"),
        ({"type": "ended", "complete": False, "reason": "interrupted"}, False, "interrupted"),
        ({"type": "ended", "complete": True}, False, "ended"),
    ],
)
def test_it_tells_whether_the_run_goes_on(record: Record | None, alive: bool, condition: str) -> None:
    tally = campaign()
    if record is not None:
        tally.apply({"at": 500.0, **record})
    shown = shot(tally, alive=alive)
    assert shown.condition == condition
    resumable = condition in ("stale", "interrupted")
    assert shown.resume == ("resume it" if resumable else None)


def test_reruns_are_counted_beside_the_trials() -> None:
    tally = campaign()
    reruns = [Trial(FIRST_RERUN + number, 7, PARAMS, None, (7,)).to_json() for number in range(2)]
    tally.apply({"type": "finals", "at": 410.0, "reruns": reruns})
    for rerun in reruns:
        tally.apply({"type": "attempt", "at": 410.0, "trial": rerun["id"], "attempt": 1})
    tally.apply({"at": 420.0, **ended(FIRST_RERUN, 0.01, started=1.0, ended=2.0)})
    shown = shot(tally)
    assert plain_line(shown).startswith("gen 2/5 | 8/12 trials, 4 running, 2 failed | 1/2 re-runs | best 0.125 (#7)")
    assert "re-runs     1 of 2 ended" in text(shown) and " re-1  " in text(shown)
    assert shown.best is not None and shown.best.trial == 7


def finished(asked: int, **outline: Any) -> Tally:
    """A campaign of two generations, of which the second one asked for nothing."""
    tally = Tally()
    about = {"outline": replace(OUTLINE, generations=2, **outline).to_json(), "workers": 4, "site": "polaris"}
    tally.apply({"type": "campaign", "at": 90.0, **about})
    for number in range(asked):
        tally.apply({"type": "asked", "at": 100.0, "trial": Trial(number, number, PARAMS, 1).to_json()})
        tally.apply({"at": 400.0, **ended(number, 1.0)})
    tally.apply({"type": "ended", "at": 410.0, "complete": True})
    return tally


def test_a_last_generation_that_asked_for_nothing_is_over_too() -> None:
    assert plain_line(shot(finished(4))).startswith("gen 2/2 | 4/4 trials")
    assert "2 of 2: 0 of 0 ended" in text(shot(finished(4)))


@pytest.mark.parametrize("outline", [{"trials": 4}, {"budgets": Budgets(target=1.0)}, {"budgets": Budgets(0.01)}])
def test_a_generation_that_a_search_did_not_get_to_is_not_told(outline: dict[str, Any]) -> None:
    assert plain_line(shot(finished(4, **outline))).startswith("gen 1/2 | 4/4 trials")


@pytest.mark.parametrize("over", [False, True])
def test_what_still_runs_belongs_to_the_trials(over: bool) -> None:
    """Also once the search has asked for all of them."""
    tally = campaign(trials=48)
    if over:
        tally.apply({"type": "attempt", "at": 500.0, "trial": "infer", "attempt": 1})
    assert plain_line(shot(tally)).startswith("gen 6/5 | 44/48 trials, 4 running, 14 failed")


def test_a_fidelity_counts_by_its_worth() -> None:
    tally = campaign(whole=50, fidelity_max=9.0, generations=None)
    tally.apply({"type": "asked", "at": 1.0, "trial": Trial(99, 99, PARAMS, None, fidelity=3.0).to_json()})
    tally.apply({"at": 1.0, **ended(99, 0.5)})
    assert plain_line(shot(tally)).startswith("9 (worth 0.3/50) trials")
    assert "9 ended, worth 0.3 of 50, 2 failed" in text(shot(tally))


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([1.0], "▁"),
        ([4.0, 3.0, 2.0, 1.0], "█▆▃▁"),
        ([1.0, 2.0], "▁█"),
        ([1e9, *[2.0] * 9, *[1.0] * 10], "█" * 10 + "▁" * 10),
    ],
)
def test_a_sparkline_is_the_course_of_the_best(values: list[float], line: str) -> None:
    assert sparkline(values, 20, ascii_only=False) == line
    assert sparkline(values, 20, ascii_only=True).isascii()


def finals(*values: float | None) -> Tally:
    """Two re-runs of each of trials 7 and 6, the best two of the search, with these values."""
    tally = campaign()
    reruns = [Trial(FIRST_RERUN + number, 1, PARAMS, parents=(7 - number // 2,)) for number in range(4)]
    tally.apply({"type": "finals", "at": 401.0, "reruns": [rerun.to_json() for rerun in reruns]})
    for rerun, value in zip(reruns, values, strict=False):
        tally.apply({"at": 402.0, **ended(rerun.id, value)})
    return tally


def test_the_winner_is_the_one_of_the_re_runs_once_all_have_ended() -> None:
    assert shot(finals(0.9, 0.9, 0.5)).winner is None
    won = shot(finals(0.9, 0.9, 0.5, 0.7))
    assert won.winner is not None and won.best is not None
    assert (won.winner.trial, won.winner.mean, won.winner.value) == (6, 0.6, 1 / 7) and won.best.trial == 7
    assert plain_line(won).endswith("| winner #6")
    shown = text(won)
    assert "winner      trial 6, mean 0.6 by re-runs, 0.142857 in the search\n            learning_rate=" in shown
    assert shown.count("learning_rate") == 1


def test_a_winner_without_a_re_run_that_succeeded_is_the_search_s_best() -> None:
    assert "trial 7, no re-run succeeded" in text(shot(finals(None, None, None, None)))
