"""The state: what each kind of record changes in it."""

from __future__ import annotations

import pytest

from tests.records import FINGERPRINT, HEADER, asked, attempt, lost, outcome, stage
from workflow.report.tally import Tally
from workflow.state import Record, State


def fold(*records: Record) -> State:
    state = State()
    for at, record in enumerate(records):
        state.apply({"at": float(at), **record})
    return state


def test_header_is_the_first_campaign_record() -> None:
    state = fold(HEADER, {"type": "resumed"}, {**HEADER, "fingerprint": {}})
    assert state.header is not None
    assert state.header["fingerprint"] == FINGERPRINT


def test_attempts_are_the_highest_numbers() -> None:
    state = fold(asked(3), attempt(3), attempt(3, 2), attempt("infer"), attempt("infer", 4), attempt("infer", 2))
    assert state.attempts == {3: 2}
    assert state.stage_attempts == {"infer": 4}


def test_first_final_outcome_counts() -> None:
    state = fold(asked(0), outcome(0, value=1.0, started=0.0, ended=5.0), outcome(0, value=2.0, started=0.0, ended=9.0))
    assert state.outcomes[0].value == 1.0
    assert state.seconds == 5.0


@pytest.mark.parametrize("kind", ["ok", "failed", "stopped"])
def test_final_kinds_end_a_trial(kind: str) -> None:
    state = fold(asked(0), asked(1), outcome(0, kind))
    assert state.outcomes.keys() == {0}
    assert [one.id for one in state.unfinished] == [1]


@pytest.mark.parametrize("kind", ["lost", "deferred", "a kind of the future"])
def test_other_kinds_end_an_attempt_only(kind: str) -> None:
    state = fold(asked(0), outcome(0, kind))
    assert state.outcomes == {}
    assert [one.id for one in state.unfinished] == [0]


def test_attempts_lost_to_the_infrastructure_are_counted() -> None:
    state = fold(lost(0, 1), lost(0, 2), lost(1, 1), lost(2, 1, "setup"), outcome(3, "deferred"))
    assert state.lost == {0: 2, 1: 1}


def test_seconds_are_those_of_all_attempts() -> None:
    lost_one = outcome(0, "lost", started=0.0, ended=2.0, cause="infrastructure")
    state = fold(lost_one, outcome(0, started=3.0, ended=7.0), outcome(1, started=4.0, ended=5.0), outcome(2))
    assert state.seconds == 7.0


def test_spans_hold_first_start_and_last_end_of_each_controller() -> None:
    state = fold(
        HEADER,
        outcome(1, started=12.0, ended=20.0),
        outcome(0, started=10.0, ended=13.0),
        {"type": "resumed"},
        outcome(2),
        outcome(3, started=100.0, ended=101.0),
        {"type": "resumed"},
    )
    assert state.spans == [(10.0, 20.0), (100.0, 101.0)]


def test_elapsed_leaves_out_the_time_without_a_controller() -> None:
    state = State()
    times = [(100, HEADER), (103, asked(0)), (110, attempt(0)), (5000, {"type": "resumed"}), (5002, outcome(0))]
    for at, record in times:
        state.apply({"at": at, **record})
    assert state.elapsed == 12.0


def test_elapsed_leaves_out_the_time_before_a_controller_that_could_not_start() -> None:
    """Such a one only said so, in older versions."""
    broken: Record = {"type": "ended", "complete": False, "reason": "the site failed"}
    for found in (State(), Tally()):
        for at, record in [(100, HEADER), (103, asked(0)), (110, broken), (5000, broken), (9000, {"type": "resumed"})]:
            found.apply({"at": at, **record})
        assert found.elapsed == 10.0


def test_inference_with_a_model_that_was_taken_back_counts_no_more() -> None:
    """Another configuration may get the number, and win."""
    records = [HEADER, asked(5), outcome(5), stage("infer", 1, "ok", 5)]
    back: Record = {"type": "retracted", "signature": "", "reason": ""}
    assert "infer" in fold(*records, {**back, "trials": [4]}).stage_outcomes
    assert "infer" not in fold(*records, {**back, "trials": [5]}).stage_outcomes


def test_stage_outcomes_are_the_last_ones() -> None:
    state = fold(stage("infer", 1, "failed", 4), stage("infer", 2, "ok", 5), stage("preprocess", 1))
    assert state.stage_outcomes["infer"].trial_id == 5
    assert state.stage_runs == {"infer": 2, "preprocess": 1}


@pytest.mark.parametrize(
    ("records", "ended"),
    [
        ([{"type": "ended", "complete": True}], True),
        ([{"type": "ended", "complete": False, "reason": "interrupted"}], False),
        ([{"type": "ended", "complete": True}, {"type": "resumed"}], False),
        ([], False),
    ],
)
def test_ended_is_what_the_last_record_says(records: list[Record], ended: bool) -> None:
    assert fold(HEADER, *records).ended is ended
