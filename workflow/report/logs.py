"""What attempts left in their directories, for people to read."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from workflow.errors import printable, shortened
from workflow.worker import contract

_BYTES, _LINES = 16_384, 25


def tail(directory: Path) -> str:
    """The last lines of an attempt's log, or of what its result kept of it; empty where there is neither."""
    text = _end_of(directory / contract.LOG) or _kept(directory / contract.RESULT)
    return "\n".join(shortened(line) for line in printable(text).splitlines()[-_LINES:])


def command(directory: Path) -> str:
    """The script that ran, or empty where it cannot be read."""
    with contextlib.suppress(OSError):
        return printable((directory / contract.COMMAND).read_text(encoding="utf-8", errors="replace"))
    return ""


def _end_of(file: Path) -> str:
    with contextlib.suppress(OSError), file.open("rb") as handle:
        handle.seek(max(0, file.stat().st_size - _BYTES))
        return handle.read().decode(errors="replace")
    return ""


def _kept(file: Path) -> str:
    """Where the logs lie elsewhere, their ends come with the results."""
    with contextlib.suppress(OSError, ValueError):
        result = json.loads(file.read_text(encoding="utf-8", errors="replace"))
        return str(result.get("log_tail") or "") if isinstance(result, dict) else ""
    return ""
