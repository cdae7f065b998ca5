"""What a stage has left in its attempt's directory: scores and log."""

from __future__ import annotations

import os

_RESULT_LINES = 200
_MAX_LINE = 1 << 16
_MAX_SCORES = 1 << 20
_TAIL = 4000


def make_way(path: str, directory: bool = False) -> None:
    """Move what a model has put there aside, if it is of the wrong kind."""
    if os.path.lexists(path) and os.path.isdir(path) != directory:
        os.rename(path, f"{path}.of-the-model")


def scores_files(directory: str) -> dict[str, tuple[int, int, int]]:
    """The ``*_scores.json`` files of a directory, with what changes when one is written anew."""
    found = {}
    try:
        entries = list(os.scandir(directory))
    except OSError:
        return {}
    for entry in entries:
        try:
            if entry.name.endswith("_scores.json") and entry.is_file():
                stat = entry.stat()
                found[entry.name] = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        except OSError:
            continue  # such as a link to itself, which is no file
    return found


def read_scores(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_SCORES)
    except OSError:
        return ""


def read_log(log: int) -> tuple[list[str], str]:
    """The last lines with IMPROVE_RESULT, and the end of the log."""
    lines: list[str] = []
    try:
        with open(log, "rb", closefd=False) as file:
            file.seek(0)
            while line := file.readline(_MAX_LINE):
                if b"IMPROVE_RESULT" in line:
                    lines.append(line.decode(errors="replace").rstrip("\n"))
                    del lines[:-_RESULT_LINES]
            file.seek(max(0, file.tell() - _TAIL))
            return lines, file.read().decode(errors="replace")
    except OSError:
        return lines, ""
