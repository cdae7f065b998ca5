"""Runs one stage on a worker, beside the container: ``python supervise.py SPEC``, standard library only.

It is started by file path, so that no package import is paid and workers need no installation of this package. SPEC is
a JSON object (see ``Spec``). The stage gets a session and process group of its own; whatever it starts is stopped with
it. ``command.sh``, ``model.log``, a heartbeat and, last and atomically, ``result.json`` are written into the
attempt's directory. The exit code is 0 once ``result.json`` is there, whatever the stage did: what a trial is worth is
decided by the controller.

A supervisor whose controller is gone (the lock file names another one, is missing, or its beat stands still) stops its
stage: a resumed campaign never meets trials of the one before.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import shlex
import shutil
import signal
import socket
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would cost some milliseconds of every trial
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any, TypedDict

    class Controller(TypedDict):
        """Whom the trial belongs to: the lock file, its owner's nonce, and seconds until a still beat means death."""

        lock: str
        nonce: str
        patience: float

    class Masks(TypedDict):
        """The variable that shows a process its GPUs, those to unset beside it, and whether it counts them from 0."""

        mask: str
        unset: list[str]
        renumbered: bool

    class Expected(TypedDict):
        """Seconds that a stage may take, and whether trainings have told so, not only the time-out."""

        seconds: float
        measured: bool

    class Spec(TypedDict):
        """What to run. Times are in seconds; ``gpu_index`` is the word of argv that becomes the GPU's number.

        ``avoid`` names hosts on which this stage shall not run: it hands the task back there, after ``avoid_delay``.
        ``expected`` is how long it may take: it is handed back where the block ends before. ``checkpoints`` is a
        directory that all attempts share, ``scratch`` one for temporary files, with variables of this host.
        """

        title: str
        trial: int
        attempt: int
        directory: str
        argv: list[str]
        programs: list[str]
        gpu_index: int | None
        gpu: Masks
        env: dict[str, str]
        unset: list[str]
        path_prefix: str | None
        timeout: float | None
        stall_timeout: float | None
        avoid: list[str]
        avoid_delay: float
        expected: Expected | None
        checkpoints: str | None
        scratch: str | None
        watch_gpus: bool
        grace: float
        poll: float
        controller: Controller | None


RESULT, LOG, COMMAND, ERRORS = "result.json", "model.log", "command.sh", "supervisor.log"
HEARTBEAT, STOP = ".workflow-heartbeat", ".workflow-stop"  # names that no model has for its own files

TOKEN = "WORKFLOW_ATTEMPT"
"""The variable by which what a stage has started is found again if its supervisor is killed."""

BLOCK = "WORKFLOW_BLOCK"
"""The variable in which a node's pool (``pool``) tells its workers' stages of GPUs and the end of the block."""

EXIT_FENCED = 76
"""The controller that sent this trial is gone: nothing was started and nothing written."""

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
BLOCK_ENDS = "its block ends"

_FRESH, _HALF = 0.9, 0.5
"""The share of what a block had when its pool started that a training which would need more waits for: no other block
has more. The second one is for a training of which only the time-out is known: it may well take less, and tells."""

HOPELESS = "hopeless: "
"""What comes before the reason that a stop file holds, which tells a trial that was stopped early."""

_BLOCK_MARGIN = 5.0
"""Seconds before the end of a block, beside the grace, at which everything has to be over."""

_RESULT_LINES = 200
_MAX_LINE = 1 << 16
_MAX_SCORES = 1 << 20
_TAIL = 4000


class Fence:
    """Tells whether the controller that sent this trial still lives."""

    def __init__(self, controller: Controller | None) -> None:
        self.controller = controller
        self._seen = ""
        self._changed = time.monotonic()

    def broken(self) -> str:
        """Why the trial has to stop; empty while the controller lives."""
        if self.controller is None:
            return ""
        try:
            with open(self.controller["lock"], encoding="utf-8") as file:
                text = file.read()
        except FileNotFoundError:
            return "the controller has ended"
        except OSError:
            text = self._seen  # a file system's hiccup is no news
        if text and self.controller["nonce"] not in text:
            return "another controller has taken over"
        now = time.monotonic()
        if text != self._seen:
            self._seen, self._changed = text, now
        if now - self._changed > self.controller["patience"]:
            return f"the controller has not moved for {self.controller['patience']:g} s"
        return ""


class Tree:
    """A process and all that it starts, watched and stopped together.

    ``run`` makes this process the subreaper of the tree, so that children that called setsid belong to it too.
    """

    def __init__(self, fence: Fence, poll: float, grace: float) -> None:
        self.fence = fence
        self.poll = poll
        self.grace = grace
        self.parent = os.getppid()
        self.child = 0
        self.status: int | None = None
        self.leash_pid = 0
        self._leash_pipe = -1
        self._leashed: tuple[str, str] | None = None
        self._told = b""
        self.peak_memory = 0
        self._next_sample = 0.0
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)

    def start(self, argv: list[str], env: dict[str, str], directory: str | None = None, log: int | None = None) -> str:
        """Start the process, with ``log`` as its output; the reason if it cannot be started."""
        receive, send = os.pipe()
        supervisor = os.getpid()
        self.child = os.fork()
        if self.child == 0:
            try:
                os.setsid()
                _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() != supervisor:
                    os._exit(1)
                for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and exec keeps that
                    signal.signal(number, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_SETMASK, ())
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                if log is not None:
                    os.dup2(log, 1)
                    os.dup2(log, 2)
                if directory is not None:
                    os.chdir(directory)
                os.execvpe(argv[0], argv, env)
            except BaseException as error:
                os.write(send, _why_not_started(error, argv[0]).encode())
            finally:
                os._exit(127)
        os.close(send)
        with os.fdopen(receive, "rb") as pipe:
            return pipe.read().decode(errors="replace")

    def watch(self, timeout: float | None = None) -> str:
        """Wait until the process ends or has to be stopped; returns what ended it."""
        deadline = None if timeout is None else time.monotonic() + timeout
        next_look = time.monotonic()
        while True:
            self._reap()
            if self.status is not None:
                return "exit"
            self._keep_leashed()
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return f"timeout after {timeout:g} s"
            if now >= next_look:
                next_look = now + self.poll
                self.beat()
                self.sample()
                if reason := self.interrupted():
                    return self._stopped(f"stopped: {reason}")
                if reason := self.stalled():
                    return self._stopped(reason)
            wake = next_look if deadline is None else min(next_look, deadline)
            info = signal.sigtimedwait(_SIGNALS, max(0.0, wake - time.monotonic()))
            if info is not None and info.si_signo != signal.SIGCHLD:
                reason = self.interrupted() or f"signal {signal.Signals(info.si_signo).name}"
                return self._stopped(f"stopped: {reason}")

    def stop(self) -> None:
        """TERM, TERM again, then KILL to the whole tree; returns when nothing of it is left.

        The second TERM is for runtimes that lose the first one while they start.
        """
        start = time.monotonic()
        sent = 0
        next_beat = start
        while processes := self.alive():
            now = time.monotonic()
            if now - start >= self.grace:
                _signal_all(processes, signal.SIGKILL)
            elif now - start >= sent * self.grace / 2:
                sent += 1
                _signal_all(processes, signal.SIGTERM)
            if now >= next_beat:
                next_beat = now + self.poll
                self.beat()
            signal.sigtimedwait({signal.SIGCHLD}, 0.02)

    def beat(self) -> None:
        """Show that the tree is watched."""

    def stalled(self) -> str:
        """Why the tree counts as hung; empty if it doesn't."""
        return ""

    def sample(self) -> None:
        """Note the tree's processes and memory, at intervals that keep this below a hundredth of a processor."""
        now, used = time.monotonic(), time.process_time()
        if now >= self._next_sample:
            processes = self.alive()
            self.peak_memory = max(self.peak_memory, _memory(processes))
            self._tell_leash(processes)
            self._next_sample = now + 100 * (time.process_time() - used)

    def interrupted(self) -> str:
        """Why the tree has to stop; empty if it need not."""
        return "its worker died" if os.getppid() != self.parent else self.fence.broken()

    def _stopped(self, reason: str) -> str:
        """A process that ended by itself in the meantime has ended, not been stopped: its work counts."""
        self._reap()
        return "exit" if self.status is not None else reason

    def leash(self, variable: str, token: str) -> None:
        """Start the process that ends the tree should this one be killed.

        It waits at a pipe of which only this process holds the other end. It ends what has the variable in its
        environment, and what it was last told of: a process may have cleared its environment.
        """
        self._leashed = variable, token
        receive, self._leash_pipe = os.pipe()
        self.leash_pid = os.fork()
        if self.leash_pid == 0:
            try:
                os.setsid()
                os.close(self._leash_pipe)
                told = _last_line(receive)
                while processes := {*_marked(f"{variable}={token}".encode()), *_still_there(told)}:
                    _signal_all(sorted(processes), signal.SIGKILL)
                    time.sleep(0.02)
            finally:
                os._exit(0)
        os.close(receive)
        os.set_blocking(self._leash_pipe, False)
        if self._told:
            os.write(self._leash_pipe, self._told)

    def _keep_leashed(self) -> None:
        """Start that process again if it was killed: this one may be the next."""
        if self._leashed is not None and not self.leash_pid:
            os.close(self._leash_pipe)
            self.leash(*self._leashed)

    def _tell_leash(self, processes: list[int]) -> None:
        line = b" ".join(filter(None, map(_dated, processes))) + b"\n"
        if self._leash_pipe >= 0 and line != self._told:
            try:
                os.write(self._leash_pipe, line)
                self._told = line
            except OSError:
                pass  # it is gone, or lags behind

    def unleash(self) -> None:
        """End that process: the tree has ended."""
        if self._leashed is None:
            return
        if self.leash_pid:
            os.kill(self.leash_pid, signal.SIGKILL)
            os.waitpid(self.leash_pid, 0)
        os.close(self._leash_pipe)
        self.leash_pid, self._leash_pipe, self._leashed = 0, -1, None

    def alive(self) -> list[int]:
        self._reap()
        return [pid for pid in _descendants(os.getpid()) if pid != self.leash_pid]

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.child:
                self.status = status
            elif pid == self.leash_pid:
                self.leash_pid = 0


class GpuLooks:
    """Which NVIDIA GPUs a tree of processes uses, by looks at what nvidia-smi says of compute processes."""

    def __init__(self) -> None:
        self.number = 0
        self.error = ""
        """Why nothing can be seen."""
        self._used: set[str] = set()
        self._next = 0.0

    def look(self, processes: list[int]) -> None:
        """At most once a second: a look takes some tenths of one."""
        if self.error or time.monotonic() < self._next:
            return
        for pid, uuid in self._ask("--query-compute-apps=pid,gpu_uuid"):
            if pid.isdigit() and int(pid) in processes:
                self._used.add(uuid)
        self.number += 1
        self._next = time.monotonic() + 1.0

    def found(self) -> dict[str, Any]:
        gpus = self._ask("--query-gpu=uuid,index,name") if self._used else []
        used = [{"uuid": uuid, "index": index, "name": name} for uuid, index, name in gpus if uuid in self._used]
        return {"looks": self.number, "error": self.error, "gpus": used}

    def _ask(self, query: str) -> list[list[str]]:
        """The rows of a query; none if it fails."""
        import subprocess  # which trials of a campaign need not pay for

        fields = query.count(",")
        try:
            done = subprocess.run(
                ["nvidia-smi", query, "--format=csv,noheader"],
                capture_output=True, text=True, errors="replace", timeout=10, check=False, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            self.error = f"nvidia-smi: {getattr(error, 'strerror', None) or 'no answer'}"
            return []
        if done.returncode != 0:
            self.error = f"nvidia-smi: {' '.join((done.stdout + done.stderr).split())[:200]}"
            return []
        rows = [[field.strip() for field in line.split(",", fields)] for line in done.stdout.splitlines()]
        return [row for row in rows if len(row) == fields + 1]


class Supervisor(Tree):
    """One stage: a tree with a directory of its own, and a result."""

    def __init__(self, spec: Spec, fence: Fence) -> None:
        super().__init__(fence, spec["poll"], spec["grace"])
        self.spec = spec
        self.run_id: tuple[int, int] | None = None
        self.run_id = self._run_id()
        self.started = time.time()
        self.block: dict[str, Any] = json.loads(os.environ.get(BLOCK, "{}"))
        if "tmpdir" in self.block:  # which the pool has one of its own instead of
            os.environ.pop("TMPDIR", None)
            os.environ |= {"TMPDIR": self.block["tmpdir"]} if self.block["tmpdir"] else {}
        self.gpu = self._own_gpu()
        self.scratch: str | None = None
        self.log = -1
        self.oom_kills = _oom_kills()
        self.gpu_looks = GpuLooks() if spec["watch_gpus"] else None
        self._output: tuple[int, float] = (0, time.monotonic())

    def run(self) -> int:
        os.makedirs(self.spec["directory"], exist_ok=True)
        if self.spec["checkpoints"]:
            os.makedirs(self.spec["checkpoints"], exist_ok=True)
        self.beat()
        before = _scores_files(self.spec["directory"])
        argv, env = self._command()
        env[TOKEN] = new_token()
        self.leash(TOKEN, env[TOKEN])
        command = self._command_text(argv)
        self._write_command(command)
        self.log = os.open(self._path(LOG), os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        ended_by = self._run_stage(argv, env)
        self.stop()
        self.unleash()
        if self.scratch is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)
        if self._run_is_gone():
            return 0
        _make_way(self.spec["directory"], directory=True)
        os.makedirs(self.spec["directory"], exist_ok=True)
        if not os.path.exists(self._path(COMMAND)):  # some models clear their output directory, this one
            self._write_command(command)
        if not os.path.exists(self._path(LOG)):
            self._put_back_log()
        self._write_result(ended_by, before)
        return 0

    def _run_stage(self, argv: list[str], env: dict[str, str]) -> str:
        """Run the stage to its end; returns what ended it."""
        if reason := self.interrupted() or self._avoided() or self._too_late():
            return f"stopped before it started: {reason}"
        if self.spec["scratch"] is not None and (error := self._use_scratch(env)):
            return f"cannot start {argv[0]!r}: {error}"
        if error := self.start(argv, env, self.spec["directory"], self.log):
            return f"cannot start {argv[0]!r}: {error}"
        return self.watch(self.spec["timeout"])

    def _run_is_gone(self) -> bool:
        """Whether the run's directory was deleted or moved: nothing may appear in its place.

        A model that makes its output directory anew makes those above it, too: they are not the same ones.
        """
        return self.run_id != self._run_id()

    def _run_id(self) -> tuple[int, int] | None:
        if self.spec["controller"] is None:
            return None
        try:
            status = os.stat(os.path.dirname(self.spec["controller"]["lock"]))
        except FileNotFoundError:
            return None
        except OSError:
            return self.run_id  # a file system's hiccup is no news
        return status.st_dev, status.st_ino

    def interrupted(self) -> str:
        if os.path.exists(self._path(STOP)):
            why = _read(self._path(STOP))
            return f"{HOPELESS}{why}" if why else "the campaign asked for it"
        return super().interrupted() or (BLOCK_ENDS if self._time_left() <= 0 else "")

    def _time_left(self, at: float | None = None) -> float:
        """Seconds from a time (now) until the stage has to be over, before its block ends."""
        end = self.block.get("end")
        return end - self.grace - _BLOCK_MARGIN - (at or time.time()) if end else float("inf")

    def _own_gpu(self) -> str | None:
        """The GPUs of this worker's number; without a pool of ours those that the mask already shows."""
        slots, number = self.block.get("slots"), os.environ.get("PARSL_WORKER_RANK", "")
        if slots and number.isdigit():
            return str(slots[int(number) % len(slots)])
        return os.environ.get(self.spec["gpu"]["mask"]) or None

    def beat(self) -> None:
        if self._run_is_gone():
            return
        try:
            with open(self._path(HEARTBEAT), "w", encoding="utf-8") as file:
                file.write(json.dumps({**identity(os.getpid()), "at": time.time()}) + "\n")
        except OSError:
            pass  # a full disk must not end a training

    def _command(self) -> tuple[list[str], dict[str, str]]:
        argv = list(self.spec["argv"])
        env = {name: value for name, value in os.environ.items() if name not in self.spec["unset"]}
        env |= {"PYTHONUNBUFFERED": "1", **self.spec["env"]}
        if self.spec["path_prefix"]:
            env["PATH"] = self.spec["path_prefix"] + os.pathsep + env.get("PATH", os.defpath)
        if self.block.get("slots"):
            env = {name: value for name, value in env.items() if name not in self.spec["gpu"]["unset"]}
            env |= self._mask()
        if self.spec["gpu_index"] is not None:
            argv[self.spec["gpu_index"]] = self._gpu_argument()
        programs = self.spec["programs"]
        if programs:
            argv[0] = next((p for p in programs if shutil.which(p, path=env.get("PATH"))), argv[0])
        return argv, env

    def _mask(self) -> dict[str, str]:
        """What shows the stage its GPUs; CUDA by itself counts the fastest first, and not as nvidia-smi does."""
        if not self.block.get("slots") or not self.gpu:
            return {}
        mask = self.spec["gpu"]["mask"]
        order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if mask == "CUDA_VISIBLE_DEVICES" else {}
        return {mask: self.gpu, **order}

    def _gpu_argument(self) -> str:
        """What train.sh writes into its CUDA_VISIBLE_DEVICES: under another mask the visible ones count from 0."""
        if self.gpu is None or not self.spec["gpu"]["renumbered"]:
            return self.gpu or "0"
        return ",".join(str(number) for number in range(self.gpu.count(",") + 1))

    def _use_scratch(self, env: dict[str, str]) -> str:
        """Put caches and temporary files there; the reason if that is impossible.

        The temporary directory is this attempt's own and is removed with it, the caches are there for all.
        """
        place = os.path.expandvars(os.path.expanduser(self.spec["scratch"] or ""))
        if "$" in place:
            return f"scratch {place}: a variable of it is not set on {socket.gethostname()}"
        if "," in place or ":" in place:
            return f"scratch {place}: containers cannot bind a path with ',' or ':'"
        caches = os.path.join(place, f"workflow-caches-{os.getuid()}")
        temporary = os.path.join(place, f"workflow-{env[TOKEN]}")
        try:
            os.makedirs(caches, exist_ok=True)
            os.mkdir(temporary, 0o700)
            self.scratch = temporary
        except OSError as error:
            return f"scratch {place}: {error.strerror}"
        env |= {"TMPDIR": temporary, "XDG_CACHE_HOME": caches}
        for program in ("APPTAINER", "SINGULARITY"):
            env |= {f"{program}_TMPDIR": temporary, f"{program}_CACHEDIR": caches}
            env |= {f"{program}ENV_TMPDIR": temporary, f"{program}ENV_XDG_CACHE_HOME": caches}
            bound = [*filter(None, [env.get(f"{program}_BINDPATH")]), temporary, caches]
            env[f"{program}_BINDPATH"] = ",".join(bound)
        return ""

    def _command_text(self, argv: list[str]) -> str:
        lines = ["#!/bin/bash", f"# {self.spec['title']}, as {socket.gethostname()} ran it. Runs again by hand."]
        lines.append(f"cd {shlex.quote(self.spec['directory'])}")
        if self.spec["path_prefix"]:
            lines.append(f'export PATH={shlex.quote(self.spec["path_prefix"])}:"$PATH"')
        unset = [*self.spec["unset"], *(self.spec["gpu"]["unset"] if self.block.get("slots") else [])]
        if unset:
            lines.append(f"unset {' '.join(unset)}")
        settings = {"PYTHONUNBUFFERED": "1", **self.spec["env"], **self._mask()}
        lines += [f"export {name}={shlex.quote(value)}" for name, value in settings.items()]
        lines.append("exec " + " ".join(shlex.quote(word) for word in argv))
        return "\n".join(lines) + "\n"

    def _write_command(self, text: str) -> None:
        path = self._path(COMMAND)
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        os.chmod(path, 0o755)

    def _avoided(self) -> str:
        """Why this host is the wrong one; the wait gives workers of others the time to take the task."""
        if socket.gethostname() not in self.spec["avoid"]:
            return ""
        return self._hesitate() or f"it failed on {socket.gethostname()} and shall run elsewhere"

    def _too_late(self) -> str:
        """Why this block is the wrong one: it ends too soon, and another one would have more time."""
        expected, left = self.spec["expected"], self._time_left()
        if expected is None or left == float("inf"):
            return ""
        most = self._time_left(self.block["started"]) * (_FRESH if expected["measured"] else _HALF)
        if min(expected["seconds"], most) <= left:
            return ""
        return self._hesitate() or f"{BLOCK_ENDS} in {left:.0f} s, and it may take {expected['seconds']:.0f} s"

    def _hesitate(self) -> str:
        """Keep the task for a while, for workers of other nodes to take it; why it has to end meanwhile, if it has."""
        end = time.monotonic() + self.spec["avoid_delay"]
        while not (reason := self.interrupted()) and time.monotonic() < end:
            self.beat()
            time.sleep(min(self.poll, 0.5))
        return reason

    def sample(self) -> None:
        super().sample()
        if self.gpu_looks is not None:
            self.gpu_looks.look(self.alive())

    def stalled(self) -> str:
        limit, now = self.spec["stall_timeout"], time.monotonic()
        size = os.fstat(self.log).st_size
        if size != self._output[0]:
            self._output = size, now
        silent = limit is not None and now - self._output[1] >= limit
        return f"stalled: no output for {limit:g} s" if silent else ""

    def _put_back_log(self) -> None:
        """A log that was deleted while it was written, in its place again."""
        with open(self.log, "rb", closefd=False) as deleted, open(self._path(LOG), "wb") as file:
            deleted.seek(0)
            shutil.copyfileobj(deleted, file)

    def _write_result(self, ended_by: str, before: dict[str, tuple[int, int, int]]) -> None:
        code = None if self.status is None else os.waitstatus_to_exitcode(self.status)
        lines, tail = _read_log(self.log)
        directory = self.spec["directory"]
        fresh = [name for name, stamp in _scores_files(directory).items() if before.get(name) != stamp]
        result: dict[str, Any] = {
            "version": 2,
            "title": self.spec["title"],
            "trial": self.spec["trial"],
            "attempt": self.spec["attempt"],
            "ended_by": ended_by,
            "exit_code": code if ended_by == "exit" else None,
            "reason": _exit_text(code) if ended_by == "exit" and code is not None else ended_by,
            "started": self.started,
            "ended": time.time(),
            "host": socket.gethostname(),
            "gpu": self.gpu,
            "gpus_used": self.gpu_looks.found() if self.gpu_looks is not None else None,
            "pid": self.child,
            "pool": os.environ.get("PARSL_WORKER_POOL_ID"),
            "block": self.block or None,
            # A scheduler that ends the block may be faster than the look at the clock.
            "block_ends": BLOCK_ENDS in ended_by or self._time_left() <= 0,
            "peak_memory": max(self.peak_memory, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024),
            "memory_limit": _memory_limit(),
            "oom_kills": max(0, _oom_kills() - self.oom_kills),
            "scores": {name: _read_scores(os.path.join(directory, name)) for name in fresh},
            "result_lines": lines,
            "log_tail": tail,
        }
        temporary = self._path(f".{RESULT}.{os.getpid()}")
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        _make_way(self._path(RESULT))
        os.replace(temporary, self._path(RESULT))
        errors = self._path(ERRORS)
        if os.path.exists(errors) and os.path.getsize(errors) == 0:
            os.unlink(errors)

    def _path(self, name: str) -> str:
        return os.path.join(self.spec["directory"], name)


def _why_not_started(error: BaseException, program: str) -> str:
    reason = (isinstance(error, OSError) and error.strerror) or str(error)
    if isinstance(error, FileNotFoundError) and os.path.exists(program):
        return "the interpreter that its first line names is missing, or that line ends in a carriage return (CRLF)"
    if isinstance(error, OSError) and error.errno == errno.ENOEXEC:
        return f"{reason}: its first line has to name an interpreter, as #!/bin/bash does"
    return reason if os.sep in program else f"{reason}: it is not on the worker's PATH"


def _exit_text(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    named = -code in set(signal.Signals)  # most real-time signals have no name
    return f"killed by {signal.Signals(-code).name if named else f'signal {-code}'}"


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _descendants(root: int) -> Iterator[int]:
    """Process ids below ``root`` that have not ended."""
    children: dict[int, list[int]] = {}
    for pid, parent, ended in _process_table():
        if not ended:
            children.setdefault(parent, []).append(pid)
    waiting = [root]
    while waiting:
        for pid in children.get(waiting.pop(), ()):
            yield pid
            waiting.append(pid)


def unreaped(parent: int) -> list[int]:
    """Children of a process that have ended, of which it has taken no notice yet."""
    return [pid for pid, above, ended in _process_table() if ended and above == parent]


def _process_table() -> Iterator[tuple[int, int, bool]]:
    """Process ids, those of their parents, and whether they have ended (zombies)."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    state, parent = file.read().rpartition(b")")[2].split()[:2]
            except OSError:
                continue
            yield int(name), int(parent), state in (b"Z", b"X")


def _memory(processes: Iterable[int]) -> int:
    """Bytes of memory that processes have in all: what each has of its own, and the most that one shares."""
    own = shared = 0
    for pid in processes:
        try:
            with open(f"/proc/{pid}/statm", encoding="ascii") as file:
                _, resident, common, *_ = map(int, file.read().split())
        except (OSError, ValueError):
            continue
        own, shared = own + resident - common, max(shared, common)
    return (own + shared) * os.sysconf("SC_PAGE_SIZE")


def _cgroup_files(names: tuple[str, str]) -> Iterator[str]:
    """Texts of a file of this process's memory cgroup and those above it, by its name in cgroups v1 and v2."""
    for line in _read("/proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            root, name = "/sys/fs/cgroup/memory", names[0]
        elif number == "0":
            root, name = "/sys/fs/cgroup", names[1]
        else:
            continue
        while path != "/":
            yield _read(f"{root}{path}/{name}")
            path = os.path.dirname(path)
        yield _read(f"{root}/{name}")


def _memory_limit() -> int | None:
    """Bytes that this process's tree can have: the tightest limit of its cgroups, and the machine's memory."""
    limits = [int(text) for text in _cgroup_files(("memory.limit_in_bytes", "memory.max")) if text.strip().isdigit()]
    machine = [int(line.split()[1]) * 1024 for line in _read("/proc/meminfo").splitlines() if "MemTotal" in line]
    return min([*limits, *machine], default=None)


def _oom_kills() -> int:
    """Processes that the kernel has killed for want of memory, in this cgroup or, where that isn't known, here."""
    for text in (*_cgroup_files(("memory.oom_control", "memory.events")), _read("/proc/vmstat")):
        for line in text.splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _read(path: str) -> str:
    return read_bytes(path).decode(errors="replace")


def read_bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def new_token() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{time.time_ns()}"


def identity(pid: int) -> dict[str, Any]:
    """What ``is_alive`` needs to know of a process: host, namespace of process ids, id and time of its start."""
    return {"host": socket.gethostname(), "namespace": namespace(), "pid": pid, "started": start_time(pid)}


def is_alive(process: Mapping[str, Any]) -> bool | None:
    """Whether a process lives; None if that can't be known from here, as on another host or of an unreadable file."""
    if process.get("host") != socket.gethostname() or process.get("namespace") != namespace():
        return None
    pid = process.get("pid")
    if not isinstance(pid, int):
        return None
    started = start_time(pid)
    return started is not None and started == process.get("started")


def namespace() -> str:
    """Process ids mean the same only within one boot and one namespace of process ids."""
    try:
        return f"{_read('/proc/sys/kernel/random/boot_id').strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def start_time(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; None if there is no such process, or only its zombie."""
    fields = read_bytes(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return fields[19].decode() if fields and fields[0] not in (b"Z", b"X") else None


def _dated(pid: int) -> bytes:
    """A process id with the time of its start, which tells it from a later one of that number; empty if it is gone."""
    started = start_time(pid)
    return f"{pid}:{started}".encode() if started else b""


def _still_there(told: bytes) -> list[int]:
    """Those processes that a line names and that live, with all that descends from them."""
    named = [int(each.partition(b":")[0]) for each in told.split() if _dated(int(each.partition(b":")[0])) == each]
    return [*named, *(pid for root in named for pid in _descendants(root))]


def _last_line(pipe: int) -> bytes:
    """The last whole line that comes through a pipe until its other end is closed."""
    last = rest = b""
    while received := os.read(pipe, 1 << 16):
        *lines, rest = (rest + received).split(b"\n")
        last = lines[-1] if lines else last
    return last


def _marked(variable: bytes) -> list[int]:
    """Processes of this machine with that in their environment."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    if variable in file.read().split(b"\0"):
                        found.append(int(name))
            except OSError:
                continue
    return found


def _make_way(path: str, directory: bool = False) -> None:
    """Move what a model has put there aside, if it is of the wrong kind."""
    if os.path.lexists(path) and os.path.isdir(path) != directory:
        os.rename(path, f"{path}.of-the-model")


def _signal_all(processes: list[int], number: int) -> None:
    for pid in processes:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def _scores_files(directory: str) -> dict[str, tuple[int, int, int]]:
    """The ``*_scores.json`` files of a directory, with what changes when one is written anew."""
    found = {}
    try:
        entries = list(os.scandir(directory))
    except OSError:
        return {}
    for entry in entries:
        try:
            if entry.name.endswith("_scores.json") and entry.is_file():
                stat = entry.stat()
                found[entry.name] = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        except OSError:
            continue  # such as a link to itself, which is no file
    return found


def _read_scores(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_SCORES)
    except OSError:
        return ""


def _read_log(log: int) -> tuple[list[str], str]:
    """The last lines with IMPROVE_RESULT, and the end of the log."""
    lines: list[str] = []
    try:
        with open(log, "rb", closefd=False) as file:
            file.seek(0)
            while line := file.readline(_MAX_LINE):
                if b"IMPROVE_RESULT" in line:
                    lines.append(line.decode(errors="replace").rstrip("\n"))
                    del lines[:-_RESULT_LINES]
            file.seek(max(0, file.tell() - _TAIL))
            return lines, file.read().decode(errors="replace")
    except OSError:
        return lines, ""


def main(argv: list[str]) -> int:
    if os.getpid() != os.getpgrp():
        os.setsid()  # a Ctrl-C at the controller's terminal lets trials end
    spec: Spec = json.loads(argv[0])
    fence = Fence(spec["controller"])
    return EXIT_FENCED if fence.broken() else Supervisor(spec, fence).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
