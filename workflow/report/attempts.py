"""What the files of running attempts tell, where they can be read: host, time since the start, last line of the log."""

from __future__ import annotations

import math
from pathlib import Path

from workflow.attempt import beat_of, end_of
from workflow.curves import LineReader, default_pattern, quick_finder
from workflow.errors import printable, shortened
from workflow.report.tally import Attempt, Outline, Sign, Tally
from workflow.rundir import RunDir
from workflow.worker import contract

MOST = 512
"""Attempts that one look asks for: each costs the file system a question."""

SHOWN = 8
"""Of them of which the log is read: those that began first."""

_SILENCE = 60.0
"""Seconds without a sign of life of its supervisor, after which an attempt counts as silent: its worker may be lost."""

_TAIL = 4096
"""Bytes of a log's end that are read."""


class Attempts:
    """Looks into the directories of attempts. What cannot be read is taken for not begun."""

    def __init__(self, run: RunDir) -> None:
        self.run = run
        self._known: dict[tuple[int, int], tuple[str, float]] = {}

    def look(self, tally: Tally, now: float) -> tuple[dict[int, Sign], dict[int, str]]:
        """Signs of those that have begun, and what the logs of the first few of them say last, by trial."""
        open_now = list(tally.open.values())[:MOST]
        signs = {each.trial: sign for each in open_now if (sign := self._sign(each, now)) is not None}
        self._known = {key: known for key, known in self._known.items() if key[0] in signs}
        first = sorted(signs, key=lambda trial: (signs[trial].began, trial))[:SHOWN]
        return signs, {trial: self._last_words(tally.open[trial], tally.outline) for trial in first}

    def _sign(self, attempt: Attempt, now: float) -> Sign | None:
        directory, key = self._directory(attempt), (attempt.trial, attempt.number)
        try:
            beat = (directory / contract.HEARTBEAT).stat().st_mtime
            if key not in self._known:
                _, process = beat_of(directory) or (0, {})
                began = (directory / contract.COMMAND).stat().st_mtime
                self._known[key] = str(process.get("host", "")), began
        except OSError:
            return None
        return Sign(*self._known[key], silent=now - beat > _SILENCE)

    def _last_words(self, attempt: Attempt, outline: Outline) -> str:
        """The last value that a training has printed, with its step, or the last line of its log; empty if none."""
        lines = _tail(self._directory(attempt) / contract.LOG)
        reader, find = LineReader(), quick_finder(default_pattern(outline.metric))
        values = [value for found in find(lines) or () if (value := reader.read(found)) is not None]
        if values and math.isfinite(values[-1][1]):
            return f"step {values[-1][0]}: {outline.metric} {values[-1][1]:.6g}"
        return shortened(lines[-1].strip()) if lines else ""

    def _directory(self, attempt: Attempt) -> Path:
        return self.run.trial_attempt(attempt.trial, attempt.number)


def _tail(log: Path) -> list[str]:
    """The last whole lines that say something."""
    return [line for line in printable(end_of(log, _TAIL)).split("\n") if line.strip()]
