"""One stage as workers run it: its surroundings, how it starts and stops, and its result."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.unit.worker.stage_bench import GRACE, SLEEP, SOON, WAIT, Bench, bash, in_pool, python, ready, stop
from workflow.outcomes import judge

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


def test_result_says_who_ended_where_and_why(bench: Bench) -> None:
    result = bench.run(*bash("kill -USR1 $$"), worker={"PARSL_WORKER_POOL_ID": "abc"})
    assert (result["trial"], result["attempt"], result["reason"]) == (7, 1, "killed by SIGUSR1")
    assert (result["host"], result["pool"]) == (socket.gethostname(), "abc")
    assert bench.run(*bash("exit 3"))["reason"] == "exit code 3"
    assert bench.run(*SLEEP, timeout=0.1)["reason"] == "timeout after 0.1 s"


# -- silence and hosts ----------------------------------------------------------------------------------------------


def test_a_silent_stage_is_stopped(bench: Bench) -> None:
    result = bench.run(*bash("for i in 1 2 3 4 5; do echo $i; sleep 0.2; done; sleep 60"), stall_timeout=5)
    assert result["ended_by"] == "stalled: no output for 5 s"
    assert result["log_tail"] == "1\n2\n3\n4\n5\n"


def test_a_stage_that_speaks_goes_on(bench: Bench) -> None:
    assert bench.run(*bash("for i in {1..60}; do echo $i; sleep 0.1; done"), stall_timeout=5)["ended_by"] == "exit"


def test_a_host_to_be_avoided_hands_the_task_back_after_a_while(bench: Bench) -> None:
    start = time.monotonic()
    result = bench.run(*bash("touch started"), avoid=["elsewhere", socket.gethostname()], avoid_delay=0.5)
    assert 0.5 < time.monotonic() - start < SOON
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
    """Its file and its end come between two looks."""
    result = bench.run(*bash("sleep 1; echo hopeless > .workflow-stop; exit 3"), poll=10)
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
    twice = "trap 'echo TERM; [ -e once ] && exit; touch once' TERM"
    process = bench.start(*bash(f"{twice}; {WAIT}"), grace=8)
    stop(bench)
    assert bench.wait(process)["log_tail"].count("TERM") == 2


def test_a_models_own_files_are_no_orders(bench: Bench) -> None:
    result = bench.run(*bash("touch stop heartbeat; mkdir result.json; sleep 0.3"))
    assert (result["ended_by"], result["exit_code"]) == ("exit", 0)
    assert (bench.directory / "result.json.of-the-model").is_dir()


def test_an_output_directory_that_became_a_file(bench: Bench) -> None:
    assert bench.run(*bash('rm -rf "$PWD"; echo mine > "$PWD"'))["exit_code"] == 0
    assert bench.directory.with_name("attempt-1.of-the-model").read_text() == "mine\n"


def test_a_stage_gets_the_temporary_directory_of_its_node(bench: Bench) -> None:
    worker = {"TMPDIR": "/of/the/pool", "WORKFLOW_BLOCK": json.dumps({"tmpdir": "/of/the/node"})}
    assert bench.run(*bash("echo $TMPDIR"), worker=worker)["log_tail"] == "/of/the/node\n"


@pytest.mark.parametrize("measured", [False, True])
def test_a_training_that_takes_longer_than_its_block_has_is_handed_back(bench: Bench, measured: bool) -> None:
    worker = in_pool(0, "0", end=time.time() + 60, started=time.time() - 3540, drain="there")
    result = bench.run(*bash("touch started"), worker=worker, expected={"seconds": 120.0, "measured": measured})
    assert re.match(r"stopped before it started: its block ends in \d+ s", result["ended_by"])
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
    result = bench.run(*bash("sleep 60"), worker=in_pool(0, "0", end=time.time() + 13.0))
    assert result["ended_by"] == "stopped: its block ends"
    outcome = judge(result, "train", ["mse"], 7, 1)
    assert (outcome.kind, outcome.cause) == ("lost", "walltime")


def test_a_stage_that_ends_with_its_block_says_so(bench: Bench) -> None:
    """The scheduler's kill may come before the look at the clock."""
    ends = in_pool(0, "0", end=time.time() + 5.5 + GRACE)
    assert bench.run(*bash("sleep 1; kill $$"), worker=ends, poll=5.0)["block_ends"] is True


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
