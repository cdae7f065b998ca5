"""A real process with all its descendants: measured, stopped, leashed, and ended with its controller."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import eventually
from tests.unit.worker.stage_bench import (
    GRACE,
    SLACK,
    SLEEP,
    SOON,
    STUBBORN,
    STUBBORN_PROCESSES,
    WAIT,
    Bench,
    Controller,
    bash,
    children,
    python,
    ready,
    stop,
    take_over,
)
from workflow.outcomes import judge
from workflow.worker.processes import read_bytes

FENCED = 76
SEEN = 5.0
"""Seconds by which a supervisor has seen all processes: the more this machine has, the less often it looks."""


# -- memory ----------------------------------------------------------------------------------------------------------

MIB = 2**20
EAT = "x = bytearray(%d * 2**20)"


def test_peak_memory_is_that_of_the_whole_tree(bench: Bench) -> None:
    """Three processes at a time; a fork's share of its parent's memory counts once."""
    child = f"import time; {EAT % 60}; time.sleep(8)"
    start = f"import subprocess, sys; c = [subprocess.Popen([sys.executable, '-c', {child!r}]) for _ in 'ab']"
    code = f"{start}; {EAT % 50}; [p.wait() for p in c]"
    result = bench.run(*python(code))
    assert 165 * MIB < result["peak_memory"] < 260 * MIB
    assert result["oom_kills"] == 0


def test_a_short_peak_is_not_missed(bench: Bench) -> None:
    result = bench.run(*python(f"{EAT % 300}; del x"), poll=10.0)
    assert result["peak_memory"] > 295 * MIB


def test_memory_limit_is_the_machines_or_a_cgroups(bench: Bench) -> None:
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert 0 < bench.run("true")["memory_limit"] <= total


@contextlib.contextmanager
def memory_cgroup(limit: int) -> Iterator[Path]:
    """A cgroup of which the processes may have ``limit`` bytes in all, of version 1 or 2; needs root."""
    v1 = Path("/sys/fs/cgroup/memory")
    group = (v1 if v1.is_dir() else Path("/sys/fs/cgroup")) / f"workflow-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / ("memory.limit_in_bytes" if v1.is_dir() else "memory.max")).write_text(str(limit))
        yield group / "cgroup.procs"
    finally:
        group.rmdir()


def test_a_kill_for_want_of_memory_is_known_as_such(bench: Bench) -> None:
    """A real one, by the kernel, in a real cgroup. The supervisor outlives it and tells."""
    with memory_cgroup(100 * MIB) as processes:
        train = shlex.join(python(EAT % 400))
        command = shlex.join(bench.command(bench.spec(*bash(f"{train}; exit $?"))))
        process = bench.launch(["bash", "-c", f"echo $$ > {processes} && exec {command}"])
        result = bench.wait(process)
    assert (result["exit_code"], result["oom_kills"], result["memory_limit"]) == (137, 1, 100 * MIB)
    outcome = judge(result, "train", ["val_loss"], 7, 1)
    assert (outcome.kind, outcome.cause) == ("failed", "model")
    assert outcome.evidence.startswith("out of memory: the kernel killed 1 processes for it; memory was 0.0")


# -- stopping --------------------------------------------------------------------------------------------------------


def test_timeout_ends_a_whole_stubborn_tree_in_time(bench: Bench) -> None:
    timeout = 4.0
    process = bench.start(*python(STUBBORN), timeout=timeout)
    assert eventually(lambda: len(bench.alive()) == STUBBORN_PROCESSES + 2, SOON)  # supervisor and leash
    assert process.wait(SOON) == 0
    assert bench.alive() == []
    result = bench.result()
    assert (result["ended_by"], result["exit_code"]) == (f"timeout after {timeout:g} s", None)
    assert timeout + GRACE <= result["ended"] - result["started"] < timeout + GRACE + SLACK


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_to_the_supervisor_stops(bench: Bench, number: signal.Signals) -> None:
    process = bench.start(*python(STUBBORN))
    assert ready(bench)
    process.send_signal(number)
    result = bench.wait(process)
    assert (result["ended_by"], result["exit_code"]) == (f"stopped: signal {number.name}", None)


def test_signals_while_stopping_change_nothing(bench: Bench) -> None:
    process = bench.start(*python(STUBBORN), timeout=0.6, grace=0.4)
    assert eventually((bench.directory / ".workflow-heartbeat").exists, SOON)
    while process.poll() is None:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
    assert bench.wait(process)["ended_by"] in ("timeout after 0.6 s", "stopped: signal SIGTERM")


def test_supervisor_is_in_a_session_of_its_own(bench: Bench) -> None:
    """Ctrl-C at the controller's terminal goes to process groups: trials are to end, not to be stopped."""
    process = bench.start(*SLEEP)
    assert ready(bench)
    assert os.getsid(process.pid) == process.pid


# Starts its arguments as a child and waits for it, as a worker does; prints the child's id.
WORKER = """
import subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(child.pid, flush=True)
child.wait()
"""


def under_worker(bench: Bench, *argv: str, **changes: Any) -> tuple[subprocess.Popen[str], int]:
    """A supervisor below a worker that the test may kill; returns the worker and the supervisor's id."""
    worker = bench.launch([sys.executable, "-c", WORKER, *bench.command(bench.spec(*argv, **changes))])
    assert worker.stdout is not None
    return worker, int(worker.stdout.readline())


def test_death_of_the_worker_stops_the_tree_at_once(bench: Bench) -> None:
    """A signal tells it, not the next look at the parent."""
    worker, _ = under_worker(bench, *python(STUBBORN), poll=10 * SOON)
    assert ready(bench)
    worker.kill()
    worker.wait()
    assert eventually(lambda: bench.alive() == [], SOON)
    assert bench.result()["ended_by"] == "stopped: its worker died"


def test_killed_supervisor_takes_the_whole_tree_with_it(bench: Bench) -> None:
    """Children of the script too, those in sessions of their own among them: a retry may start the next moment."""
    process = bench.start(*python(STUBBORN))
    assert ready(bench)
    process.kill()
    process.wait()
    assert eventually(lambda: bench.alive() == [], SOON)


def test_killed_leash_and_then_killed_supervisor_leave_nothing(bench: Bench) -> None:
    """The process that would end the tree is replaced when it is killed itself, and told of the tree again."""
    hide = "env -i setsid bash -c 'trap : TERM; while :; do sleep 0.1; done' & touch ready; wait"
    process = bench.start(*bash(hide))
    assert ready(bench)
    time.sleep(SEEN)
    first = leashes(process.pid)
    os.kill(first[0], signal.SIGKILL)
    assert eventually(lambda: len(leashes(process.pid)) == 1 and leashes(process.pid) != first, SOON)
    tree = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert eventually(lambda: not any(each.is_running() for each in tree), SOON)


def leashes(pid: int) -> list[int]:
    """Forks of a supervisor."""
    own = Path(f"/proc/{pid}/cmdline").read_bytes()
    return [each for each in map(int, children(pid)) if read_bytes(f"/proc/{each}/cmdline") == own]


def test_killed_supervisor_takes_along_what_has_cleared_its_environment(bench: Bench) -> None:
    """By the process table, then: it is in a session of its own and knows nothing of the attempt."""
    hide = "env -i setsid bash -c 'trap : TERM; while :; do sleep 0.1; done' & echo $! > hidden; touch ready; wait"
    process = bench.start(*bash(hide))
    assert ready(bench)
    hidden = int((bench.directory / "hidden").read_text())
    assert eventually(lambda: b"setsid" not in Path(f"/proc/{hidden}/cmdline").read_bytes(), SOON)
    time.sleep(SEEN)
    process.kill()
    process.wait()
    assert eventually(lambda: not Path(f"/proc/{hidden}").exists(), SOON)


def test_killed_supervisor_takes_its_child_with_it(bench: Bench) -> None:
    process = bench.start(*bash("echo $$ > pid; touch ready; sleep 600"))
    assert ready(bench)
    child = int((bench.directory / "pid").read_text())
    process.kill()
    process.wait()
    assert eventually(lambda: child not in bench.alive(), SOON)
    assert not (bench.directory / "result.json").exists()


@pytest.mark.parametrize("code", ["(setsid sleep 600 &) ; exit 0", "setsid nohup sleep 600 & disown; exit 0"])
def test_daemons_that_a_stage_leaves_are_ended(bench: Bench, code: str) -> None:
    result = bench.run(*bash(code))
    assert (result["ended_by"], result["exit_code"]) == ("exit", 0)
    assert bench.alive() == []


def test_stubborn_daemons_are_ended_after_the_grace(bench: Bench) -> None:
    code = STUBBORN.replace('open("ready", "w").close()\ntime.sleep(600)', "raise SystemExit(3)")
    result = bench.run(*python(code))
    assert (result["ended_by"], result["exit_code"]) == ("exit", 3)
    assert bench.alive() == []


def test_ended_children_are_reaped_while_the_stage_runs(bench: Bench) -> None:
    """Orphans become the supervisor's children; a stage that makes many must not fill the process table."""
    process = bench.start(*bash("for i in {1..40}; do (true &); done; sleep 0.3; touch ready; exec sleep 600"))
    assert ready(bench)
    assert eventually(lambda: len(children(process.pid)) == 2, SOON)  # the stage and the leash


# -- the controller --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "patience", "reason"),
    [
        (lambda controller: controller.path.unlink(), 60.0, "the controller has ended"),
        (take_over, 60.0, "another controller has taken over"),
        (lambda controller: None, 5.0, "the controller has not moved for 5 s"),
    ],
    ids=["ended", "replaced", "silent"],
)
def test_stage_stops_once_its_controller_is_gone(
    bench: Bench, controller: Controller, change: Callable[[Controller], None], patience: float, reason: str
) -> None:
    process = bench.start(*python(STUBBORN), controller=controller.fence(patience))
    assert ready(bench)
    change(controller)
    assert bench.wait(process)["ended_by"] == f"stopped: {reason}"


def test_stage_goes_on_while_its_controller_beats(bench: Bench, controller: Controller) -> None:
    process = bench.start(*bash("sleep 6; echo done"), controller=controller.fence(patience=5))
    while process.poll() is None:
        controller.beat()
        time.sleep(0.05)
    assert bench.wait(process)["log_tail"] == "done\n"


def test_a_lock_file_that_is_just_being_written_stops_nothing(bench: Bench, controller: Controller) -> None:
    process = bench.start(*bash("touch ready; sleep 0.5; echo done"), controller=controller.fence())
    assert ready(bench)
    controller.path.write_text("")
    assert bench.wait(process)["log_tail"] == "done\n"


@pytest.mark.parametrize("gone", ["missing", "replaced"])
def test_fenced_stage_never_starts_and_writes_nothing(bench: Bench, controller: Controller, gone: str) -> None:
    if gone == "missing":
        controller.path.unlink()
    process = bench.start(*bash("touch ready"), controller=controller.fence(nonce="fedcba9876543210"))
    assert process.wait(SOON) == FENCED
    assert not bench.directory.exists()


def test_heartbeat_moves_while_the_stage_runs(bench: Bench) -> None:
    bench.start(*SLEEP)
    assert ready(bench)
    path = bench.directory / ".workflow-heartbeat"
    seen = path.stat().st_mtime_ns
    assert eventually(lambda: path.stat().st_mtime_ns != seen, SOON)


def test_heartbeat_moves_while_the_tree_is_stopped(bench: Bench) -> None:
    """A resume waits for beats to end, and so for trees that take their time to die."""
    process = bench.start(*bash(f"trap 'touch stopping' TERM; {WAIT}"), grace=10 * SOON)
    stop(bench)
    assert eventually((bench.directory / "stopping").exists, SOON)
    path = bench.directory / ".workflow-heartbeat"
    seen = path.stat().st_mtime_ns
    assert eventually(lambda: path.stat().st_mtime_ns != seen, SOON)
    assert process.poll() is None
