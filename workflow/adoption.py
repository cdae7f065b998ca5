"""At a resume: what had finished while no controller lived counts, and what nobody can explain runs anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from workflow.errors import listing
from workflow.journal import Journal, outcome_record, stage_record
from workflow.protocols import Runner
from workflow.search import Search
from workflow.stages import StageName
from workflow.state import State
from workflow.triage import Nodes, signature
from workflow.trial import NO_TRIAL, is_rerun, spoken


@dataclass
class Adoption:
    """``run`` comes before anything is submitted; ``say`` gets what the user should know of it."""

    journal: Journal
    runner: Runner
    search: Search
    nodes: Nodes
    say: Callable[[str], None]
    _on_disk: dict[int, int] = field(default_factory=dict)
    """The last attempt of each trial of which there is a trace."""

    def run(self) -> None:
        """Take over what had finished while no controller lived, also where the record of its start was lost."""
        self._adopt_stage("preprocess")
        for trial_id, attempt in self.runner.attempts("train"):
            self._on_disk[trial_id] = max(attempt, self._on_disk.get(trial_id, 0))
        self._forget_orphans()
        last = [(t, self.last_attempt(t)) for t in self._on_disk if not self._state.outcome_of(t) and self._is_known(t)]
        unseen = [(t, attempt) for t, attempt in last if attempt > self._state.closed.get(t, 0)]
        recovered = map(self.nodes.doubt, self.runner.recover("train", unseen))
        found = [each for each in recovered if each.kind == "ok" or signature(each) not in self._state.broken]
        if found:
            self.journal.append(*map(outcome_record, found))
            self.say(f"{len(found)} trials had finished while no controller lived; their results are kept")
        self._adopt_stage("infer")

    def last_attempt(self, trial_id: int) -> int:
        """Number of a trial's last attempt; 0 if it had none."""
        return max(self._state.attempts.get(trial_id, 0), self._on_disk.get(trial_id, 0))

    @property
    def _state(self) -> State:
        return self.journal.state

    def _is_known(self, trial_id: int) -> bool:
        """Whether it is known, or will be, what was asked for under this id."""
        if is_rerun(trial_id):
            return trial_id in self._state.reruns
        return trial_id in self._state.trials or self.search.repeatable

    def _forget_orphans(self) -> None:
        """Take back what was found out of trials of which nobody knows any more what was asked for."""
        found = {*self._state.outcomes, *self._state.rerun_outcomes, *self._on_disk}
        orphans = sorted(number for number in found if not self._is_known(number))
        if orphans:
            lost = f"the journal has lost the hyperparameters of {listing(map(spoken, orphans))}"
            reason = f"{lost}: those that are still needed run anew"
            self.journal.append({"type": "retracted", "trials": orphans, "signature": reason, "reason": reason})
            self.say(reason)

    def _adopt_stage(self, stage: StageName) -> None:
        attempt = self._state.stage_attempts.get(stage, 0)
        if stage == "preprocess":  # whose attempts all are for the same
            attempt = max([attempt, *(number for _, number in self.runner.attempts(stage))])
        if attempt > self._state.stage_runs.get(stage, 0):
            for outcome in self.runner.recover(stage, [(self._state.stage_trials.get(stage, NO_TRIAL), attempt)]):
                self.journal.append(stage_record(stage, outcome))
