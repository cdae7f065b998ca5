"""What is lost runs again, and what fails alike tells of the set-up, in whole campaigns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.campaign.leading import PLAN, SETTINGS, Crash, Site, check_whole, failures, lead, lost, reread, table
from workflow.campaign import Campaign
from workflow.errors import SetupError, SiteError

# -- attempts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 2])
def test_lost_attempts_run_again_under_the_same_id(
    path: Path, times: int, unbroken: tuple[list[list[str]], int]
) -> None:
    site = Site(path, faults={("train", 3, attempt): lost() for attempt in range(1, times + 1)})
    state, _ = lead(site)
    assert [key for key in site.disk.started if key[1] == 3] == [("train", 3, n) for n in range(1, times + 2)]
    assert state.outcomes[3].attempt == times + 1
    assert state.lost == {3: times}
    assert table(state) == unbroken[0]


def test_trial_that_is_lost_too_often_has_failed(path: Path) -> None:
    site = Site(path, faults={("train", 3, attempt): lost() for attempt in range(1, 9)})
    state, _ = lead(site, replace(PLAN, max_attempts=3))
    assert [key for key in site.disk.started if key[1] == 3] == [("train", 3, n) for n in (1, 2, 3)]
    assert state.outcomes[3].kind == "failed"
    assert state.outcomes[3].evidence == "lost 3 times, the last time: the node died"


def test_trials_that_are_all_lost_tell_of_a_broken_site(path: Path) -> None:
    """Nothing is final before it is mended: a resume runs them all."""
    site = Site(path, faults={("train", trial, n): lost() for trial in range(99) for n in range(1, 4)})
    with pytest.raises(
        SiteError, match=r"3 trials were lost again and again, and none has succeeded: .* the node died"
    ):
        lead(site, replace(PLAN, max_attempts=3))
    state = reread(path)
    assert state.outcomes == {} and len(state.unfinished) >= 3
    site.die()
    state, _ = lead(Site(path, site.disk))
    assert {outcome.kind for outcome in state.outcomes.values()} == {"ok", "failed"}
    assert all(o.cause != "infrastructure" for o in state.outcomes.values())


def test_a_single_lost_trial_is_no_failure_of_the_model_either(path: Path) -> None:
    site = Site(path, faults={("train", 0, n): lost() for n in range(1, 4)})
    with pytest.raises(SiteError, match="a trial was lost"):
        lead(site, settings=replace(SETTINGS, num_iterations=1, population_size=1))
    assert reread(path).unfinished


def test_first_trials_that_fail_alike_tell_of_a_broken_set_up(path: Path) -> None:
    """What they left on the disk isn't taken over at the resume: they run again."""
    site = Site(path, faults=failures(lambda number: f"exit code 1; last line: no file data-{number}.csv"))
    site.in_flight = 8  # some are still running when the campaign stops
    with pytest.raises(SetupError, match=r"first 5 trials failed alike.*no file data-4.csv \(log of 4\)"):
        lead(site)
    assert len(site.disk.trials_started()) <= 8
    state = reread(path)
    assert not state.outcomes.keys() & set(range(5))
    site.die()
    resumed = Site(path, site.disk)
    state, _ = lead(resumed)
    assert [state.outcomes[number].attempt for number in range(5)] == [2] * 5
    assert not any("no file" in outcome.evidence for outcome in state.outcomes.values())
    assert any(outcome.kind == "ok" for outcome in state.outcomes.values())


@pytest.mark.parametrize("same_failures", [0, 9])
def test_failing_alike_can_be_declared_normal(path: Path, same_failures: int) -> None:
    site = Site(path, faults=failures(lambda number: "val_loss is nan"))
    settings = replace(SETTINGS, num_iterations=1, population_size=8)
    state, _ = lead(site, replace(PLAN, same_failures=same_failures), settings=settings)
    assert state.ended and len(state.outcomes) == 8


def test_lost_attempts_are_counted_across_resumes(path: Path) -> None:
    site = Site(path, faults={("train", 0, attempt): lost() for attempt in range(1, 9)}, in_flight=1)

    def crash_at_second_loss(campaign: Campaign) -> None:
        if campaign.state.lost.get(0) == 2:
            raise Crash

    site.hook = crash_at_second_loss
    with pytest.raises(Crash):
        lead(site)
    site.hook = lambda campaign: None
    site.pending.clear()
    state, _ = lead(site)
    assert state.outcomes[0].kind == "failed"
    assert len([key for key in site.disk.started if key[1] == 0]) <= 4


def test_deferred_attempts_are_not_counted(path: Path) -> None:
    deferred = {"kind": "deferred", "value": None, "evidence": "its block ends too soon"}
    site = Site(path, faults={("train", 2, attempt): deferred for attempt in range(1, 6)})
    state, _ = lead(site, replace(PLAN, max_attempts=3))
    assert (state.outcomes[2].attempt, state.lost) == (6, {})


def test_broken_setup_before_a_success_stops_the_campaign(path: Path) -> None:
    site = Site(path, faults={("train", 0, 1): lost("setup", evidence="train.sh was not found")}, in_flight=1)
    with pytest.raises(SetupError, match=r"trial 0 cannot run: train\.sh was not found"):
        lead(site)
    assert site.disk.trials_started() == [0]
    state, _ = lead(Site(path, site.disk))
    assert state.outcomes[0].attempt == 2
    check_whole(state, site.disk)


def test_a_trial_that_alone_cannot_run_fails(path: Path) -> None:
    """Others that succeed in between show that the set-up works."""
    site = Site(path, faults={("train", 5, n): lost("setup", evidence="exit code 127") for n in range(1, 9)})
    state, _ = lead(site)
    assert state.outcomes[5].kind == "failed" and 3 <= state.outcomes[5].attempt <= 5
    assert state.outcomes[5].evidence == "exit code 127"
    assert len(state.trials) > 6


# -- nodes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_node_that_eats_trials_costs_none(path: Path, seed: int, unbroken: tuple[list[list[str]], int]) -> None:
    """Whatever fails on it runs again elsewhere; soon it gets nothing more, also after a resume."""
    site = Site(path, seed=seed, hosts=("a", "b", "hole"), bad=frozenset({"hole"}))
    state, _ = lead(site)
    assert table(state) == unbroken[0]
    assert site.shunned == ["hole"] and "hole" in state.shunned
    assert not any("no GPU" in outcome.evidence for outcome in state.outcomes.values())
    again = Site(path, site.disk)
    lead(again)
    assert again.shunned == ["hole"]


def test_a_failure_of_a_trial_is_believed_when_it_comes_twice(path: Path) -> None:
    failed = {
        "kind": "failed",
        "value": None,
        "cause": "model",
        "evidence": "exit code 1",
        "started": 0.0,
        "ended": 0.5,
    }
    site = Site(path, hosts=("a", "b"), faults={("train", 3, attempt): failed for attempt in range(1, 9)})
    state, _ = lead(site)
    assert (state.outcomes[3].kind, state.outcomes[3].attempt) == ("failed", 2)
    assert (site.shunned, state.doubted, state.lost) == ([], 1, {})


def test_failures_on_a_single_node_are_believed(path: Path) -> None:
    site = Site(path, hosts=("a",), bad=frozenset({"a"}))
    with pytest.raises(SetupError, match="first 5 trials failed alike"):
        lead(site)
    assert {attempt for _, _, attempt in site.disk.started} == {1}
