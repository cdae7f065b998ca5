"""An attempt's directory, as its supervisor leaves it: the result, the signs of life, the end of the log."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any

from workflow.errors import printable, shortened
from workflow.worker import contract
from workflow.worker.processes import is_alive

_LINES, _BYTES = 15, 4000
"""How much of a log a message shows."""

_RESULT_TYPES: Mapping[str, type | UnionType] = {
    "ended_by": str, "exit_code": int | None, "started": int | float, "ended": int | float, "host": str,
    "gpu": str | None, "scores": dict, "result_lines": list, "log_tail": str, "peak_memory": int,
    "memory_limit": int | None, "oom_kills": int, "pool": str | None,
}  # fmt: skip


def result_of(directory: Path) -> dict[str, Any] | None:
    """The supervisor's result; None if there is none, or only a model's own file of that name, or a damaged one."""
    try:
        result = json.loads((directory / contract.RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(result, dict) or not result.keys() >= _RESULT_TYPES.keys():
        return None
    return result if all(isinstance(result[key], kind) for key, kind in _RESULT_TYPES.items()) else None


def end_of(file: Path, size: int) -> str:
    """The last bytes of a file as text, from the first line on that begins in them; empty if it cannot be read."""
    with contextlib.suppress(OSError), file.open("rb") as handle:
        before = os.fstat(handle.fileno()).st_size - size - 1  # which may end the line before
        if before < 0:
            return handle.read(size).decode(errors="replace")
        handle.seek(before)
        data = handle.read(size + 1)
        begin = re.search(rb"(?<=[\r\n])[^\r\n]", data)
        return data[begin.start() if begin else 1 :].decode(errors="replace")
    return ""


def log_excerpt(directory: Path) -> str:
    """The end of the log and where it lies, as lines of a message; empty if there is none."""
    log = directory / contract.LOG
    if not log.exists():
        return ""
    lines = printable(end_of(log, _BYTES)).splitlines()[-_LINES:]
    return "".join(f"\n    | {shortened(line)}" for line in lines) + f"\n    -> see {log}"


def has_begun(directory: Path) -> bool:
    """Whether its supervisor has given a sign of life."""
    return (directory / contract.HEARTBEAT).exists()


def ask_to_stop(directory: Path, why: str = "") -> None:
    """Let the supervisor end its stage, as one that is hopeless where a reason is given; nothing if that can't be told.

    Nothing remembers it: a model may remove the file, and then it is to be asked again.
    """
    file, draft = directory / contract.STOP, directory / f"{contract.STOP}.new"
    with contextlib.suppress(OSError):
        if why:
            draft.write_text(why, encoding="utf-8")
            draft.replace(file)
        else:
            file.touch()


def beat_of(directory: Path) -> tuple[int, dict[str, Any]] | None:
    """When the supervisor last gave a sign of life (ns since the epoch), and its identity; None if it never started."""
    try:
        with (directory / contract.HEARTBEAT).open() as file:  # to open it is what makes a network disk look
            stamp = os.fstat(file.fileno()).st_mtime_ns
            try:
                process = json.load(file)
            except ValueError:
                process = None
    except OSError:
        return None
    return stamp, process if isinstance(process, dict) else {}


class Watch:
    """Tells attempts whose supervisors may still live from those that have ended.

    A supervisor on this host can be asked; one elsewhere counts as dead after ``patience`` seconds without a beat, and
    a living one that is stopped after three times as many. ``lock`` is a file that beats with the same clock.
    """

    def __init__(self, patience: float, lock: Path) -> None:
        self.patience = patience
        self.lock = lock
        self._beats: dict[Path, tuple[int, float]] = {}
        """The last beat of each attempt and when it was heard (time.monotonic)."""

    def still_running(self, directories: Iterable[Path]) -> Iterator[Path]:
        """Those of the attempts that may still run."""
        return filter(self._may_run, directories)

    def _may_run(self, directory: Path) -> bool:
        beat = beat_of(directory)
        if beat is None or (directory / contract.RESULT).exists():
            return False
        alive = is_alive(beat[1])
        if alive is False:
            return False
        limit = 3 * self.patience if alive else self.patience
        return self._silence(directory, beat[0]) < limit

    def _silence(self, directory: Path, stamp: int) -> float:
        """Seconds since the last beat, which this process need not have heard."""
        now = time.monotonic()
        if directory not in self._beats:
            age = max(0, (_stamp(self.lock) or stamp) - stamp) / 1e9
            self._beats[directory] = stamp, now - age
        elif self._beats[directory][0] != stamp:
            self._beats[directory] = stamp, now
        return now - self._beats[directory][1]


def _stamp(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None
