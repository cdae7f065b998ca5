"""A real supervisor on a directory, what it runs, and the controller that it obeys."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import ROOT, eventually

SUPERVISE = ROOT / "workflow" / "supervise.py"
POOL = ROOT / "workflow" / "worker" / "pool.py"
MARKER = "SUPERVISE_TEST_MARKER"
MASKS = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")
POLL, GRACE = 0.05, 0.2
SLACK = 15.0
"""Seconds, beyond time-out and grace, within which a tree has to be gone."""
SOON = 20.0
"""Seconds that only a failure uses up."""


def marked(marker: str) -> list[int]:
    """Living processes with the marker in their environment, from the whole process table."""
    wanted = f"{MARKER}={marker}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@dataclass
class Bench:
    """Starts supervisors in ``directory``; everything that they leave behind is found by ``marker`` and killed."""

    directory: Path
    marker: str = field(default_factory=lambda: uuid.uuid4().hex)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def spec(self, *argv: str, **changes: Any) -> dict[str, Any]:
        return {
            "title": "trial 7, attempt 1: train",
            "trial": 7,
            "attempt": 1,
            "directory": str(self.directory),
            "argv": list(argv),
            "programs": [],
            "gpu_index": None,
            "gpu": {"mask": "CUDA_VISIBLE_DEVICES", "unset": [], "renumbered": False},
            "env": {},
            "unset": [],
            "path_prefix": None,
            "timeout": None,
            "stall_timeout": None,
            "avoid": [],
            "avoid_delay": 0.0,
            "expected": None,
            "checkpoints": None,
            "scratch": None,
            "watch_gpus": False,
            "grace": GRACE,
            "poll": POLL,
            "controller": None,
            **changes,
        }

    def command(self, spec: dict[str, Any]) -> list[str]:
        return [sys.executable, "-I", "-S", str(SUPERVISE), json.dumps(spec)]

    def start(self, *argv: str, worker: dict[str, str] | None = None, **changes: Any) -> subprocess.Popen[str]:
        """A supervisor in the environment ``worker``; ``changes`` are those of its specification."""
        return self.launch(self.command(self.spec(*argv, **changes)), worker)

    def launch(self, command: list[str], worker: dict[str, str] | None = None) -> subprocess.Popen[str]:
        base = {name: value for name, value in os.environ.items() if name not in MASKS}
        process = subprocess.Popen(
            command,
            env={**base, MARKER: self.marker, **(worker or {})},
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.started.append(process)
        return process

    def run(self, *argv: str, worker: dict[str, str] | None = None, **changes: Any) -> dict[str, Any]:
        """Run a stage to its end; returns its result.json."""
        process = self.start(*argv, worker=worker, **changes)
        output, _ = process.communicate(timeout=SOON)
        assert (process.returncode, output) == (0, "")
        return self.result(changes.get("directory"))

    def result(self, directory: str | None = None) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((Path(directory or self.directory) / "result.json").read_text())
        return found

    def wait(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        assert process.wait(SOON) == 0
        assert self.alive() == []
        return self.result()

    def alive(self) -> list[int]:
        return marked(self.marker)

    def clean(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate()
        while remaining := self.alive():
            for pid in remaining:
                kill(pid)
            time.sleep(0.01)


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def bash(code: str) -> tuple[str, ...]:
    return ("bash", "-c", code)


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-c", code)


# Children in sessions of their own, of which one daemonized; all of them ignore TERM. "ready" appears last.
STUBBORN = """
import os, signal, time
begun, begins = os.pipe()
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
def child(depth):
    if os.fork() == 0:
        os.setsid()
        if depth:
            child(depth - 1)
        if depth == 1:
            os._exit(0)
        if not depth:
            os.write(begins, b"x")
        time.sleep(600)
for _ in range(2):
    child(3)
for _ in range(2):
    os.read(begun, 1)
open("ready", "w").close()
time.sleep(600)
"""
STUBBORN_PROCESSES = 1 + 2 * 3
SLEEP = bash("touch ready; exec sleep 600")
WAIT = "touch ready; while :; do sleep 0.02; done"


def ready(bench: Bench) -> bool:
    return eventually((bench.directory / "ready").exists, SOON)


def in_pool(rank: int, *slots: str, **more: Any) -> dict[str, str]:
    """The environment of a worker in a node's pool."""
    return {"WORKFLOW_BLOCK": json.dumps({"slots": slots, **more}), "PARSL_WORKER_RANK": str(rank)}


def stop(bench: Bench) -> None:
    assert ready(bench)
    (bench.directory / ".workflow-stop").touch()


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@dataclass
class Controller:
    """A lock file, as the controller of the run has it."""

    path: Path
    nonce: str = "0123456789abcdef"
    beats: int = 0

    def beat(self) -> None:
        self.beats += 1
        draft = self.path.with_name("draft")
        draft.write_text(json.dumps({"host": "here", "nonce": self.nonce, "beats": self.beats}))
        draft.replace(self.path)

    def fence(self, patience: float = 60.0, nonce: str | None = None) -> dict[str, Any]:
        return {"lock": str(self.path), "nonce": nonce or self.nonce, "patience": patience}


def take_over(controller: Controller) -> None:
    controller.nonce = "another"
    controller.beat()
