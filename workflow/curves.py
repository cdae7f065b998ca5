"""Learning curves: the values that a training prints step by step, read from its log while that grows."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from workflow.errors import printable
from workflow.trial import Curve

_CHUNK = 1 << 20
"""Bytes of a log that one look reads."""

_POINTS = 100
"""Of a curve that is kept."""

_DIGITS = 6

_PAUSE = 20
"""Between two looks into the logs of what runs, in times that one and the work on its news took."""

_STEP = r"""(?i:(?<![\w.\-])epoch["']?[ \t]*+[:=#]?[ \t]*+[\[(]?[ \t]*+(?P<step>\d++)(?!\.?\w))"""
_NUMBER = r"[+-]?(?i:(?>(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|nan|inf(?:inity)?))(?!\w)"


def default_pattern(metric: str) -> str:
    """Reads ``epoch 7 ... metric 0.5`` and its like: ``Epoch 7/150 - metric: 0.5``, ``{'epoch': 7, 'metric': 0.5}``.

    It is that of a step or of a value, each of which may stand on a line of its own. Repeats give nothing back, so that
    a line of blanks costs no more than its length.
    """
    return rf"""{_STEP}|(?<![\w.\-/]){re.escape(metric)}["']?(?:[ \t]*+[:=]|[ \t])[ \t]*+(?P<value>{_NUMBER})"""


Match = Sequence[str | None]
"""What the groups ``step`` and ``value`` of a pattern have matched."""

Finder = Callable[[Sequence[str]], list[list[Match]] | None]
"""Gives the matches in each of some lines; None if that would take too long."""


def quick_finder(pattern: str) -> Finder:
    """Of a pattern that takes a time in proportion to a line's length, as the default one does."""
    compiled = re.compile(pattern)
    return lambda lines: [[(match["step"], match["value"]) for match in compiled.finditer(line)] for line in lines]


_SECONDS = 2.0
"""The most that a pattern may take for a line, of a processor's time."""

_FAILURES = 3
"""Logs with such a line, after which nothing is looked for any more: each takes its time."""

_HELPER = """
import json, re, signal, sys
find = re.compile(sys.argv[1]).finditer
for text in sys.stdin:
    found = []
    for line in json.loads(text):
        signal.setitimer(signal.ITIMER_VIRTUAL, float(sys.argv[2]))
        found.append([(match["step"], match["value"]) for match in find(line)])
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    print(json.dumps(found), flush=True)
"""


class BoundedFinder:
    """Looks for a pattern of the user's in a process of its own, which ends with a line that takes it too long.

    Some patterns take years for some lines, and while Python's ``re`` matches, no thread of its process runs. ``say``
    is told the first time. Threads may share it.
    """

    def __init__(self, pattern: str, say: Callable[[str], None]) -> None:
        self._pattern = pattern
        self._say = say
        self._failures = 0
        self._lock = threading.Lock()
        self._helper: subprocess.Popen[str] | None = None

    def __call__(self, lines: Sequence[str]) -> list[list[Match]] | None:
        with self._lock:
            answer = self._answer(json.dumps(lines)) if self._failures < _FAILURES else ""
        if answer:
            found: list[list[Match]] = json.loads(answer)
            return found
        self._failures += 1
        if self._failures == 1:
            self._say(
                f"warning: early_stopping.pattern took more than {_SECONDS:g} s for a line: its log is read no "
                f"further, and after {_FAILURES} none (write fewer repeats like .*, by --set at a resume)"
            )
        return None

    def close(self) -> None:
        """End the process, if there is one."""
        helper, self._helper = self._helper, None
        if helper is not None:
            helper.kill()
            helper.communicate()

    def _answer(self, question: str) -> str:
        """Empty if the process has ended over it."""
        helper = self._helper = self._helper or self._begin()
        assert helper.stdin is not None and helper.stdout is not None
        answer = ""
        with contextlib.suppress(OSError):
            helper.stdin.write(question + "\n")
            helper.stdin.flush()
            answer = helper.stdout.readline()
        if not answer:
            self.close()
        return answer

    def _begin(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _HELPER, self._pattern, str(_SECONDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # Ctrl-C is for the controller
        )


class LineReader:
    """Takes the matches in each line of a log, in their order, for (step, value).

    Of several on a line the first counts. A value without a step belongs to the step that was named last, as where
    ``Epoch 7/150`` is followed by a line with the metric.
    """

    def __init__(self) -> None:
        self._step: int | None = None

    def read(self, matches: Iterable[Match]) -> tuple[int, float] | None:
        step = value = None
        for match in matches:
            step, value = step or match[0], value or match[1]
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

    def __init__(self, path: Path, find: Finder) -> None:
        self.path = path
        self._find = find
        self._given_up = False
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
        self._reader = LineReader()

    def _advance(self, *, ended: bool = False) -> bool:
        """Read whole lines, of a log that has ``ended`` also the rest; whether there were any."""
        try:
            data = b"" if self._given_up else self._read()
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

    def _values(self, data: bytes) -> list[tuple[int, float]]:
        if not data:
            return []
        lines = re.split(r"[\r\n]+", data.decode(errors="replace"))
        found = self._find([printable(line) if "\x1b" in line else line for line in lines])
        self._given_up = found is None
        return [value for matches in found or () if (value := self._reader.read(matches)) is not None]


class RunningLogs:
    """The logs of trainings that run, each by its trial; none where nobody looks for their values (no ``find``).

    ``poll`` is the least time between two looks, in seconds.
    """

    def __init__(self, find: Finder | None, poll: float) -> None:
        self._find = find
        self._poll = poll
        self._logs: dict[int, RunningLog] = {}
        self._next_look = 0.0

    def follow(self, trial_id: int, path: Path) -> None:
        if self._find is not None:
            self._logs[trial_id] = RunningLog(path, self._find)

    def forget(self, trial_id: int) -> None:
        self._logs.pop(trial_id, None)

    def path(self, trial_id: int) -> Path | None:
        """Where the log of a trial lies; None if it is not followed."""
        log = self._logs.get(trial_id)
        return None if log is None else log.path

    def news(self) -> Iterator[tuple[int, list[tuple[int, float]]]]:
        """Trials that have printed values since the last look, with (step, value) in the log's order.

        Looks at its own pace: hundreds of logs on a slow disk cost little, and so does the work on their news.
        """
        begun = time.monotonic()
        if begun < self._next_look:
            return
        for trial_id, log in list(self._logs.items()):
            if news := log.news():
                yield trial_id, news
        self._next_look = time.monotonic() + max(self._poll, _PAUSE * (time.monotonic() - begun))

    def curve(self, trial_id: int, path: Path) -> Curve:
        """That of a training that has ended, whose log lies at ``path``."""
        if self._find is None:
            return ()
        log = self._logs.get(trial_id)
        if log is None or log.path != path:
            log = RunningLog(path, self._find)
        return log.curve()

    def close(self) -> None:
        if isinstance(self._find, BoundedFinder):
            self._find.close()


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
