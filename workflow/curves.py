"""Learning curves: the values that a training prints step by step, read from its log while that grows."""

from __future__ import annotations

import math
import os
import re
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from workflow.errors import printable
from workflow.trial import Curve

_CHUNK = 1 << 20
"""Bytes of a log that one look reads."""

_POINTS = 100
"""Of a curve that is kept."""

_DIGITS = 6

_STEP = r"""(?i:(?<![\w.\-])epoch["']?[ \t]*+[:=#]?[ \t]*+[\[(]?[ \t]*+(?P<step>\d++)(?!\.?\w))"""
_NUMBER = r"[+-]?(?i:(?>(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|nan|inf(?:inity)?))(?!\w)"


def default_pattern(metric: str) -> str:
    """Reads ``epoch 7 ... metric 0.5`` and its like: ``Epoch 7/150 - metric: 0.5``, ``{'epoch': 7, 'metric': 0.5}``.

    It is that of a step or of a value, each of which may stand on a line of its own. Repeats give nothing back, so that
    a line of blanks costs no more than its length.
    """
    return rf"""{_STEP}|(?<![\w.\-/]){re.escape(metric)}["']?(?:[ \t]*+[:=]|[ \t])[ \t]*+(?P<value>{_NUMBER})"""


class LineReader:
    """Takes the lines of a log in their order and finds (step, value) in them.

    Of several on a line the first counts. A value without a step belongs to the step that was named last, as where
    ``Epoch 7/150`` is followed by a line with the metric.
    """

    def __init__(self, pattern: str) -> None:
        self._pattern = re.compile(pattern)
        self._step: int | None = None

    def read(self, line: str) -> tuple[int, float] | None:
        step = value = None
        for match in self._pattern.finditer(printable(line) if "\x1b" in line else line):
            step, value = step or match["step"], value or match["value"]
        if step is not None:
            self._step = _integer(step)
        number = None if value is None else _number(value)
        return None if self._step is None or number is None else (self._step, number)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _integer(text: str) -> int | None:
    number = _number(text)
    return int(number) if number is not None and number.is_integer() else None


class RunningLog:
    """The log of one training. Threads may share it."""

    def __init__(self, path: Path, pattern: str) -> None:
        self.path = path
        self._pattern = pattern
        self._lock = threading.Lock()
        self._reports: list[tuple[int, float]] = []
        self._start(None)

    def news(self) -> list[tuple[int, float]]:
        """The values of the lines that were completed since the last look; none where the log cannot be read now."""
        with self._lock:
            known = len(self._reports)
            self._advance()
            return self._reports[known:]

    def curve(self) -> Curve:
        """All there is, of a training that has ended: also what its last line lacks an end after."""
        with self._lock:
            while self._advance():
                pass
            self._advance(ended=True)
            return curve_of(self._reports)

    def _start(self, file: tuple[int, int] | None) -> None:
        """Begin at the start of a file, or of none yet."""
        self._file = file
        self._offset = 0
        self._reader = LineReader(self._pattern)

    def _advance(self, *, ended: bool = False) -> bool:
        """Read whole lines, of a log that has ``ended`` also the rest; whether there were any."""
        try:
            data = self._read()
        except OSError:
            return False
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if ended or (end == 0 and len(data) == _CHUNK):  # such a line is no report
            end = len(data)
        self._offset += end
        self._reports += self._values(data[:end])
        return end > 0

    def _read(self) -> bytes:
        """The bytes after those that were read; from the start where the file was cut off or is another one."""
        with self.path.open("rb") as file:
            status = os.fstat(file.fileno())
            if self._file != (status.st_dev, status.st_ino) or status.st_size < self._offset:
                self._start((status.st_dev, status.st_ino))
            file.seek(self._offset)
            return file.read(_CHUNK)

    def _values(self, data: bytes) -> Iterator[tuple[int, float]]:
        for line in re.split(r"[\r\n]+", data.decode(errors="replace")):
            if (found := self._reader.read(line)) is not None:
                yield found


def curve_of(reports: Iterable[tuple[int, float]]) -> Curve:
    """Finite values by ascending steps, rounded and thinned to a few. What a training reports anew replaces the old."""
    points: list[tuple[int, float]] = []
    for step, value in reports:
        while points and points[-1][0] >= step:
            points.pop()
        points.append((step, value))
    finite = [(step, float(f"{value:.{_DIGITS}g}")) for step, value in points if math.isfinite(value)]
    return tuple(thinned(finite))


def thinned(points: list[tuple[int, float]], most: int = _POINTS) -> list[tuple[int, float]]:
    """At most so many of the points, at even distances, the first and the last included."""
    if len(points) <= most:
        return points
    return [points[round(number * (len(points) - 1) / (most - 1))] for number in range(most)]
