"""One stage of a trial on a worker: its surroundings, its tree of processes, its result."""

from __future__ import annotations

import json
import os
import resource
import shlex
import shutil
import signal
import socket
import time

from workflow.worker.contract import (
    BLOCK,
    BLOCK_ENDS,
    COMMAND,
    ERRORS,
    EXIT_FENCED,
    HEARTBEAT,
    HOPELESS,
    LOG,
    NOT_STARTED,
    RESULT,
    STOP,
    TOKEN,
)
from workflow.worker.output import make_way, read_log, read_scores, scores_files
from workflow.worker.processes import identity, memory_limit, new_token, oom_kills, read_text
from workflow.worker.tree import Fence, Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from workflow.worker.contract import Spec
    from workflow.worker.gpus import GpuLooks

_FRESH, _HALF = 0.9, 0.5
"""The share of what a block had when its pool started that a training which would need more waits for: no other block
has more. The second one is for a training of which only the time-out is known: it may well take less, and tells."""

_BLOCK_MARGIN = 5.0
"""Seconds before the end of a block, beside the grace, at which everything has to be over."""


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
        self.oom_kills = oom_kills()
        self.gpu_looks = _gpu_looks() if spec["watch_gpus"] else None
        self._output: tuple[int, float] = (0, time.monotonic())

    def run(self) -> int:
        os.makedirs(self.spec["directory"], exist_ok=True)
        if self.spec["checkpoints"]:
            os.makedirs(self.spec["checkpoints"], exist_ok=True)
        self.beat()
        before = scores_files(self.spec["directory"])
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
        make_way(self.spec["directory"], directory=True)
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
            return f"{NOT_STARTED}: {reason}"
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
            why = read_text(self._path(STOP))
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
        lines, tail = read_log(self.log)
        directory = self.spec["directory"]
        fresh = [name for name, stamp in scores_files(directory).items() if before.get(name) != stamp]
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
            "memory_limit": memory_limit(),
            "oom_kills": max(0, oom_kills() - self.oom_kills),
            "scores": {name: read_scores(os.path.join(directory, name)) for name in fresh},
            "result_lines": lines,
            "log_tail": tail,
        }
        temporary = self._path(f".{RESULT}.{os.getpid()}")
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        make_way(self._path(RESULT))
        os.replace(temporary, self._path(RESULT))
        errors = self._path(ERRORS)
        if os.path.exists(errors) and os.path.getsize(errors) == 0:
            os.unlink(errors)

    def _path(self, name: str) -> str:
        return os.path.join(self.spec["directory"], name)


def _gpu_looks() -> GpuLooks:
    from workflow.worker.gpus import GpuLooks  # whose imports trials of a campaign need not pay for

    return GpuLooks()


def _exit_text(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    named = -code in set(signal.Signals)  # most real-time signals have no name
    return f"killed by {signal.Signals(-code).name if named else f'signal {-code}'}"


def main(argv: list[str]) -> int:
    if os.getpid() != os.getpgrp():
        os.setsid()  # a Ctrl-C at the controller's terminal lets trials end
    spec: Spec = json.loads(argv[0])
    fence = Fence(spec["controller"])
    return EXIT_FENCED if fence.broken() else Supervisor(spec, fence).run()
