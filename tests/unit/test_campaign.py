"""The campaign's loop on a site made of futures: order of writes, retries, ends, and resumes after any crash."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import random
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from workflow import campaign as module
from workflow.budgets import Budgets
from workflow.campaign import Campaign, Interrupted, Plan
from workflow.durations import Expectation
from workflow.errors import OutOfTime, SetupError, SiteError
from workflow.finals import FinalistsSettings
from workflow.journal import Journal, campaign_record
from workflow.ranking import best, finalists_of, hall_of_fame, winner_of
from workflow.report.tables import Table, counts, hpo_csv
from workflow.search import STRATEGIES, Search, SearchSettings, make_search
from workflow.space_file import parse_space
from workflow.state import Record, State
from workflow.stopping import EarlyStopping, StoppingSettings
from workflow.trial import FINAL_KINDS, FIRST_RERUN, Outcome, Trial, is_rerun

SPACE = parse_space(
    [
        {"name": "epochs", "type": "constant", "value": 3},
        {"name": "rate", "type": "float", "lower": 0, "upper": 1},
        {"name": "layers", "type": "int", "lower": 1, "upper": 99},
        {"name": "dropout", "type": "float", "lower": 0, "upper": 0.5},
        {"name": "warmup", "type": "logical"},
    ],
    "test",
)
SETTINGS = SearchSettings("mu_plus_lambda", num_iterations=4, population_size=8)
ASYNC = SearchSettings(strategy="async", evaluations=20)
OPTUNA = replace(ASYNC, strategy="optuna")
PLAN = Plan(preprocess=True, infer=True, mode="min")
TABLE = Table(("rate", "layers", "dropout", "warmup"), "val_loss", "min", SETTINGS.population_size, 3)

Key = tuple[str, int, int]
"""Stage, trial (-1 for preprocess) and attempt."""


class Crash(BaseException):
    """The controller dies here: nothing of the campaign may catch it."""


@pytest.fixture(autouse=True)
def short_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TICK", 0.01)


def value_of(trial: Trial) -> float:
    return zlib.crc32(repr(sorted(trial.params.items())).encode()) / 2**32


def records(path: Path, text: str = "") -> list[Record]:
    """The records on the disk whose line holds the text, without corrupt lines."""
    found = []
    for line in path.read_text().splitlines():
        if text in line:
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
    return found


@dataclass
class Disk:
    """What outlives a controller: the results of attempts, and which attempts there were."""

    results: dict[Key, Outcome] = field(default_factory=dict)
    started: list[Key] = field(default_factory=list)

    def trials_started(self) -> list[int]:
        return [trial for stage, trial, _ in self.started if stage == "train"]

    def stages_started(self) -> Counter[str]:
        return Counter(stage for stage, _, _ in self.started if stage != "train")


@dataclass
class Site:
    """Runner and observer in one. Every change of the campaign ends some of the pending trials, in random order.

    ``faults`` replaces fields of the outcomes of attempts. ``crash`` is raised at the event number ``crash_at``.
    """

    path: Path
    disk: Disk = field(default_factory=Disk)
    seed: int = 0
    in_flight: int = 3
    faults: dict[Key, dict[str, Any]] = field(default_factory=dict)
    crash_at: int | None = None
    crash: BaseException = field(default_factory=Crash)
    hook: Callable[[Campaign], None] = lambda campaign: None
    hosts: tuple[str, ...] = ("",)
    bad: frozenset[str] = frozenset()
    """Hosts on which every trial fails within a second."""

    def __post_init__(self) -> None:
        self.order = random.Random(self.seed)
        self.pending: list[tuple[Future[Outcome], Key, Outcome]] = []
        self.events = 0
        self.said: list[str] = []
        self.data: int | None = None
        self.held = self.stopped = False
        self.broken = ""
        self.in_flight_seen = 0
        self.shunned: list[str] = []
        self.memo: dict[Any, Outcome] = {}
        self.expected: dict[int, Expectation | None] = {}
        self.told: dict[int, list[tuple[int, float]]] = {}

    def event(self) -> None:
        self.events += 1
        if self.events == self.crash_at:
            raise self.crash

    # -- what the campaign calls ---------------------------------------------------------------------------------

    def preprocess(self, attempt: int) -> Future[Outcome]:
        return self._stage(("preprocess", -1, attempt), Outcome(-1, attempt, "ok"))

    def prepared(self, attempt: int) -> None:
        self.event()
        self.data = attempt

    @property
    def node_count(self) -> int:
        return len(self.hosts)

    def inputs(self, record: Record) -> str | None:
        return "digest"

    @property
    def notes(self) -> list[str]:
        return []

    def recall(self, trial: Trial) -> Outcome | None:
        return self.memo.get(trial.params["rate"]) and replace(self.memo[trial.params["rate"]], trial_id=trial.id)

    reports: Callable[[int], float] | None = None
    """The value that a trial tells at every step, of which there are two at each look; without it none tells any."""
    heeds_stops: bool = True

    def intermediate(self) -> list[tuple[int, list[tuple[int, float]]]]:
        if self.reports is None:
            return []
        running = [key[1] for _, key, _ in self.pending]
        for trial in running:
            told, value = self.told.setdefault(trial, []), self.reports(trial)
            told += [(len(told) + number, value) for number in (1, 2)]
        return [(trial, self.told[trial][-2:]) for trial in running]

    def stop_early(self, trial_id: int, why: str) -> None:
        self.event()
        for index, (future, key, outcome) in enumerate(self.pending):
            if key[1] == trial_id and self.heeds_stops:
                stopped = replace(outcome, kind="stopped", value=None, cause="", evidence=f"stopped early: {why}")
                self.pending[index] = (future, key, stopped)

    def shun(self, host: str) -> None:
        self.shunned.append(host)

    has_ends: bool = False
    in_allocation: bool = False
    keeps_checkpoints: bool = False
    image_changes_at: int | None = None
    """The number of trainings after which the image is another one."""

    def image_change(self) -> str:
        trained = sum(name == "train" for name, _, _ in self.disk.started)
        changed = self.image_changes_at is not None and trained >= self.image_changes_at
        return "image model.sif was replaced" if changed else ""

    time_is_up_at: int | None = None
    """The number of trainings after which the allocation ends."""

    def out_of_time(self) -> str:
        trained = sum(name == "train" for name, _, _ in self.disk.started)
        return "the allocation ends" if self.time_is_up_at is not None and trained >= self.time_is_up_at else ""

    def train(
        self, trial: Trial, attempt: int, avoid: frozenset[str], expected: Expectation | None = None
    ) -> Future[Outcome]:
        self.event()
        self.expected[trial.id] = expected
        key = ("train", trial.id, attempt)
        self._check_start(trial, key)
        self.disk.started.append(key)
        kind, value, cause = ("ok", value_of(trial), "") if value_of(trial) > 0.1 else ("failed", None, "model")
        start = 1000.0 + 100 * len(self.disk.started)
        ended = start + self.order.random() * 100
        outcome = Outcome(
            trial.id, attempt, kind, value, {}, start, ended, host=self.order.choice(self.hosts), cause=cause
        )
        if outcome.host in avoid:
            outcome = replace(outcome, kind="deferred", value=None, evidence="shall run elsewhere")
        elif outcome.host in self.bad:
            outcome = replace(
                outcome, kind="failed", value=None, ended=start + 0.5, evidence="no GPU was found", cause="model"
            )
        future: Future[Outcome] = Future()
        self.pending.append((future, key, replace(outcome, **self.faults.get(key, {}))))
        self.in_flight_seen = max(self.in_flight_seen, len(self.pending))
        return future

    def infer(self, winner: Trial, trained: Outcome, attempt: int) -> Future[Outcome]:
        assert trained.source or ("train", winner.id, trained.attempt) in self.disk.results
        return self._stage(("infer", winner.id, attempt), Outcome(winner.id, attempt, "ok", None, {"mse": 0.5}))

    def attempts(self, stage: str) -> list[tuple[int, int]]:
        self.event()
        return [(trial if name == "train" else -1, n) for name, trial, n in self.disk.started if name == stage]

    def recover(self, stage: str, attempts: Iterable[tuple[int, int]]) -> list[Outcome]:
        """As the real one: a stage's directory is found by the attempt, the trial is what the caller says."""
        self.event()
        found = []
        for trial, attempt in attempts:
            for (name, number, count), outcome in self.disk.results.items():
                if (name, count) == (stage, attempt) and (stage != "train" or number == trial):
                    found.append(replace(outcome, trial_id=trial))
        return found

    def hold(self) -> None:
        self.held = True

    def stop(self) -> None:
        self.stopped = True

    def log_tail(self, outcome: Outcome) -> str:
        return f" (log of {outcome.trial_id})"

    def failure(self) -> str:
        self.event()
        return self.broken

    def changed(self, campaign: Campaign) -> None:
        self.event()
        self.hook(campaign)
        for _ in range(self.order.randint(1, 2)):
            if self.pending:
                self._end(self.pending.pop(self.order.randrange(len(self.pending))))

    def say(self, text: str) -> None:
        self.event()
        self.said.append(text)

    # -- what happens on the site --------------------------------------------------------------------------------

    def die(self) -> None:
        """The controller is dead: of what was running some ends well, some is lost."""
        for pending in self.pending:
            if self.order.random() < 0.5:
                self._end(pending)
        self.pending.clear()

    def _stage(self, key: Key, outcome: Outcome) -> Future[Outcome]:
        self.event()
        name, _, attempt = key
        assert (name, attempt) in [(r["trial"], r["attempt"]) for r in records(self.path, '"type":"attempt"')]
        self.disk.started.append(key)
        future: Future[Outcome] = Future()
        self._end((future, key, replace(outcome, **self.faults.get(key, {}))))
        return future

    def _end(self, pending: tuple[Future[Outcome], Key, Outcome]) -> None:
        future, key, outcome = pending
        outcome = replace(outcome, curve=tuple(self.told.get(key[1], [])))
        if outcome.kind in FINAL_KINDS:
            self.disk.results[key] = outcome
        future.set_result(outcome)

    def _check_start(self, trial: Trial, key: Key) -> None:
        """What must be on the disk before a trial starts, and what must not."""
        asked = [record["trial"] for record in records(self.path, f'"trial":{{"id":{trial.id},')]
        asked += [data for record in records(self.path, '"type":"finals"') for data in record["reruns"]]
        assert trial in [Trial.from_json(data) for data in asked]
        attempts = records(self.path, f'"trial":{trial.id},')
        assert key[1:] in [(record["trial"], record["attempt"]) for record in attempts]
        finished = [done for done in self.disk.results if done[:2] == key[:2]]
        taken_back = {number for record in records(self.path, '"type":"retracted"') for number in record["trials"]}
        doubted = {record["outcome"]["trial_id"] for record in records(self.path, '"cause":"node"')}
        set_aside = {record["outcome"]["trial_id"] for record in records(self.path, "image model.sif was replaced: ")}
        assert not finished or trial.id in taken_back | doubted | set_aside, (
            f"trial {trial.id} runs again, although {finished} has finished"
        )
        assert key not in self.disk.started, f"{key} runs twice, in one directory"


class HonestSearch:
    """A search that checks that what it is told is on the disk."""

    def __init__(self, search: Search, site: Site) -> None:
        self._search, self._site = search, site

    def __getattr__(self, name: str) -> Any:
        return getattr(self._search, name)

    def tell(self, outcome: Outcome) -> None:
        self._site.event()
        found = records(self._site.path, f'"outcome":{{"trial_id":{outcome.trial_id},')
        assert outcome in [Outcome.from_json(record["outcome"]) for record in found]
        self._search.tell(outcome)


class CrashingJournal(Journal):
    site: Site

    def append(self, *records: Any) -> None:
        self.site.event()
        super().append(*records)
        self.site.event()


def lead(
    site: Site,
    plan: Plan = PLAN,
    settings: SearchSettings = SETTINGS,
    search: Search | None = None,
    early: StoppingSettings | None = None,
) -> tuple[State, Campaign]:
    """What a controller does: open the journal, run the campaign, close it."""
    journal = CrashingJournal(site.path)
    journal.site = site
    try:
        first = journal.state.header is None
        journal.append(campaign_record({}, {}) if first else {"type": "resumed"})
        search = search or make_search(SPACE, settings, plan.mode)
        rule = EarlyStopping(early, "val_loss", plan.mode) if early is not None else None
        campaign = Campaign(plan, HonestSearch(search, site), journal, site, site, rule)
        campaign.run()
    finally:
        journal.close()
    return journal.state, campaign


def table(state: State) -> list[list[str]]:
    """hpo.csv without its last column, walltime."""
    return [row[:-1] for row in csv.reader(io.StringIO(hpo_csv(TABLE, state)))]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[list[str]], int]:
    """hpo.csv of a campaign that nothing disturbed, and its number of events."""
    site = Site(tmp_path_factory.mktemp("unbroken") / "journal.jsonl")
    return table(lead(site)[0]), site.events


def lost(cause: str = "infrastructure", **keys: Any) -> dict[str, Any]:
    return {"kind": "lost", "value": None, "cause": cause, "evidence": "the node died", **keys}


def check_whole(state: State, disk: Disk) -> None:
    """Every trial that was asked for has its outcome, no id is missing, inference ran for the winner."""
    assert sorted(state.trials) == sorted(state.outcomes) == list(range(len(state.trials)))
    assert state.ended
    winner = best(state, "min")
    assert winner is not None
    assert state.stage_outcomes["infer"].trial_id == winner.trial_id


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


def failures(evidence: Callable[[int], str]) -> dict[Key, dict[str, Any]]:
    """All trials fail, each with its evidence."""
    failed = {"kind": "failed", "value": None, "cause": "model"}
    return {("train", number, 1): {**failed, "evidence": evidence(number)} for number in range(100)}


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


# -- ends before the end ---------------------------------------------------------------------------------------------


def interrupt_after(outcomes: int, *, now: bool) -> Callable[[Campaign], None]:
    def hook(campaign: Campaign) -> None:
        if len(campaign.state.outcomes) >= outcomes and campaign.running and not campaign.draining:
            campaign.interrupt(now=now)

    return hook


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
    campaign = Campaign(PLAN, make_search(SPACE, SETTINGS, "min"), journal, site, site)
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


def reread(path: Path) -> State:
    journal = Journal(path)
    journal.close()
    return journal.state


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


def test_resume_trains_on_the_preprocessed_data(path: Path) -> None:
    site = Site(path, faults={("preprocess", -1, 1): lost()}, hook=interrupt_after(3, now=False))
    with pytest.raises(Interrupted):
        lead(site)
    again = Site(path, site.disk)
    lead(again)
    assert again.data == 2
    assert again.disk.stages_started()["preprocess"] == 2


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


def test_infer_runs_again_only_for_another_winner(path: Path) -> None:
    disk = Disk()
    inferred = []
    for iterations in range(1, 12):
        lead(Site(path, disk), settings=replace(SETTINGS, num_iterations=iterations))
        inferred.append([trial for stage, trial, _ in disk.started if stage == "infer"])
    last = inferred[-1]
    assert len(last) == len(set(last)) > 1
    assert inferred[0] == last[:1]


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
