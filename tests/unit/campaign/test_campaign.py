"""The campaign's loop on a site made of futures: order of writes, retries, ends, and resumes after any crash."""

from __future__ import annotations

import csv
import io
import itertools
from collections import Counter
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.campaign.leading import (
    PLAN,
    SETTINGS,
    SPACE,
    TABLE,
    Crash,
    Disk,
    Key,
    Site,
    check_whole,
    failures,
    interrupt_after,
    lead,
    lost,
    records,
    reread,
    table,
)
from workflow.budgets import Budgets
from workflow.campaign import Campaign, Interrupted, Plan
from workflow.durations import Expectation
from workflow.errors import OutOfTime, SetupError, SiteError
from workflow.finals import FinalistsSettings
from workflow.journal import Journal
from workflow.ranking import best, finalists_of, hall_of_fame, winner_of
from workflow.report.tables import counts, hpo_csv
from workflow.search import STRATEGIES, SearchSettings, make_search
from workflow.state import Record, State
from workflow.stopping import StoppingSettings
from workflow.trial import FIRST_RERUN, Outcome, Trial, is_rerun

# -- a whole campaign ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("mode", ["min", "max"])
def test_whole_campaign(path: Path, strategy: str, mode: str) -> None:
    site = Site(path)
    settings = replace(SETTINGS, strategy=strategy)
    state, campaign = lead(site, replace(PLAN, mode=mode), settings)
    assert sorted(state.outcomes) == list(range(len(state.trials)))
    assert len(state.trials) > 6
    assert sorted(site.disk.trials_started()) == list(range(len(state.trials)))
    values = [outcome.value for outcome in state.outcomes.values() if outcome.value is not None]
    winner = best(state, mode)
    assert winner is not None
    assert winner.value == (min if mode == "min" else max)(values)
    assert site.disk.stages_started() == {"preprocess": 1, "infer": 1}
    assert site.disk.started[0][0] == "preprocess"
    assert site.disk.started[-1] == ("infer", winner.trial_id, 1)
    assert site.data == 1
    assert state.ended
    assert campaign.running == {}


@pytest.mark.parametrize(("preprocess", "infer"), [(False, False), (True, False), (False, True)])
def test_stages_are_optional(path: Path, preprocess: bool, infer: bool) -> None:
    site = Site(path)
    state, _ = lead(site, Plan(preprocess, infer, "min"))
    assert site.disk.stages_started() == Counter({"preprocess": int(preprocess), "infer": int(infer)})
    assert state.ended


@pytest.mark.parametrize("in_flight", [1, 2, 5, 100])
def test_in_flight_is_a_limit_that_is_used(path: Path, in_flight: int, unbroken: tuple[list[list[str]], int]) -> None:
    site = Site(path, in_flight=in_flight)
    state, _ = lead(site)
    assert site.in_flight_seen == min(in_flight, SETTINGS.population_size)
    assert table(state) == unbroken[0]


@pytest.mark.parametrize("seed", range(10))
def test_order_of_ends_does_not_change_the_table(path: Path, seed: int, unbroken: tuple[list[list[str]], int]) -> None:
    assert table(lead(Site(path, seed=seed))[0]) == unbroken[0]


def test_campaign_without_a_success_ends_without_inference(path: Path) -> None:
    site = Site(path, faults=failures(lambda number: "abc"[number % 3]))
    state, _ = lead(site)
    assert state.ended
    assert {outcome.kind for outcome in state.outcomes.values()} == {"failed"}
    assert site.disk.stages_started() == {"preprocess": 1}


def test_search_that_waits_for_nobody_is_a_bug(path: Path) -> None:
    class Waiting:
        done = False

        def ask(self) -> None:
            return None

    with pytest.raises(AssertionError, match="nobody runs"):
        lead(Site(path), Plan(False, False, "min"), search=Waiting())


def test_user_hears_what_is_going_on(path: Path) -> None:
    site = Site(path, faults={("train", 4, 1): lost()})
    lead(site)
    text = "\n".join(site.said)
    for part in ("preprocess", "trial 4: attempt 1 was lost, it runs again: the node died", "infer with the winner"):
        assert part in text


# -- the finals ------------------------------------------------------------------------------------------------------

FINALS = replace(PLAN, finalists=FinalistsSettings(3, 2, "seed"))
SMALL = replace(SETTINGS, num_iterations=1, population_size=6)


def reruns_started(site: Site) -> list[int]:
    return [number - FIRST_RERUN for number in site.disk.trials_started() if is_rerun(number)]


def check_finals(state: State, disk: Disk, mode: str = "min") -> None:
    """The best three were trained again twice each, the best mean wins, and only that one met inference."""
    groups: dict[int, list[Outcome]] = {}
    for number in state.finals:
        groups.setdefault(state.reruns[number].parents[0], []).append(state.rerun_outcomes[number])
    assert list(groups) == [outcome.trial_id for outcome in hall_of_fame(state, mode, 3)]
    assert all(len(outcomes) == 2 for outcomes in groups.values())
    means = {
        trial: sum(outcome.value or 0 for outcome in outcomes)
        for trial, outcomes in groups.items()
        if all(outcome.kind == "ok" for outcome in outcomes)
    }
    best_mean = (min if mode == "min" else max)(means, key=lambda trial: means[trial])
    winner = winner_of(state, mode)
    assert winner is not None and winner.trial_id == best_mean == state.stage_outcomes["infer"].trial_id
    assert {trial for stage, trial, _ in disk.started if stage == "infer"} == {winner.trial_id}
    assert not any(map(is_rerun, (*state.trials, *state.outcomes)))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_best_are_trained_again_once_the_search_is_over(path: Path, strategy: str, mode: str) -> None:
    site = Site(path, in_flight=100)
    state, campaign = lead(site, replace(FINALS, mode=mode), replace(SMALL, strategy=strategy))
    check_finals(state, site.disk, mode)
    searched = len(state.trials)
    assert sorted(reruns_started(site)) == list(range(6))
    assert all(map(is_rerun, site.disk.trials_started()[searched:]))
    assert "train the best 3 again, 6 trainings with other seeds" in site.said
    assert campaign.search.done


def test_without_a_seed_a_campaign_is_as_before(path: Path, unbroken: tuple[list[list[str]], int]) -> None:
    site = Site(path)
    state, _ = lead(site, replace(PLAN, finalists=FinalistsSettings()))
    assert (table(state), site.events) == unbroken
    assert records(path, '"type":"finals"') == []


def test_the_table_holds_no_reruns(path: Path, tmp_path: Path) -> None:
    with_finals, without = lead(Site(path), FINALS)[0], lead(Site(tmp_path / "other.jsonl"))[0]
    assert table(with_finals) == table(without)
    assert with_finals.seconds > without.seconds


@pytest.mark.parametrize("crash_at", range(60, 104, 5))
def test_a_crash_in_the_finals_repeats_nothing_that_has_ended(path: Path, crash_at: int) -> None:
    """``Site`` checks that nothing starts again which has ended."""
    site = Site(path, crash_at=crash_at)
    with pytest.raises(Crash):
        lead(site, FINALS, SMALL)
    assert "train the best 3 again, 6 trainings with other seeds" in site.said
    site.die()
    again = Site(path, site.disk, seed=1)
    state, _ = lead(again, FINALS, SMALL)
    check_finals(state, again.disk)
    unbroken = lead(Site(path.with_name("unbroken.jsonl")), FINALS, SMALL)[0]
    assert state.reruns == unbroken.reruns and table(state) == table(unbroken)
    values = [{n: outcome.value for n, outcome in each.rerun_outcomes.items()} for each in (state, unbroken)]
    assert values[0] == values[1]


def test_a_lost_rerun_runs_again_under_its_id(path: Path) -> None:
    site = Site(path, faults={("train", FIRST_RERUN + 1, 1): lost()})
    state, _ = lead(site, FINALS, SMALL)
    assert state.rerun_outcomes[FIRST_RERUN + 1].attempt == 2
    assert any("re-run 1: attempt 1 was lost, it runs again" in line for line in site.said)
    check_finals(state, site.disk)


def test_an_extended_search_keeps_the_reruns_of_those_that_stay_finalists(path: Path) -> None:
    site = Site(path)
    before, _ = lead(site, FINALS, SMALL)
    state, _ = lead(Site(path, site.disk), FINALS, replace(SMALL, num_iterations=6))
    check = hall_of_fame(state, "min", 3)
    stayed = {o.trial_id for o in check} & {trial.parents[0] for trial in before.reruns.values()}
    assert len(state.reruns) == 6 + 2 * (3 - len(stayed))
    assert len(reruns_started(site)) == len(state.reruns)
    assert [state.reruns[number].parents[0] for number in state.finals] == [o.trial_id for o in check for _ in range(2)]


def test_during_an_extended_search_old_finals_decide_nothing_if_there_are_better_trials(path: Path) -> None:
    state, _ = lead(Site(path), FINALS, SMALL)
    assert len(finalists_of(state, "min")) == 3
    number = len(state.trials)
    state.trials[number] = Trial(number, number, {"rate": 0.5})
    state.outcomes[number] = Outcome(number, 1, "ok", 0.0)
    assert finalists_of(state, "min") == [] and winner_of(state, "min") == state.outcomes[number]


def test_finals_may_be_asked_for_and_called_off_at_a_resume(path: Path) -> None:
    site = Site(path)
    lead(site, PLAN, SMALL)
    state, _ = lead(Site(path, site.disk), FINALS, SMALL)
    assert len(state.finals) == 6 and winner_of(state, "min") == finalists_of(state, "min")[0].outcome
    off = replace(FINALS, finalists=replace(FINALS.finalists, count=0))
    state, _ = lead(Site(path, site.disk), off, SMALL)
    assert state.finals == [] and winner_of(state, "min") == best(state, "min")
    assert len(reruns_started(site)) == 6


def test_a_budget_ends_the_search_and_no_finals(path: Path) -> None:
    """What the search had asked for and not got waits for a larger budget."""
    budgets = Budgets(gpu_hours=0.05)
    site = Site(path, in_flight=2, faults={("train", 1, 1): lost()})
    state, campaign = lead(site, replace(FINALS, budgets=budgets), replace(SETTINGS, num_iterations=9))
    assert budgets.reached(state) and not campaign.search.done
    assert len(reruns_started(site)) == len(state.finals) == 2 * len(hall_of_fame(state, "min", 3))
    assert state.ended


def test_interrupted_in_the_finals(path: Path) -> None:
    site = Site(path, in_flight=1)

    def interrupt(campaign: Campaign) -> None:
        if campaign.state.rerun_outcomes:
            campaign.interrupt(now=False)

    site.hook = interrupt
    with pytest.raises(Interrupted):
        lead(site, FINALS, SMALL)
    again = Site(path, site.disk)
    state, _ = lead(again, FINALS, SMALL)
    check_finals(state, again.disk)
    assert sorted(reruns_started(site)) == list(range(6))


def test_interrupted_before_the_finals_begins_none(path: Path) -> None:
    site = Site(path)
    site.hook = lambda campaign: campaign.interrupt(now=False) if campaign.search.done else None
    with pytest.raises(Interrupted):
        lead(site, FINALS, SMALL)
    assert not reruns_started(site) and not any("again" in line for line in site.said)


def test_an_allocation_that_ends_in_the_finals(path: Path) -> None:
    site = Site(path, time_is_up_at=8)
    with pytest.raises(OutOfTime):
        lead(site, FINALS, SMALL)
    site.die()
    state, _ = lead(Site(path, site.disk), FINALS, SMALL)
    check_finals(state, site.disk)


def test_no_rerun_is_stopped_early(path: Path) -> None:
    """Nor do they teach what is hopeless: the best would make everything so."""
    site = Site(path, in_flight=3, reports=lambda number: 1.0 + number)
    early = StoppingSettings(grace=0, min_trials=1)
    state, campaign = lead(site, FINALS, SMALL, early=early)
    assert campaign.early_stopping is not None
    assert all(outcome.kind != "stopped" for outcome in state.rerun_outcomes.values())
    assert not any(map(is_rerun, campaign.early_stopping._histories))


def test_earlier_results_take_the_place_of_reruns_too(path: Path) -> None:
    site = Site(path)
    state, _ = lead(site, FINALS, SMALL)
    rates = [trial.params["rate"] for trial in state.trials.values()]
    other = Site(path.with_name("other.jsonl"))
    other.memo = {rate: Outcome(0, 0, "ok", 0.5, source="/elsewhere") for rate in rates}
    state, _ = lead(other, FINALS, SMALL)
    assert other.disk.trials_started() == [] and len(state.rerun_outcomes) == 6


def test_a_lost_record_of_the_finals_costs_the_reruns_only(path: Path) -> None:
    site = Site(path)
    lead(site, FINALS, SMALL)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if '"type":"finals"' not in line))
    state, _ = lead(Site(path, site.disk), FINALS, SMALL)
    assert Counter(reruns_started(site)) == dict.fromkeys(range(6), 2)
    assert sorted(site.disk.trials_started())[:6] == list(range(6))
    check_finals(state, site.disk)


@pytest.mark.parametrize("in_flight", [1, 3])
def test_an_image_that_goes_away_costs_no_trial(path: Path, in_flight: int) -> None:
    """From a certain trial on nothing can run: the campaign stops, and a resume runs them all."""
    faults = {
        ("train", t, n): lost("setup", evidence="the container cannot run") for t in range(5, 99) for n in (1, 2, 3)
    }
    site = Site(path, faults=faults, in_flight=in_flight)
    with pytest.raises(SetupError, match="cannot run: the container cannot run"):
        lead(site)
    state, _ = lead(Site(path, site.disk))
    check_whole(state, site.disk)
    assert all(outcome.cause != "setup" for outcome in state.outcomes.values())


def test_a_success_that_began_before_does_not_show_that_the_set_up_works(path: Path) -> None:
    """An image that goes away still serves those that use it: their ends don't keep the campaign alive."""
    gone = lost("setup", evidence="the container cannot run", started=5000.0, ended=5001.0)
    faults = {("train", t, n): gone for t in range(3, 99, 3) for n in range(1, 9)}
    long = {"kind": "ok", "value": 1.0, "started": 4000.0, "ended": 6000.0}
    faults |= {("train", t, 1): long for t in range(99) if t % 3}
    site = Site(path, faults=faults, in_flight=4)
    with pytest.raises(SetupError, match="cannot run: the container cannot run"):
        lead(site)
    assert sum(trial in (3, 6) for trial in site.disk.trials_started()) == PLAN.max_attempts


# -- ends before the end ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcomes", [0, 1, 5, 8])
def test_interrupt_drains(path: Path, outcomes: int) -> None:
    site = Site(path, hook=interrupt_after(outcomes, now=False))
    with pytest.raises(Interrupted):
        lead(site)
    state = reread(path)
    assert state.unfinished == []
    assert sorted(state.outcomes) == sorted(site.disk.trials_started())
    assert not site.pending
    assert not site.stopped
    assert not state.ended


def test_draining_does_not_start_lost_trials_again(path: Path) -> None:
    site = Site(path, faults={("train", number, 1): lost() for number in range(9)})
    site.hook = interrupt_after(0, now=False)
    with pytest.raises(Interrupted):
        lead(site)
    assert {attempt for stage, _, attempt in site.disk.started if stage == "train"} <= {1}
    told = [line for line in site.said if "was lost" in line]
    assert told and all("attempt 1 was lost, a resume runs it again: " in line for line in told)


@pytest.mark.parametrize("outcomes", [0, 1, 5, 8])
def test_interrupt_now_stops_what_runs(path: Path, outcomes: int, unbroken: tuple[list[list[str]], int]) -> None:
    site = Site(path, hook=interrupt_after(outcomes, now=True))
    with pytest.raises(Interrupted):
        lead(site)
    assert site.stopped
    assert len(reread(path).outcomes) <= outcomes + 2
    site.die()
    state, _ = lead(Site(path, site.disk))
    assert table(state) == unbroken[0]


def test_draining_keeps_what_has_not_begun(path: Path) -> None:
    site = Site(path, hook=interrupt_after(2, now=False))
    with pytest.raises(Interrupted):
        lead(site)
    assert site.held


def test_interrupt_during_infer_waits_for_it_and_is_done(path: Path) -> None:
    site = Site(path)

    original = site.infer

    def infer(*arguments: Any) -> Future[Outcome]:
        campaigns[0].interrupt(now=False)
        return original(*arguments)

    campaigns: list[Campaign] = []
    site.hook = campaigns.append
    site.infer = infer
    state, campaign = lead(site)
    assert state.ended and campaign.draining


def test_interrupt_before_infer_leaves_it_to_the_resume(path: Path) -> None:
    site = Site(path)

    def interrupt_at_end(campaign: Campaign) -> None:
        if campaign.search.done:
            campaign.interrupt(now=False)

    site.hook = interrupt_at_end
    with pytest.raises(Interrupted):
        lead(site)
    assert "infer" not in site.disk.stages_started()


def test_drained_campaign_that_is_complete_is_done(path: Path) -> None:
    site = Site(path)
    site.hook = lambda campaign: campaign.interrupt(now=False) if campaign.search.done else None
    state, _ = lead(site, replace(PLAN, infer=False))
    assert state.ended


def test_interrupt_during_preprocess_trains_nothing(path: Path) -> None:
    site = Site(path)
    journal = Journal(path)
    campaign = Campaign(PLAN, make_search(SPACE, SETTINGS), journal, site, site)
    site.say = lambda text: campaign.interrupt(now=False)
    with pytest.raises(Interrupted):
        campaign.run()
    journal.close()
    assert site.disk.stages_started() == {"preprocess": 1}
    assert site.held
    assert site.disk.trials_started() == []
    assert reread(path).stage_outcomes["preprocess"].kind == "ok"


def test_failure_of_the_site_is_a_site_error(path: Path) -> None:
    site = Site(path)

    def break_down(campaign: Campaign) -> None:
        if len(campaign.state.outcomes) >= 4:
            site.broken = "the interchange ended"

    site.hook = break_down
    with pytest.raises(SiteError, match="the interchange ended"):
        lead(site)
    site.die()
    state, _ = lead(Site(path, site.disk))
    check_whole(state, site.disk)


def test_full_disk_under_a_trial_is_a_site_error_and_no_outcome(path: Path) -> None:
    full = lost("site", evidence="no space left; make room")
    site = Site(path, faults={("train", 2, 1): full}, in_flight=1)
    with pytest.raises(SiteError, match="trial 2: no space left; make room"):
        lead(site)
    assert 2 not in reread(path).outcomes
    state, _ = lead(Site(path, site.disk))
    assert state.outcomes[2].kind == "ok"
    check_whole(state, site.disk)


@pytest.mark.parametrize("stage", ["preprocess", "infer"])
def test_full_disk_under_a_stage_is_a_site_error(path: Path, stage: str) -> None:
    full = lost("site", evidence="no space left; make room")
    site = Site(path, faults={(stage, number, 1): full for number in range(-1, 100)})
    with pytest.raises(SiteError, match="no space left; make room"):
        lead(site)
    state, _ = lead(Site(path, site.disk))
    check_whole(state, site.disk)


def test_unexpected_error_of_a_future_is_raised(path: Path) -> None:
    site = Site(path)

    def fail(campaign: Campaign) -> None:
        if site.pending:
            site.pending.pop()[0].set_exception(ZeroDivisionError("a bug"))

    site.hook = fail
    with pytest.raises(ZeroDivisionError):
        lead(site)


# -- preprocess and infer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["preprocess", "infer"])
def test_lost_stage_runs_again(path: Path, stage: str) -> None:
    faults = {(stage, number, 1): lost() for number in range(-1, 100)}
    site = Site(path, faults=faults)
    state, _ = lead(site)
    assert state.stage_outcomes[stage].attempt == 2
    assert site.disk.stages_started()[stage] == 2
    assert site.data == (2 if stage == "preprocess" else 1)


@pytest.mark.parametrize("stage", ["preprocess", "infer"])
@pytest.mark.parametrize(
    ("fault", "error", "attempts"),
    [
        ({"kind": "failed", "cause": "model", "evidence": "exit code 3"}, SetupError, 1),
        (lost("setup", evidence="exit code 3"), SetupError, 1),
        (lost(evidence="exit code 3"), SiteError, 3),
    ],
    ids=["failed", "setup", "lost"],
)
def test_stage_that_fails_ends_the_run_and_is_run_again_at_a_resume(
    path: Path, stage: str, fault: dict[str, Any], error: type[Exception], attempts: int
) -> None:
    site = Site(path, faults={(stage, number, n): fault for number in range(-1, 100) for n in (1, 2, 3)})
    with pytest.raises(error, match="exit code 3"):
        lead(site)
    assert site.disk.stages_started()[stage] == attempts
    assert not reread(path).ended
    again = Site(path, site.disk)
    state, _ = lead(again)
    assert state.stage_outcomes[stage].attempt == attempts + 1
    check_whole(state, again.disk)


def test_finished_campaign_runs_nothing_at_a_resume(path: Path) -> None:
    site = Site(path)
    state, _ = lead(site)
    started = list(site.disk.started)
    again, _ = lead(Site(path, site.disk))
    assert site.disk.started == started
    assert table(again) == table(state)
    assert again.ended


def test_a_resume_with_other_arguments_is_warned_of(path: Path) -> None:
    def resumed(evaluations: int, digest: str | None) -> str:
        site = Site(path)
        site.digest = digest
        lead(site, PLAN, replace(SETTINGS, strategy="random", evaluations=evaluations))
        return "\n".join(site.said)

    told = "is not what the results so\nfar came from"
    assert told not in resumed(2, "digest")
    assert told not in resumed(4, "digest")
    assert told in resumed(6, "another")
    assert told not in resumed(8, "another")
    assert told not in resumed(10, None), "nobody knows"


def test_resume_trains_on_the_preprocessed_data(path: Path) -> None:
    site = Site(path, faults={("preprocess", -1, 1): lost()}, hook=interrupt_after(3, now=False))
    with pytest.raises(Interrupted):
        lead(site)
    again = Site(path, site.disk)
    lead(again)
    assert again.data == 2
    assert again.disk.stages_started()["preprocess"] == 2


def test_infer_runs_again_only_for_another_winner(path: Path) -> None:
    disk = Disk()
    inferred = []
    for iterations in range(1, 12):
        lead(Site(path, disk), settings=replace(SETTINGS, num_iterations=iterations))
        inferred.append([trial for stage, trial, _ in disk.started if stage == "infer"])
    last = inferred[-1]
    assert len(last) == len(set(last)) > 1
    assert inferred[0] == last[:1]


# -- budgets ---------------------------------------------------------------------------------------------------------


def within(**budgets: Any) -> Plan:
    return replace(PLAN, budgets=Budgets(gpus=False, **budgets))


def begun_after(path: Path, budgets: Budgets) -> list[Record]:
    """The attempts of trials that began although a budget had been reached."""
    state, found = State(), []
    for record in records(path):
        if record["type"] == "attempt" and isinstance(record["trial"], int) and budgets.reached(state):
            found.append(record)
        state.apply(record)
    return found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every record of the journal is a second after the one before."""
    seconds = itertools.count(1000)
    monkeypatch.setattr("workflow.journal.time.time", lambda: float(next(seconds)))


BUDGETS = [{"gpu_hours": 0.1}, {"wall_time": 12.0}, {"target": 0.6}]


@pytest.mark.parametrize("budget", BUDGETS, ids=lambda budget: next(iter(budget)))
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_budget_ends_every_search_well(path: Path, clock: None, strategy: str, budget: dict[str, float]) -> None:
    plan = within(**budget)
    faults = {("train", number, 1): lost() for number in (2, 5, 6)}
    site = Site(path, faults=faults)
    state, campaign = lead(site, plan, replace(SETTINGS, strategy=strategy))
    assert plan.budgets.reached(state) == plan.budgets.cut(campaign.search, state) != ""
    assert 1 < len(state.trials) < campaign.search.budget
    assert not begun_after(path, plan.budgets)
    assert not site.pending and campaign.running == {}
    assert state.ended and state.stage_outcomes["infer"].trial_id == best(state, "min").trial_id


def test_what_has_not_begun_when_a_budget_ends_is_held_back_and_what_has_begun_counts(path: Path) -> None:
    site = Site(path, in_flight=20)
    state, _ = lead(site, within(gpu_hours=0.05), replace(SETTINGS, strategy="random", evaluations=50))
    assert site.held
    assert 20 < len(state.outcomes) == len(site.disk.trials_started()) < 40
    assert [line for line in site.said if "no further trial begins" in line] == [site.said[-2]]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_target_is_reached_by_the_mode_of_the_objective(path: Path, mode: str) -> None:
    target = 0.3 if mode == "min" else 0.95
    plan = replace(PLAN, mode=mode, budgets=Budgets(target=target, mode=mode))
    state, campaign = lead(Site(path), plan)
    winner = best(state, mode)
    assert winner is not None and winner.value is not None
    assert winner.value <= target if mode == "min" else winner.value >= target
    assert not campaign.search.done


@pytest.mark.parametrize("budget", BUDGETS, ids=lambda budget: next(iter(budget)))
def test_a_campaign_that_a_budget_ended_does_nothing_at_a_resume(
    path: Path, clock: None, budget: dict[str, float]
) -> None:
    site = Site(path, faults={("train", number, 1): lost() for number in (2, 5, 6)})
    before, _ = lead(site, within(**budget))
    started = list(site.disk.started)
    after, _ = lead(Site(path, site.disk), within(**budget))
    assert site.disk.started == started
    assert (after.trials, after.outcomes, after.ended) == (before.trials, before.outcomes, True)


@pytest.mark.parametrize("seed", range(8))
def test_budgets_that_are_raised_again_and_again_leave_the_sequence_as_it_is(
    path: Path, seed: int, unbroken: tuple[list[list[str]], int]
) -> None:
    disk, lengths = Disk(), []
    for hours in (0.05, 0.05, 0.1, 0.02, 0.2, None):
        site = Site(path, disk, seed, faults={("train", number, 1): lost() for number in (2, 5, 6)})
        state, _ = lead(site, within(gpu_hours=hours))
        lengths.append(len(disk.trials_started()))
    assert table(state) == unbroken[0]
    check_whole(state, disk)
    assert lengths[0] == lengths[1] < lengths[2] == lengths[3] < lengths[4] < lengths[5]


def test_a_budget_that_is_lowered_at_a_resume_ends_the_campaign_with_what_there_is(
    path: Path, unbroken: tuple[list[list[str]], int]
) -> None:
    site = Site(path, hook=interrupt_after(6, now=True))
    with pytest.raises(Interrupted):
        lead(site)
    site.die()
    began = site.disk.trials_started()
    state, _ = lead(Site(path, site.disk), within(gpu_hours=0.01))
    assert state.ended and site.disk.trials_started() == began
    assert site.disk.stages_started()["infer"] == 1
    state, _ = lead(Site(path, site.disk))
    assert table(state) == unbroken[0]


def test_wall_time_counts_over_all_controllers(path: Path, clock: None) -> None:
    plan = within(wall_time=20.0)
    site = Site(path, hook=interrupt_after(4, now=True))
    with pytest.raises(Interrupted):
        lead(site, plan)
    spent = reread(path).elapsed
    state, _ = lead(Site(path, site.disk), plan)
    assert 0 < spent < 20 <= state.elapsed < 30
    assert not begun_after(path, plan.budgets)


def test_a_target_that_a_reused_result_reaches_ends_the_search_at_once(path: Path) -> None:
    lead(Site(path))
    known = reread(path)
    site = Site(path.with_name("again.jsonl"))
    site.memo = {
        known.trials[number].params["rate"]: replace(outcome, source="/earlier", started=None, ended=None)
        for number, outcome in known.outcomes.items() if outcome.kind == "ok"
    }  # fmt: skip
    first = next(number for number, outcome in known.outcomes.items() if outcome.kind == "ok")
    state, _ = lead(site, within(target=1.0))
    assert len(state.trials) <= first + 1 + site.in_flight
    assert state.ended


def test_trials_without_time_in_their_allocation_end_no_campaign_that_a_budget_has_ended(path: Path) -> None:
    faults = {("train", number, 1): NO_TIME for number in range(5)}
    site = Site(path, in_flight=8, has_ends=True, in_allocation=True, faults=faults)
    state, _ = lead(site, within(target=0.6))
    assert state.ended and [trial.id for trial in state.unfinished] == [0, 1, 2, 3, 4]


# -- workers that go after a time ------------------------------------------------------------------------------------

NO_TIME = {"kind": "deferred", "value": None, "cause": "walltime", "evidence": "its block ends"}
CUT_OFF = lost("walltime", evidence="stopped: its block ends")


def test_expected_times_are_given_where_blocks_end(path: Path) -> None:
    site = Site(path, has_ends=True)
    lead(site, replace(PLAN, timeout=500.0))
    assert site.expected[0] == Expectation(500.0, measured=False), "before there is a history, the time-out"
    latest = site.expected[max(site.expected)]
    assert latest is not None and latest.measured and latest.seconds <= 250.0
    other = Site(path.with_name("other"))
    lead(other, replace(PLAN, timeout=500.0))
    assert set(other.expected.values()) == {None}


def test_a_trial_that_a_block_has_no_time_for_runs_in_another(path: Path) -> None:
    site = Site(path, has_ends=True, faults={("train", 2, attempt): NO_TIME for attempt in range(1, 30)})
    state, _ = lead(site)
    check_whole(state, site.disk)
    assert state.outcomes[2].kind == "ok" and not state.lost


def test_a_trial_that_is_cut_off_runs_again_for_free(path: Path) -> None:
    site = Site(path, has_ends=True, faults={("train", 2, attempt): CUT_OFF for attempt in (1, 2)})
    state, _ = lead(site)
    check_whole(state, site.disk)
    assert (state.outcomes[2].kind, state.lost, state.cut) == ("ok", {}, {2: 2})


@pytest.mark.parametrize(("checkpoints", "attempts"), [(False, 3), (True, 60)])
def test_a_trial_that_is_always_cut_off_fails(path: Path, checkpoints: bool, attempts: int) -> None:
    """One that goes on from its checkpoint gets further each time."""
    faults = {("train", 2, attempt): CUT_OFF for attempt in range(1, 99)}
    site = Site(path, has_ends=True, keeps_checkpoints=checkpoints, faults=faults)
    state, _ = lead(site)
    check_whole(state, site.disk)
    assert state.outcomes[2].kind == "failed"
    assert state.outcomes[2].evidence.startswith(f"cut off {attempts} times by the end of its block")


def test_an_allocation_is_left_once_only_trials_remain_that_do_not_fit(path: Path) -> None:
    faults = {("train", number, 1): NO_TIME for number in range(4, 99)}
    site = Site(path, has_ends=True, in_allocation=True, faults=faults)
    with pytest.raises(OutOfTime, match="trials no longer fit into this allocation"):
        lead(site)
    assert not site.pending
    state, _ = lead(Site(path, disk=site.disk))
    check_whole(state, site.disk)


def test_an_allocation_in_which_nothing_ends_is_followed_by_no_other(path: Path) -> None:
    """Out of time would be what a chain goes on after."""
    faults = {("train", number, 1): NO_TIME for number in range(99)}
    plan = replace(PLAN, preprocess=False)
    with pytest.raises(
        SiteError, match=r"nothing has ended in it: another one .*\n    -> set a longer walltime"
    ) as caught:
        lead(Site(path, has_ends=True, in_allocation=True, faults=faults), plan)
    assert "trials no longer fit into this allocation, the last one its block ends" in str(caught.value)
    assert "\n    -> set a longer walltime" in str(caught.value)


@pytest.mark.parametrize(("checkpoints", "error"), [(False, SiteError), (True, OutOfTime)])
def test_trainings_that_the_allocations_end_stops_go_on_only_from_checkpoints(
    path: Path, checkpoints: bool, error: type[Exception]
) -> None:
    site = Site(path, time_is_up_at=1, in_flight=1, keeps_checkpoints=checkpoints)
    with pytest.raises(error, match="the allocation ends"):
        lead(site, replace(PLAN, preprocess=False))


def test_a_controller_stops_before_its_allocation_does(path: Path) -> None:
    site = Site(path, time_is_up_at=5)
    with pytest.raises(OutOfTime, match="the allocation ends"):
        lead(site)
    assert site.stopped
    state, _ = lead(Site(path, disk=site.disk))
    check_whole(state, site.disk)


# -- an image that changes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", [{"kind": "failed", "value": None, "cause": "model"}, lost(), lost("setup"), {}])
def test_an_image_that_changes_stops_the_campaign_and_costs_no_trial(
    path: Path, ends: dict[str, Any], unbroken: tuple[list[list[str]], int]
) -> None:
    """What runs may end: a success counts, a failure is nobody's and runs again after the resume."""
    site = Site(path, image_changes_at=5, faults={("train", number, 1): ends for number in (3, 4)})
    with pytest.raises(SetupError, match=r"image model\.sif was replaced\n    -> put the old one back"):
        lead(site)
    assert len(site.disk.trials_started()) == 5 and site.held and not site.stopped
    state = Journal(path).state
    assert set(state.outcomes) == ({0, 1, 2} if ends else {0, 1, 2, 3, 4})
    assert not state.lost
    state, _ = lead(Site(path, disk=site.disk))
    check_whole(state, site.disk)
    assert table(state) == unbroken[0]


@pytest.mark.parametrize("stage", ["preprocess", "infer"])
def test_no_stage_begins_with_another_image(path: Path, stage: str) -> None:
    site = Site(path, image_changes_at=0 if stage == "preprocess" else 10_000)
    site.hook = lambda campaign: setattr(site, "image_changes_at", 0) if campaign.search.done else None
    with pytest.raises(SetupError, match="was replaced"):
        lead(site)
    assert stage not in site.disk.stages_started()


@pytest.mark.parametrize("key", [("train", 0, 1), ("preprocess", -1, 1)])
def test_a_scratch_that_cannot_be_used_stops_the_campaign_with_its_remedy(path: Path, key: Key) -> None:
    fault = lost("setup", evidence="cannot start 'apptainer': scratch /x: Permission denied")
    with pytest.raises(SetupError, match=r"scratch /x: Permission denied(.*)\n    -> let site\.scratch name"):
        lead(Site(path, in_flight=1, faults={key: fault}))


# -- early stopping --------------------------------------------------------------------------------------------------

EARLY = StoppingSettings(grace=1, min_trials=4)
RANDOM = SearchSettings(strategy="random", evaluations=40)


def every_third_is_hopeless(trial: int) -> float:
    return 9.0 if trial % 3 == 2 else 0.5


def stopped(state: State) -> list[int]:
    return [number for number, outcome in state.outcomes.items() if outcome.kind == "stopped"]


def test_hopeless_trials_are_stopped_and_others_take_their_place(path: Path) -> None:
    site = Site(path, in_flight=8, reports=every_third_is_hopeless)
    state, campaign = lead(site, settings=RANDOM, early=EARLY)
    check_whole(state, site.disk)
    assert len(state.trials) == 40
    assert len(stopped(state)) > 3 and all(number % 3 == 2 for number in stopped(state))
    first = state.outcomes[stopped(state)[0]]
    assert first.evidence.startswith("stopped early: val_loss 9 at best by step 2 is worse than the median 0.5 of ")
    assert counts(state)["stopped"] == len(stopped(state))
    assert Counter(site.disk.trials_started()) == Counter(range(40)), "each one once"
    succeeded = {number for number, outcome in state.outcomes.items() if outcome.kind == "ok"}
    assert {trial.id for trial, _ in campaign.durations._samples} == succeeded, "they took less time than they would"


def test_a_stopped_trial_never_wins(path: Path) -> None:
    """Whatever its last value was."""
    site = Site(path, in_flight=8, reports=every_third_is_hopeless)
    state, _ = lead(site, replace(PLAN, mode="max"), RANDOM, early=replace(EARLY, grace=0))
    winner = best(state, "max")
    assert winner is not None and winner.kind == "ok"
    rows = list(csv.DictReader(io.StringIO(hpo_csv(TABLE, state))))
    assert len(stopped(state)) > 0
    assert all((row["result"] == "") == (state.outcomes[n].kind != "ok") for n, row in enumerate(rows))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_search_goes_on_beside_early_stopping(path: Path, strategy: str) -> None:
    site = Site(path, in_flight=8, reports=every_third_is_hopeless)
    state, campaign = lead(site, settings=replace(SETTINGS, strategy=strategy), early=EARLY)
    check_whole(state, site.disk)
    assert stopped(state) and campaign.search.done


def test_a_trial_that_ends_by_itself_at_that_moment_counts_as_it_ended(path: Path) -> None:
    site = Site(path, in_flight=8, reports=every_third_is_hopeless, heeds_stops=False)
    state, _ = lead(site, settings=RANDOM, early=EARLY)
    assert stopped(state) == []
    assert table(state) == table(lead(Site(path.with_name("other")), settings=RANDOM)[0])


def test_a_resume_stops_no_trial_twice_and_knows_what_earlier_ones_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = Site(path, in_flight=8, reports=every_third_is_hopeless, crash_at=150)
    with pytest.raises(Crash):
        lead(begun, settings=RANDOM, early=EARLY)
    begun.die()
    before = Journal(path).state
    assert stopped(before) and len(before.outcomes) >= 8
    asked: list[str] = []
    site = Site(path, begun.disk, in_flight=8, reports=lambda trial: 9.5)
    monkeypatch.setattr(site, "stop_early", lambda trial_id, why: asked.append(why))
    state, _ = lead(site, settings=RANDOM, early=replace(EARLY, min_trials=len(before.outcomes) - 2))
    assert asked, "others of this controller alone would be too few: all of them tell the same"
    check_whole(state, site.disk)
    assert set(stopped(before)) <= set(stopped(state))
    assert not set(stopped(before)) & set(site.disk.trials_started()[len(begun.disk.started) :])


def test_curves_are_in_the_journal(path: Path) -> None:
    state, _ = lead(Site(path, in_flight=8, reports=every_third_is_hopeless), settings=RANDOM, early=EARLY)
    again = Journal(path).state
    assert again.outcomes == state.outcomes
    assert any(len(outcome.curve) > 1 for outcome in state.outcomes.values())


def test_a_model_that_tells_nothing_is_told_of_once(path: Path) -> None:
    site = Site(path)
    lead(site, settings=RANDOM, early=EARLY)
    warnings = [text for text in site.said if "early stopping" in text]
    assert len(warnings) == 1 and "epoch 7 val_loss: 0.5" in warnings[0]


STOPPED = {"kind": "stopped", "value": None, "cause": "", "evidence": "stopped early: worse than the others"}


def test_a_stopped_trial_shows_that_the_set_up_works(path: Path) -> None:
    """So that one that alone cannot run doesn't stop the campaign at once."""
    faults = {("train", 0, 1): STOPPED, ("train", 1, 1): lost("setup", evidence="exit code 127")}
    site = Site(path, in_flight=1, faults=faults)
    state, _ = lead(site)
    check_whole(state, site.disk)
    assert site.disk.trials_started()[:3] == [0, 1, 2]


def test_stopped_trials_between_those_that_cannot_run_tell_that_others_can(path: Path) -> None:
    faults = {("train", number, 1): lost("setup", evidence="exit code 127") for number in (1, 3, 5)}
    site = Site(path, in_flight=1, faults=faults | {("train", number, 1): STOPPED for number in (2, 4)})
    check_whole(lead(site)[0], site.disk)


def test_a_stopped_trial_counts_where_the_image_changes_meanwhile(path: Path) -> None:
    site = Site(path, image_changes_at=5, faults={("train", number, 1): STOPPED for number in (3, 4)})
    with pytest.raises(SetupError, match="was replaced"):
        lead(site)
    assert sorted(stopped(Journal(path).state)) == [3, 4]
