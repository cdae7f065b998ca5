"""What runs on the endpoint, called as its worker calls it."""

from __future__ import annotations

import ast
import errno
import inspect
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import small_disk
from workflow.globus import remote
from workflow.globus.backend import stage_app, supervisor_files


def order(tmp_path: Path, *argv: str, **changes: Any) -> Any:
    spec = {
        "title": "trial 7, attempt 1: train", "trial": 7, "attempt": 1,
        "directory": str(tmp_path / "run" / "trials" / "0007" / "attempt-1"), "argv": list(argv), "programs": [],
        "gpu_index": None, "env": {}, "unset": [], "path_prefix": None, "timeout": 20.0, "stall_timeout": None,
        "gpu": {"mask": "CUDA_VISIBLE_DEVICES", "unset": [], "renumbered": False}, "expected": None,
        "checkpoints": None, "scratch": None, "watch_gpus": False, "avoid": [], "avoid_delay": 0.0,
        "grace": 0.2, "poll": 0.05, "controller": None,
    }  # fmt: skip
    return {
        "supervisor": supervisor_files(), "spec": spec, "run": str(tmp_path / "run"), "token": "mine",
        "make": [str(tmp_path / "run" / "data")], "start_by": time.time() + 60, **changes,
    }  # fmt: skip


def run(tmp_path: Path, *argv: str, **changes: Any) -> dict[str, Any]:
    reply = stage_app(inspect.getsource(remote), "run", order(tmp_path, *argv, **changes))
    assert json.loads(json.dumps(reply)) == reply
    assert isinstance(reply, dict)
    return reply


def test_the_function_travels_as_text_without_names_from_outside() -> None:
    """The SDK's serializer sends the text of the function, and the endpoint executes it in an empty namespace."""
    namespace: dict[str, Any] = {}
    exec(inspect.getsource(stage_app), namespace)
    assert namespace["stage_app"]("def run(x): return x", "run", {"a": 1}) == {"a": 1}


@pytest.mark.parametrize("text", [inspect.getsource(remote), *supervisor_files().values()])
def test_older_pythons_can_read_it(text: str) -> None:
    ast.parse(text, feature_version=(3, 9))


def test_a_stage_runs_in_its_directory_with_the_workers_python(tmp_path: Path) -> None:
    script = "import os, sys; print(os.getcwd(), os.path.isdir('../../../data'), os.environ['PATH'].split(':')[0])"
    reply = run(tmp_path, sys.executable, "-c", script)
    directory = tmp_path / "run" / "trials" / "0007" / "attempt-1"
    assert reply["result"]["exit_code"] == 0 and not reply["why"] and not reply["trouble"]
    assert reply["log"].split() == [str(directory), "True", str(Path(sys.executable).parent)]


def test_a_failure_is_a_result(tmp_path: Path) -> None:
    reply = run(tmp_path, "sh", "-c", "echo boom; exit 3")
    assert (reply["result"]["exit_code"], reply["log"], reply["trouble"]) == (3, "boom\n", "")


def test_a_task_that_comes_too_late_does_not_begin(tmp_path: Path) -> None:
    reply = run(tmp_path, "true", start_by=time.time() - 5)
    assert reply["result"] is None and re.fullmatch(r"it reached a worker \d+ s too late", reply["why"])
    assert not (tmp_path / "run").exists()


def test_a_task_that_comes_twice_runs_once(tmp_path: Path) -> None:
    first = run(tmp_path, "sh", "-c", "date +%N")
    assert run(tmp_path, "sh", "-c", "date +%N")["result"] == first["result"]
    (tmp_path / "run" / "trials" / "0007" / "attempt-1" / "result.json").unlink()
    assert "was begun before" in run(tmp_path, "true")["why"]


def test_a_directory_of_another_run_is_left_alone(tmp_path: Path) -> None:
    run(tmp_path, "true")
    reply = run(tmp_path, "true", token="another")
    assert reply["result"] is None and "belongs to another run" in reply["trouble"]


def test_a_place_that_cannot_be_written_is_trouble_for_all(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    reply = run(tmp_path, "true", run=str(tmp_path / "file" / "run"))
    assert reply["result"] is None and reply["trouble"] == f"{tmp_path}/file/run: Not a directory"


@pytest.mark.parametrize(("said", "is_full"), [("No space left on device", True), ("boom", False)])
def test_a_log_that_blames_the_disk_is_believed_where_little_room_is_left(
    tmp_path: Path, said: str, is_full: bool
) -> None:
    with small_disk(tmp_path / "run", "20m"):
        reply = run(tmp_path, "sh", "-c", f"echo {said}; exit 1")
    assert reply["result"]["exit_code"] == 1
    assert ("No space left" in reply["trouble"]) is is_full


def test_a_disk_that_has_become_read_only_is_trouble_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the result cannot be removed, either."""
    unlink = Path.unlink

    def refuses(path: Path, missing_ok: bool = False) -> None:
        if path.name == "result.json":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuses)
    monkeypatch.setattr(remote, "_unwritable", lambda directory, log: "read-only")
    assert remote.run(order(tmp_path, "sh", "-c", "exit 1"))["trouble"] == "read-only"


def test_a_broken_supervisor_is_told_with_its_message(tmp_path: Path) -> None:
    reply = run(tmp_path, "true", supervisor={"workflow/supervise.py": "import sys; sys.exit('no prctl here')"})
    assert reply["why"] == "the supervisor ended with exit code 1: no prctl here"


def test_nothing_is_raised(tmp_path: Path) -> None:
    reply = run(tmp_path, "true", spec={"directory": str(tmp_path / "run")})
    assert reply["result"] is None and reply["why"].startswith("KeyError")


def test_a_supervisor_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_SLACK", 0.5)
    given = order(tmp_path, "true", supervisor={"workflow/supervise.py": "import time; time.sleep(60)"})
    given["spec"]["timeout"] = 0.1
    start = time.monotonic()
    assert remote.run(given)["why"].startswith("the supervisor ended with exit code -15")
    assert time.monotonic() - start < 10


def test_a_large_result_is_cut_to_what_can_travel(tmp_path: Path) -> None:
    write = "open('val_scores.json', 'w').write('{\"mse\": 1}')"
    scores = [f"open('{n}_scores.json', 'w').write('{{\"a\": \"' + 'x' * 1000000 + '\"}}')" for n in range(6)]
    reply = run(tmp_path, sys.executable, "-c", "; ".join([write, *scores]))
    assert reply["result"]["scores"] == {"val_scores.json": '{"mse": 1}'}


def test_a_look_tells_what_has_ended(tmp_path: Path) -> None:
    run(tmp_path, "true")
    trials = tmp_path / "run" / "trials"
    directories = [str(trials / "0007" / "attempt-1"), str(trials / "0008" / "attempt-1")]
    ended, other = remote.look({"run": str(tmp_path / "run"), "token": "mine", "directories": directories})
    assert ended["result"] is not None and ended["result"]["trial"] == 7 and other["result"] is None
    for token, run_dir in (("another", tmp_path / "run"), ("mine", tmp_path / "none")):
        found = remote.look({"run": str(run_dir), "token": token, "directories": directories})
        assert [reply["result"] for reply in found] == [None, None]
