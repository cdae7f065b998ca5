"""What the user is told, and when."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from workflow.campaign import Interrupted
from workflow.errors import SetupError
from workflow.report.news import News
from workflow.report.tables import Table
from workflow.rundir import RunDir
from workflow.state import State
from workflow.trial import Objective, Outcome, Trial


class Heard:
    """A notifier that keeps what it is given."""

    def __init__(self, *events: str) -> None:
        self.events = events or ("first_success", "end", "failure")
        self.told: list[tuple[str, str, dict[str, Any]]] = []

    def wants(self, event: str) -> bool:
        return event in self.events

    def send(self, event: str, text: str, details: dict[str, Any]) -> None:
        assert self.wants(event)
        self.told.append((event, text, details))


def news(state: State, heard: Any) -> News:
    campaign: Any = SimpleNamespace(state=state, search=SimpleNamespace(message="", done=True))
    return News(heard, campaign, Table(("x",), [Objective("mse")], 4, 2), RunDir(Path("/runs/try")), "local")


def state(*outcomes: Outcome) -> State:
    found = State()
    for outcome in outcomes:
        add(found, outcome)
    return found


def add(found: State, outcome: Outcome) -> None:
    found.trials[outcome.trial_id] = Trial(outcome.trial_id, outcome.trial_id, {"x": 1})
    found.outcomes[outcome.trial_id] = outcome


def test_the_first_success_is_told_once() -> None:
    folded, heard = state(Outcome(0, 1, "failed")), Heard()
    told = news(folded, heard)
    told.look()
    add(folded, Outcome(1, 0, "ok", 0.25, source="/an/earlier/run"))
    told.look()
    assert heard.told == []
    for number in (2, 3):
        add(folded, Outcome(number, 1, "ok", 0.5))
        told.look()
    ((event, text, details),) = heard.told
    assert (event, text) == ("first_success", "try: trial 2 is the first to succeed, mse 0.5")
    assert (details["trial"], details["value"], details["best_value"]) == (2, 0.5, 0.25)
    assert (details["directory"], details["site"], details["metric"]) == ("/runs/try", "local", "mse")


def test_a_resume_is_no_first_success() -> None:
    heard = Heard()
    folded = state(Outcome(0, 1, "ok", 0.5))
    told = news(folded, heard)
    add(folded, Outcome(1, 1, "ok", 0.25))
    told.look()
    assert heard.told == []


def test_the_end_tells_the_best() -> None:
    heard = Heard()
    news(state(Outcome(0, 1, "ok", 0.5), Outcome(1, 1, "failed")), heard).ended()
    ((event, text, details),) = heard.told
    assert event == "end"
    assert text == "try: done, best mse 0.5 (trial 0), 1 trials succeeded, 1 failed"
    assert details["trials"]["failed"] == 1 and "message" not in details and "test_scores" not in details


def test_an_end_without_a_success_is_a_failure() -> None:
    heard = Heard()
    news(state(Outcome(0, 1, "failed")), heard).ended()
    assert [(event, details["reason"]) for event, _, details in heard.told] == [("failure", "no trial succeeded")]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SetupError("preprocess failed: no data\n    | log\n    -> mend it"), "preprocess failed: no data"),
        (Interrupted(), "interrupted"),
        (RuntimeError("a bug\nof ours"), "RuntimeError: a bug"),
        (KeyboardInterrupt(), "interrupted"),
    ],
)
def test_whatever_ends_a_campaign_is_told_and_goes_on(error: BaseException, reason: str) -> None:
    heard = Heard()
    with pytest.raises(type(error)), news(state(), heard).of_failure():
        raise error
    assert [(text, details["reason"]) for _, text, details in heard.told] == [(f"try: stopped: {reason}", reason)]
    with news(state(), heard).of_failure():
        pass
    assert len(heard.told) == 1


def test_nan_is_told_as_json_has_it() -> None:
    folded, heard = state(Outcome(0, 1, "ok", 0.5)), Heard("end")
    folded.stage_outcomes["infer"] = Outcome(0, 1, "ok", None, {"mse": float("nan")})
    told = news(folded, heard)
    told.look()
    told.ended()
    ((_, _, details),) = heard.told
    assert details["test_scores"] == {"mse": None}
