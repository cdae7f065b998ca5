"""What attempts left in their directories, for people to read."""

from __future__ import annotations

import contextlib
from pathlib import Path

from workflow.attempt import end_of, result_of
from workflow.errors import printable, shortened
from workflow.worker import contract

_BYTES, _LINES = 16_384, 25


def tail(directory: Path) -> str:
    """The last lines of an attempt's log, or of the part that came with its result; empty where there is neither."""
    text = end_of(directory / contract.LOG, _BYTES) or str((result_of(directory) or {}).get("log_tail") or "")
    return "\n".join(shortened(line) for line in printable(text).splitlines()[-_LINES:])


def command(directory: Path) -> str:
    """The script that ran, or empty where it cannot be read."""
    with contextlib.suppress(OSError):
        return printable((directory / contract.COMMAND).read_text(encoding="utf-8", errors="replace"))
    return ""
