"""How often what has not ended runs again, and what that tells of the set-up. All of it is pure.

Infrastructure loss is retried for free, up to a limit; ``triage`` says whose fault a failure is.
"""

from __future__ import annotations

from dataclasses import replace

from workflow.state import State
from workflow.trial import Outcome

_RESUMED = 20
"""Times more that a training may be cut off which goes on from a checkpoint."""


class Retries:
    """``resumed`` tells that trainings go on from checkpoints."""

    def __init__(self, max_attempts: int, *, resumed: bool) -> None:
        self._most = max_attempts
        self._resumed = resumed
        self._cannot_run: list[Outcome] = []
        """Attempts that could not run since the last one that did, which tells of the set-up."""

    def limited(self, outcome: Outcome, state: State) -> Outcome:
        """The outcome of an attempt that ``state`` doesn't know yet, as failed if its trial is given up."""
        self._note_whether_it_can_run(outcome)
        lost = state.lost.get(outcome.trial_id, 0) + 1
        if outcome.cause == "infrastructure" and lost >= self._most:
            return _failed(outcome, f"lost {lost} times, the last time: {outcome.evidence}")
        cut = state.cut.get(outcome.trial_id, 0) + 1
        if outcome.was_cut_off and cut >= self._most * (_RESUMED if self._resumed else 1):
            last = f"the last time after {outcome.seconds:.0f} s"
            return _failed(outcome, f"cut off {cut} times by the end of its block, {last}")
        if outcome.cause == "setup" and self._fails_alone(outcome.trial_id) and state.any_trained:
            return _failed(outcome, outcome.evidence)
        return outcome

    def set_up_is_broken(self, state: State) -> bool:
        """At once before the first success; later once several trials in a row cannot run: an image may go away."""
        trials = [outcome.trial_id for outcome in self._cannot_run]
        return not state.any_trained or (len(trials) >= self._most and len(set(trials)) > 1)

    def _fails_alone(self, trial_id: int) -> bool:
        """Whether a trial could not run so often that others would have shown it, were it the set-up."""
        return sum(outcome.trial_id == trial_id for outcome in self._cannot_run) >= self._most

    def _note_whether_it_can_run(self, outcome: Outcome) -> None:
        """A success shows that the set-up works, unless it began before: an image in use survives its removal."""
        if outcome.cause == "setup":
            self._cannot_run.append(outcome)
        elif outcome.trained:
            begun = outcome.started or 0.0
            self._cannot_run = [failure for failure in self._cannot_run if (failure.ended or 0.0) > begun]


def _failed(outcome: Outcome, evidence: str) -> Outcome:
    return replace(outcome, kind="failed", evidence=evidence)
