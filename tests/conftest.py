"""Shared parts of the tests: a fast model, experiments around it, and campaigns as real processes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
TOY = ROOT / "tests" / "models" / "toy"
FULL = os.environ.get("WORKFLOW_FULL") == "1"
MARKER = "WORKFLOW_TEST_MARKER"

RESULT = {
    "ended_by": "exit", "exit_code": 0, "started": 1.0, "ended": 2.0, "host": "here", "gpu": None,
    "peak_memory": 2**20, "memory_limit": 2**34, "oom_kills": 0, "pool": None,
    "scores": {"val_scores.json": '{"mse": 0.5}'}, "result_lines": [], "log_tail": "",
}  # fmt: skip
"""What a supervisor writes of a training that ended well."""


for number, handler in ((signal.SIGHUP, lambda *_: None), (signal.SIGINT, signal.default_int_handler)):
    if signal.getsignal(number) is signal.SIG_IGN:  # by nohup or a shell's &: what the tests start would inherit that
        signal.signal(number, handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest, most of it waits, begin first: their end is then not waited for alone."""
    items.sort(key=lambda item: (item.path.parent.name != "slurm", item.path.name != "test_parsl.py"))


def toy_space(sleep: float = 0.0, together: int = 1, until: Path | str = "") -> list[dict[str, Any]]:
    """``sleep`` is in seconds; none of the first ``together`` trials ends before all of them have begun, none at all
    before there is the file ``until``."""
    return [
        {"name": "x", "type": "float", "lower": 0, "upper": 1},
        {"name": "y", "type": "float", "lower": 0, "upper": 1},
        {"name": "sleep", "type": "constant", "value": sleep},
        {"name": "together", "type": "constant", "value": together},
        *([{"name": "until", "type": "constant", "value": str(until)}] if until else []),
        {"name": "model_outdir", "type": "constant", "value": "/nowhere/shared"},
    ]


def toy_experiment(**changes: Any) -> dict[str, Any]:
    """An experiment on the toy model; ``changes`` replace its top-level keys.

    It has the reference's strategy, whose sequence doesn't depend on the order in which trials end, unless they say so.
    """
    search = {"strategy": "mu_plus_lambda", **changes.pop("search", {"num_iterations": 3, "population_size": 6})}
    return {
        "name": "toy",
        "model": {"scripts": str(TOY)},
        "stages": {"preprocess": {}, "train": {}, "infer": {}},
        "space": toy_space(),
        "search": search,
        **changes,
    }


@dataclass
class Workflow:
    """Runs ``python -m workflow.run`` (or another ``module``) in ``directory``.

    Every process that it leaves can be found by ``marker``.
    """

    directory: Path
    marker: str

    def experiment(self, **changes: Any) -> Path:
        path = self.directory / "experiment.yaml"
        path.write_text(yaml.safe_dump(toy_experiment(**changes), allow_unicode=True))
        return path

    def start(self, *arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
        env = {**os.environ, "PYTHONPATH": str(ROOT), MARKER: self.marker, **options.pop("env", {})}
        command = [sys.executable, "-m", options.pop("module", "workflow.run"), *map(str, arguments)]
        options = {"cwd": self.directory, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **options}
        return subprocess.Popen(command, text=True, env=env, **options)

    def run(self, *arguments: str | Path, timeout: float = 120, **options: Any) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **options)
        output, _ = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(process.args, process.returncode, output)

    def processes(self) -> list[psutil.Process]:
        """All living processes that descend from this workflow, found in the whole process table.

        Parsl's interchange overwrites its environment with its title: it is known by its working directory.
        """
        return [process for process in psutil.process_iter() if self._owns(process)]

    def kill(self) -> None:
        """End what is left of it."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def named(self, text: str) -> list[psutil.Process]:
        return [p for p in self.processes() if text in command_line(p)]

    def workers(self) -> list[psutil.Process]:
        """The pool's worker processes: children of a manager that were spawned by multiprocessing."""
        return [p for p in self.named("spawn_main") if "resource_tracker" not in command_line(p)]

    def managers(self) -> list[psutil.Process]:
        """Parsl's pools, without the shells and watchers around them."""
        found = self.named("process_worker_pool.py")
        return [p for p in found if "worker/pool.py" not in command_line(p) and "bash" not in command_line(p)[:10]]

    def interchanges(self) -> list[psutil.Process]:
        return self.named("HTEX interchange")

    def _owns(self, process: psutil.Process) -> bool:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            titled = " ".join(process.cmdline()).startswith("parsl: ") and Path(process.cwd()) == self.directory
            return titled or process.environ().get(MARKER) == self.marker
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False


def command_line(process: psutil.Process) -> str:
    """Empty for a process that has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


BUILD = ROOT / "scripts" / "build_local_image.py"


def build(*arguments: str | Path) -> None:
    assert shutil.which("apptainer"), "no apptainer: run scripts/install_test_parts.sh"
    done = subprocess.run([sys.executable, BUILD, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def built_once(factory: pytest.TempPathFactory, name: str, *arguments: str | Path) -> Path:
    """An image that the first one builds of the processes that share these tests; the others have a link to it."""
    own = factory.mktemp("images") / name
    base = factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with shared.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if shared.exists():
            own.hardlink_to(shared)
        else:
            build(*arguments, own)
            shared.hardlink_to(own)
    return own


@pytest.fixture(scope="session")
def toy_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy model of the tests, and Python's standard library."""
    return built_once(tmp_path_factory, "toy.sif", "--files", TOY)


@pytest.fixture
def workflow(tmp_path: Path) -> Iterator[Workflow]:
    flow = Workflow(tmp_path, uuid.uuid4().hex)
    yield flow
    flow.kill()


def journal(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]


def results(run: Path) -> dict[str, list[dict[str, Any]]]:
    """The result.json of every attempt in the attempts' order, by trial directory."""
    found: dict[str, list[dict[str, Any]]] = {}
    paths = (run / "trials").glob("*/attempt-*/result.json")
    for path in sorted(paths, key=lambda path: int(path.parent.name.removeprefix("attempt-"))):
        found.setdefault(path.parent.parent.name, []).append(json.loads(path.read_text()))
    return found


def without_walltime(csv: str) -> list[str]:
    return [line.rpartition(",")[0] for line in csv.splitlines()]


def eventually(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition comes true within a time that only a failure uses up."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@contextlib.contextmanager
def small_disk(directory: Path, size: str = "600k") -> Iterator[None]:
    """A file system of its own in a directory that is made for it."""
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", directory], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", directory], check=True)
