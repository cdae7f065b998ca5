"""Parsl's pool on a node: its command, its GPUs, and its end."""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import eventually
from tests.unit.worker.stage_bench import (
    GRACE,
    POOL,
    SOON,
    Bench,
    Controller,
    bash,
    python,
    ready,
    take_over,
)


def block(
    bench: Bench, controller: Controller, *argv: str, patience: float = 60.0, end: float = 0.0,
    worker: dict[str, str] | None = None, **changes: Any,
) -> subprocess.Popen[str]:  # fmt: skip
    """A node's pool, of which ``changes`` are described in its file."""
    bench.directory.mkdir(exist_ok=True)
    pool = {
        "controller": {"lock": str(controller.path), "nonce": controller.nonce, "patience": patience},
        "gpus": [], "mask": "CUDA_VISIBLE_DEVICES", "scheduled": True, "gpus_per_trial": 1, "trials_per_gpu": 1,
        "workers": 2, "drains": str(bench.directory), "grace": GRACE, "heartbeat_period": 1,
    }  # fmt: skip
    file = bench.directory / "pool.json"
    file.write_text(json.dumps(pool | changes))
    command = [sys.executable, "-I", "-S", str(POOL), str(file), str(end), *argv]
    return bench.launch(command, worker)


def in_directory(bench: Bench, code: str) -> tuple[str, ...]:
    return bash(f"cd {shlex.quote(str(bench.directory))}; {code}")


@pytest.mark.parametrize("code", [0, 3])
def test_block_passes_output_and_exit_code_on(bench: Bench, controller: Controller, code: int) -> None:
    process = block(bench, controller, *bash(f"echo hello; exit {code}"))
    assert process.communicate(timeout=SOON)[0] == "hello\n"
    assert process.returncode == code


def test_block_removes_what_its_command_left_in_its_own_temporary_directory(
    bench: Bench, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(prefix="t-") as outer:
        monkeypatch.setenv("TMPDIR", outer)
        code = "mkdir $TMPDIR/pymp-1; echo $TMPDIR; echo $WORKFLOW_BLOCK"
        own, shown = block(bench, controller, *bash(code)).communicate(timeout=SOON)[0].splitlines()
        assert Path(own).parent == Path(outer) and not list(Path(outer).iterdir())
        assert json.loads(shown)["tmpdir"] == outer


def test_block_makes_none_whose_sockets_would_have_too_long_a_path(
    bench: Bench, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    outer = bench.directory / ("x" * 80)
    outer.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(outer))
    assert block(bench, controller, *bash("echo $TMPDIR")).communicate(timeout=SOON)[0].startswith("/tmp/wf-")
    assert not list(outer.iterdir())


@pytest.mark.parametrize("change", [take_over, lambda controller: controller.path.unlink()], ids=["replaced", "ended"])
def test_block_ends_with_its_controller(
    bench: Bench, controller: Controller, change: Callable[[Controller], None]
) -> None:
    process = block(bench, controller, *in_directory(bench, "setsid sleep 600 & touch ready; exec sleep 600"))
    assert ready(bench)
    change(controller)
    process.wait(SOON)
    assert bench.alive() == []


def test_a_killed_pool_leaves_nothing(bench: Bench, controller: Controller) -> None:
    """Slurm kills a job step's process group; workers are in sessions of their own."""
    process = block(bench, controller, *in_directory(bench, "setsid sleep 600 & touch ready; exec sleep 600"))
    assert ready(bench)
    process.kill()
    process.wait(SOON)
    assert eventually(lambda: bench.alive() == [], SOON)


def test_fenced_block_starts_nothing(bench: Bench, controller: Controller) -> None:
    controller.path.unlink()
    process = block(bench, controller, *in_directory(bench, "touch ready"))
    process.wait(SOON)
    assert not (bench.directory / "ready").exists()


@pytest.mark.parametrize(
    ("mask", "site", "slots"),
    [
        ("2,3", {"gpus": ["0", "1"]}, ["2", "3"]),
        (None, {"gpus": ["0.0", "0.1"]}, ["0.0", "0.1"]),
        ("0,1", {"gpus": ["0.0", "0.1", "1.0", "1.1", "2.0"], "workers": 5}, ["0.0", "0.1", "1.0", "1.1"]),
        ("0.1", {"gpus": ["0.0", "0.1"]}, ["0.1"]),
        ("6,7", {"gpus": ["0", "1"], "scheduled": False}, ["0", "1"]),
        ("4", {"gpus": ["0", "1"]}, ["4"]),
        ("0,1,2,3", {"gpus": ["0", "1"]}, ["0", "1"]),
        ("4,5,6,7", {"gpus": ["0", "1", "2", "3"], "gpus_per_trial": 2}, ["4,5", "6,7"]),
        ("4,5,6", {"gpus": ["0", "1", "2", "3"], "gpus_per_trial": 2}, ["4,5"]),
        ("4,5", {"gpus": ["0", "1"], "trials_per_gpu": 2, "workers": 4}, ["4", "5", "4", "5"]),
        ("4,5", {"gpus": ["0", "1"], "trials_per_gpu": 2, "workers": 3}, ["4", "5", "4"]),
    ],
)
def test_a_pool_shares_out_the_gpus_that_the_scheduler_gave(
    bench: Bench, controller: Controller, mask: str | None, site: dict[str, Any], slots: list[str]
) -> None:
    worker = {} if mask is None else {"CUDA_VISIBLE_DEVICES": mask}
    show = python("import os, sys; print(os.environ['WORKFLOW_BLOCK'], sys.argv[1])")
    process = block(bench, controller, *show, end=77.0, worker=worker, **site)
    told, workers = process.communicate(timeout=SOON)[0].rsplit(" ", 1)
    assert (json.loads(told)["slots"], json.loads(told)["end"]) == (slots, 77.0)
    assert workers == f"--max_workers_per_node={len(slots)}\n"


def test_a_pool_without_gpus_says_so_and_ends(bench: Bench, controller: Controller) -> None:
    process = block(bench, controller, "true", gpus=["0"], worker={"CUDA_VISIBLE_DEVICES": "NoDevFiles"})
    assert "the scheduler gave this job the GPUs [], a trial needs 1" in process.communicate(timeout=SOON)[0]
    assert process.returncode == 1


def test_a_drained_pool_ends_once_no_stage_runs(bench: Bench, controller: Controller) -> None:
    stage = bench.directory.parent / "stage.sh"
    stage.write_text(f"exec {shlex.join(bench.command(bench.spec('sleep', '2')))}\n")
    process = block(bench, controller, *bash(f"bash {shlex.quote(str(stage))} & sleep 600"), workers=1)
    assert eventually((bench.directory / ".workflow-heartbeat").exists, SOON)
    (bench.directory / f"{socket.gethostname()}.{process.pid}").touch()
    assert process.wait(SOON) == 0
    assert json.loads((bench.directory / "result.json").read_text())["ended_by"] == "exit"
    assert bench.alive() == []
