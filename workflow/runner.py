"""Stages as futures: what the campaign submits, and how it comes back as an outcome."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workflow.arguments import Argument
from workflow.attempt import Watch, has_begun, log_excerpt, result_of
from workflow.cluster.backend import ClusterBackend
from workflow.config.experiment import Experiment
from workflow.curves import BoundedFinder, Finder, RunningLogs, default_pattern, quick_finder
from workflow.disk import DISK_WORDS, FULL_DISK_WORDS, make_directory, unwritable
from workflow.durations import Expectation
from workflow.errors import SiteError
from workflow.image import ImageWatch
from workflow.lock import RunLock
from workflow.outcomes import judge
from workflow.protocols import Backend
from workflow.reuse import Reuse, reuse_of
from workflow.rundir import RunDir
from workflow.site import Site
from workflow.stages import Command, Place, StageName
from workflow.state import Inputs, Record
from workflow.trial import NO_TRIAL, Outcome, Trial, spoken
from workflow.worker import contract

_AVOID_DELAY = 10.0
"""Seconds for which a worker on a host to be avoided waits with a task in hand, for others to take it."""

_WORTH_TELLING = 3.0
"""Seconds of a wait for what may still run, after which the user hears of it."""

_COLLECTORS = 32
"""Threads that take results; after a loss most of them wait for the attempt's end."""

_RESERVE = 20.0
"""Seconds before the end of its allocation, beside the grace, at which a controller stops."""


@dataclass(frozen=True)
class Sent:
    """One attempt of a stage that was submitted; ``at`` is when, in seconds since the epoch."""

    stage: StageName
    trial_id: int
    attempt: int
    directory: Path
    at: float = math.inf


class StageRunner:
    """Runs stages on a site, as ``protocols.Runner`` says. Use as a context manager, on the main thread:

        with StageRunner(site, experiment, run, lock) as runner:
            runner.prepared(runner.preprocess(1).result().attempt)
            outcome = runner.train(trial, 1).result()

    ``lock`` is held: a stage stops once another controller stands in its file. ``end`` is when the allocation ends in
    which this controller runs, in seconds since the epoch. ``say`` gets what the user should know of nodes and blocks.
    """

    def __init__(
        self, site: Site, experiment: Experiment, run: RunDir, lock: RunLock, *,
        end: float | None = None, say: Callable[[str], None] = lambda text: None,
    ) -> None:  # fmt: skip
        self.site = site
        self.end = end
        self.say = say
        self.run = run
        self._backend = _backend(site, experiment, run, lock, end, say)
        self.there = self._backend.there
        """The run as the workers see it."""
        self.lock = lock
        self.experiment = experiment
        self.pipeline = experiment.pipeline(site.container, self.there)
        self.image: ImageWatch | None = None
        """What tells that the image has changed since the controller's start, where it can be seen from here."""
        self.watches_gpus = False
        """Whether stages are to tell which GPUs they used (``gpus_used``)."""
        self._data: Place | None = None
        self._running: dict[Future[Outcome], Sent] = {}
        self._left = 0
        """How many ran at the end."""
        self._logs = RunningLogs(_finder(experiment, say), site.poll)
        self._collector = ThreadPoolExecutor(_COLLECTORS, "collect")
        self._reuse: Reuse | None = None

    @property
    def node_count(self) -> int:
        return self.site.node_count

    @property
    def in_flight(self) -> int:
        return self.site.in_flight

    @property
    def has_ends(self) -> bool:
        return self.site.batch is not None

    @property
    def in_allocation(self) -> bool:
        return self.site.allocated_nodes > 0

    @property
    def keeps_checkpoints(self) -> bool:
        return self.pipeline.keeps_checkpoints(self.experiment.space.constants)

    def out_of_time(self) -> str:
        left = self.end - time.time() if self.end else math.inf
        reserve = self.site.grace + _RESERVE
        return f"the allocation ends in {left:.0f} s" if left < reserve else ""

    def __enter__(self) -> StageRunner:
        try:
            self._backend.open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop what runs and end every process of the site, waiting for a limited time."""
        self._left = len(self._running)
        self.stop()
        self._backend.close(wait=lambda: bool(self._running) and not self.failure())
        self._collector.shutdown(wait=False, cancel_futures=True)
        self._logs.close()

    def prepared(self, attempt: int) -> None:
        """Train on what this attempt of preprocess has written."""
        self._data = self._place(self.there.stage_attempt("preprocess", attempt))

    def preprocess(self, attempt: int) -> Future[Outcome]:
        place = self._place(self.there.stage_attempt("preprocess", attempt))
        return self._submit(self.pipeline.preprocess(place), NO_TRIAL, attempt, f"preprocess, attempt {attempt}")

    def shun(self, host: str) -> None:
        self._backend.shun(host)

    def train(
        self, trial: Trial, attempt: int, avoid: frozenset[str] = frozenset(), expected: Expectation | None = None
    ) -> Future[Outcome]:
        command = self._train_command(trial, attempt)
        title = f"{spoken(trial.id)}, attempt {attempt}: train"
        return self._submit(command, trial.id, attempt, title, avoid, expected)

    def infer(self, winner: Trial, trained: Outcome, attempt: int) -> Future[Outcome]:
        """Inference with the model that the winner's training has left."""
        place = self._place(self.there.stage_attempt("infer", attempt))
        command = self.pipeline.infer(place, self._trained_command(winner, trained), self._data)
        return self._submit(command, winner.id, attempt, f"trial {winner.id}: infer, attempt {attempt}")

    def hold(self) -> None:
        """Keep stages from starting that wait at the door of workers within reach; their outcomes are ``deferred``."""
        for sent in list(self._running.values()):
            if not has_begun(sent.directory):
                self._backend.ask_to_stop(sent.directory)

    def stop(self) -> None:
        """Ask every running stage within reach to stop; their outcomes come as ``lost``."""
        for sent in list(self._running.values()):
            self._backend.ask_to_stop(sent.directory)

    def intermediate(self) -> Iterator[tuple[int, list[tuple[int, float]]]]:
        return self._logs.news()

    def stop_early(self, trial_id: int, why: str) -> None:
        if (log := self._logs.path(trial_id)) is not None:
            self._backend.ask_to_stop(log.parent, why)

    def failure(self) -> str:
        """Why no further stage can run on this site; empty while it works."""
        if failed := self.lock.lost or self._backend.failure():
            return failed
        why = self._backend.no_trial_fits
        if why and any(has_begun(sent.directory) for sent in list(self._running.values())):
            return ""  # which shows the contrary, or may
        return why

    def inputs(self, record: Record) -> Inputs:
        place = self._place(self.there.trial_attempt(0, 1), 0)
        read, written = self.pipeline.inputs(self.experiment.space.constants, place, self._data)
        own = [self.run.path, *map(Path, written)]
        binds = self.pipeline.binds if self.there == self.run else ()  # those of another disk cannot be read
        self._reuse = reuse_of(self.experiment, record, self.site.options, map(Path, read), own, binds)
        return self._reuse.inputs

    @property
    def notes(self) -> list[str]:
        return self._reuse.notes if self._reuse is not None else []

    @property
    def remains(self) -> str:
        """What may still run after the end, for the user; empty if nothing can."""
        return self._backend.remains(self._left)

    def image_change(self) -> str:
        return self.image.change() if self.image is not None else ""

    def recall(self, trial: Trial) -> Outcome | None:
        return self._reuse.memo.find(trial) if self._reuse is not None else None

    def arguments(self, trial: Trial, outcome: Outcome) -> dict[str, Argument]:
        """The hyperparameters as a training got them: constants filled in, output directories its own."""
        args = self._trained_command(trial, outcome).args
        return {name: args[name] for name in trial.params}

    def log_tail(self, outcome: Outcome) -> str:
        return log_excerpt(self.run.trial_attempt(outcome.trial_id, outcome.attempt))

    def gpus_used(self, outcome: Outcome) -> dict[str, Any] | None:
        """What a watched training's supervisor saw: ``gpus`` (index, uuid, name), number of ``looks``, ``error``."""
        result = result_of(self.run.trial_attempt(outcome.trial_id, outcome.attempt)) or {}
        return result.get("gpus_used")

    def attempts(self, stage: StageName) -> list[tuple[int, int]]:
        """All attempts (trial id, attempt) of which there is a directory; the trial of the other stages is NO_TRIAL."""
        if stage == "train":
            return list(self.run.trial_attempts())
        names = (path.name.removeprefix("attempt-") for path in self.run.path.glob(f"{stage}/attempt-*"))
        return [(NO_TRIAL, int(name)) for name in names if name.isdecimal()]

    def recover(self, stage: StageName, attempts: Iterable[tuple[int, int]]) -> list[Outcome]:
        """Final outcomes that earlier attempts (trial id, attempt) left on the disk, once they have all ended."""
        left = [Sent(stage, *key, self._directory(stage, *key)) for key in attempts]
        self._backend.fetch([each.directory for each in left])
        self._wait_for_end([each.directory for each in left])
        found = [self._judged(each, result) for each in left if (result := result_of(each.directory)) is not None]
        return [o for o in found if o.final and not any(words in o.evidence for words in DISK_WORDS)]

    # -- one stage -----------------------------------------------------------------------------------------------

    def _place(self, directory: Path, trial: int | None = None, config: int | None = None) -> Place:
        checkpoints = "" if config is None else str(self.there.checkpoints(config))
        return Place(str(directory), self.run.name, trial, checkpoints)

    def _trained_command(self, trial: Trial, outcome: Outcome) -> Command:
        """The training that an outcome came from, where it ran."""
        directory = outcome.source or self.there.trial_attempt(trial.id, outcome.attempt)
        return self.pipeline.train(self._place(Path(directory), trial.id, trial.config_id), trial.params, self._data)

    def _train_command(self, trial: Trial, attempt: int) -> Command:
        place = self._place(self.there.trial_attempt(trial.id, attempt), trial.id, trial.config_id)
        return self.pipeline.train(place, trial.params, self._data)

    def _directory(self, stage: StageName, trial_id: int, attempt: int) -> Path:
        return self.run.trial_attempt(trial_id, attempt) if stage == "train" else self.run.stage_attempt(stage, attempt)

    def _submit(
        self, command: Command, trial_id: int, attempt: int, title: str, avoid: frozenset[str] = frozenset(),
        expected: Expectation | None = None,
    ) -> Future[Outcome]:  # fmt: skip
        directory = self._directory(command.stage, trial_id, attempt)
        order = self._backend.order(self._spec(command, trial_id, attempt, title, avoid, expected))
        if self.run.gone:
            raise SiteError(self.run.gone)
        make_directory(directory)
        outcome: Future[Outcome] = Future()
        self._running[outcome] = Sent(command.stage, trial_id, attempt, directory, time.time())
        if command.stage == "train":
            self._logs.follow(trial_id, directory / contract.LOG)

        def collect(done: Future[Any]) -> None:
            # An AppFuture answers to any attribute by submitting a task: touch nothing but exception().
            error = done.exception()
            with contextlib.suppress(RuntimeError):  # the collector is closed: nobody waits any more
                self._collector.submit(self._collect, outcome, error)

        self._backend.send(order, directory).add_done_callback(collect)
        return outcome

    def _collect(self, outcome: Future[Outcome], error: BaseException | None) -> None:
        """Set ``outcome`` from the result file, or from what the backend says if there is none."""
        sent = self._running[outcome]
        try:
            found: Outcome | BaseException = self._settled(sent, error)
        except Exception as unexpected:
            found = unexpected
        self._running.pop(outcome, None)
        self._logs.forget(sent.trial_id)
        if isinstance(found, BaseException):
            outcome.set_exception(found)
        else:
            outcome.set_result(found)

    def _settled(self, sent: Sent, error: BaseException | None) -> Outcome:
        """How an attempt ended. ``error`` is the backend's."""
        result = result_of(sent.directory)
        if result is None:  # its worker is lost, but what it ran may still be ending, on the GPU of the next attempt
            self._wait_for_end([sent.directory])
            result = result_of(sent.directory)
        if result is None:
            self._backend.ask_to_stop(sent.directory)  # should its node only have hung: not to go on beside the next
            reason = self._reason(sent.directory, error)
            found = Outcome(sent.trial_id, sent.attempt, "lost", evidence=reason, cause="infrastructure")
        else:
            found = self._judged(sent, result)
            self._backend.note(result, sent.at)
        said = result["log_tail"] if result is not None else ""
        if found.kind != "ok" and (reason := self._trouble(sent.directory, said)):
            with contextlib.suppress(OSError):  # a disk that takes nothing: the reason has been found already
                (sent.directory / contract.RESULT).unlink(missing_ok=True)  # not to be adopted at a resume
            found = replace(found, kind="lost", cause="site", evidence=reason)
        return found

    def _wait_for_end(self, directories: Iterable[Path]) -> None:
        """Return once no attempt in ``directories`` may still run.

        Supervisors whose controller was replaced read so in its lock file, and stop by themselves.
        """
        watch = Watch(self.site.patience, self.lock.path)
        waiting, begun, told = list(directories), time.monotonic(), False
        while waiting := list(watch.still_running(waiting)):
            if not told and time.monotonic() - begun > _WORTH_TELLING:
                told = True
                self.say(f"waiting for {len(waiting)} attempts that may still run to end, or to fall silent")
            time.sleep(min(self.site.poll, 0.2))

    def _trouble(self, directory: Path, said: str) -> str:
        """Why no stage can run at present, not only the one in ``directory``, whose log ends as ``said``.

        Empty if there is no reason.
        """
        blamed = any(words in said for words in FULL_DISK_WORDS)
        own = self.run.gone or self.lock.check() or unwritable(self.run.path, blamed=blamed)
        return own or self._backend.trouble(directory)

    def _reason(self, directory: Path, error: BaseException | None) -> str:
        """Why an attempt has left no result."""
        return f"no {contract.RESULT} was left behind" if error is None else self._backend.reason(directory, error)

    def _judged(self, sent: Sent, result: Mapping[str, Any]) -> Outcome:
        trains = sent.stage == "train"
        objectives = [objective.metric for objective in self.experiment.objectives] if trains else []
        curve = self._logs.curve(sent.trial_id, sent.directory / contract.LOG) if trains else ()
        return judge(result, sent.stage, objectives, sent.trial_id, sent.attempt, curve)

    def _spec(
        self, command: Command, trial_id: int, attempt: int, title: str, avoid: frozenset[str],
        expected: Expectation | None,
    ) -> contract.Spec:  # fmt: skip
        return {
            "title": title,
            "trial": trial_id,
            "attempt": attempt,
            "directory": command.directory,
            "argv": command.argv,
            "programs": command.programs,
            "gpu_index": command.gpu_index,
            "gpu": {"mask": self.site.mask, "unset": self.site.unset_masks, "renumbered": self.site.renumbered},
            "env": command.env,
            "unset": command.unset,
            "path_prefix": str(Path(sys.executable).parent) if not command.programs else None,
            "timeout": command.timeout,
            "stall_timeout": command.stall_timeout,
            "avoid": sorted(avoid),
            "avoid_delay": _AVOID_DELAY,
            "expected": None if expected is None else {"seconds": expected.seconds, "measured": expected.measured},
            "checkpoints": command.checkpoints,
            "scratch": self.site.scratch,
            "watch_gpus": self.watches_gpus,
            "grace": self.site.grace,
            "poll": self.site.poll,
            "controller": {"lock": str(self.lock.path), "nonce": self.lock.nonce, "patience": self.site.patience},
        }


def _finder(experiment: Experiment, say: Callable[[str], None]) -> Finder | None:
    """What finds intermediate values in logs; None where they are not looked for."""
    if experiment.early_stopping is None:
        return None
    pattern = experiment.early_stopping.pattern
    if pattern is None:
        return quick_finder(default_pattern(experiment.objective.metric))
    return BoundedFinder(pattern, say)


def _backend(
    site: Site, experiment: Experiment, run: RunDir, lock: RunLock, end: float | None, say: Callable[[str], None]
) -> Backend:
    if site.endpoint is None:
        return ClusterBackend(site, run, lock, end, say)
    from workflow.globus.backend import GlobusBackend  # whose SDK takes its time

    return GlobusBackend(site.name, site.endpoint, run, own_data=not experiment.model.data_dir)
