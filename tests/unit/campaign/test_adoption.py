"""What a campaign that was broken off left is taken over by the next controller, and nothing is lost or done twice."""

from __future__ import annotations

import json
import random
from concurrent.futures import Future
from pathlib import Path

import pytest

from tests.unit.campaign.leading import (
    ASYNC,
    OPTUNA,
    SETTINGS,
    Crash,
    Disk,
    Key,
    Site,
    check_whole,
    interrupt_after,
    lead,
    lost,
    records,
    reread,
    table,
    value_of,
)
from workflow.campaign import Campaign, Interrupted
from workflow.errors import SiteError
from workflow.search import SearchSettings
from workflow.state import Record, State
from workflow.trial import Outcome


def crash_before_record_of(path: Path, stage: str) -> Site:
    """A controller that dies once the stage has left its result, before that is in the journal."""
    site = Site(path)
    original = site._end

    def end(pending: tuple[Future[Outcome], Key, Outcome]) -> None:
        original(pending)
        if pending[1][0] == stage:
            raise Crash

    site._end = end
    with pytest.raises(Crash):
        lead(site)
    assert stage not in reread(path).stage_outcomes
    return site


@pytest.mark.parametrize("stage", ["preprocess", "infer"])
def test_stage_that_finished_while_no_controller_lived_is_adopted(path: Path, stage: str) -> None:
    site = crash_before_record_of(path, stage)
    state, _ = lead(Site(path, site.disk))
    assert site.disk.stages_started() == {"preprocess": 1, "infer": 1}
    check_whole(state, site.disk)


# -- resuming --------------------------------------------------------------------------------------------------------


def test_results_left_while_no_controller_lived_are_adopted(path: Path) -> None:
    site = Site(path, in_flight=6, hook=interrupt_after(2, now=True))
    with pytest.raises(Interrupted):
        lead(site)
    running = sorted(key for _, key, _ in site.pending)
    assert running
    for pending in site.pending:
        site._end(pending)
    again = Site(path, site.disk)
    state, _ = lead(again)
    assert any("had finished while no controller lived" in text for text in again.said)
    assert all(state.outcomes[trial].attempt == attempt for _, trial, attempt in running)
    check_whole(state, site.disk)


def test_attempts_that_died_with_the_controller_get_a_new_number(path: Path) -> None:
    site = Site(path, in_flight=6, hook=interrupt_after(2, now=True))
    with pytest.raises(Interrupted):
        lead(site)
    running = [trial for _, (_, trial, _), _ in site.pending]
    state, _ = lead(Site(path, site.disk))
    assert running
    assert all(state.outcomes[trial].attempt == 2 for trial in running)
    assert state.lost == {}


def break_somewhere(
    path: Path, seed: int, events: int, tear: bool, settings: SearchSettings = SETTINGS
) -> tuple[State, Disk]:
    """Lead a campaign whose controller dies up to three times, at random events; returns how it ended."""
    rng = random.Random(seed)
    disk = Disk()
    for crash_at in [rng.randrange(1, events + 1) for _ in range(rng.randint(1, 3))] + [None]:
        crash = rng.choice([Crash(), SiteError("the disk is full")])
        site = Site(path, disk, rng.randrange(10**6), rng.randint(1, 6), crash_at=crash_at, crash=crash)
        try:
            state, _ = lead(site, settings=settings)
        except (Crash, SiteError):
            site.die()
            if tear:
                tear_last_line(path, rng)
    return state, disk


def tear_last_line(path: Path, rng: random.Random) -> None:
    data = path.read_bytes()
    start = data.rstrip(b"\n").rfind(b"\n") + 1
    if data:
        path.write_bytes(data[: rng.randrange(start, len(data))])


@pytest.mark.parametrize("seed", range(200))
def test_campaign_that_was_killed_anywhere_ends_like_the_unbroken_one(
    path: Path, seed: int, unbroken: tuple[list[list[str]], int]
) -> None:
    expected, events = unbroken
    state, disk = break_somewhere(path, seed, events, tear=False)
    assert table(state) == expected
    check_whole(state, disk)


@pytest.mark.parametrize("seed", range(100))
def test_campaign_with_a_torn_last_line_ends_like_the_unbroken_one(
    path: Path, seed: int, unbroken: tuple[list[list[str]], int]
) -> None:
    expected, events = unbroken
    state, disk = break_somewhere(path, 1000 + seed, events, tear=True)
    assert table(state) == expected
    check_whole(state, disk)


def check_pairs(state: State) -> None:
    """Every outcome is of the configuration that its trial holds."""
    for number, outcome in state.outcomes.items():
        assert outcome.value in (None, value_of(state.trials[number]))


@pytest.mark.parametrize("tear", [False, True])
@pytest.mark.parametrize(("settings", "seed"), [*((ASYNC, n) for n in range(20)), *((OPTUNA, n) for n in range(8))])
def test_asynchronous_campaign_that_was_killed_anywhere_is_whole(
    path: Path, settings: SearchSettings, seed: int, tear: bool
) -> None:
    state, disk = break_somewhere(path, seed, 200, tear, settings)
    assert len(state.trials) == 20
    check_whole(state, disk)
    check_pairs(state)


@pytest.mark.parametrize("trial", [0, 5, 11])
@pytest.mark.parametrize("ended", [False, True], ids=["without its outcome", "with its outcome"])
def test_a_result_whose_trial_nobody_knows_is_given_to_no_other(path: Path, trial: int, ended: bool) -> None:
    """An asynchronous search asks for another configuration under the number of a record that was lost."""
    site = broken_off(path, ASYNC)
    if not ended:
        corrupt(path, "outcome", trial)
    corrupt(path, "asked", trial)
    again = Site(path, site.disk)
    state, _ = lead(again, settings=ASYNC)
    assert len(state.trials) == 20
    check_whole(state, site.disk)
    check_pairs(state)
    assert state.outcomes[trial].attempt == 2
    assert any(f"has lost the hyperparameters of trial {trial}" in line for line in again.said)


@pytest.mark.parametrize("attempt", [1, 2])
def test_trial_whose_attempt_record_was_torn_is_adopted(path: Path, attempt: int) -> None:
    """The last line is the attempt's record; its trial ended well while no controller lived."""
    faults = {("train", 0, n): lost() for n in range(1, attempt)}
    site = Site(path, faults=faults, in_flight=1)

    def crash(campaign: Campaign) -> None:
        if ("train", 0, attempt) in [key for _, key, _ in site.pending]:
            raise Crash

    site.hook = crash
    with pytest.raises(Crash):
        lead(site)
    for pending in site.pending:
        site._end(pending)
    assert records(path)[-1]["type"] == "attempt"
    path.write_bytes(path.read_bytes()[:-9])
    state, _ = lead(Site(path, site.disk))
    assert state.outcomes[0].attempt == attempt
    check_whole(state, site.disk)


# -- corrupt lines ---------------------------------------------------------------------------------------------------

OUTCOMES_BEFORE_CRASH = 13
"""In the third of four generations, so that corrupt records belong to earlier ones."""
EARLIER = range(11)
"""Trials of the first two generations: all of them have outcomes."""


def broken_off(path: Path, settings: SearchSettings = SETTINGS) -> Site:
    """A campaign in its third generation whose controller has just died; what ran ends well or is lost."""
    site = Site(path, seed=4)

    def crash(campaign: Campaign) -> None:
        if len(campaign.state.outcomes) >= OUTCOMES_BEFORE_CRASH:
            raise Crash

    site.hook = crash
    with pytest.raises(Crash):
        lead(site, settings=settings)
    site.die()
    return site


def corrupt(path: Path, kind: str, trial: int) -> None:
    """Break the first ``kind`` record of the trial in the middle of its line."""
    lines = path.read_bytes().splitlines(keepends=True)
    index = next(i for i, line in enumerate(lines) if is_record(json.loads(line), kind, trial))
    lines[index] = lines[index][: len(lines[index]) // 2] + b"\n"
    path.write_bytes(b"".join(lines))


def is_record(record: Record, kind: str, trial: int) -> bool:
    number = record["trial"]["id"] if kind == record["type"] == "asked" else record.get("outcome", {}).get("trial_id")
    return bool(record["type"] == kind and number == trial)


@pytest.mark.parametrize("trial", EARLIER)
@pytest.mark.parametrize("kind", ["asked", "outcome"])
def test_corrupt_record_in_the_middle_loses_no_trial(
    path: Path, kind: str, trial: int, unbroken: tuple[list[list[str]], int]
) -> None:
    """The result files are still there: nothing that finished runs again."""
    site = broken_off(path)
    corrupt(path, kind, trial)
    state, _ = lead(Site(path, site.disk))
    assert table(state) == unbroken[0]
    check_whole(state, site.disk)
    asked = [record["trial"]["id"] for record in records(path) if record["type"] == "asked"]
    assert sorted(asked) == list(range(len(state.trials)))


@pytest.mark.parametrize("trial", EARLIER)
def test_outcome_of_which_nothing_is_left_is_found_out_again(
    path: Path, trial: int, unbroken: tuple[list[list[str]], int]
) -> None:
    site = broken_off(path)
    corrupt(path, "outcome", trial)
    for key in [key for key in site.disk.results if key[:2] == ("train", trial)]:
        del site.disk.results[key]
    state, _ = lead(Site(path, site.disk))
    assert table(state) == unbroken[0]
    check_whole(state, site.disk)


@pytest.mark.parametrize("trial", [0, 5, 6, 9, "last"])
def test_corrupt_asked_record_of_a_finished_campaign(
    path: Path, trial: int | str, unbroken: tuple[list[list[str]], int]
) -> None:
    site = Site(path)
    state, _ = lead(site)
    corrupt(path, "asked", max(state.trials) if trial == "last" else int(trial))
    started = list(site.disk.started)
    again, _ = lead(Site(path, site.disk))
    assert site.disk.started == started
    assert table(again) == unbroken[0]
    assert sorted(again.trials) == sorted(state.trials)
