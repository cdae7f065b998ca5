"""Site to ``parsl.Config``: executors that notice what Parsl's own don't, and leave nothing behind.

The reasons are measurements of Parsl 2026.10: a killed controller leaves the interchange and all workers behind, Ctrl-C
reaches the interchange as well, and nobody notices an interchange that died.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shlex
import shutil
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import InvalidStateError
from pathlib import Path
from typing import Any

from parsl.addresses import address_by_interface
from parsl.config import Config
from parsl.executors import HighThroughputExecutor, ThreadPoolExecutor
from parsl.executors.base import ParslExecutor
from parsl.executors.errors import BadStateException
from parsl.jobs.states import JobState, JobStatus
from parsl.providers import LocalProvider

from workflow.cluster.batch import BLOCK_START
from workflow.cluster.providers import launcher, provider
from workflow.errors import SiteError, listing
from workflow.lock import RunLock
from workflow.machine import own_address
from workflow.rundir import is_plain
from workflow.site import Site
from workflow.worker import pool

logger = logging.getLogger(__name__)

LABEL = "workers"
_COMMAND_TIMEOUT = 30.0
_UNREGISTERED_BLOCKS = 3

_ALIAS = "run"

REGISTRATION_WARNING, REGISTRATION_PATIENCE = 120.0, 900.0
"""Seconds for which a block runs without a worker until the user hears of it, and until it is cancelled."""

# Runs its arguments in a session of its own, so that Ctrl-C doesn't reach them, and with a parent-death signal, so that
# they end with this process. The argument before them is the expected parent: it may have died before prctl.
_TETHER = (
    "import ctypes,os,sys;os.setsid();ctypes.CDLL(None).prctl(1,15,0,0,0);"
    "os.getppid()==int(sys.argv[1]) or sys.exit(1);os.execv(sys.argv[2],sys.argv[2:])"
)


# Runs a program of Parsl's whose log may lie on a full disk: each lost line would be a traceback on the terminal.
_WITHOUT_LOGGING_ERRORS = (
    "import logging,runpy,sys;logging.raiseExceptions=False;runpy.run_path(sys.argv[1],run_name='__main__')"
)


class InterchangeLost(Exception):
    """The interchange process ended while the campaign ran."""


class SubmissionGate:
    """Lets ``limit`` blocks a minute through, so that a scheduler's blip never becomes a storm of submissions."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self.clock = clock
        self._passed: deque[float] = deque()

    def admit(self, wanted: int) -> int:
        """How many of ``wanted`` blocks may be submitted now; they count as submitted."""
        now = self.clock()
        while self._passed and now - self._passed[0] >= 60.0:
            self._passed.popleft()
        admitted = min(wanted, self.limit - len(self._passed))
        self._passed.extend([now] * admitted)
        return admitted


class WatchedExecutor(HighThroughputExecutor):
    """HighThroughputExecutor that ends with its controller and notices the death of its interchange.

    At most ``submissions_per_minute`` blocks of workers are submitted to the scheduler. ``say`` gets what the user
    should know of blocks that run without a worker; those that go on so are cancelled, since they cost what others do.

    Call ``start`` (so the creation of the data-flow kernel) on the main thread: the parent-death signal follows the
    thread that starts the interchange.
    """

    def __init__(self, submissions_per_minute: int, say: Callable[[str], None], **options: Any) -> None:
        self._gate = SubmissionGate(submissions_per_minute)
        self._say = say
        self._silent: dict[str, float] = {}
        """When blocks without a worker were first seen to run, or last cancelled (time.monotonic)."""
        self._told: set[str] = set()
        self._registered: set[str] = set()
        interchange = [sys.executable, "-c", _WITHOUT_LOGGING_ERRORS, script("interchange.py")]
        tether = [sys.executable, "-I", "-c", _TETHER, str(os.getpid()), *interchange]
        super().__init__(interchange_launch_cmd=tether, block_error_handler=stop_at_unregistered_blocks, **options)

    def scale_out_facade(self, n: int) -> list[str]:
        return list(super().scale_out_facade(self._gate.admit(n)))

    def connected_blocks(self) -> list[str]:
        return self._ask("CONNECTED_BLOCKS")

    def connected_managers(self) -> list[dict[str, Any]]:
        return self._ask("MANAGERS")

    def hold(self, pools: Iterable[str]) -> None:
        """Send no more tasks to pools of workers, as long as another one is left."""
        held = set(pools)
        if any(manager["active"] and manager["manager"] not in held for manager in self.connected_managers()):
            for pool in held:
                self._ask(["HOLD_MANAGER", pool])

    def drain(self, pool: str) -> bool:
        """Send no more tasks to a pool, which is about to end; whether the interchange has heard that."""
        self._ask(["HOLD_MANAGER", pool])
        return not self.bad_state_is_set

    def handle_errors(self, status: Mapping[str, JobStatus]) -> None:
        if self._interchange_died():
            return
        self._look_for_silent_blocks(status)
        super().handle_errors(status)

    def set_bad_state_and_fail_all(self, exception: Exception) -> None:
        """As the original, but safe against results that arrive at the same time."""
        if self.bad_state_is_set:
            return
        self._executor_exception = exception
        self._executor_bad_state.set()
        for future in list(self._tasks.values()):
            try:
                future.set_exception(BadStateException(self, exception))
            except InvalidStateError:
                continue

    def _interchange_died(self) -> bool:
        process = self.interchange_proc
        if process is None or process.poll() is None or self._result_queue_thread_exit.is_set():
            return False
        self.set_bad_state_and_fail_all(InterchangeLost(f"Parsl's interchange ended with code {process.returncode}"))
        return True

    def _look_for_silent_blocks(self, status: Mapping[str, JobStatus]) -> None:
        """Warn of blocks that run and never register, as on a network that can't reach this host, and cancel them."""
        running = {block for block, found in status.items() if found.state == JobState.RUNNING}
        if running - self._registered:
            self._registered.update(self.connected_blocks())
        now = time.monotonic()
        self._silent = {block: self._silent.get(block, now) for block in running - self._registered}
        for block, since in self._silent.items():
            job = self.blocks_to_job_id[block]
            if now - since > REGISTRATION_PATIENCE:
                self.provider.cancel([job])
                self._silent[block] = now  # where the scheduler doesn't take it, once more after as long a time
            elif now - since > REGISTRATION_WARNING and block not in self._told:
                self._told.add(block)
                errors = f"; it says: {said}" if (said := _said_by(status[block])) else ""
                self._say(
                    f"warning: job {job} has run for {now - since:.0f} s, and no worker has registered{errors}\n"
                    f"    -> check that its node reaches this host at {self.address} (address, interface), see "
                    f"{status[block].stderr_path}; after {REGISTRATION_PATIENCE:g} s it is cancelled"
                )

    def _ask(self, question: str | list[str]) -> list[Any]:
        """A query to the interchange that neither waits for a dead one nor for ever."""
        if self._interchange_died() or self.bad_state_is_set:
            return []
        try:
            return list(self.command_client.run(question, timeout_s=_COMMAND_TIMEOUT) or ())
        except Exception as error:
            self.set_bad_state_and_fail_all(InterchangeLost(f"Parsl's interchange doesn't answer: {error}"))
            return []


def stop_at_unregistered_blocks(executor: Any, status: Mapping[str, JobStatus]) -> None:
    """Give the executor up once the last blocks ended, one after the other, without a worker that registered.

    Parsl's own handlers give up at one crashed block, or never.
    """
    latest = [status[block] for block in sorted(status, key=int)[-_UNREGISTERED_BLOCKS:]]
    if len(latest) == _UNREGISTERED_BLOCKS and all(_never_registered(block) for block in latest):
        why = _said_by(latest[-1]) or latest[-1].message or "it left no message"
        executor.set_bad_state_and_fail_all(
            SiteError(f"the last {_UNREGISTERED_BLOCKS} blocks of workers ended before they registered: {why}")
        )


def _said_by(block: JobStatus) -> str:
    """The beginning and end of a block's errors."""
    with contextlib.suppress(OSError, ValueError):
        return (block.stderr_summary or "").strip()
    return ""


def _never_registered(block: JobStatus) -> bool:
    """Parsl says so of one that ended; one that could not be submitted has only its message."""
    return block.state == JobState.MISSING or (block.message or "").startswith("Failed to start block")


class WatchedProvider(LocalProvider):
    """LocalProvider that looks after its block every second, to replace a lost one soon."""

    @property
    def status_polling_interval(self) -> int:
        return 1

    def status(self, job_ids: list[Any]) -> list[JobStatus]:
        """As the original, but a block whose files are gone is as alive as its process; an error would end polling."""
        found = []
        for job_id in job_ids:
            try:
                found += super().status([job_id])
            except OSError:
                alive = Path(f"/proc/{self.resources[job_id]['remote_pid']}").exists()
                status = JobStatus(JobState.RUNNING if alive else JobState.FAILED, message="Parsl's files are gone")
                self.resources[job_id]["status"] = status
                found.append(status)
            if found[-1].stderr_path is None:  # which Parsl names only at the end
                found[-1].stderr_path = f"{self.resources[job_id]['script_path']}.err"
        return found


def parsl_config(
    site: Site, lock: RunLock, directory: Path, end: float | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Config:  # fmt: skip
    """The Parsl configuration of a site; Parsl keeps its files in ``directory``.

    Blocks of workers end when ``lock`` changes hands or its owner falls silent. ``end`` is when the allocation ends in
    which the controller runs, in seconds since the epoch. ``say`` gets what the user should know about blocks.
    """
    is_threaded = site.scheduler == "threads"
    return config_of(_threads(site) if is_threaded else _workers(site, lock, directory, end, say), directory)


def config_of(executor: ParslExecutor, directory: Path) -> Config:
    return Config(
        executors=[executor],
        run_dir=str(directory),
        strategy="simple",
        strategy_period=1,
        max_idletime=3600.0,
        retries=0,
        usage_tracking=0,
        initialize_logging=False,
    )


def _threads(site: Site) -> ThreadPoolExecutor:
    """Its threads are numbered in their names, from 0; each one uses the GPU of its number."""
    return ThreadPoolExecutor(label=LABEL, max_threads=site.workers, thread_name_prefix=LABEL)


def _workers(
    site: Site, lock: RunLock, directory: Path, end: float | None, say: Callable[[str], None]
) -> WatchedExecutor:
    drains = directory / "drains"
    drains.mkdir(exist_ok=True)
    described = directory / "pool.json"
    described.write_text(json.dumps(_pool(site, lock, drains), indent=1))
    watch = [sys.executable, "-I", "-S", pool.__file__, str(described)]
    workers = shlex.join([sys.executable, script("process_worker_pool.py")])
    return WatchedExecutor(
        submissions_per_minute=site.submissions_per_minute,
        say=say,
        label=LABEL,
        address=_address(site),
        loopback_address="127.0.0.1",
        max_workers_per_node=site.workers,
        cores_per_worker=1e-6,  # never the limit: Parsl caps workers at the cores of their node
        prefetch_capacity=0,
        encrypted=True,
        heartbeat_period=site.heartbeat_period,
        heartbeat_threshold=site.heartbeat_threshold,
        # exec: a shell in between would die of the TERM that is for the pool, and its job step with it.
        launch_cmd=_launch_command(f"exec {shlex.join(watch)} {block_end(site, end)} {workers}"),
        provider=_provider(site, lock),
    )


def _provider(site: Site, lock: RunLock) -> Any:
    if site.batch is None:
        return WatchedProvider(init_blocks=1, min_blocks=1, max_blocks=1)
    if site.allocated_nodes:
        return WatchedProvider(
            nodes_per_block=site.allocated_nodes, init_blocks=1, min_blocks=1, max_blocks=1,
            launcher=launcher(site.batch), worker_init=site.batch.beginning,
        )  # fmt: skip
    return provider(site, job_prefix(lock.path))


def job_prefix(lock: Path) -> str:
    """What the names of a run's jobs begin with: the same for every controller of the run, and no other run's."""
    return f"workflow-{hashlib.sha256(os.fsencode(lock.resolve())).hexdigest()[:10]}"


def _pool(site: Site, lock: RunLock, drains: Path) -> pool.Pool:
    return {
        "controller": {"lock": str(lock.path), "nonce": lock.nonce, "patience": site.patience},
        "gpus": list(site.gpus),
        "mask": site.mask,
        "scheduled": site.batch is not None,
        "gpus_per_trial": site.gpus_per_trial,
        "trials_per_gpu": site.trials_per_gpu,
        "workers": site.workers,
        "drains": str(drains),
        "grace": max(3.0, site.grace),
        "heartbeat_period": site.heartbeat_period,
    }


def block_end(site: Site, end: float | None) -> str:
    """When a block ends, in seconds since the epoch, as a word of its script; 0 if it has no end.

    Slurm tells from version 23.02 on; a job's time begins before its script does.
    """
    if site.batch is None or site.allocated_nodes:
        return f"{end or 0:.0f}"
    return f"${{SLURM_JOB_END_TIME:-$(( {BLOCK_START} + {site.batch.walltime // 60 * 60:.0f} ))}}"


def _address(site: Site) -> str:
    """The IP address at which workers find the interchange."""
    interface = site.batch.interface if site.batch else None
    try:
        if interface:
            return str(address_by_interface(interface))
        return own_address() if site.address == "auto" else site.address
    except OSError as error:
        there = listing(name for _, name in socket.if_nameindex())
        what = f"interface {interface}" if interface else "a route to other machines"
        raise SiteError(
            f"{what} is not there: {error.strerror}; interfaces: {there}: set interface or address"
        ) from error


def _launch_command(pool: str) -> str:
    """Parsl's own command with this interpreter's pool; braces of paths survive its two rounds of ``format``."""
    from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD

    escaped = pool.replace("{", "{{{{").replace("}", "}}}}")
    return str(DEFAULT_LAUNCH_CMD).replace("process_worker_pool.py", escaped, 1)


def script(name: str) -> str:
    """A script that Parsl installed; beside this interpreter, since a virtual environment need not be activated."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise SiteError(f"Parsl's {name} is not installed beside {sys.executable}: pip install parsl")
    return found


def plain_alias(directory: Path) -> tuple[Path, Path | None]:
    """``directory`` under a name that Parsl's unquoted shell commands can carry.

    Returns the name and, if one had to be made, the temporary directory that holds it: a symbolic link, to be removed
    at the end.
    """
    if is_plain(directory):
        return directory, None
    for place in filter(is_plain, (Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp"))):
        with contextlib.suppress(OSError):
            holder = Path(tempfile.mkdtemp(prefix="workflow-", dir=place))
            alias = holder / _ALIAS
            alias.symlink_to(directory, target_is_directory=True)
            return alias, holder
    raise SiteError(f"{directory}: Parsl needs a path without blanks and the like, and /tmp takes none")


def leads_to(holder: Path, directory: Path) -> bool:
    """Whether a temporary directory is one that ``plain_alias`` has made for this one."""
    try:
        return (holder / _ALIAS).readlink() == directory
    except OSError:
        return False
