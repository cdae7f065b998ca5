"""The journal: one append-only file of JSON lines that holds the whole state of a campaign.

    {"type": "campaign", ...}     first: format version, fingerprint of space, objective and search
    {"type": "asked", "trial"}    before a trial's first attempt
    {"type": "attempt", ...}      before an attempt of a trial or of a stage is submitted
    {"type": "outcome", ...}      before the search hears of it
    {"type": "stage", ...}        the outcome of preprocess or infer
    {"type": "finals", "reruns"}  which re-runs of the search's best decide who wins, before they start
    {"type": "retracted", ...}    outcomes that told of a broken site or set-up: their trials run again
    {"type": "inputs", ...}       what decides about a training beside its hyperparameters: model, data, arguments
    {"type": "shunned", ...}      a node that gets no trial any more
    {"type": "resumed", ...}  {"type": "ended", ...}  {"type": "note", ...}

Each record has the time (``at``, seconds since the epoch) and a check sum (``crc``, CRC-32 of the line before it), so
that a flipped bit is noticed. One process writes; every append is flushed and fsynced. State is a fold over the records
(``State``).
"""

from __future__ import annotations

import json
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from workflow.disk import disk_remedy
from workflow.errors import InputError, SiteError
from workflow.trial import Outcome, Trial, is_rerun

VERSION = 1

_LONGEST = 120
"""Characters of a value in a message."""

Record = dict[str, Any]


@dataclass
class State:
    """What the records say. Trials are in the order in which they were asked for."""

    header: Record | None = None
    latest: Record = field(default_factory=dict)
    """The record with which the last controller began: the header, or that of a resume."""
    trials: dict[int, Trial] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)
    """Highest attempt number of each trial."""
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    """The final outcome of each trial that has one."""
    reruns: dict[int, Trial] = field(default_factory=dict)
    """Trainings of the search's best with other seeds; their parent is the trial by which it was one of the best."""
    rerun_outcomes: dict[int, Outcome] = field(default_factory=dict)
    finals: list[int] = field(default_factory=list)
    """The re-runs that decide who wins."""
    lost: dict[int, int] = field(default_factory=dict)
    """Attempts of each trial that the infrastructure lost."""
    cut: dict[int, int] = field(default_factory=dict)
    """Attempts of each trial that the end of their block cut off."""
    doubted: int = 0
    """Attempts that failed quickly on a node and ran again on another one, to be sure."""
    broken: set[str] = field(default_factory=set)
    """What failures had in common that told of a broken set-up, and so were taken back."""
    abandoned: int = 0
    """Attempts that ended with their controller, without an outcome, and were followed by another."""
    shunned: dict[str, str] = field(default_factory=dict)
    """Why, for each node that gets no trial any more."""
    closed: dict[int, int] = field(default_factory=dict)
    """The last attempt of each trial that has an outcome of any kind, also one that was taken back."""
    seconds: float = 0.0
    """Wall time of all attempts of trials, on their workers."""
    charged: float = 0.0
    """The same, times the GPUs of each attempt; once for one without."""
    improvements: dict[str, list[Outcome]] = field(default_factory=lambda: {"min": [], "max": []})
    """For each mode the outcomes that were the best when they came; of equals the trial that was asked for first."""
    spans: list[tuple[float, float]] = field(default_factory=list)
    """First start and last end of a trial, for each controller that had one."""
    inputs: str | None = None
    """The digest of what decides about a training beside its hyperparameters, if that is known."""
    stage_attempts: dict[str, int] = field(default_factory=dict)
    stage_trials: dict[str, int] = field(default_factory=dict)
    """The trial that the last attempt of infer was for; -1 for preprocess."""
    stage_outcomes: dict[str, Outcome] = field(default_factory=dict)
    """The last outcome of preprocess and of infer; infer's trial_id is the winner's."""
    stage_runs: dict[str, int] = field(default_factory=dict)
    """The attempt that each outcome in ``stage_outcomes`` came from."""
    elapsed: float = 0.0
    """Wall time of the controllers so far, in seconds, up to their last record."""
    ended: bool = False
    _new_span: bool = True
    _last: float | None = None

    @property
    def unfinished(self) -> list[Trial]:
        return [trial for trial in self.trials.values() if trial.id not in self.outcomes]

    @property
    def any_trained(self) -> bool:
        """Whether anything has shown that site and model work."""
        return any(outcome.trained for outcome in self.outcomes.values())

    def outcome_of(self, trial_id: int) -> Outcome | None:
        """The final outcome of a trial or re-run, if it has one."""
        return self._outcomes(trial_id).get(trial_id)

    def _outcomes(self, trial_id: int) -> dict[int, Outcome]:
        return self.rerun_outcomes if is_rerun(trial_id) else self.outcomes

    def apply(self, record: Record) -> None:
        """Fold one record in. Raises KeyError, TypeError or ValueError for one that is malformed."""
        kind = record["type"]
        at = float(record["at"])
        if kind in ("campaign", "resumed"):
            self._last, self._new_span, self.latest = at, True, record
            self.header = self.header or (record if kind == "campaign" else None)
        elif kind == "asked":
            trial = Trial.from_json(_shared(record["trial"]))
            self.trials.setdefault(trial.id, trial)
            if trial.id in self.outcomes:  # of which the record of the ask was lost
                self._note_improvement(self.outcomes[trial.id])
        elif kind == "attempt":
            self._apply_attempt(record["trial"], int(record["attempt"]))
            if "winner" in record:
                self.stage_trials[record["trial"]] = int(record["winner"])
        elif kind == "outcome":
            self._apply_outcome(Outcome.from_json(_shared(record["outcome"])))
        elif kind == "stage":
            outcome = Outcome.from_json(record["outcome"])
            self.stage_outcomes[record["stage"]] = outcome
            self.stage_runs[record["stage"]] = outcome.attempt
        elif kind == "finals":
            reruns = [Trial.from_json(data) for data in record["reruns"]]
            self.reruns |= {trial.id: trial for trial in reruns}
            self.finals = [trial.id for trial in reruns]
        elif kind == "inputs":
            self.inputs = record["digest"]
        elif kind == "shunned":
            self.shunned[record["host"]] = record["reason"]
        elif kind == "retracted":
            self.broken.add(record["signature"])
            for trial_id in record["trials"]:
                self._outcomes(trial_id).pop(trial_id, None)
                self.lost.pop(trial_id, None)
                self.cut.pop(trial_id, None)
            self._find_improvements()
        elif kind not in ("ended", "note"):
            raise ValueError(f"unknown type {kind!r}")
        self.ended = kind == "ended" and bool(record["complete"])
        self.elapsed += max(0.0, at - self._last) if self._last is not None else 0.0
        self._last = at

    def _apply_attempt(self, key: int | str, attempt: int) -> None:
        attempts: dict[Any, int] = self.attempts if isinstance(key, int) else self.stage_attempts
        if isinstance(key, int) and self.attempts.get(key, 0) > self.closed.get(key, 0):
            self.abandoned += 1
        attempts[key] = max(attempts.get(key, 0), attempt)

    def _apply_outcome(self, outcome: Outcome) -> None:
        self.closed[outcome.trial_id] = max(outcome.attempt, self.closed.get(outcome.trial_id, 0))
        outcomes = self._outcomes(outcome.trial_id)
        if outcome.trial_id in outcomes:
            return
        self.seconds += outcome.seconds
        self.charged += outcome.seconds * max(1, outcome.gpus)
        if outcome.started is not None and outcome.ended is not None:
            self._extend_span(outcome.started, outcome.ended)
        if outcome.final:
            outcomes[outcome.trial_id] = outcome
            self._note_improvement(outcome)
        elif outcome.kind == "lost" and outcome.cause == "node":
            self.doubted += 1
        elif outcome.was_cut_off:
            self.cut[outcome.trial_id] = self.cut.get(outcome.trial_id, 0) + 1
        elif outcome.cause == "infrastructure":
            self.lost[outcome.trial_id] = self.lost.get(outcome.trial_id, 0) + 1

    def _note_improvement(self, outcome: Outcome) -> None:
        if outcome.kind != "ok" or outcome.value is None or outcome.trial_id not in self.trials:
            return
        for mode, found in self.improvements.items():
            if not found or _order(outcome, mode) < _order(found[-1], mode):
                found.append(outcome)

    def _find_improvements(self) -> None:
        self.improvements = {"min": [], "max": []}
        for outcome in self.outcomes.values():
            self._note_improvement(outcome)

    def _extend_span(self, started: float, ended: float) -> None:
        if self._new_span:
            self.spans.append((started, ended))
            self._new_span = False
        first, last = self.spans[-1]
        self.spans[-1] = (min(first, started), max(last, ended))


def _shared(data: Any) -> Any:
    """The same, with one copy in the memory of the texts that a million trials have in common."""
    if isinstance(data, dict):
        return {sys.intern(key): _shared(value) for key, value in data.items()}
    return sys.intern(data) if isinstance(data, str) else data


def _order(outcome: Outcome, mode: str) -> tuple[float, int]:
    assert outcome.value is not None, "only such are compared"
    return (outcome.value if mode == "min" else -outcome.value), outcome.trial_id


class Journal:
    """An open journal. ``state`` follows every append; ``notes`` say what was repaired when it was opened."""

    def __init__(self, path: Path, hear: Callable[[Record], None] = lambda record: None) -> None:
        """Open or create ``path``, replay it, and repair a torn end.

        ``hear`` is called with each valid record, those of the past included. Raises InputError for a journal of a
        newer version.
        """
        self.path = path
        self.hear = hear
        self.state = State()
        self.notes: list[str] = []
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._replay(_read_all(self._file))

    def append(self, *records: Mapping[str, Any]) -> None:
        """Write records to the disk, then fold them in.

        Raises SiteError if the disk takes them not; the journal is then as it was before.
        """
        now = time.time()
        lines = [_seal({"type": record["type"], "at": now, **record}) for record in records]
        data = b"".join(lines)
        status = os.fstat(self._file)
        if not status.st_nlink or not self._is_in_place(status):
            raise SiteError(f"{self.path}: is gone: the run's directory was deleted or moved while it was led")
        try:
            _write_all(self._file, data)
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, status.st_size)
            raise SiteError(
                f"{self.path}: cannot be written ({error.strerror}); nothing is lost: {disk_remedy(error)}, then resume"
            ) from error
        for line in lines:
            record = json.loads(line)
            self.state.apply(record)
            self.hear(record)

    def close(self) -> None:
        os.close(self._file)

    def _is_in_place(self, status: os.stat_result) -> bool:
        try:
            return os.path.samestat(status, self.path.stat())
        except FileNotFoundError:
            return False
        except OSError:
            return True  # a file system's hiccup: the write will tell

    def _replay(self, data: bytes) -> None:
        *lines, rest = data.split(b"\n")
        for number, line in enumerate(lines, start=1):
            if problem := self._take(line):
                self.notes.append(
                    f"{self.path}: line {number} is corrupt ({problem}) and was left out; what it held is taken from "
                    "the trials' result files or run again"
                )
        if not rest:
            return
        if self._take(rest) is None:
            _write_all(self._file, b"\n")
            self.notes.append(f"{self.path}: line {len(lines) + 1} lacked its end; it is complete and was kept")
        else:
            os.ftruncate(self._file, len(data) - len(rest))
            self.notes.append(
                f"{self.path}: line {len(lines) + 1} was torn in mid-write ({len(rest)} bytes) and was removed; what "
                "it held is taken from the trials' result files or run again"
            )
        os.fsync(self._file)

    def _take(self, line: bytes) -> str | None:
        """Fold one line in; why not, if it cannot be."""
        try:
            record = _fold(self.state, line)
        except _Corrupt as error:
            return str(error)
        except _OtherVersion as error:
            os.close(self._file)
            raise _unreadable_version(self.path, error) from error
        self.hear(record)
        return None


class Fold(Protocol):
    """What records are folded into, one after the other."""

    def apply(self, record: Record) -> None: ...


_F = TypeVar("_F", bound=Fold)


class Follower(Generic[_F]):
    """What a journal comes to that somebody else may be writing: ``fold``, by each ``look``.

    Nothing is locked, repaired or written. ``make`` makes an empty fold, anew where the file is another one. ``decode``
    may read of a line what the fold needs, if that is quicker than all of it; it raises ValueError.
    """

    def __init__(self, path: Path, make: Callable[[], _F], decode: Callable[[bytes], Any] = json.loads) -> None:
        self.path = path
        self._make = make
        self._decode = decode
        self._start(None)

    def look(self) -> _F:
        """Fold in what was appended since the last look. Raises OSError, and InputError for another version."""
        with self.path.open("rb") as file:
            status = os.fstat(file.fileno())
            if self._file != (status.st_dev, status.st_ino) or status.st_size < self._offset:
                self._start((status.st_dev, status.st_ino))
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n") and not _is_sealed(line):  # it is being written, or was torn
                    break
                self._offset += len(line)
                self._take(line.removesuffix(b"\n"))
        return self.fold

    def asked(self, trial_id: int) -> Record | None:
        """The record by which a trial was asked for. Reads the file once more, so that no one has to keep them all."""
        mark = b'"trial":{"id":%d,' % trial_id
        with self.path.open("rb") as file:
            found = next((line for line in file if mark in line and _is_sealed(line.removesuffix(b"\n"))), None)
        return json.loads(found) if found is not None else None

    def _start(self, file: tuple[int, int] | None) -> None:
        self._file, self._offset = file, 0
        self.fold, self.damaged = self._make(), 0
        """``damaged`` lines hold no valid record."""

    def _take(self, line: bytes) -> None:
        try:
            if line:
                _fold(self.fold, line, self._decode)
        except _OtherVersion as error:
            raise _unreadable_version(self.path, error) from error
        except _Corrupt:
            self.damaged += 1


class _OtherVersion(Exception):
    """A journal of a version that this program doesn't know."""


def _unreadable_version(path: Path, error: _OtherVersion) -> InputError:
    return InputError(
        f"{path}: has format version {error.args[0]!r}, this program reads {VERSION}\n"
        "    -> use the version of the program that began the run"
    )


class _Corrupt(Exception):
    """A line that holds no record, and why."""


def damage(lines: int) -> str:
    """What is said of lines that a follower left out; empty if there are none."""
    if not lines:
        return ""
    return f"{lines} line{'s' if lines > 1 else ''} of its journal cannot be read and had to be left out"


def _fold(state: Fold, line: bytes, decode: Callable[[bytes], Any] = json.loads) -> Record:
    """Fold one line into a state. Raises _Corrupt or _OtherVersion."""
    try:
        record = decode(line)
    except (ValueError, RecursionError):
        raise _Corrupt("no JSON") from None
    if not isinstance(record, dict):
        raise _Corrupt("no record")
    if record.get("type") == "campaign" and record.get("version") != VERSION:
        raise _OtherVersion(record.get("version"))
    if not _is_sealed(line):
        raise _Corrupt("its check sum is wrong")
    try:
        state.apply(record)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _Corrupt(f"no valid record: {type(error).__name__} {error}") from error
    return record


def _seal(record: Mapping[str, Any]) -> bytes:
    """The line of a record: compact JSON of which the last key is the check sum of all before it."""
    body = json.dumps(record, separators=(",", ":")).encode()[:-1]
    return body + f',"crc":{zlib.crc32(body)}}}\n'.encode()


def _is_sealed(line: bytes) -> bool:
    body, _, crc = line.rpartition(b',"crc":')
    return crc == b"%d}" % zlib.crc32(body)


def outcome_record(outcome: Outcome) -> Record:
    return {"type": "outcome", "outcome": outcome.to_json()}


def stage_record(stage: str, outcome: Outcome) -> Record:
    """How an attempt of preprocess or infer ended."""
    return {"type": "stage", "stage": stage, "outcome": outcome.to_json()}


def campaign_record(fingerprint: Mapping[str, Any], about: Mapping[str, Any]) -> Record:
    return {"type": "campaign", "version": VERSION, "fingerprint": fingerprint, **about}


def differences(old: object, new: object, place: str = "") -> Iterable[str]:
    """Where two fingerprints differ, a line each: ``search.seed: 1 -> 2``.

    A switch of which an older run knew nothing was off.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from differences(old.get(key), new.get(key), f"{place}.{key}" if place else str(key))
    elif old != new and not (old is None and new is False):
        yield f"{place}: {_short(old)} -> {_short(new)}"


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _read_all(descriptor: int) -> bytes:
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        return file.read()


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
