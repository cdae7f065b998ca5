"""A fake PBS whose commands come first in PATH, and recordings of a real one to compare it with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fake_pbs import PATH, FakePbs

RECORDINGS = Path(__file__).parent / "recordings"


@pytest.fixture
def pbs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePbs]:
    """Fast, and of the recordings' user; settings can be given as an indirect parameter.

    Its directory's name is short, since ``qstat -f`` breaks long lines.
    """
    settings: dict[str, Any] = {"user": "hpc", "poll": 0.2, "kill_delay": 0.4, **getattr(request, "param", {})}
    with tempfile.TemporaryDirectory(prefix="pbs") as directory, FakePbs(Path(directory), **settings) as fake:
        monkeypatch.setenv("PATH", f"{fake.bin}:{os.environ['PATH']}")
        yield fake


@dataclass
class Recording:
    """One command line and its answer."""

    line: str
    rc: int
    stdout: str
    stderr: str


def recordings(name: str) -> list[Recording]:
    """The command lines of a recorded session."""
    text = (RECORDINGS / f"{name}.txt").read_text()
    return [one_recording(part) for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]]


def one_recording(text: str) -> Recording:
    """Sessions separate their command lines by a blank line."""
    line, _, answer = text.partition("   # as ")
    head, _, outputs = answer.partition("\n--stdout--\n")
    stdout, _, stderr = outputs.partition("--stderr--\n")
    return Recording(line, int(head.partition("rc=")[2].split()[0]), stdout, stderr.removesuffix("\n"))


def shell(pbs: FakePbs, line: str) -> Recording:
    """Runs the line in the recorded user's environment, in the home, as the recordings were made."""
    path = f"{pbs.bin}:{PATH}:{pbs.bin}"
    user = {"HOME": str(pbs.home), "LOGNAME": "hpc", "PATH": path, "MAIL": "/var/mail/hpc", "SHELL": "/bin/bash"}
    options: dict[str, Any] = {"cwd": pbs.home, "env": user, "stdin": subprocess.DEVNULL, "timeout": 30}
    done = subprocess.run(["/bin/bash", "-c", line], capture_output=True, text=True, **options)
    return Recording(line, done.returncode, done.stdout, done.stderr)


def replay(pbs: FakePbs, recording: Recording, pace: float = 1, changes: dict[str, str] | None = None) -> Recording:
    """Runs the recorded line, with its sleeps at another pace and the machine's own Python."""
    line = re.sub(r"(?<!\w)sleep (\d+)", lambda match: f"sleep {float(match[1]) * pace:.2f}", recording.line)
    line = re.sub("(/var)?/tmp/", f"{pbs.home}/", line)
    for old, new in {**(changes or {}), "python3": sys.executable}.items():
        line = line.replace(old, new)
    return shell(pbs, line)


_TIME = r"\d\d:\d\d(:\d\d)?"
_DAY = r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun) \w{3} [ \d]\d"
_UNLIKE = {
    rf"{_DAY} {_TIME} \d{{4}}": "DATE",
    rf"{_DAY} at {_TIME}": "DAY at TIME",
    r"\b[A-Z][a-z]{2} [ \d]\d \d\d:\d\d\b": "DAY TIME",
    r"\b1[78]\d{8}\b": "EPOCH",
    r"\b\d+\.login1\b *": "ID.login1 ",
    r"(?<=[\w.]\.[oe])\d+\b": "ID",
    r'(session_id":|session_id = )\d+': r"\1PID",
    r"(?<=n0/)\d+": "INDEX",
    r'(mem":"|mem = )\d+kb': r"\1KB",
    r'("resources_used":\{[^}]*"walltime":")[\d:]+': r"\1USED",
    r"(resources_used.walltime = )[\d:]+": r"\1USED",
    r"(?<=JOBCOOKIE=)\w+": "COOKIE",
}


def like(text: str, pbs: FakePbs) -> str:
    """The text without what differs between two runs: ids, times, numbers of processes, directories."""
    paths = {"bin": "/opt/pbs/bin", "home": "/home/hpc", "aux": "/var/spool/pbs/aux", "tmp": "/var/tmp"}
    for name, path in paths.items():
        text = text.replace(str(pbs.spool.directory / name), path)
    for pattern, name in _UNLIKE.items():
        text = re.sub(pattern, name, text)
    return text


def unwrapped(text: str) -> str:
    """Without the line breaks of ``qstat -f``, which depend on the length of directories."""
    return text.replace("\n\t", "")
