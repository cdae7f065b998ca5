"""What runs on a Globus Compute endpoint: starts the supervisor of one stage there and brings its result back.

This module's text travels with each task and is executed there, so it needs the standard library alone (Python 3.9 or
newer) and nothing of this package. ``run`` runs a stage, ``look`` looks what earlier ones have left. Both take and give
plain types, in every case.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, TypedDict


class Order(TypedDict):
    """What to run.

    ``start_by`` is in seconds since the epoch, by the clock here: a stage that begins later would not be
    waited for.

    ``supervisor`` are a supervisor's files, texts by path, and ``spec`` its SPEC, with a directory of this machine.
    ``run`` is the run's directory here, which belongs to the run that knows ``token``; ``make`` names directories that
    the stage expects to find.
    """

    supervisor: dict[str, str]
    spec: dict[str, Any]
    run: str
    token: str
    make: list[str]
    start_by: float


class Question(TypedDict):
    """Which attempts to look at: their directories, in a run that knows ``token``."""

    run: str
    token: str
    directories: list[str]


class Reply(TypedDict):
    """What came of it: ``result`` is the supervisor's result.json, or None, and ``why`` then says what went wrong.

    ``trouble`` tells of something that no stage can run with here, such as a full disk; empty if there is none.
    ``log`` is the end of the stage's log.
    """

    host: str
    result: dict[str, Any] | None
    log: str
    why: str
    trouble: str


RESULT, LOG, ERRORS = "result.json", "model.log", "supervisor.log"
OWNER, BEGUN, SUPERVISOR = ".workflow-run", ".workflow-begun", ".workflow-supervisor"

_LOG_BYTES = 1 << 16
_MOST_BYTES = 4 << 20
"""Of a result: Globus Compute takes 10 MB at most."""

_PROBE, _LARGE_PROBE = 1 << 18, 1 << 26
"""Bytes that a disk must take to count as not full; more where a log blames it, since models tidy up half a file."""

_SLACK = 60.0
"""Seconds beyond time-out and grace after which the supervisor itself counts as hung."""


class Refused(Exception):
    """The stage cannot run here; the text says why."""


class Trouble(Refused):
    """No stage of this run can."""


def run(order: Order) -> Reply:
    """Run a stage to its end. Nothing is raised."""
    try:
        return _run(order)
    except Trouble as error:
        return _reply(None, "", str(error), trouble=str(error))
    except BaseException as error:  # SystemExit, too, would end the endpoint's worker
        return _reply(None, "", str(error) if isinstance(error, Refused) else f"{type(error).__name__}: {error}")


def look(question: Question) -> list[Reply]:
    """What each attempt has left, in the order of the question. Nothing is raised."""
    with contextlib.suppress(OSError):
        if (Path(question["run"]) / OWNER).read_text(encoding="utf-8") == question["token"]:
            return [_collect(Path(directory), "") for directory in question["directories"]]
    return [_reply(None, "", "it never began") for _ in question["directories"]]


def _run(order: Order) -> Reply:
    directory = Path(order["spec"]["directory"])
    late = time.time() - order["start_by"]
    if late > 0:
        raise Refused(f"it reached a worker {late:.0f} s too late")
    try:
        for path in (Path(order["run"]), directory, *map(Path, order["make"])):
            path.mkdir(parents=True, exist_ok=True)
        _own(Path(order["run"]), order["token"])
    except OSError as error:
        raise Trouble(f"{error.filename}: {error.strerror}") from error
    reply = _collect(directory, "" if _finished(directory) else _supervise(order, directory))
    if reply["trouble"]:
        with contextlib.suppress(OSError):  # a disk that takes nothing: the trouble is told all the same
            (directory / RESULT).unlink(missing_ok=True)  # no later look may take it for the model's failure
    return reply


def _own(run: Path, token: str) -> None:
    """Claim the run's directory: another run of the same name would write among this one's files."""
    _write_once(run / OWNER, token)
    if (run / OWNER).read_text(encoding="utf-8") != token:
        raise Trouble(f"{run}: belongs to another run of this name; give this one another name by --output")


def _write_once(path: Path, text: str) -> None:
    """Write a file, whole or not at all, unless it is there."""
    draft = path.with_name(f"{path.name}.{socket.gethostname()}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    try:
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()


def _finished(directory: Path) -> bool:
    """Whether this attempt ran before, as a task that is delivered twice has. Raises Refused while it still may run."""
    try:
        (directory / BEGUN).touch(exist_ok=False)
        return False
    except FileExistsError:
        if (directory / RESULT).exists():
            return True
        raise Refused("this attempt was begun before, and has left no result") from None


def _supervise(order: Order, directory: Path) -> str:
    """Run the supervisor to its end; returns what went wrong with it."""
    spec = order["spec"]
    script = _unpacked(order) / "workflow" / "supervise.py"
    if not spec["programs"]:  # scripts find the worker's Python
        spec = {**spec, "path_prefix": str(Path(sys.executable).parent)}
    with (directory / ERRORS).open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(script), json.dumps(spec)],
            cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
        )  # fmt: skip
    code = _wait(process, spec)
    said = _tail(directory / ERRORS, 500).strip()
    return f"the supervisor ended with exit code {code}: {said}" if code else ""


def _unpacked(order: Order) -> Path:
    """The directory of the supervisor's files, which attempts share; another version has another one."""
    version = hashlib.sha256(json.dumps(order["supervisor"]).encode()).hexdigest()[:12]
    directory = Path(order["run"]) / f"{SUPERVISOR}-{version}"
    for name, text in order["supervisor"].items():
        path = directory / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_once(path, text)
    return directory


def _wait(process: subprocess.Popen[bytes], spec: dict[str, Any]) -> int:
    """The supervisor's exit code; it is ended with its stage if it outlives their time."""
    try:
        return process.wait(spec["timeout"] + spec["avoid_delay"] + spec["grace"] + _SLACK)
    except BaseException as error:
        process.terminate()
        try:
            process.wait(2 * spec["grace"] + 1)
        except subprocess.TimeoutExpired:
            process.kill()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        return process.wait()


def _collect(directory: Path, why: str) -> Reply:
    log = _tail(directory / LOG, _LOG_BYTES)
    try:
        result = json.loads((directory / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return _reply(None, log, why or f"no {RESULT} was left behind ({error})", trouble=_unwritable(directory, log))
    if not isinstance(result, dict):
        return _reply(None, log, f"{RESULT} is not the supervisor's", trouble="")
    trouble = "" if result.get("exit_code") == 0 else _unwritable(directory, log)
    return _reply(_fitting(result), log, why, trouble)


def _fitting(result: dict[str, Any]) -> dict[str, Any]:
    """A result that is small enough to travel: without the scores that no metric is read from."""
    if len(json.dumps(result)) > _MOST_BYTES:
        names = ("val_scores.json", "test_scores.json")
        result["scores"] = {name: text for name, text in result["scores"].items() if name in names}
        result["result_lines"] = result["result_lines"][-10:]
    return result


def _unwritable(directory: Path, log: str) -> str:
    """Why nothing can be written there, as on a full disk; empty if it can. ``log`` may blame the disk."""
    blamed = any(os.strerror(number) in log for number in (errno.ENOSPC, errno.EDQUOT))
    probe = directory / f".probe.{os.getpid()}"
    try:
        probe.write_bytes(bytes(_LARGE_PROBE if blamed else _PROBE))
        probe.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            probe.unlink()
        return f"{directory}: {error.strerror}"
    return ""


def _tail(path: Path, size: int) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - size))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _reply(result: dict[str, Any] | None, log: str, why: str, trouble: str = "") -> Reply:
    host = socket.gethostname()
    return {"host": host, "result": result, "log": log, "why": why, "trouble": trouble}
