"""The supervisor as workers run it: a real process with real trees of processes, which must always end."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import ROOT
from workflow.outcomes import judge
from workflow.worker.processes import read_bytes

SUPERVISE = ROOT / "workflow" / "supervise.py"
POOL = ROOT / "workflow" / "worker" / "pool.py"
MARKER = "SUPERVISE_TEST_MARKER"
MASKS = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")
FENCED = 76
POLL, GRACE = 0.05, 0.2
SLACK = 1.0
"""Seconds, beyond time-out and grace, within which a tree has to be gone."""
SOON = 20.0
"""Seconds that only a failure uses up."""


def eventually(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


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


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "attempt-1")
    yield made
    made.clean()


def bash(code: str) -> tuple[str, ...]:
    return ("bash", "-c", code)


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-c", code)


# Children in sessions of their own, of which one daemonized; all of them ignore TERM. "ready" appears last.
STUBBORN = """
import os, signal, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
def child(depth):
    if os.fork() == 0:
        os.setsid()
        if depth:
            child(depth - 1)
        if depth == 1:
            os._exit(0)
        time.sleep(600)
for _ in range(2):
    child(3)
time.sleep(0.1)
open("ready", "w").close()
time.sleep(600)
"""
STUBBORN_PROCESSES = 1 + 2 * 3
SLEEP = bash("touch ready; exec sleep 600")
WAIT = "touch ready; while :; do sleep 0.02; done"


def ready(bench: Bench) -> bool:
    return eventually((bench.directory / "ready").exists, SOON)


# -- results ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("exit 0", 0),
        ("exit 3", 3),
        ("exit 255", 255),
        ("kill -9 $$", -9),
        ("kill -TERM $$", -15),
        ("kill -SEGV $$", -11),
        ("kill -40 $$", -40),
    ],
)
def test_result_of_an_ended_stage(bench: Bench, code: str, expected: int) -> None:
    before = time.time()
    result = bench.run(*bash(f"echo hello; {code}"))
    assert (result["ended_by"], result["exit_code"]) == ("exit", expected)
    assert before <= result["started"] <= result["ended"] <= time.time()
    assert (result["version"], result["title"]) == (2, "trial 7, attempt 1: train")
    assert result["host"] == os.uname().nodename
    assert (result["gpu"], result["scores"], result["result_lines"]) == (None, {}, [])
    assert result["log_tail"].startswith("hello\n")
    assert bench.alive() == []


def test_files_of_an_attempt(bench: Bench) -> None:
    bench.run(*bash("echo out; echo err >&2; cat"))
    assert (bench.directory / "model.log").read_text() == "out\nerr\n"
    names = sorted(path.name for path in bench.directory.iterdir())
    assert names == [".workflow-heartbeat", "command.sh", "model.log", "result.json"]


def test_stage_runs_in_its_directory_and_session_without_input(bench: Bench) -> None:
    code = "import os, sys; print(os.getcwd(), os.getsid(0) == os.getpid(), repr(sys.stdin.read()))"
    result = bench.run(*python(code))
    assert result["log_tail"] == f"{bench.directory} True ''\n"


def test_signals_have_their_default_meaning_in_the_stage(bench: Bench) -> None:
    code = "import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, ()), signal.getsignal(signal.SIGTERM) == 0)"
    assert bench.run(*python(code))["log_tail"] == "set() True\n"
    assert bench.run(*bash("yes | head -n 1; echo ${PIPESTATUS[0]}"))["log_tail"] == "y\n141\n"


def test_environment_of_the_stage(bench: Bench) -> None:
    hostile = "a 'b' \"c\" $HOME `id` \n;ü"
    code = "import os; print(repr(os.environ['X']), os.environ['PYTHONUNBUFFERED'], os.environ['KEPT'])"
    result = bench.run(*python(code), worker={"KEPT": "yes", "X": "worker's"}, env={"X": hostile})
    assert result["log_tail"] == f"{hostile!r} 1 yes\n"


def test_output_is_kept_with_result_lines_and_tail(bench: Bench) -> None:
    code = (
        "import sys\n"
        "for i in range(300): print(f'IMPROVE_RESULT val_loss:\\t{i}')\n"
        "sys.stdout.flush()\n"
        "sys.stdout.buffer.write(b'\\xff\\xfe not text ' + b'x' * 100_000 + b' IMPROVE_RESULT 1\\n')\n"
        "print('y' * 5000 + 'end')\n"
    )
    result = bench.run(*python(code))
    assert len(result["result_lines"]) == 200
    assert result["result_lines"][-1].endswith("IMPROVE_RESULT 1")
    assert "IMPROVE_RESULT val_loss:\t299" in result["result_lines"]
    assert result["log_tail"].endswith("yend\n")
    assert len(result["log_tail"]) == 4000


# -- scores ----------------------------------------------------------------------------------------------------------


def leave(bench: Bench, name: str, text: str) -> None:
    bench.directory.mkdir(exist_ok=True)
    (bench.directory / name).write_text(text)


def test_scores_of_this_attempt_are_reported(bench: Bench) -> None:
    others = "echo '{}' > other.json; mkdir x_scores.json; ln -s y_scores.json y_scores.json"
    result = bench.run(*bash(f"echo '{{\"mse\": 0.5}}' > val_scores.json; {others}"))
    assert result["scores"] == {"val_scores.json": '{"mse": 0.5}\n'}


def test_leftover_scores_are_not_reported(bench: Bench) -> None:
    leave(bench, "val_scores.json", '{"mse": 0.1}')
    leave(bench, "test_scores.json", '{"mse": 0.2}')
    assert bench.run(*bash("cat val_scores.json"))["scores"] == {}


@pytest.mark.parametrize(
    "rewrite",
    [
        "echo '{\"mse\": 9}' > val_scores.json",
        "cp val_scores.json copy; mv copy val_scores.json",
        "cp val_scores.json copy; cat copy > val_scores.json",
        "rm val_scores.json; echo '{}' > val_scores.json",
    ],
)
def test_rewritten_scores_are_reported(bench: Bench, rewrite: str) -> None:
    leave(bench, "val_scores.json", '{"mse": 0.1}')
    leave(bench, "test_scores.json", '{"mse": 0.2}')
    result = bench.run(*bash(rewrite))
    assert result["scores"] == {"val_scores.json": (bench.directory / "val_scores.json").read_text()}


def test_result_of_an_earlier_run_is_replaced(bench: Bench) -> None:
    leave(bench, "result.json", '{"ended_by": "exit", "exit_code": 0}')
    leave(bench, "model.log", "IMPROVE_RESULT 5\n")
    result = bench.run(*bash("exit 4"))
    assert (result["exit_code"], result["result_lines"]) == (4, [])


def test_stage_that_clears_its_directory_still_has_a_result(bench: Bench) -> None:
    result = bench.run(*bash('rm -rf "$PWD"'))
    assert (result["ended_by"], result["exit_code"]) == ("exit", 0)


def test_log_and_command_survive_a_model_that_clears_its_directory(bench: Bench) -> None:
    result = bench.run(*bash('echo IMPROVE_RESULT 1; rm -rf "$PWD"; mkdir "$PWD"; echo IMPROVE_RESULT 2; echo end'))
    assert (result["result_lines"], result["log_tail"][-4:]) == (["IMPROVE_RESULT 1", "IMPROVE_RESULT 2"], "end\n")
    assert (bench.directory / "model.log").read_text() == "IMPROVE_RESULT 1\nIMPROVE_RESULT 2\nend\n"
    assert (bench.directory / "command.sh").stat().st_mode & 0o100


@pytest.mark.parametrize("remade", [False, True], ids=["gone", "made anew by the model"])
def test_nothing_appears_in_place_of_a_run_that_is_gone(bench: Bench, tmp_path: Path, remade: bool) -> None:
    """Its directory was deleted or moved while a stage ran: the stage ends and leaves the place empty."""
    run = tmp_path / "run"
    bench.directory = run / "attempt-1"
    bench.directory.mkdir(parents=True)
    (run / "lock").write_text("nonce")
    controller = {"lock": str(run / "lock"), "nonce": "nonce", "patience": 60.0}
    process = bench.start(*SLEEP, controller=controller)
    assert ready(bench)
    run.rename(tmp_path / "moved")
    if remade:
        bench.directory.mkdir(parents=True)
    assert process.wait(SOON) == 0
    assert bench.alive() == []
    assert list(bench.directory.iterdir()) == [] if remade else not run.exists()


# -- memory ----------------------------------------------------------------------------------------------------------

MIB = 2**20
EAT = "x = bytearray(%d * 2**20)"


def test_result_says_who_ended_where_and_why(bench: Bench) -> None:
    result = bench.run(*bash("kill -USR1 $$"), worker={"PARSL_WORKER_POOL_ID": "abc"})
    assert (result["trial"], result["attempt"], result["reason"]) == (7, 1, "killed by SIGUSR1")
    assert (result["host"], result["pool"]) == (socket.gethostname(), "abc")
    assert bench.run(*bash("exit 3"))["reason"] == "exit code 3"
    assert bench.run(*SLEEP, timeout=0.1)["reason"] == "timeout after 0.1 s"


def test_peak_memory_is_that_of_the_whole_tree(bench: Bench) -> None:
    """Three processes at a time; a fork's share of its parent's memory counts once."""
    child = f"import time; {EAT % 60}; time.sleep(2.5)"
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


# -- silence and hosts ----------------------------------------------------------------------------------------------


def test_a_silent_stage_is_stopped(bench: Bench) -> None:
    result = bench.run(*bash("for i in 1 2 3 4 5; do echo $i; sleep 0.2; done; sleep 60"), stall_timeout=0.7)
    assert result["ended_by"] == "stalled: no output for 0.7 s"
    assert result["log_tail"] == "1\n2\n3\n4\n5\n"


def test_a_stage_that_speaks_goes_on(bench: Bench) -> None:
    assert bench.run(*bash("for i in 1 2 3 4; do echo $i; sleep 0.4; done"), stall_timeout=1.0)["ended_by"] == "exit"


def test_a_host_to_be_avoided_hands_the_task_back_after_a_while(bench: Bench) -> None:
    start = time.monotonic()
    result = bench.run(*bash("touch started"), avoid=["elsewhere", socket.gethostname()], avoid_delay=0.5)
    assert 0.5 < time.monotonic() - start < 5
    assert result["ended_by"].startswith("stopped before it started: it failed on")
    assert not (bench.directory / "started").exists()
    assert bench.run(*bash("touch started"), avoid=["elsewhere"], avoid_delay=60.0)["ended_by"] == "exit"


# -- starting --------------------------------------------------------------------------------------------------------


def script(directory: Path, text: str, mode: int = 0o755) -> str:
    path = directory / "train.sh"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize(
    ("text", "mode", "reason"),
    [
        ("#!/bin/bash\n", 0o644, "Permission denied"),
        ("#!/no/such/interpreter\n", 0o755, "the interpreter that its first line names is missing"),
        ("#!/bin/bash\r\necho\r\n", 0o755, "carriage return"),
        ("no interpreter\n", 0o755, "Exec format error: its first line has to name an interpreter"),
    ],
)
def test_script_that_cannot_start(bench: Bench, tmp_path: Path, text: str, mode: int, reason: str) -> None:
    path = script(tmp_path, text, mode)
    result = bench.run(path)
    assert result["ended_by"].startswith(f"cannot start {path!r}: ")
    assert reason in result["ended_by"]
    assert result["exit_code"] is None


@pytest.mark.parametrize("program", ["/no/such/train.sh", "no-such-program-anywhere"])
def test_missing_program_cannot_start(bench: Bench, program: str) -> None:
    assert bench.run(program)["ended_by"].startswith(f"cannot start {program!r}: ")


def test_first_program_that_is_installed_is_run(bench: Bench) -> None:
    result = bench.run("container", "-c", "echo $0", programs=["no-such-program", "bash", "false"])
    assert result["log_tail"] == "bash\n"
    assert bench.run("neither", programs=["no-such-program"])["ended_by"].startswith("cannot start 'neither'")


def test_path_prefix_comes_first(bench: Bench, tmp_path: Path) -> None:
    script(tmp_path, "#!/bin/bash\necho found; command -v ls > /dev/null && echo and the rest\n")
    assert bench.run("train.sh", path_prefix=str(tmp_path))["log_tail"] == "found\nand the rest\n"


CUDA = {"mask": "CUDA_VISIBLE_DEVICES", "unset": [], "renumbered": False}
ROCR = {"mask": "ROCR_VISIBLE_DEVICES", "unset": ["CUDA_VISIBLE_DEVICES"], "renumbered": True}
LEVEL_ZERO = {"mask": "ZE_AFFINITY_MASK", "unset": ["CUDA_VISIBLE_DEVICES"], "renumbered": True}
SHOW_MASKS = "import os; print(*(os.environ.get(n) for n in ('CUDA_VISIBLE_DEVICES', 'ROCR_VISIBLE_DEVICES')))"


def in_pool(rank: int, *slots: str, **more: Any) -> dict[str, str]:
    """The environment of a worker in a node's pool."""
    return {"WORKFLOW_BLOCK": json.dumps({"slots": slots, **more}), "PARSL_WORKER_RANK": str(rank)}


@pytest.mark.parametrize(
    ("rank", "slots", "gpu", "seen", "argument"),
    [
        (1, ("2", "3"), CUDA, "3", "3"),
        (0, ("MIG-a/1/0", "MIG-b"), CUDA, "MIG-a/1/0", "MIG-a/1/0"),
        (1, ("0,1", "2,3"), CUDA, "2,3", "2,3"),
        (3, ("4", "5", "4", "5"), CUDA, "5", "5"),
        (1, ("2", "3"), ROCR, "3", "0"),
        (1, ("2,3", "4,5"), ROCR, "4,5", "0,1"),
        (1, ("0.0", "0.1"), LEVEL_ZERO, "0.1", "0"),
    ],
)
def test_a_worker_of_a_pool_has_the_gpus_of_its_number(
    bench: Bench, rank: int, slots: tuple[str, ...], gpu: dict[str, Any], seen: str, argument: str
) -> None:
    """Under a ROCR or Level Zero mask the visible GPUs count from 0, and train.sh's own mask counts those."""
    words = python(f"import os, sys; print(os.environ[{gpu['mask']!r}], sys.argv[1])")
    worker = {**in_pool(rank, *slots), "CUDA_VISIBLE_DEVICES": "6,7"}
    result = bench.run(*words, "GPU", gpu=gpu, gpu_index=len(words), worker=worker)
    assert (result["gpu"], result["log_tail"]) == (seen, f"{seen} {argument}\n")
    again = subprocess.run([bench.directory / "command.sh"], capture_output=True, text=True, check=True)
    assert again.stdout == result["log_tail"]


def test_masks_that_would_hide_gpus_are_unset(bench: Bench) -> None:
    worker = {**in_pool(0, "2"), "CUDA_VISIBLE_DEVICES": "2,3", "ROCR_VISIBLE_DEVICES": "2,3"}
    assert bench.run(*python(SHOW_MASKS), gpu=ROCR, worker=worker)["log_tail"] == "None 2\n"


@pytest.mark.parametrize(
    ("worker", "expected"),
    [({"CUDA_VISIBLE_DEVICES": "3"}, "3"), ({"CUDA_VISIBLE_DEVICES": "GPU-12ab"}, "GPU-12ab"), ({}, None)],
)
def test_gpu_number_is_what_the_worker_has(bench: Bench, worker: dict[str, str], expected: str | None) -> None:
    result = bench.run("echo", "GPU", "/data", "GPU", worker=worker, gpu_index=1)
    assert result["gpu"] == expected
    assert result["log_tail"] == f"{expected or '0'} /data GPU\n"
    assert f"echo {expected or '0'} /data GPU" in (bench.directory / "command.sh").read_text()


# -- command.sh and names --------------------------------------------------------------------------------------------

WORDS = [
    "a b",
    "'",
    '"',
    "$(touch hacked)",
    "`touch hacked`",
    ";touch hacked",
    "*",
    "",
    "-n",
    "new\nline",
    "ü✓",
    "\\",
    "~",
]
SHOW = "import json, os, sys; print(json.dumps([os.getcwd(), os.environ.get('X'), sys.argv[1:]]))"


def test_command_runs_again_by_hand_with_the_same_words(bench: Bench, tmp_path: Path) -> None:
    changes = {"env": {"X": "$(touch hacked) '"}, "path_prefix": str(tmp_path / "bin")}
    first = bench.run(*python(SHOW), *WORDS, **changes)["log_tail"]
    assert json.loads(first) == [str(bench.directory), "$(touch hacked) '", WORDS]
    command = bench.directory / "command.sh"
    assert os.access(command, os.X_OK)
    again = subprocess.run([command], cwd="/", capture_output=True, text=True, timeout=SOON, check=True)
    assert again.stdout == first
    assert not list(tmp_path.rglob("hacked"))


def test_command_by_hand_has_its_gpu_path_and_directory(bench: Bench, tmp_path: Path) -> None:
    script(tmp_path, '#!/bin/bash\necho "$PWD $*"\n')
    changes = {"path_prefix": str(tmp_path), "gpu_index": 1}
    first = bench.run("train.sh", "GPU", "/data", worker={"CUDA_VISIBLE_DEVICES": "2"}, **changes)["log_tail"]
    again = subprocess.run(["bash", bench.directory / "command.sh"], capture_output=True, text=True, check=True)
    assert again.stdout == first == f"{bench.directory} 2 /data\n"


HOSTILE = [
    "with space",
    "quote'and\"both",
    "new\nline",
    "$(touch hacked)",
    "`touch hacked`;touch hacked",
    "-leading-dash",
    "ünï✓",
    "*?[a]",
    "back\\slash",
    "%s{brace}",
    "#hash &",
    os.fsdecode(b"not\xffutf8"),
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_directory_names(bench: Bench, tmp_path: Path, name: str) -> None:
    directory = tmp_path / name / "attempt-1"
    result = bench.run(*bash('pwd -P > where; echo "{}" > val_scores.json'), directory=str(directory))
    assert (result["ended_by"], result["exit_code"], result["scores"]) == ("exit", 0, {"val_scores.json": "{}\n"})
    assert os.fsdecode((directory / "where").read_bytes()) == f"{directory}\n"
    (directory / "where").unlink()
    subprocess.run(["bash", directory / "command.sh"], cwd="/", timeout=SOON, check=True)
    assert os.fsdecode((directory / "where").read_bytes()) == f"{directory}\n"
    assert not list(tmp_path.rglob("hacked"))


# -- stopping --------------------------------------------------------------------------------------------------------


def test_timeout_ends_a_whole_stubborn_tree_in_time(bench: Bench) -> None:
    timeout = 1.5
    process = bench.start(*python(STUBBORN), timeout=timeout)
    assert ready(bench)
    assert len(bench.alive()) == STUBBORN_PROCESSES + 2  # supervisor and leash
    assert process.wait(SOON) == 0
    assert bench.alive() == []
    result = bench.result()
    assert (result["ended_by"], result["exit_code"]) == (f"timeout after {timeout:g} s", None)
    assert timeout + GRACE <= result["ended"] - result["started"] < timeout + GRACE + SLACK


def stop(bench: Bench) -> None:
    assert ready(bench)
    (bench.directory / ".workflow-stop").touch()


def test_stop_file_stops(bench: Bench) -> None:
    process = bench.start(*SLEEP)
    stop(bench)
    assert bench.wait(process)["ended_by"] == "stopped: the campaign asked for it"


def test_stop_file_may_say_why(bench: Bench) -> None:
    """As that of a trial that is stopped early, which is then an outcome."""
    process = bench.start(*SLEEP)
    assert ready(bench)
    (bench.directory / ".workflow-stop").write_text("loss 9 at best by step 5")
    result = bench.wait(process)
    assert result["ended_by"] == "stopped: hopeless: loss 9 at best by step 5"
    outcome = judge(result, "train", ["loss"], 7, 1, ((4, 11.0), (5, 9.0)))
    assert (outcome.kind, outcome.cause, outcome.evidence) == ("stopped", "", "stopped early: loss 9 at best by step 5")


def test_stop_file_does_not_stop_what_has_ended_by_itself(bench: Bench) -> None:
    """Its file and its end are seen at the same look."""
    result = bench.run(*bash("echo hopeless > .workflow-stop; exit 3"), poll=0.2)
    assert (result["ended_by"], result["exit_code"]) == ("exit", 3)


def test_stop_file_that_came_first_keeps_a_stage_from_starting(bench: Bench) -> None:
    bench.directory.mkdir(parents=True)
    (bench.directory / ".workflow-stop").touch()
    result = bench.run(*bash("touch started"))
    assert result["ended_by"] == "stopped before it started: the campaign asked for it"
    assert not (bench.directory / "started").exists()


def test_stage_that_obeys_ends_before_the_grace_does(bench: Bench) -> None:
    process = bench.start(*bash(f"trap 'echo bye; exit 0' TERM; {WAIT}"), grace=10 * SOON)
    stop(bench)
    assert bench.wait(process)["log_tail"].endswith("bye\n")


def test_term_is_sent_a_second_time(bench: Bench) -> None:
    """Some runtimes lose the first one while they start."""
    process = bench.start(*bash(f"trap 'echo TERM' TERM; {WAIT}"), grace=0.8)
    stop(bench)
    assert bench.wait(process)["log_tail"].count("TERM") == 2


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
    assert eventually(lambda: bench.alive() == [], 2)


def test_killed_leash_and_then_killed_supervisor_leave_nothing(bench: Bench) -> None:
    """The process that would end the tree is replaced when it is killed itself, and told of the tree again."""
    hide = "env -i setsid bash -c 'trap : TERM; while :; do sleep 0.1; done' & touch ready; wait"
    process = bench.start(*bash(hide))
    assert ready(bench)
    time.sleep(10 * POLL)
    first = leashes(process.pid)
    os.kill(first[0], signal.SIGKILL)
    assert eventually(lambda: len(leashes(process.pid)) == 1 and leashes(process.pid) != first, SOON)
    tree = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert eventually(lambda: not any(each.is_running() for each in tree), 2)


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
    time.sleep(10 * POLL)  # for the supervisor to have seen it
    process.kill()
    process.wait()
    assert eventually(lambda: not Path(f"/proc/{hidden}").exists(), 2)


def test_a_models_own_files_are_no_orders(bench: Bench) -> None:
    result = bench.run(*bash("touch stop heartbeat; mkdir result.json; sleep 0.3"))
    assert (result["ended_by"], result["exit_code"]) == ("exit", 0)
    assert (bench.directory / "result.json.of-the-model").is_dir()


def test_an_output_directory_that_became_a_file(bench: Bench) -> None:
    assert bench.run(*bash('rm -rf "$PWD"; echo mine > "$PWD"'))["exit_code"] == 0
    assert bench.directory.with_name("attempt-1.of-the-model").read_text() == "mine\n"


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


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


# -- the controller --------------------------------------------------------------------------------------------------


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


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    made = Controller(tmp_path / "controller.lock")
    made.beat()
    return made


def take_over(controller: Controller) -> None:
    controller.nonce = "another"
    controller.beat()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda controller: controller.path.unlink(), "the controller has ended"),
        (take_over, "another controller has taken over"),
        (lambda controller: None, "the controller has not moved for 0.5 s"),
    ],
    ids=["ended", "replaced", "silent"],
)
def test_stage_stops_once_its_controller_is_gone(
    bench: Bench, controller: Controller, change: Callable[[Controller], None], reason: str
) -> None:
    process = bench.start(*python(STUBBORN), controller=controller.fence(patience=0.5))
    assert ready(bench)
    change(controller)
    assert bench.wait(process)["ended_by"] == f"stopped: {reason}"


def test_stage_goes_on_while_its_controller_beats(bench: Bench, controller: Controller) -> None:
    process = bench.start(*bash("sleep 0.9; echo done"), controller=controller.fence(patience=0.6))
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


# -- blocks of workers -----------------------------------------------------------------------------------------------


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


def test_a_stage_gets_the_temporary_directory_of_its_node(bench: Bench) -> None:
    worker = {"TMPDIR": "/of/the/pool", "WORKFLOW_BLOCK": json.dumps({"tmpdir": "/of/the/node"})}
    assert bench.run(*bash("echo $TMPDIR"), worker=worker)["log_tail"] == "/of/the/node\n"


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


@pytest.mark.parametrize("measured", [False, True])
def test_a_training_that_takes_longer_than_its_block_has_is_handed_back(bench: Bench, measured: bool) -> None:
    worker = in_pool(0, "0", end=time.time() + 60, started=time.time() - 3540, drain="there")
    result = bench.run(*bash("touch started"), worker=worker, expected={"seconds": 120.0, "measured": measured})
    assert result["ended_by"].startswith("stopped before it started: its block ends in 5")
    assert result["block_ends"] and result["block"]["drain"] == "there"
    assert not (bench.directory / "started").exists()
    outcome = judge(result, "train", ["mse"], 7, 1)
    assert (outcome.kind, outcome.cause) == ("deferred", "walltime")


@pytest.mark.parametrize(
    ("left", "age", "seconds", "measured"),
    [
        (60, 3540, 20.0, True), (60, 3540, None, True), (3500, 100, 9999.0, True), (1900, 1700, 9999.0, False),
        (50, 2, 7200.0, False), (None, 100, 9999.0, True),
    ],
    ids=["short", "unknown", "longer than any block", "only a time-out", "a slow start of a short block", "no end"],
)  # fmt: skip
def test_what_fits_or_fits_nowhere_better_is_started(
    bench: Bench, left: float | None, age: float, seconds: float | None, measured: bool
) -> None:
    worker = in_pool(0, "0", end=left and time.time() + left, started=time.time() - age)
    expected = None if seconds is None else {"seconds": seconds, "measured": measured}
    assert bench.run("true", worker=worker, expected=expected)["ended_by"] == "exit"


def test_a_stage_ends_before_its_block_does(bench: Bench) -> None:
    """The scheduler's own kill would leave no result."""
    result = bench.run(*bash("sleep 60"), worker=in_pool(0, "0", end=time.time() + 6.0))
    assert result["ended_by"] == "stopped: its block ends"
    outcome = judge(result, "train", ["mse"], 7, 1)
    assert (outcome.kind, outcome.cause) == ("lost", "walltime")


def test_a_stage_that_ends_with_its_block_says_so(bench: Bench) -> None:
    """The scheduler's kill may come before the look at the clock."""
    ends = in_pool(0, "0", end=time.time() + 5.5 + GRACE)
    assert bench.run(*bash("sleep 1; kill $$"), worker=ends, poll=5.0)["block_ends"] is True


def test_a_drained_pool_ends_once_no_stage_runs(bench: Bench, controller: Controller) -> None:
    stage = bench.directory.parent / "stage.sh"
    stage.write_text(f"exec {shlex.join(bench.command(bench.spec('sleep', '2')))}\n")
    process = block(bench, controller, *bash(f"bash {shlex.quote(str(stage))} & sleep 600"), workers=1)
    assert eventually((bench.directory / ".workflow-heartbeat").exists, SOON)
    (bench.directory / f"{socket.gethostname()}.{process.pid}").touch()
    assert process.wait(SOON) == 0
    assert json.loads((bench.directory / "result.json").read_text())["ended_by"] == "exit"
    assert bench.alive() == []


NVIDIA_SMI = """#!/bin/bash
case $1 in
    *compute-apps*) [ -f pids ] && cat pids ; exit 0 ;;
    *) printf 'GPU-a, 0, NVIDIA A100-SXM4-40GB\\nGPU-b, 1, NVIDIA A100-SXM4-40GB\\n' ;;
esac
"""


def with_nvidia_smi(bench: Bench, tmp_path: Path, text: str) -> dict[str, str]:
    """A worker's environment with a program of that name, which runs in the attempt's directory."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(text.replace("pids", str(bench.directory / "pids")))
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}"}


def test_gpus_that_a_training_uses_are_seen(bench: Bench, tmp_path: Path) -> None:
    """By process: GPU 0 has one of somebody else."""
    worker = with_nvidia_smi(bench, tmp_path, NVIDIA_SMI)
    stage = bash('(echo "1, GPU-a"; echo "$$, GPU-b") > new; mv new pids; sleep 2.5')
    used = bench.run(*stage, worker=worker, watch_gpus=True)["gpus_used"]
    assert used["gpus"] == [{"uuid": "GPU-b", "index": "1", "name": "NVIDIA A100-SXM4-40GB"}]
    assert used["looks"] >= 2 and used["error"] == ""


def test_gpus_that_cannot_be_seen_are_said(bench: Bench, tmp_path: Path) -> None:
    worker = with_nvidia_smi(bench, tmp_path, "#!/bin/bash\necho NVIDIA-SMI has failed; exit 9\n")
    used = bench.run(*bash("sleep 0.5"), worker=worker, watch_gpus=True)["gpus_used"]
    assert used == {"looks": 1, "error": "nvidia-smi: NVIDIA-SMI has failed", "gpus": []}
    assert bench.run("true")["gpus_used"] is None


def test_scratch_holds_temporary_files_and_caches(bench: Bench, tmp_path: Path) -> None:
    """The place is named by variables of the worker; the temporary directory is the attempt's own and goes with it."""
    show = python("import os, tempfile; print(tempfile.mkdtemp(), os.environ['XDG_CACHE_HOME'], sep='\\n')")
    worker = {"PLACE": str(tmp_path)}
    temporary, caches = bench.run(*show, scratch="$PLACE/fast", worker=worker)["log_tail"].split()
    own = Path(temporary).parent
    assert own.parent == Path(caches).parent == tmp_path / "fast"
    assert Path(caches).is_dir() and not own.exists()


@pytest.mark.parametrize(
    ("scratch", "why"),
    [("$NO_SUCH_VARIABLE/x", "a variable of it is not set"), ("$WITH_COMMA/x", "containers cannot bind a path with")],
)
def test_scratch_that_cannot_be_used_is_a_broken_set_up(bench: Bench, scratch: str, why: str) -> None:
    result = bench.run("true", scratch=scratch, worker={"WITH_COMMA": "/tmp/a,b"})
    assert why in result["ended_by"]
    assert judge(result, "train", ["mse"], 7, 1).cause == "setup"
