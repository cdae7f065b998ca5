"""What a journal's records come to, in numbers alone: for those who look at a run while it grows. All of it is pure.

It is the light counterpart of the journal's ``State``, with which it agrees, without an object for each trial.
"""

from __future__ import annotations

import json
import re
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple, TypeVar

from workflow.budgets import Budgets
from workflow.errors import shortened
from workflow.finals import Finalist, rank
from workflow.state import Record
from workflow.trial import FINAL_KINDS, Outcome, is_rerun, loss_of

_LATEST = 64
"""Trainings of which the median tells how long the next one is expected to take."""

_LABEL = 40
"""Characters of a kind of failure."""


@dataclass(frozen=True)
class Outline:
    """What is to be known of a campaign's definition to tell how far it is. A controller's first record has it.

    ``trials`` is the most that are asked for, None without such a limit; ``generations`` is None for searches without.
    With a fidelity ``whole`` trainings are the budget, each of size ``fidelity_max``. ``workers_per_node`` is None
    where nodes are not seen.
    """

    metric: str = "val_loss"
    mode: str = "min"
    varying: tuple[str, ...] = ()
    trials: int | None = None
    generations: int | None = None
    whole: int | None = None
    fidelity_max: float | None = None
    workers_per_node: int | None = None
    budgets: Budgets = field(default_factory=Budgets)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outline:
        """Keys that a later version may have added are left out."""
        known = {each.name: data[each.name] for each in fields(cls) if each.name in data}
        budgets = {each.name: data["budgets"][each.name] for each in fields(Budgets) if each.name in data["budgets"]}
        return cls(**{**known, "varying": tuple(data["varying"]), "budgets": Budgets(**budgets)})

    @classmethod
    def of(cls, record: Record) -> Outline:
        """That of a controller's first record. Journals of older versions tell the objective alone."""
        if "outline" in record:
            return cls.from_json(record["outline"])
        objective = record.get("fingerprint", {}).get("objective") or {}
        return cls(objective.get("metric", cls.metric), objective.get("mode", cls.mode))


_N = TypeVar("_N", int, float)


class Attempt(NamedTuple):
    """An attempt that was submitted at a time, in seconds since the epoch, and has no outcome yet."""

    trial: int
    number: int
    submitted: float


class Sign(NamedTuple):
    """An attempt that has begun: where, when (seconds since the epoch), and whether nothing is heard of it any more."""

    host: str
    began: float
    silent: bool


class Tally:
    """A fold over the records of a journal, in their order. Times are in seconds, points of it since the epoch."""

    def __init__(self) -> None:
        self.outline = Outline()
        self.site = ""
        self.workers: int | None = None
        """Trials that run at a time, at most."""
        self.began: float | None = None
        self.last: float | None = None
        self.settled: float | None = None
        """When an attempt last ended."""
        self.ended = False
        self.reason = ""
        """Why the last controller ended, if it did so before the campaign's end."""
        self.elapsed = self.seconds = self.charged = self.span = 0.0
        """As in ``State``; ``span`` is from first starts to last ends of trials, summed over the controllers."""
        self.kinds: dict[int, str] = {}
        """The kind of each trial's final outcome."""
        self.counts: Counter[str] = Counter()
        """Trials by that kind."""
        self.failures: dict[int, str] = {}
        """Why each trial failed that did, in a few words."""
        self.best: tuple[int, float] | None = None
        """Trial and value."""
        self.history: list[tuple[int, float]] = []
        """Each best value so far, with the number of trials that had ended by then."""
        self.worth = 0.0
        """The sum of the fidelities of the trials that have ended."""
        self.open: dict[int, Attempt] = {}
        """What this controller has submitted and not heard of again, by trial."""
        self.stage: str | None = None
        """The stage that runs beside the search."""
        self.over = False
        """Whether the search has asked for all: what comes after it has begun."""
        self.finals: dict[int, int] = {}
        """The re-runs that decide who wins, each with its finalist."""
        self.rerun_outcomes: dict[int, Outcome] = {}
        self.shunned: dict[str, str] = {}
        self.active: dict[str, float] = {}
        """When an attempt last ended on each host, since this controller began."""
        self.generation = 0
        self._members: set[int] = set()
        """Trials of the latest generation."""
        self._asked: dict[int, float | None] = {}
        """The fidelity of each trial that was asked for."""
        self._configs: dict[int, int] = {}
        """The configuration of each trial that was not the first one of it."""
        self._values: dict[int, float] = {}
        self._attempts: dict[int, int] = {}
        self._closed: dict[int, int] = {}
        self._again: Counter[int] = Counter()
        self._doubted = self._abandoned = 0
        self._durations: dict[float | None, deque[float]] = {}
        self._span: tuple[float, float] | None = None
        """First start and last end of a trial, since this controller began."""
        self._previous: float | None = None
        self._fold = {
            "campaign": self._begin, "resumed": self._begin, "asked": self._ask, "attempt": self._attempt,
            "outcome": self._outcome, "stage": self._stage, "retracted": self._retract, "shunned": self._shun,
            "ended": self._end, "finals": self._begin_finals, "inputs": _ignore, "note": _ignore,
        }  # fmt: skip

    @property
    def asked(self) -> int:
        return len(self._asked)

    @property
    def lost_attempts(self) -> int:
        """Attempts that the infrastructure lost or cut off, or their controller left behind."""
        return self._again.total() + self._doubted + self._abandoned

    @property
    def members(self) -> tuple[int, int, float | None]:
        """Trials of the latest generation: how many were asked for, how many have ended, and their best value."""
        values = [self._values[trial] for trial in self._members if trial in self._values]
        best = (min if self.outline.mode == "min" else max)(values, default=None)
        return len(self._members), sum(trial in self.kinds for trial in self._members), best

    @property
    def winner(self) -> Finalist | None:
        """By the re-runs; None while one is missing, and once the search has found others."""
        groups: dict[int, list[int]] = {}
        for rerun, finalist in self.finals.items():
            groups.setdefault(finalist, []).append(rerun)
        if not groups or not self.finals.keys() <= self.rerun_outcomes.keys():
            return None
        best_ones = self._best_of_configurations()[: len(groups)]
        if {*best_ones} != groups.keys():
            return None
        return rank([self._finalist(trial, groups[trial]) for trial in best_ones], self.outline.mode)[0]

    def _finalist(self, trial: int, reruns: Iterable[int]) -> Finalist:
        outcome = Outcome(trial, self._closed[trial], "ok", self._values[trial])
        return Finalist(outcome, [({}, self.rerun_outcomes[rerun]) for rerun in reruns])

    def _best_of_configurations(self) -> list[int]:
        """The best trial of each, the best one first."""
        known = sorted((trial for trial in self._values if trial in self._asked), key=self._place)
        first: dict[int, int] = {}
        for trial in known:
            first.setdefault(self._configs.get(trial, trial), trial)
        return list(first.values())

    def _place(self, trial: int) -> tuple[float, int]:
        return self._rank(trial, self._values[trial])

    def expected(self, trial: int) -> float | None:
        """How long a training of this trial's fidelity takes, in seconds: the median of the latest ones that ended."""
        latest = sorted(self._durations.get(self._asked.get(trial), ()))
        return latest[len(latest) // 2] if latest else None

    def apply(self, record: Record) -> None:
        """Fold one record in. Raises KeyError, TypeError, ValueError or AttributeError for one that is malformed."""
        kind, at = record["type"], float(record["at"])
        fold = self._fold[kind]
        if kind in ("campaign", "resumed"):
            self._previous = at
        fold(record, at)
        self.ended = kind == "ended" and bool(record["complete"])
        self.elapsed += max(0.0, at - self._previous) if self._previous is not None else 0.0
        self.began = at if self.began is None else self.began
        self.last, self._previous = at, at if kind != "ended" else None

    def _begin(self, record: Record, at: float) -> None:
        self.outline, mode = Outline.of(record) if _tells(record) else self.outline, self.outline.mode
        self.site, self.workers = record.get("site", ""), record.get("workers")
        self.reason, self.stage, self.over = "", None, False
        self._span = None
        self.open.clear()
        self.active.clear()
        if self.outline.mode != mode:
            self._rank_anew()

    def _end(self, record: Record, at: float) -> None:
        self.reason, self.stage = record.get("reason", ""), None
        self.open.clear()

    def _ask(self, record: Record, at: float) -> None:
        trial = record["trial"]
        number, generation = trial["id"], trial.get("generation") or 0
        if number in self._asked:
            return
        self._asked[number] = trial.get("fidelity")
        if trial["config_id"] != number:
            self._configs[number] = trial["config_id"]
        if generation > self.generation:
            self.generation, self._members = generation, set()
        if generation == self.generation:
            self._members.add(number)
        if number in self.kinds:
            self._enter(number)

    def _attempt(self, record: Record, at: float) -> None:
        key, number = record["trial"], int(record["attempt"])
        if isinstance(key, str):
            self.stage, self.over = key, self.over or key == "infer"
            return
        self.over = self.over or is_rerun(key)
        self._abandoned += self._attempts.get(key, 0) > self._closed.get(key, 0)
        self._attempts[key] = max(self._attempts.get(key, 0), number)
        self.open[key] = Attempt(key, number, at)

    def _begin_finals(self, record: Record, at: float) -> None:
        finals = {}
        for rerun in record["reruns"]:
            (finals[rerun["id"]],) = rerun["parents"]
        self.finals, self.over = finals, True

    def _stage(self, record: Record, at: float) -> None:
        self.stage = None

    def _outcome(self, record: Record, at: float) -> None:
        outcome = record["outcome"]
        trial, number, kind = outcome["trial_id"], outcome["attempt"], outcome["kind"]
        cause = outcome.get("cause", "")
        self._closed[trial] = max(number, self._closed.get(trial, 0))
        if trial in self.open and self.open[trial].number <= number:
            del self.open[trial]
        if trial in (self.rerun_outcomes if is_rerun(trial) else self.kinds):
            return
        self.settled = at
        self._charge(outcome, at)
        if kind in FINAL_KINDS:
            self._finish(trial, outcome)
        elif kind == "lost" and cause == "node":
            self._doubted += 1
        elif (kind == "lost" and cause == "walltime") or cause == "infrastructure":
            self._again[trial] += 1

    def _charge(self, outcome: Mapping[str, Any], at: float) -> None:
        started, ended, gpu = outcome.get("started"), outcome.get("ended"), outcome.get("gpu")
        if started is None or ended is None:
            return
        seconds = max(0.0, ended - started)
        self.seconds += seconds
        self.charged += seconds if gpu is None else seconds * (gpu.count(",") + 1)
        self._extend_span(started, ended)
        self.active[outcome.get("host", "")] = at

    def _extend_span(self, started: float, ended: float) -> None:
        first, last = self._span or (started, started)
        self.span -= last - first
        self._span = first, last = min(first, started), max(last, ended)
        self.span += last - first

    def _finish(self, trial: int, outcome: Mapping[str, Any]) -> None:
        kind, value = outcome["kind"], outcome.get("value")
        if is_rerun(trial):
            self.rerun_outcomes[trial] = Outcome.from_json(outcome)
            return
        self.kinds[trial] = kind
        self.counts[kind] += 1
        if kind == "failed":
            self.failures[trial] = label(outcome.get("evidence", ""), outcome.get("cause", ""))
        elif kind == "ok" and value is not None:
            self._values[trial] = value
            self._learn_duration(trial, outcome)
        if trial in self._asked:
            self._enter(trial)

    def _learn_duration(self, trial: int, outcome: Mapping[str, Any]) -> None:
        started, ended = outcome.get("started"), outcome.get("ended")
        if started is not None and ended is not None and not outcome.get("source"):
            latest = self._durations.setdefault(self._asked.get(trial), deque(maxlen=_LATEST))
            latest.append(max(0.0, ended - started))

    def _enter(self, trial: int) -> None:
        """A trial counts, of which both question and answer are known."""
        self.worth += self._asked[trial] or 0.0
        value = self._values.get(trial)
        if value is not None and (self.best is None or self._rank(trial, value) < self._rank(*self.best)):
            if self.best is None or value != self.best[1]:
                self.history.append((len(self.kinds), value))
            self.best = trial, value

    def _rank(self, trial: int, value: float) -> tuple[float, int]:
        return loss_of(value, self.outline.mode), trial

    def _retract(self, record: Record, at: float) -> None:
        for trial in record["trials"]:
            if (kind := self.kinds.pop(trial, None)) is not None:
                self.counts[kind] -= 1
                self.worth -= self._asked.get(trial) or 0.0
            self.rerun_outcomes.pop(trial, None)
            self._values.pop(trial, None)
            self.failures.pop(trial, None)
            self._again.pop(trial, None)
        if self.best is not None and self.best[0] not in self._values:
            self._rank_anew()

    def _rank_anew(self) -> None:
        """The best of what is left; what was best before is no longer known."""
        known = [(trial, value) for trial, value in self._values.items() if trial in self._asked]
        self.best = min(known, key=lambda each: self._rank(*each), default=None)
        self.history = [(len(self.kinds), self.best[1])] if self.best else []

    def _shun(self, record: Record, at: float) -> None:
        self.shunned[record["host"]] = record["reason"]


_parse = json.JSONDecoder().raw_decode
_ASKED = re.compile(
    rb'{"type":"asked","at":([-+.e\d]+),"trial":{"id":(\d+),"config_id":(\d+),.*'
    rb',"generation":(\d+|null),"parents":[][,\d]*,"fidelity":([-+.e\d]+|null)},"crc":\d+}'
)


def decode(line: bytes) -> Any:
    """What a tally needs of a journal's line: half of its bytes are hyperparameters. Raises ValueError."""
    match = _ASKED.fullmatch(line)
    if match is None:
        return _parse(line.decode())[0]  # its check sum is that of the whole line
    at, number, config, generation, fidelity = match.groups()
    trial = {"id": int(number), "config_id": int(config), "generation": _number(generation, int)}
    return {"type": "asked", "at": float(at), "trial": {**trial, "fidelity": _number(fidelity, float)}}


def _number(text: bytes, kind: type[_N]) -> _N | None:
    return None if text == b"null" else kind(text)


def _ignore(record: Record, at: float) -> None:
    """Nothing in it is counted."""


def _tells(record: Record) -> bool:
    return "outline" in record or "fingerprint" in record


_AGAIN = re.compile(r"(lost|cut off) \d+ times")

_METRIC = (
    ("no metric '", "no metric"), ("metric '", "metric is nan or inf"), ("not a number", "unreadable metric"),
    ("is not JSON", "unreadable metric"), ("holds no dictionary", "unreadable metric"),
)  # fmt: skip


def label(evidence: str, cause: str) -> str:
    """A few words for what failures have in common, such as ``exit code 3``, ``timeout after 60 s``, ``no metric``."""
    if cause == "infrastructure" or _AGAIN.match(evidence):
        return "cut off too often" if evidence.startswith("cut off") else "lost too often"
    head = re.split("[;:]", evidence, maxsplit=1)[0].strip()
    if not head.startswith("exit code"):
        head = next((text for words, text in _METRIC if words in evidence), head)
    return shortened(head, _LABEL) or "unknown"
