"""A campaign on a site that a test plays: trials that end, fail and get lost as it says."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import random
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from workflow.campaign import Campaign, Plan
from workflow.durations import Expectation
from workflow.journal import Journal, campaign_record
from workflow.ranking import best
from workflow.report.tables import Table, hpo_csv
from workflow.search import Search, SearchSettings, make_search
from workflow.space_file import parse_space
from workflow.state import Inputs, Record, State
from workflow.stopping import EarlyStopping, StoppingSettings
from workflow.trial import FINAL_KINDS, Objective, Outcome, Trial

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
TABLE = Table(("rate", "layers", "dropout", "warmup"), [Objective()], SETTINGS.population_size, 3)

Key = tuple[str, int, int]
"""Stage, trial (-1 for preprocess) and attempt."""


class Crash(BaseException):
    """The controller dies here: nothing of the campaign may catch it."""


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
        self.digest: str | None = "digest"

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

    def inputs(self, record: Record) -> Inputs:
        return Inputs(self.digest, self.digest)

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
        search = search or make_search(SPACE, settings, [Objective(mode=plan.mode)])
        rule = EarlyStopping(early, "val_loss", plan.mode) if early is not None else None
        campaign = Campaign(plan, HonestSearch(search, site), journal, site, site, rule)
        campaign.run()
    finally:
        journal.close()
    return journal.state, campaign


def table(state: State) -> list[list[str]]:
    """hpo.csv without its last column, walltime."""
    return [row[:-1] for row in csv.reader(io.StringIO(hpo_csv(TABLE, state)))]


def lost(cause: str = "infrastructure", **keys: Any) -> dict[str, Any]:
    return {"kind": "lost", "value": None, "cause": cause, "evidence": "the node died", **keys}


def failures(evidence: Callable[[int], str]) -> dict[Key, dict[str, Any]]:
    """All trials fail, each with its evidence."""
    failed = {"kind": "failed", "value": None, "cause": "model"}
    return {("train", number, 1): {**failed, "evidence": evidence(number)} for number in range(100)}


def interrupt_after(outcomes: int, *, now: bool) -> Callable[[Campaign], None]:
    def hook(campaign: Campaign) -> None:
        if len(campaign.state.outcomes) >= outcomes and campaign.running and not campaign.draining:
            campaign.interrupt(now=now)

    return hook


def reread(path: Path) -> State:
    journal = Journal(path)
    journal.close()
    return journal.state


def check_whole(state: State, disk: Disk) -> None:
    """Every trial that was asked for has its outcome, no id is missing, inference ran for the winner."""
    assert sorted(state.trials) == sorted(state.outcomes) == list(range(len(state.trials)))
    assert state.ended
    winner = best(state, "min")
    assert winner is not None
    assert state.stage_outcomes["infer"].trial_id == winner.trial_id
