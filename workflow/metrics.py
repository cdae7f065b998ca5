"""Metrics: from what an attempt left behind to the value of an objective. All of it is pure.

A metric is never guessed: one that is missing, malformed, nan or infinite makes the attempt a failed one.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from workflow.errors import show

_SCORES_FILE = {"train": "val_scores.json", "infer": "test_scores.json"}

_RESULT = re.compile(r"(?:^|\s)IMPROVE_RESULT(?:[ \t]*:[ \t]*|[ \t]+|$)(.*)$")
_RESULT_NUMBER = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|nan|inf|infinity)", re.ASCII | re.IGNORECASE)
_LABELLED = re.compile(r"([A-Za-z_][\w.\-]*)(?:[ \t]*[:=]|[ \t])[ \t]*(.*)")


MEASURED: dict[str, Callable[[Mapping[str, Any]], float | None]] = {
    "walltime": lambda result: max(0.0, float(result["ended"] - result["started"])),
    "peak_memory": lambda result: float(result["peak_memory"]) or None,
}
"""Objectives that are measured from outside, whatever scores a model writes: seconds of the attempt, and bytes.

They are read from the supervisor's result; None where the host does not tell them.
"""


class MetricError(ValueError):
    """The metric cannot be read; the text says why."""


def value_of(name: str, stage: str, result: Mapping[str, Any]) -> float:
    """An objective of an attempt that ended well, by its supervisor's result. Raises MetricError."""
    if name not in MEASURED:
        return read_metric(name, stage, result["scores"], result["result_lines"])
    if (value := MEASURED[name](result)) is None:
        raise MetricError(f"no metric {name!r}: the host does not tell it")
    return value


def read_metric(name: str, stage: str, scores: Mapping[str, str], lines: Sequence[str]) -> float:
    """The metric ``name`` of an attempt: from its scores file, else from its last ``IMPROVE_RESULT`` line.

    ``scores`` maps names of the ``*_scores.json`` files that this attempt wrote to their text; ``lines`` are the log's
    lines that hold ``IMPROVE_RESULT``. Raises MetricError where it is missing, malformed, nan or infinite.
    """
    value = _from_scores(name, stage, scores)
    if value is None:
        value = _from_lines(name, lines)
    if value is None:
        where = f"neither {_SCORES_FILE.get(stage, '*_scores.json')} nor an IMPROVE_RESULT line of this attempt has it"
        raise MetricError(f"no metric {name!r}: {where}")
    if not math.isfinite(value):
        raise MetricError(f"metric {name!r} is {value}")
    return value


def read_scores(stage: str, scores: Mapping[str, str]) -> dict[str, float]:
    """All numbers of the stage's scores file. Raises MetricError if the file is no JSON dictionary."""
    file = _SCORES_FILE.get(stage, "")
    if file not in scores:
        return {}
    try:
        data = json.loads(scores[file])
    except (ValueError, RecursionError) as error:
        raise MetricError(f"{file} is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise MetricError(f"{file} holds no dictionary")
    numbers = {key: v for key, v in data.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    return {key: _float(value) for key, value in numbers.items() if key.isprintable()}


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # an int of more than 308 digits
        return math.inf


def _from_scores(name: str, stage: str, scores: Mapping[str, str]) -> float | None:
    numbers = read_scores(stage, scores)
    file = _SCORES_FILE.get(stage, "")
    aliases = (name, "mse") if name == "val_loss" else (name,)
    for key in aliases:
        if key in numbers:
            return numbers[key]
        if file in scores and key in json.loads(scores[file]):
            raise MetricError(f"{key!r} in {file} is {show(json.loads(scores[file])[key])}, not a number")
    return None


def _from_lines(name: str, lines: Sequence[str]) -> float | None:
    found = None
    for line in lines:
        for part in line.split("\r"):  # a progress bar writes over its line
            label, text = _parse_result(part)
            if text is not None and (label == name or (label is None and name == "val_loss")):
                found = text
    if found is None:
        return None
    if not _RESULT_NUMBER.fullmatch(found):
        raise MetricError(f"the last IMPROVE_RESULT line of {name!r} has {show(found)}, not a number")
    return float(found)


def _parse_result(line: str) -> tuple[str | None, str | None]:
    """(label or None, the text that should be a number) of a line; the text is None if it is no result line."""
    match = _RESULT.search(line)
    if match is None:
        return None, None
    rest = match.group(1).strip()
    labelled = _LABELLED.fullmatch(rest)
    return (labelled.group(1), labelled.group(2)) if labelled else (None, rest)
