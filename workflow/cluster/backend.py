"""Stages as Parsl bash_apps, on a disk that their workers share with this machine."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from parsl.app.errors import BashExitFailure
from parsl.config import Config

from workflow.attempt import ask_to_stop
from workflow.cluster.apps import command_app, command_line
from workflow.cluster.batch import clock
from workflow.cluster.executors import WatchedExecutor, parsl_config
from workflow.cluster.kernel import Kernel
from workflow.cluster.parsl_log import quietly
from workflow.cluster.pools import Pools
from workflow.disk import with_remedy
from workflow.durations import LONGER
from workflow.errors import one_line
from workflow.lock import RunLock
from workflow.rundir import RunDir
from workflow.site import Site
from workflow.worker import contract


class ClusterBackend:
    """Threads, processes and jobs of a site, as ``protocols.Backend`` says.

    ``lock`` is held: blocks of workers end once another controller stands in its file. ``end`` is when the allocation
    ends in which this controller runs, in seconds since the epoch. ``say`` gets what the user should know of nodes and
    blocks.
    """

    def __init__(self, site: Site, run: RunDir, lock: RunLock, end: float | None, say: Callable[[str], None]) -> None:
        self.site = site
        self.there = run
        self.lock = lock
        self.end = end
        self.say = say
        self._kernel = Kernel(site.name, run.parsl)
        self._pools = Pools(site, say)

    def open(self) -> None:
        self._app = command_app(self.site, self._kernel.start(self._config))

    def _config(self, directory: Path) -> Config:
        config = parsl_config(self.site, self.lock, directory, self.end, self.say)
        (executor,) = config.executors
        self._pools.executor = executor if isinstance(executor, WatchedExecutor) else None
        if self._pools.provider is not None:
            self._pools.provider.clear()
        return config

    def close(self, wait: Callable[[], bool]) -> None:
        if self._pools.provider is not None:
            self._pools.provider.closing.set()
        deadline = time.monotonic() + self.site.grace + 2 * self.site.poll + 1
        while wait() and time.monotonic() < deadline:
            time.sleep(0.05)
        self._kernel.clean_up()
        self._end_blocks()
        self._kernel.close()

    def _end_blocks(self) -> None:
        """Cancel them, whatever Parsl has done."""
        executor, provider = self._pools.executor, self._pools.provider
        if executor is not None:
            if executor.interchange_proc is not None and executor.interchange_proc.poll() is None:
                executor.interchange_proc.kill()  # without which Parsl submits no further block
            quietly(lambda: executor.provider.cancel(list(executor.provider.resources)))
            if provider is not None:
                quietly(provider.clear)

    def order(self, spec: contract.Spec) -> str:
        return command_line(spec)

    def send(self, order: str, directory: Path) -> Future[Any]:
        return self._app(order)

    def reason(self, directory: Path, error: BaseException) -> str:
        if not isinstance(error, BashExitFailure):
            return one_line(error)
        said = ""
        with contextlib.suppress(OSError):
            said = " ".join((directory / contract.ERRORS).read_text(errors="replace").split())[-500:]
        return f"the supervisor ended with exit code {error.exitcode}: {said}"

    def fetch(self, directories: Iterable[Path]) -> None:
        """Nothing: the disk is the same one."""

    def ask_to_stop(self, directory: Path, why: str = "") -> None:
        ask_to_stop(directory, why)

    def note(self, result: Mapping[str, Any], submitted: float) -> None:
        if result["pool"]:
            self._pools.note(result, submitted)

    def shun(self, host: str) -> None:
        """Hold or end a host's pools of workers; one that Parsl sends a task to all the same hands it back."""
        self._pools.shun(host)

    def failure(self) -> str:
        if self._kernel.flow is None:
            return "Parsl is not running"
        executor = self._pools.executor
        if executor is not None and executor.bad_state_is_set:
            return with_remedy(str(executor.executor_exception))
        return ""

    @property
    def no_trial_fits(self) -> str:
        why, batch = self._pools.no_trial_fits, self.site.batch
        if not why or batch is None:
            return ""
        return f"no trial fits into blocks of {clock(batch.walltime)}; the last one was {why}\n    -> {LONGER}"

    def trouble(self, directory: Path) -> str:
        """None beside what this machine sees by itself: it is on the same disk."""
        return ""

    def remains(self, running: int) -> str:
        return ""
