"""Stages as Parsl bash_apps: what the campaign submits, and how it comes back as an outcome."""

from __future__ import annotations

import builtins
import contextlib
import json
import logging
import math
import os
import shlex
import shutil
import sys
import threading
import time
import types
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from parsl import bash_app
from parsl.app.errors import BashExitFailure
from parsl.config import Config
from parsl.dataflow.dflow import DataFlowKernel

from workflow import supervise
from workflow.cluster.batch import clock
from workflow.cluster.executors import LABEL, WatchedExecutor, parsl_config, plain_alias
from workflow.cluster.providers import Steady
from workflow.config.experiment import Experiment
from workflow.curves import BoundedFinder, Finder, RunningLog, default_pattern, quick_finder
from workflow.durations import LONGER, Expectation
from workflow.errors import FULL_DISK, InputError, SiteError, disk_remedy, listing, printable, shortened
from workflow.image import ImageWatch
from workflow.journal import Record
from workflow.lock import RunLock
from workflow.metrics import judge
from workflow.reuse import MOST_FILES, Memo, Source, inputs_digest, read_sources
from workflow.rundir import RunDir
from workflow.site import Site
from workflow.stages import Argument, Command, Place, StageName
from workflow.triage import ShortBlocks
from workflow.trial import Curve, Outcome, Trial, spoken
from workflow.worker import contract
from workflow.worker.processes import is_alive

_MAX_COMMAND = 120_000
"""Bytes of one bash command: Linux refuses an argument of 128 KiB and more."""

_CLOSE_TIMEOUT = 30.0

_LOG_LINES, _LOG_BYTES = 15, 4000
"""How much of a log a message shows."""

_DISK_WORDS = tuple(os.strerror(number) for number in FULL_DISK)
"""In the evidence of a failure that is worth another try: the disk was full, and nobody could look at it then."""

_RESULT_KEYS = {
    "ended_by", "exit_code", "started", "ended", "host", "gpu", "scores", "result_lines", "log_tail", "peak_memory",
    "memory_limit", "oom_kills", "pool",
}  # fmt: skip

_AVOID_DELAY = 10.0
"""Seconds for which a worker on a host to be avoided waits with a task in hand, for others to take it."""

_WORTH_TELLING = 3.0
"""Seconds of a wait for what may still run, after which the user hears of it."""

_COLLECTORS = 32
"""Threads that take results; after a loss most of them wait for the attempt's end."""

_SHORT_BLOCKS = 3
"""Blocks in a row that only handed trials back, after which no trial counts as fitting into one."""

_PAUSE = 20
"""Between two looks into the logs of what runs, in times that one and the work on its news took."""

_RESERVE = 20.0
"""Seconds before the end of its allocation, beside the grace, at which a controller stops."""

_PROBE, _LARGE_PROBE = 1 << 18, 1 << 26
"""Bytes that a disk must take to count as not full; more where a log blames it, since models tidy up half a file."""


def _command(command: str) -> str:
    return command


def _app_function() -> types.FunctionType:
    """A bash_app's function that travels by value: workers then need Parsl, but not this package."""
    function = types.FunctionType(_command.__code__, {"__builtins__": builtins}, "stage")
    function.__module__ = "__main__"
    return function


def _pinning(site: Site) -> Callable[[str], str]:
    """The app's function on Parsl's thread executor, which pins nothing: a GPU for each of its numbered threads."""

    def stage(command: str) -> str:
        number = int(threading.current_thread().name.rpartition("_")[2])
        return f"export {site.mask}={shlex.quote(site.gpus[number])}; {command}"

    return stage


class ParslRunner:
    """Runs stages on a site. Use as a context manager, on the main thread.

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
        self.there = site.endpoint.run(run) if site.endpoint else run
        """The run as the workers see it."""
        self.lock = lock
        self.experiment = experiment
        self.pipeline = experiment.pipeline(site.container, self.there)
        self.image: ImageWatch | None = None
        """What tells that the image has changed since the controller's start, where it can be seen from here."""
        self.watches_gpus = False
        """Whether stages are to tell which GPUs they used (``gpus_used``)."""
        self._data: Place | None = None
        self._running: dict[Future[Outcome], Path] = {}
        self._finder = self._make_finder()
        self._logs: dict[int, RunningLog] = {}
        """Of trainings that run or wait to run, by trial, where their intermediate values count."""
        self._next_look = 0.0
        self._collector = ThreadPoolExecutor(_COLLECTORS, "collect")
        self._memo: Memo | None = None
        self._bind_sources: dict[str, Source] = {}
        self._shunned: set[str] = set()
        self._pools: dict[str, dict[str, str]] = {}
        """Parsl's pools of workers by host, with the files that drain them, as stages' results tell."""
        self._node_names: dict[str, str] = {}
        """What the scheduler calls a host."""
        self._drained: set[str] = set()
        self._poor: set[str] = set()
        self._submitted: dict[Path, float] = {}
        """When what runs was submitted, in seconds since the epoch."""
        self._short = ShortBlocks(_SHORT_BLOCKS * site.nodes_per_block)
        self._alias: Path | None = None
        self._kernel: DataFlowKernel | None = None

    @property
    def workers(self) -> int:
        return self.site.capacity

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
        return self.pipeline.keeps_checkpoints(self.experiment.constants)

    def out_of_time(self) -> str:
        left = self.end - time.time() if self.end else math.inf
        reserve = self.site.grace + _RESERVE
        return f"the allocation ends in {left:.0f} s" if left < reserve else ""

    def __enter__(self) -> ParslRunner:
        directory = self.run.parsl
        directory.mkdir(parents=True, exist_ok=True)
        self._log = _log_to(directory / "parsl.log")
        alias, self._alias = plain_alias(directory)
        try:
            config = self._config(alias)
            if isinstance(provider := getattr(config.executors[0], "provider", None), Steady):
                provider.clear()
            self._kernel = DataFlowKernel(config)
        except SiteError as error:
            self.__exit__()
            raise SiteError(f"site {self.site.name}: {error}") from error
        except Exception as error:
            self.__exit__()
            raise SiteError(f"site {self.site.name}: Parsl cannot start: {error}; see {directory}") from error
        self._app = self._make_app(self._kernel)
        return self

    def _config(self, directory: Path) -> Config:
        """Raises SiteError."""
        return parsl_config(self.site, self.lock, directory, self.end, self.say)

    def _make_app(self, kernel: DataFlowKernel) -> Callable[..., Future[Any]]:
        function = _pinning(self.site) if self.site.scheduler == "threads" and self.site.gpus else _app_function()
        app: Callable[..., Future[Any]] = bash_app(data_flow_kernel=kernel, executors=[LABEL])(function)
        return app

    def __exit__(self, *_: object) -> None:
        """Stop what runs and end every process of the site, waiting for a limited time."""
        self.stop()
        provider = self._provider
        if provider is not None:
            provider.closing.set()
        if self._kernel is not None:
            self._let_end()
            self._clean_up(self._kernel)
        self._collector.shutdown(wait=False, cancel_futures=True)
        if isinstance(self._finder, BoundedFinder):
            self._finder.close()
        logging.getLogger("parsl").removeHandler(self._log)
        self._log.close()
        if self._alias is not None:
            shutil.rmtree(self._alias, ignore_errors=True)

    def prepared(self, attempt: int) -> None:
        """Train on what this attempt of preprocess has written."""
        self._data = self._place(self.there.stage_attempt("preprocess", attempt))

    def preprocess(self, attempt: int) -> Future[Outcome]:
        place = self._place(self.there.stage_attempt("preprocess", attempt))
        return self._submit(self.pipeline.preprocess(place), -1, attempt, f"preprocess, attempt {attempt}")

    def shun(self, host: str) -> None:
        """Hold a host's pools of workers; one that Parsl sends a task to all the same hands it back.

        Where other jobs can take their place, elsewhere, they end instead.
        """
        self._shunned.add(host)
        self._hold_pools(host)

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
        """Keep stages that wait at the workers' door from starting; their outcomes come as ``deferred``."""
        for directory in list(self._running.values()):
            if not (directory / contract.HEARTBEAT).exists():
                with contextlib.suppress(OSError):
                    (directory / contract.STOP).touch()

    def _make_finder(self) -> Finder | None:
        """What finds intermediate values in logs; None where they are not looked for."""
        if self.experiment.early_stopping is None:
            return None
        pattern = self.experiment.early_stopping.pattern
        if pattern is None:
            return quick_finder(default_pattern(self.experiment.objective.metric))
        return BoundedFinder(pattern, self.say)

    def intermediate(self) -> Iterator[tuple[int, list[tuple[int, float]]]]:
        """What running trainings have printed since the last look: their ids, and (step, value) in the log's order.

        Looks at its own pace, at most as often as a supervisor does: hundreds of logs on a slow disk cost little.
        """
        begun = time.monotonic()
        if begun < self._next_look:
            return
        for trial_id, log in list(self._logs.items()):
            if news := log.news():
                yield trial_id, news
        self._next_look = time.monotonic() + max(self.site.poll, _PAUSE * (time.monotonic() - begun))

    def stop_early(self, trial_id: int, why: str) -> None:
        """Ask a running training to stop since it is hopeless; its outcome comes as ``stopped``, unless it ends before.

        Nothing remembers that: a model may remove the file, or the disk be full, and then it is to be asked again.
        """
        if (log := self._logs.get(trial_id)) is not None:
            draft = log.path.with_name(f"{contract.STOP}.new")
            with contextlib.suppress(OSError):
                draft.write_text(why, encoding="utf-8")
                draft.replace(log.path.with_name(contract.STOP))

    def stop(self) -> None:
        """Ask every running stage to stop; their outcomes come as ``lost``."""
        for directory in list(self._running.values()):
            with contextlib.suppress(OSError):
                (directory / contract.STOP).touch()

    def failure(self) -> str:
        """Why no further stage can run on this site; empty while it works."""
        if self.lock.lost:
            return self.lock.lost
        if self._kernel is None:
            return "Parsl is not running"
        executor = self._kernel.executors[LABEL]
        if isinstance(executor, WatchedExecutor) and executor.bad_state_is_set:
            return str(executor.executor_exception)
        return self._no_trial_fits()

    def _no_trial_fits(self) -> str:
        """Why not; empty as long as something runs that shows the contrary, or may."""
        why, batch = self._short.evidence, self.site.batch
        begun = (directory / contract.HEARTBEAT for directory in list(self._running.values()))
        if not why or batch is None or any(beat.exists() for beat in begun):
            return ""
        return f"no trial fits into blocks of {clock(batch.walltime)}; the last one was {why}\n    -> {LONGER}"

    def inputs(self, record: Record) -> str | None:
        place = self._place(self.there.trial_attempt(0, 1), 0)
        read, written = self.pipeline.inputs(self.experiment.constants, place, self._data)
        without = [self.run.path, *map(Path, written)]
        self._bind_sources = read_sources(() if self.site.endpoint else self.pipeline.binds, without)
        digest = inputs_digest(self.experiment, record, self.site.options, map(Path, read), without, self._bind_sources)
        self._memo = Memo(self.experiment.reuse, digest)
        return digest

    @property
    def remains(self) -> str:
        """What may still run after the end, for the user; empty if nothing can."""
        return ""

    @property
    def notes(self) -> list[str]:
        """What the user should know about earlier runs that were to be reused."""
        if self._memo is None or not self.experiment.reuse:
            return []
        coarse = [path for path, source in self._bind_sources.items() if not source.whole]
        why = f"cannot be read, or holds more than {MOST_FILES} files: for reuse its modification time stands for them"
        different = self._memo.different
        return [
            *(f"bind {path}: {why}" for path in coarse),
            *(f"{run}: a run with another model, data or arguments: its results are not reused" for run in different),
        ]

    def image_change(self) -> str:
        return self.image.change() if self.image is not None else ""

    def recall(self, trial: Trial) -> Outcome | None:
        return self._memo.find(trial) if self._memo is not None else None

    def arguments(self, trial: Trial, outcome: Outcome) -> dict[str, Argument]:
        """The hyperparameters as a training got them: constants filled in, output directories its own."""
        args = self._trained_command(trial, outcome).args
        return {name: args[name] for name in trial.params}

    def log_tail(self, outcome: Outcome) -> str:
        return self.tail_of(self.run.trial_attempt(outcome.trial_id, outcome.attempt))

    def gpus_used(self, outcome: Outcome) -> dict[str, Any] | None:
        """What a watched training's supervisor saw: ``gpus`` (index, uuid, name), number of ``looks``, ``error``."""
        result = _load(self.run.trial_attempt(outcome.trial_id, outcome.attempt)) or {}
        return result.get("gpus_used")

    def tail_of(self, directory: Path) -> str:
        """The end of an attempt's log and where it lies, as lines of a message; empty if there is none."""
        log = directory / contract.LOG
        with contextlib.suppress(OSError), log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_BYTES))
            lines = printable(file.read().decode(errors="replace")).splitlines()[-_LOG_LINES:]
            return "".join(f"\n    | {shortened(line)}" for line in lines) + f"\n    -> see {log}"
        return ""

    def attempts(self, stage: StageName) -> list[tuple[int, int]]:
        """All attempts (trial id, attempt) of which there is a directory; the trial of the other stages is -1."""
        if stage == "train":
            return list(self.run.trial_attempts())
        names = (path.name.removeprefix("attempt-") for path in self.run.path.glob(f"{stage}/attempt-*"))
        return [(-1, int(name)) for name in names if name.isdecimal()]

    def recover(self, stage: StageName, attempts: Iterable[tuple[int, int]]) -> list[Outcome]:
        """Final outcomes that earlier attempts (trial id, attempt) left on the disk, once they have all ended."""
        directories = {key: self._directory(stage, *key) for key in attempts}
        self._wait_for_end(directories.values())
        found = [self._read(stage, directory, *key) for key, directory in directories.items()]
        return [o for o in found if o is not None and o.final and not any(w in o.evidence for w in _DISK_WORDS)]

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
        payload = self._payload(self._spec(command, trial_id, attempt, title, avoid, expected))
        if self.run.gone:
            raise SiteError(self.run.gone)
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SiteError(
                f"{directory}: cannot be made ({error.strerror}); {disk_remedy(error)}, then resume"
            ) from error
        outcome: Future[Outcome] = Future()
        self._running[outcome], self._submitted[directory] = directory, time.time()
        if self._finder is not None and command.stage == "train":
            self._logs[trial_id] = RunningLog(directory / contract.LOG, self._finder)

        def collect(done: Future[Any]) -> None:
            # An AppFuture answers to any attribute by submitting a task: touch nothing but exception().
            error = done.exception()
            with contextlib.suppress(RuntimeError):  # the collector is closed: nobody waits any more
                self._collector.submit(self._collect, outcome, command.stage, trial_id, attempt, error)

        self._start(payload, directory).add_done_callback(collect)
        return outcome

    def _start(self, payload: Any, directory: Path) -> Future[Any]:
        """Send a stage off. Once the future is done, what there is of its result lies in ``directory``."""
        return self._app(payload)

    def _collect(
        self, outcome: Future[Outcome], stage: StageName, trial_id: int, attempt: int, error: BaseException | None
    ) -> None:
        """Set ``outcome`` from the result file, or from what Parsl says if there is none."""
        try:
            found = self._read(stage, self._running[outcome], trial_id, attempt)
            if found is None:  # its worker is lost, but what it ran may still be ending, on the GPU of the next attempt
                self._wait_for_end([self._running[outcome]])
                found = self._read(stage, self._running[outcome], trial_id, attempt)
            self._note_node(self._running[outcome])
            if found is None:
                self._give_up_on(self._running[outcome])
                reason = self._reason(outcome, error)
                found = Outcome(trial_id, attempt, "lost", evidence=reason, cause="infrastructure")
            if found.kind != "ok" and (reason := self._trouble(self._running[outcome])):
                (self._running[outcome] / contract.RESULT).unlink(missing_ok=True)  # not to be adopted at a resume
                found = replace(found, kind="lost", cause="site", evidence=reason)
        except Exception as unexpected:
            self._forget(outcome, trial_id)
            outcome.set_exception(unexpected)
            return
        self._forget(outcome, trial_id)
        outcome.set_result(found)

    def _forget(self, outcome: Future[Outcome], trial_id: int) -> None:
        self._running.pop(outcome, None)
        self._logs.pop(trial_id, None)

    def _wait_for_end(self, directories: Iterable[Path]) -> None:
        """Return once no attempt in ``directories`` may still run.

        Supervisors whose controller was replaced read so in its lock file, and stop by themselves.
        """
        watch = _Watch(self.site.patience, self.lock.path)
        waiting, begun, told = list(directories), time.monotonic(), False
        while waiting := [directory for directory in waiting if watch.may_run(directory)]:
            if not told and time.monotonic() - begun > _WORTH_TELLING:
                told = True
                self.say(f"waiting for {len(waiting)} attempts that may still run to end, or to fall silent")
            time.sleep(min(self.site.poll, 0.2))

    def _give_up_on(self, directory: Path) -> None:
        """Nothing came of an attempt: should its node only have hung, it must not go on beside the next one."""
        if directory.is_relative_to(self.there.path):
            with contextlib.suppress(OSError):
                (directory / contract.STOP).touch()

    def _trouble(self, directory: Path) -> str:
        """Why no stage can run at present, not only the one in ``directory``; empty if there is no reason."""
        said = (_load(directory) or {}).get("log_tail", "")
        blamed = any(words in said for words in _DISK_WORDS)
        return self.run.gone or _unwritable(self.run.path, _LARGE_PROBE if blamed else _PROBE)

    def _note_node(self, directory: Path) -> None:
        """What a stage's result tells of its node: the pool in which it ran, its GPUs, and whether its block ends."""
        result, submitted = _load(directory), self._submitted.pop(directory, math.inf)
        if result is None or not result.get("pool"):
            return
        block = result.get("block") or {}
        self._note_gpus(result["host"], block)
        if not self.in_allocation and block:
            self._short.learn(result, submitted)
        if result.get("block_ends") and not self.in_allocation and block.get("drain") not in self._drained:
            self._drain(result["pool"], block["drain"])
        self._node_names[result["host"]] = block.get("node") or ""
        pools = self._pools.setdefault(result["host"], {})
        if result["pool"] not in pools:
            pools[result["pool"]] = block.get("drain", "")
            self._hold_pools(result["host"])

    def _note_gpus(self, host: str, block: dict[str, Any]) -> None:
        wanted, given = len(self.site.gpus), block.get("gpus")
        if given is not None and len(given) < wanted and host not in self._poor:
            self._poor.add(host)
            shown = listing(given) or "none"
            self.say(f"warning: {host} has {len(given)} of the site's {wanted} GPUs ({shown}), and runs fewer trials")

    def _drain(self, pool: str, file: str) -> None:
        """Let a pool end whose block has no time for another trial: its workers would only wait."""
        self._drained.add(file)
        executor = self._kernel.executors[LABEL] if self._kernel is not None else None
        if isinstance(executor, WatchedExecutor) and executor.drain(pool):
            with contextlib.suppress(OSError):
                Path(file).touch()

    def _hold_pools(self, host: str) -> None:
        if host not in self._shunned or self._kernel is None:
            return
        executor, pools, node = self._kernel.executors[LABEL], self._pools.get(host, {}), self._node_names.get(host)
        if self._provider is not None and node and self._provider.avoid(node):
            for pool, file in pools.items():
                self._drain(pool, file)
        elif isinstance(executor, WatchedExecutor):
            executor.hold(pools)

    def _reason(self, outcome: Future[Outcome], error: BaseException | None) -> str:
        if error is None:
            return f"no {contract.RESULT} was left behind"
        if not isinstance(error, BashExitFailure):
            return " ".join(f"{type(error).__name__}: {error}".split())[:500]
        said = ""
        with contextlib.suppress(OSError):
            said = " ".join((self._running[outcome] / contract.ERRORS).read_text(errors="replace").split())[-500:]
        return f"the supervisor ended with exit code {error.exitcode}: {said}"

    def _read(self, stage: StageName, directory: Path, trial_id: int, attempt: int) -> Outcome | None:
        result = _load(directory)
        if result is None:
            return None
        objectives = [objective.metric for objective in self.experiment.objectives] if stage == "train" else []
        return judge(result, stage, objectives, trial_id, attempt, self._curve(stage, directory, trial_id))

    def _curve(self, stage: StageName, directory: Path, trial_id: int) -> Curve:
        """The intermediate values of a training that has ended; none where nobody wants them."""
        if self._finder is None or stage != "train":
            return ()
        path, log = directory / contract.LOG, self._logs.get(trial_id)
        if log is None or log.path != path:
            log = RunningLog(path, self._finder)
        return log.curve()

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

    def _payload(self, spec: contract.Spec) -> Any:
        """What the app gets of a stage. Raises InputError for one that no command line can carry."""
        words = [sys.executable, "-I", "-S", str(Path(supervise.__file__)), json.dumps(spec)]
        errors = shlex.quote(f"{spec['directory']}/{contract.ERRORS}")
        line = f"exec {shlex.join(words)} 2>{errors}"
        check_length(spec["title"], line)
        return line

    @property
    def _provider(self) -> Steady | None:
        """That of a scheduler, if there is one."""
        executor = self._kernel.executors[LABEL] if self._kernel is not None else None
        provider = executor.provider if isinstance(executor, WatchedExecutor) else None
        return provider if isinstance(provider, Steady) else None

    def _let_end(self) -> None:
        """Give the stages that were told to stop the time that they have for it."""
        deadline = time.monotonic() + self.site.grace + 2 * self.site.poll + 1
        while self._running and not self.failure() and time.monotonic() < deadline:
            time.sleep(0.05)

    def _clean_up(self, kernel: DataFlowKernel) -> None:
        """Parsl's clean-up can wait for ever for a worker; the blocks are cancelled in any case."""
        executor = kernel.executors[LABEL]
        cleaner = threading.Thread(target=_quietly, args=(kernel.cleanup,), daemon=True)
        cleaner.start()
        cleaner.join(_CLOSE_TIMEOUT)
        if isinstance(executor, WatchedExecutor):
            _quietly(lambda: executor.provider.cancel(list(executor.provider.resources)))
            if self._provider is not None:
                _quietly(self._provider.clear)
            if executor.interchange_proc is not None and executor.interchange_proc.poll() is None:
                executor.interchange_proc.kill()


def check_length(title: str, line: str) -> None:
    """Raises InputError for a command line that is too long for Linux."""
    if len(line) > _MAX_COMMAND:
        raise InputError(
            f"{title}: its command line has {len(line)} characters\n"
            f"    -> stay below {_MAX_COMMAND}: pass large values as a file"
        )


def _load(directory: Path) -> dict[str, Any] | None:
    """The supervisor's result of an attempt; None if there is none, or only a model's own file of that name."""
    try:
        result = json.loads((directory / contract.RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) and result.keys() >= _RESULT_KEYS else None


class _Watch:
    """Tells attempts whose supervisors may still live from those that have ended.

    A supervisor on this host can be asked; one elsewhere counts as dead after ``patience`` seconds without a beat, and
    a living one that is stopped after three times as many. ``lock`` is a file that beats with the same clock.
    """

    def __init__(self, patience: float, lock: Path) -> None:
        self.patience = patience
        self.lock = lock
        self._beats: dict[Path, tuple[int, float]] = {}
        """The last beat of each attempt and when it was heard (time.monotonic)."""

    def may_run(self, directory: Path) -> bool:
        beat = _beat(directory)
        if beat is None or (directory / contract.RESULT).exists():
            return False
        alive = is_alive(beat[1])
        if alive is False:
            return False
        limit = 3 * self.patience if alive else self.patience
        return self._silence(directory, beat[0]) < limit

    def _silence(self, directory: Path, stamp: int) -> float:
        """Seconds since the last beat, which this process need not have heard."""
        now = time.monotonic()
        if directory not in self._beats:
            age = max(0, (_stamp(self.lock) or stamp) - stamp) / 1e9
            self._beats[directory] = stamp, now - age
        elif self._beats[directory][0] != stamp:
            self._beats[directory] = stamp, now
        return now - self._beats[directory][1]


def _beat(directory: Path) -> tuple[int, dict[str, Any]] | None:
    """When an attempt's supervisor last gave a sign of life, and its identity; None if it never started."""
    try:
        with (directory / contract.HEARTBEAT).open() as file:  # to open it is what makes a network disk look
            stamp = os.fstat(file.fileno()).st_mtime_ns
            try:
                process = json.load(file)
            except ValueError:
                process = None
    except OSError:
        return None
    return stamp, process if isinstance(process, dict) else {}


def _unwritable(directory: Path, size: int) -> str:
    """Why so many bytes cannot be written there, as on a full disk; empty if they can.

    Only a write tells: free space knows no quota.
    """
    probe = directory / f".probe.{threading.get_ident()}"
    try:
        probe.write_bytes(bytes(size))
        probe.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            probe.unlink()
        return f"{directory}: {error.strerror}; {disk_remedy(error)}"
    return ""


def _stamp(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def runner_for(
    site: Site, experiment: Experiment, run: RunDir, lock: RunLock, *,
    end: float | None = None, say: Callable[[str], None] = lambda text: None,
) -> ParslRunner:  # fmt: skip
    """The runner of a site."""
    if site.endpoint is None:
        return ParslRunner(site, experiment, run, lock, end=end, say=say)
    from workflow.globus.runner import GlobusRunner  # which builds on this module

    return GlobusRunner(site, site.endpoint, experiment, run, lock)


def _quietly(action: Any) -> None:
    try:
        action()
    except Exception:  # of Parsl's: one step that fails must not keep the next from ending processes
        logging.getLogger("parsl").exception("clean-up")


class _LogFile(logging.FileHandler):
    """A full disk costs the log and nothing else; an error here would stop Parsl's own callbacks for ever."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing: the journal is what reports a full disk."""

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


def _log_to(path: Path) -> logging.Handler:
    """Parsl's warnings into a file of the run; at INFO its log costs more than the submission itself."""
    logger = logging.getLogger("parsl")
    logger.propagate = False
    handler = _LogFile(path, delay=True)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logger.addHandler(handler)
    return handler
