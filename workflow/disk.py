"""Files are written whole or not at all; whether a disk takes them, and what helps where it doesn't."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from pathlib import Path

from workflow.errors import SiteError

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)

FULL_DISK_WORDS = tuple(os.strerror(number) for number in FULL_DISK)
"""What programs print on a full disk."""

DISK_WORDS = (*FULL_DISK_WORDS, os.strerror(errno.EROFS))
"""The same, and what they print on one that has become read-only, where nothing can be removed either."""

_PROBE, _LARGE_PROBE = 1 << 18, 1 << 26
"""Bytes that a disk must take to count as not full; more where a log blames it, since models tidy up half a file."""


def disk_remedy(error: OSError) -> str:
    """What helps where a file cannot be written."""
    return "make room" if error.errno in (*FULL_DISK, errno.EFBIG) else "check the path and its permissions"


def with_remedy(said: str) -> str:
    """What a program has said, with what helps where it speaks of a full disk."""
    return f"{said}\n    -> make room" if any(words in said for words in FULL_DISK_WORDS) else said


def unwritable(directory: Path, *, blamed: bool = False) -> str:
    """Why nothing can be written there, as on a full disk; empty if it can. ``blamed`` tells that a log says so.

    Only a write tells: free space knows no quota.
    """
    probe = directory / f".probe.{threading.get_ident()}"
    try:
        probe.write_bytes(bytes(_LARGE_PROBE if blamed else _PROBE))
        probe.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            probe.unlink()
        return f"{directory}: {error.strerror}; {disk_remedy(error)}"
    return ""


def make_directory(path: Path) -> None:
    """Make a directory of a run, if it is not there. Raises SiteError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SiteError(f"{path}: cannot be made ({error.strerror}); {disk_remedy(error)}, then resume") from error


def write_text(path: Path, text: str) -> None:
    """Replace a file of a run at once. Raises SiteError."""
    try:
        replace_text(path, text)
    except OSError as error:
        raise SiteError(f"{path}: cannot be written ({error.strerror}); {disk_remedy(error)}, then resume") from error


def replace_text(path: Path, text: str) -> None:
    """Replace a file at once, so that a reader never sees half of it. Raises OSError."""
    draft = path.with_name(f".{path.name}.new")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
