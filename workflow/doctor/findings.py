"""What a check has found, and how it asks other programs."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from workflow.cluster.commands import plain_environ

Level = Literal["pass", "warn", "fail"]

_TIMEOUT = 60.0


@dataclass(frozen=True)
class Finding:
    level: Level
    subject: str
    text: str
    remedy: str = ""


def probe(command: Sequence[str], env: Mapping[str, str] | None = None, timeout: float = _TIMEOUT) -> tuple[int, str]:
    """Exit code and output of a command; 124 if it doesn't end."""
    try:
        done = subprocess.run(
            command, env={**plain_environ(), **(env or {})}, timeout=timeout, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return 124, f"no answer within {timeout:g} s"
    except OSError as error:
        return 127, str(error)
    return done.returncode, done.stdout.decode(errors="replace")
