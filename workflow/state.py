"""What a journal's records say, folded into one state. Pure: the file is the journal's.

    {"type": "campaign", "version", "fingerprint", ...}     first: the definition, and what the controller runs with
    {"type": "resumed", ...}                                what a later controller runs with
    {"type": "asked", "trial"}                              before a trial's first attempt
    {"type": "attempt", "trial", "attempt"}                 before an attempt of a trial (its id) is submitted
    {"type": "attempt", "trial", "attempt", "winner"}       the same of a stage (its name); for infer, of which trial
    {"type": "outcome", "outcome"}                          before the search hears of it
    {"type": "stage", "stage", "outcome"}                   the outcome of preprocess or infer
    {"type": "finals", "reruns"}                            which re-runs of the search's best decide who wins
    {"type": "retracted", "trials", "signature", "reason"}  outcomes that told of a broken site or set-up are void
    {"type": "inputs", "digest", "given"}                   what decides about a training beside its hyperparameters
    {"type": "shunned", "host", "reason"}                   a node that gets no trial any more
    {"type": "ended", "complete", "reason"}                 of a controller; with a reason where it isn't complete
    {"type": "note", ...}                                   nothing, but for those who read the file

Trials and outcomes are written by their ``to_json``. Each record has its time, too (``at``, seconds since the epoch).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from workflow.trial import Outcome, Trial, is_rerun, loss_of

Record = dict[str, Any]


class Inputs(NamedTuple):
    """Digests of what decides about trainings beside their hyperparameters; None where that cannot be known.

    ``given`` is of all of it but the model: data, arguments, variables, binds.
    """

    digest: str | None = None
    given: str | None = None


@dataclass
class State:
    """What the records say. Trials are in the order in which they were asked for; times are in seconds.

    >>> state = State()
    >>> state.apply({"type": "asked", "at": 0.0, "trial": Trial(0, 0, {"rate": 0.5}).to_json()})
    >>> state.apply({"type": "outcome", "at": 9.0, "outcome": Outcome(0, 1, "ok", 1.5).to_json()})
    >>> state.outcomes[0].value, state.unfinished, state.elapsed
    (1.5, [], 9.0)
    """

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
    inputs: Inputs = field(default_factory=Inputs)
    """Of the last controller's trainings."""
    stage_attempts: dict[str, int] = field(default_factory=dict)
    """Highest attempt number of preprocess and of infer."""
    stage_trials: dict[str, int] = field(default_factory=dict)
    """The trial that the last attempt of infer was for; NO_TRIAL for preprocess."""
    stage_outcomes: dict[str, Outcome] = field(default_factory=dict)
    """The last outcome of preprocess and of infer; infer's trial_id is the winner's."""
    stage_runs: dict[str, int] = field(default_factory=dict)
    """The attempt that each outcome in ``stage_outcomes`` came from."""
    elapsed: float = 0.0
    """Wall time of the controllers so far, in seconds, up to their last record."""
    ended: bool = False
    """Whether the campaign is complete."""
    _new_span: bool = True
    _last: float | None = None

    @property
    def unfinished(self) -> list[Trial]:
        """Trials that were asked for and have no final outcome."""
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
        kind, at = record["type"], float(record["at"])
        if not isinstance(kind, str) or kind not in _FOLDS:
            raise ValueError(f"unknown type {kind!r}")
        _FOLDS[kind](self, record)
        self.ended = kind == "ended" and bool(record["complete"])
        self.elapsed += max(0.0, at - self._last) if self._last is not None else 0.0
        self._last = at if kind != "ended" else None

    def _apply_start(self, record: Record) -> None:
        """Of a controller; the time since the last one ended doesn't count."""
        self._last, self._new_span, self.latest = float(record["at"]), True, record
        self.header = self.header or (record if record["type"] == "campaign" else None)

    def _apply_asked(self, record: Record) -> None:
        trial = Trial.from_json(_shared(record["trial"]))
        self.trials.setdefault(trial.id, trial)
        if trial.id in self.outcomes:  # of which the record of the ask was lost
            self._note_improvement(self.outcomes[trial.id])

    def _apply_attempt(self, record: Record) -> None:
        key, attempt = record["trial"], int(record["attempt"])
        if isinstance(key, int):
            self.abandoned += self.attempts.get(key, 0) > self.closed.get(key, 0)
            self.attempts[key] = max(self.attempts.get(key, 0), attempt)
        else:
            self.stage_attempts[key] = max(self.stage_attempts.get(key, 0), attempt)
            if "winner" in record:
                self.stage_trials[key] = int(record["winner"])

    def _apply_stage(self, record: Record) -> None:
        outcome = Outcome.from_json(record["outcome"])
        self.stage_outcomes[record["stage"]] = outcome
        self.stage_runs[record["stage"]] = outcome.attempt

    def _apply_finals(self, record: Record) -> None:
        reruns = [Trial.from_json(data) for data in record["reruns"]]
        self.reruns |= {trial.id: trial for trial in reruns}
        self.finals = [trial.id for trial in reruns]

    def _apply_inputs(self, record: Record) -> None:
        self.inputs = Inputs(record["digest"], record.get("given"))

    def _apply_shunned(self, record: Record) -> None:
        self.shunned[record["host"]] = record["reason"]

    def _apply_retracted(self, record: Record) -> None:
        self.broken.add(record["signature"])
        infer = self.stage_outcomes.get("infer")
        if infer is not None and infer.trial_id in record["trials"]:  # with a model that no longer is the trial's
            del self.stage_outcomes["infer"]
        for trial_id in record["trials"]:
            self._outcomes(trial_id).pop(trial_id, None)
            self.lost.pop(trial_id, None)
            self.cut.pop(trial_id, None)
        self._find_improvements()

    def _apply_nothing(self, record: Record) -> None:
        """For those who read the file."""

    def _apply_outcome(self, record: Record) -> None:
        outcome = Outcome.from_json(_shared(record["outcome"]))
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


_FOLDS: Mapping[str, Callable[[State, Record], None]] = {
    "campaign": State._apply_start,
    "resumed": State._apply_start,
    "asked": State._apply_asked,
    "attempt": State._apply_attempt,
    "outcome": State._apply_outcome,
    "stage": State._apply_stage,
    "finals": State._apply_finals,
    "retracted": State._apply_retracted,
    "inputs": State._apply_inputs,
    "shunned": State._apply_shunned,
    "ended": State._apply_nothing,
    "note": State._apply_nothing,
}


def _shared(data: Any) -> Any:
    """The same, with one copy in the memory of the texts that a million trials have in common."""
    if isinstance(data, dict):
        return {sys.intern(key): _shared(value) for key, value in data.items()}
    return sys.intern(data) if isinstance(data, str) else data


def _order(outcome: Outcome, mode: str) -> tuple[float, int]:
    assert outcome.value is not None, "only such are compared"
    return loss_of(outcome.value, mode), outcome.trial_id
