"""The only loop: ask the search for trials, run them, write outcomes to the journal, tell the search."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import Protocol

from workflow.adoption import Adoption
from workflow.budgets import Budgets
from workflow.durations import LONGER, Durations
from workflow.errors import OutOfTime, SetupError, SiteError, WorkflowError
from workflow.finals import FinalistsSettings, Finals, reruns_of
from workflow.journal import Journal, outcome_record, stage_record
from workflow.protocols import Runner
from workflow.ranking import hall_of_fame, winner_of
from workflow.remedies import remedy
from workflow.retries import Retries
from workflow.search import Search
from workflow.stages import StageName
from workflow.state import Record, State
from workflow.stopping import EarlyStopping
from workflow.triage import Nodes, signature, verdict
from workflow.trial import NO_TRIAL, Outcome, Trial, is_rerun, spoken

_TICK = 0.5

_OTHER_INPUTS = """\
warning: what trainings get beside their hyperparameters (data, arguments, variables, binds) is not what the results so
far came from: later ones may not compare with them"""


class Observer(Protocol):
    """Hears of what changed; for the live view and the tables."""

    def changed(self, campaign: Campaign) -> None: ...

    def say(self, text: str) -> None:
        """A line that the user should read."""


@dataclass(frozen=True)
class Plan:
    """What a campaign consists of besides its trials."""

    preprocess: bool
    infer: bool
    mode: str
    max_attempts: int = 3
    same_failures: int = 5
    timeout: float | None = None
    budgets: Budgets = field(default_factory=Budgets)
    finalists: FinalistsSettings = field(default_factory=FinalistsSettings)


class Interrupted(Exception):
    """The user asked for the end; the run can be resumed."""


class Campaign:
    """One search, from the journal's state to its end.

    ``interrupt`` may be called from a signal handler. ``early_stopping`` tells which trials are to be stopped early.
    """

    def __init__(
        self, plan: Plan, search: Search, journal: Journal, runner: Runner, observer: Observer,
        early_stopping: EarlyStopping | None = None,
    ) -> None:  # fmt: skip
        self.plan = plan
        self.search = search
        self.finals: Finals | None = None
        """What is asked once the search is over."""
        self.journal = journal
        self.runner = runner
        self.observer = observer
        self.early_stopping = early_stopping
        self._told_of_no_curve = False
        self.running: dict[Future[Outcome], Trial] = {}
        self.waiting: deque[Trial] = deque()
        """Trials that were asked for, or lost, and are the next to be submitted."""
        self.stage: StageName | None = None
        """The stage that runs beside the search: preprocess or infer."""
        self.nodes = Nodes(several=runner.node_count > 1)
        self.durations = Durations(plan.timeout)
        self.parked: list[Trial] = []
        """Trials that no longer fit into the allocation in which the controller runs."""
        self._why_parked = ""
        self._got_further = False
        """Whether something has ended that need not run again, or goes on where it was."""
        self._adoption = Adoption(journal, runner, search, self.nodes, observer.say)
        self.set_back: deque[Trial] = deque()
        """Trials that could not run, which others go before: they show whether it is the trial or the set-up."""
        self.retries = Retries(plan.max_attempts, resumed=runner.keeps_checkpoints)
        self.draining = False
        self.stopping = False
        self.image_change = ""
        """What has happened to the image: what runs may end, nothing more begins."""
        self._winding_down = False
        self._finished: SimpleQueue[Future[Outcome] | None] = SimpleQueue()

    @property
    def state(self) -> State:
        return self.journal.state

    @property
    def reached(self) -> str:
        """Which budget has ended the search, so that no more of it begins; empty while none has, and in the finals."""
        return self.plan.budgets.reached(self.state) if self.finals is None else ""

    @property
    def _source(self) -> Search | Finals:
        return self.search if self.finals is None else self.finals

    def interrupt(self, *, now: bool) -> None:
        """Stop asking for trials; ``now`` also ends those that run."""
        self.draining = True
        self.stopping = self.stopping or now
        self._finished.put(None)

    def run(self) -> None:
        """Run to the end.

        Raises Interrupted or WorkflowError; in each case the journal holds all that is needed to go on.
        """
        for node, why in self.state.shunned.items():
            self.nodes.shunned[node] = why
            self.runner.shun(node)
        self._adoption.run()
        if self.plan.preprocess:
            self._prepare()
        self._note_inputs()
        self._restore()
        self._search()
        self._train_finalists()
        winner = winner_of(self.state, self.plan.mode)
        if winner is not None and self.plan.infer:
            self._infer(winner)
        self.journal.append({"type": "ended", "complete": True})

    # -- resuming ------------------------------------------------------------------------------------------------

    def _note_inputs(self) -> None:
        inputs, before = self.runner.inputs(self.state.latest), self.state.inputs
        if inputs != before:
            self.journal.append({"type": "inputs", **inputs._asdict()})
        is_known = inputs.given is not None and before.given is not None
        if is_known and inputs.given != before.given and any(o.kind == "ok" for o in self.state.outcomes.values()):
            self.observer.say(_OTHER_INPUTS)
        for note in self.runner.notes:
            self.observer.say(note)

    def _restore(self) -> None:
        """Tell the search what it asked and heard before; queue what has no outcome yet."""
        for trial in sorted(self.state.trials.values(), key=lambda trial: trial.id):
            outcome = self.state.outcomes.get(trial.id)
            self.search.restore(trial, outcome)
            if outcome is not None:
                self._learn_duration(trial, outcome)
                self._learn_curve(outcome)
            else:
                self.waiting.append(trial)
        self.observer.changed(self)

    # -- the search ----------------------------------------------------------------------------------------------

    def _search(self) -> None:
        self._look_at_image()
        while True:
            if not self.draining and not self.image_change:
                self._submit()
            if not self.running:
                if self._is_over:
                    return self._stop_if_broken(at_end=True)
                self._stop_if_image_changed()
                if self.parked:
                    raise self._out_of_time(
                        f"{len(self.parked)} trials no longer fit into this allocation, the last one {self._why_parked}"
                    )
                if self.draining:
                    raise Interrupted
                raise AssertionError("the search waits for a trial that nobody runs")
            self._collect()

    @property
    def _is_over(self) -> bool:
        """At the end of a budget also with trials left that have no outcome: they are for a later resume."""
        return bool(self.reached) or (self._source.done and not (self.waiting or self.set_back or self.parked))

    def _submit(self) -> None:
        """Fill the site up to its limit, with one write to the journal for all new trials."""
        room = self.runner.in_flight - len(self.running) - len(self.parked)
        chosen: list[tuple[Trial, int]] = []
        records: list[Record] = []
        while len(chosen) < room and (trial := self._next()) is not None:
            if trial.id not in self.state.trials and not is_rerun(trial.id):
                records.append({"type": "asked", "trial": trial.to_json()})
            attempt = self._adoption.last_attempt(trial.id) + 1
            records.append({"type": "attempt", "trial": trial.id, "attempt": attempt})
            chosen.append((trial, attempt))
        if not chosen:
            return
        self.journal.append(*records)
        for trial, attempt in chosen:
            expected = self.durations.expect(trial) if self.runner.has_ends else None
            future = self.runner.train(trial, attempt, self.nodes.avoided(trial.id), expected)
            self.running[future] = trial
            future.add_done_callback(self._finished.put)
        self.observer.changed(self)

    def _next(self) -> Trial | None:
        """The next trial to submit; None where there is none now, and from the end of a budget on."""
        while not self.reached:
            if self.waiting:
                return self.waiting.popleft()
            trial = self._source.ask()
            if trial is None:
                return self.set_back.popleft() if self.set_back else None
            asked = [] if is_rerun(trial.id) else [{"type": "asked", "trial": trial.to_json()}]
            if (known := self.state.outcome_of(trial.id)) is not None:
                self.journal.append(*asked)  # its record was lost, its outcome was not
            elif (known := self.runner.recall(trial)) is not None:
                self.journal.append(*asked, outcome_record(known))
            else:
                return trial
            self._source.tell(known)
        return None

    def _collect(self) -> None:
        """Wait for at least one trial, then take all that have ended."""
        if self.reached:
            self._wind_down()
        ended = self._wait()
        for future in ended:
            trial = self.running.pop(future)
            self._take(trial, future.result())
        self._stop_hopeless()
        self.observer.changed(self)

    def _wind_down(self) -> None:
        """What has begun may end; what waits for a worker is held back."""
        if not self._winding_down:
            self.observer.say(f"{self.reached}: no further trial begins")
        self._winding_down = True
        self.runner.hold()

    def _stop_hopeless(self) -> None:
        """Ask trials to stop that are hopeless by what they have told by now; no re-run, which is to be measured."""
        if self.early_stopping is None or self.finals is not None:
            return
        for trial_id, (*earlier, last) in self.runner.intermediate():
            for each in earlier:
                self.early_stopping.note(trial_id, *each)
            if why := self.early_stopping.report(trial_id, *last):
                self.runner.stop_early(trial_id, why)

    def _wait(self) -> list[Future[Outcome]]:
        """Futures that ended; empty after a tick."""
        ended = []
        try:
            ended.append(self._finished.get(timeout=_TICK))
            while True:
                ended.append(self._finished.get_nowait())
        except Empty:
            pass
        if self.stopping:
            self.runner.stop()
            raise Interrupted
        self._look_at_image()
        if self.draining or self.image_change:
            self.runner.hold()
        if reason := self.runner.out_of_time():
            self.runner.stop()
            self._got_further = self._got_further or (self.runner.keeps_checkpoints and bool(self.running))
            raise self._out_of_time(reason)
        if failure := self.runner.failure():
            raise SiteError(f"the site failed: {failure}")
        return [future for future in ended if future is not None]

    def _out_of_time(self, reason: str) -> WorkflowError:
        """An end after which another job goes on, unless it would get no further than this one."""
        if self._got_further:
            return OutOfTime(reason)
        return SiteError(f"{reason}, and nothing has ended in it: another one would get no further\n    -> {LONGER}")

    def _take(self, trial: Trial, outcome: Outcome) -> None:
        """What follows from how an attempt ended: it goes into the journal, and to the search or into a queue again."""
        if outcome.cause == "site":
            raise SiteError(f"{spoken(trial.id)}: {outcome.evidence}")
        if self.image_change and not outcome.trained:
            return self._set_aside(trial, outcome)
        outcome = self.nodes.doubt(outcome)
        outcome = self.retries.limited(outcome, self.state)
        self.journal.append(outcome_record(outcome))
        self._learn_duration(trial, outcome)
        if node := self.nodes.learn(outcome):
            self._shun(node)
        self._got_further |= outcome.final or (outcome.was_cut_off and self.runner.keeps_checkpoints)
        if outcome.final:
            self._learn_curve(outcome)
            self._tell_if_no_curve(outcome)
            self._source.tell(outcome)
            return self._stop_if_broken()
        if outcome.cause == "setup" and self.retries.set_up_is_broken(self.state):
            raise _broken(f"{spoken(trial.id)} cannot run", outcome, self.runner.log_tail(outcome))
        if outcome.has_no_time and self.runner.in_allocation:
            self.parked.append(trial)
            self._why_parked = outcome.evidence
        elif outcome.cause == "setup":
            self.set_back.append(trial)
        else:
            self.waiting.appendleft(trial)
        if outcome.kind == "lost":
            then = "a resume runs it again" if self.reached or self.draining else "it runs again"
            self.observer.say(f"{spoken(trial.id)}: attempt {outcome.attempt} was lost, {then}: {outcome.evidence}")
        return None

    def _set_aside(self, trial: Trial, outcome: Outcome) -> None:
        """The image may be why it ended: it runs again after a resume, which doesn't take this for the outcome."""
        if outcome.kind != "deferred":
            evidence = f"{self.image_change}: {outcome.evidence}"
            outcome = replace(outcome, kind="lost", cause="setup", evidence=evidence)
        self.journal.append(outcome_record(outcome))
        self.waiting.append(trial)

    def _learn_duration(self, trial: Trial, outcome: Outcome) -> None:
        if outcome.kind == "ok" and not outcome.source:
            self.durations.learn(trial, outcome.seconds)
        elif outcome.was_cut_off:
            self.durations.cut(trial, outcome.seconds)

    def _learn_curve(self, outcome: Outcome) -> None:
        if self.early_stopping is not None and not is_rerun(outcome.trial_id):
            self.early_stopping.settle(outcome.trial_id, outcome.curve)

    def _tell_if_no_curve(self, outcome: Outcome) -> None:
        """Once, where a training has succeeded without a value that early stopping could go by."""
        if self.early_stopping is None or self._told_of_no_curve or outcome.kind != "ok" or outcome.curve:
            return
        self._told_of_no_curve = True
        metric = self.early_stopping.metric
        self.observer.say(
            f"warning: early stopping: no line in the log of trial {outcome.trial_id} tells an epoch's {metric}\n"
            f"    -> let the model print lines such as 'epoch 7 {metric}: 0.5', or set early_stopping.pattern"
        )

    def _shun(self, node: str) -> None:
        why = self.nodes.shunned[node]
        self.journal.append({"type": "shunned", "host": node, "reason": why})
        self.observer.say(f"node {node} gets no trial any more: {why}")
        self.runner.shun(node)

    def _stop_if_broken(self, *, at_end: bool = False) -> None:
        """Take failures back that are no data, and stop."""
        found = verdict(self.state.outcomes, self.plan.same_failures, at_end=at_end)
        if found is None:
            return
        alike = signature(found.witness)
        self.journal.append({"type": "retracted", "trials": found.trials, "signature": alike, "reason": found.text})
        raise found.error(f"{found.text}{self.runner.log_tail(found.witness)}\n    -> {found.remedy}")

    def _look_at_image(self) -> None:
        if not self.image_change and (change := self.runner.image_change()):
            self.image_change = change
            if self.running:
                self.observer.say(f"{change}: no more trials begin; those that run may end")

    def _stop_if_image_changed(self) -> None:
        if self.image_change:
            what_helps = "put the old one back and resume, or go on with another one in its place by --accept-image"
            raise SetupError(f"{self.image_change}\n    -> {what_helps}")

    # -- the finals ----------------------------------------------------------------------------------------------

    def _train_finalists(self) -> None:
        """Train the best again, all at once; what the search has left to do is for a resume with a larger budget."""
        reruns = self._reruns()
        left = [trial for trial in reruns if not self.state.outcome_of(trial.id)]
        if not left:
            return
        if self.draining:
            raise Interrupted
        finalists = {trial.parents for trial in reruns}
        self.observer.say(f"train the best {len(finalists)} again, {len(left)} trainings with other seeds")
        for queue in (self.waiting, self.set_back, self.parked):
            queue.clear()
        self.finals = Finals(left)
        self._search()

    def _reruns(self) -> list[Trial]:
        """Those that decide who wins, which the journal holds from now on."""
        best_ones = hall_of_fame(self.state, self.plan.mode, self.plan.finalists.count)
        finalists = [self.state.trials[outcome.trial_id] for outcome in best_ones]
        reruns = reruns_of(finalists, self.plan.finalists, self.state.reruns.values())
        if reruns != [self.state.reruns[number] for number in self.state.finals]:
            self.journal.append({"type": "finals", "reruns": [trial.to_json() for trial in reruns]})
        return reruns

    # -- the other stages ----------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        done = self.state.stage_outcomes.get("preprocess")
        if done is None or done.kind != "ok":
            self.observer.say("preprocess")
            done = self._run_stage("preprocess", NO_TRIAL, self.runner.preprocess)
        if done.kind != "ok":
            raise _broken("preprocess failed", done)
        self.runner.prepared(done.attempt)

    def _infer(self, winner: Outcome) -> None:
        done = self.state.stage_outcomes.get("infer")
        if done is not None and done.kind == "ok" and done.trial_id == winner.trial_id:
            return
        if self.draining:
            raise Interrupted
        trial = self.state.trials[winner.trial_id]
        self.observer.say(f"infer with the winner, trial {trial.id}")
        done = self._run_stage("infer", trial.id, lambda attempt: self.runner.infer(trial, winner, attempt))
        if done.kind != "ok":
            raise _broken("the search is done, but inference with its winner failed", done)

    def _run_stage(self, stage: StageName, winner: int, start: Callable[[int], Future[Outcome]]) -> Outcome:
        """Run a stage, again while the infrastructure loses it."""
        self._look_at_image()
        self.stage = stage
        for _ in range(self.plan.max_attempts):
            self._stop_if_image_changed()
            on_disk = (number for _, number in self.runner.attempts(stage))
            attempt = max(self.state.stage_attempts.get(stage, 0), *on_disk, 0) + 1
            self.journal.append({"type": "attempt", "trial": stage, "attempt": attempt, "winner": winner})
            future = start(attempt)
            future.add_done_callback(self._finished.put)
            while not self._wait():
                self.observer.changed(self)
            outcome = future.result()
            if outcome.cause == "site":
                raise SiteError(f"{stage}: {outcome.evidence}")
            self.journal.append(stage_record(stage, outcome))
            self._got_further |= outcome.kind == "ok"
            if outcome.kind != "ok":
                self._stop_if_image_changed()
            if outcome.final or outcome.cause == "setup":
                self.stage = None
                return outcome
            if self.draining:
                raise Interrupted
        raise SiteError(f"{stage} was lost {self.plan.max_attempts} times, the last time: {outcome.evidence}")


def _broken(what: str, outcome: Outcome, log_tail: str = "") -> SetupError:
    known = remedy(outcome.evidence)
    helps = f"\n    -> {known}" if known else ""
    return SetupError(f"{what}: {outcome.evidence}{log_tail}{helps}")
