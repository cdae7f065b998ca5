"""Where the values of a hyperparameter lie, for plots and for models of what they do."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from workflow.config.initial import cell
from workflow.parameters import Choice, Logical, Number, Parameter
from workflow.report.history import Run
from workflow.trial import Value

Array = NDArray[np.float64]

_FEW = 10
"""Distinct values up to which a column of numbers of a table counts as a list of choices."""

_FEW_NUMBERS = 40
"""The most whole numbers of which each has room of its own on an axis."""

_DECADES = 2.0
"""Range from which on positive numbers of a table are shown on a log scale."""


@dataclass(frozen=True)
class Axis:
    """A number lies at itself, with ``log`` at its log10; another value at the index of its label.

    Labels are ``ordered`` or not; numbers always are. ``whole`` numbers are so few that each has room of its own.
    """

    name: str
    lower: float = 0.0
    upper: float = 1.0
    log: bool = False
    labels: tuple[str, ...] = ()
    ordered: bool = True
    whole: bool = False

    @property
    def is_numeric(self) -> bool:
        """Whether its values are numbers, which may be choices."""
        return all(label.replace(".", "", 1).isdecimal() for label in self.labels)

    def place(self, value: Value | None) -> float | None:
        """None for what has no place: a parameter that does not exist in a trial, or no finite number."""
        if self.labels:
            text = None if value is None else cell(value)
            return float(self.labels.index(text)) if text in self.labels else None
        return float(value) if _is_number(value) and (not self.log or value > 0) else None

    def units(self, places: Sequence[float | None]) -> Array:
        """From 0 to 1, or the index where there is no order; what has no place is in the middle, or at the first."""
        nowhere = math.nan
        found = np.array([nowhere if place is None else place for place in places], dtype=float)
        if self.labels:
            return np.nan_to_num((found + 0.5) / len(self.labels), nan=0.5) if self.ordered else np.nan_to_num(found)
        scaled = np.log10(found) if self.log else found
        low, high = (end / 2 for end in self._ends)  # halves: the range of all floats is none
        return np.nan_to_num((scaled / 2 - low) / (high - low) if high > low else scaled * 0 + 0.5, nan=0.5)

    def places(self, units: Array) -> Array:
        """The inverse of ``units``."""
        if self.labels:
            return np.minimum(np.floor(units * len(self.labels)), len(self.labels) - 1) if self.ordered else units
        low, high = self._ends
        scaled = low * (1 - units) + high * units
        return np.asarray(10.0**scaled) if self.log else np.asarray(scaled)

    @property
    def _ends(self) -> tuple[float, float]:
        return (math.log10(self.lower), math.log10(self.upper)) if self.log else (self.lower, self.upper)


def axes_of(run: Run) -> list[Axis]:
    """One for each hyperparameter in which the trials of a run may differ."""
    known = {p.name: p for p in run.space.varying} if run.space is not None else {}
    return [
        _of_parameter(known[name]) if name in known else _of_values(name, run.values_of(name)) for name in run.varying
    ]


def _of_parameter(parameter: Parameter) -> Axis:
    if isinstance(parameter, Number):
        whole = parameter.integer and not parameter.log and parameter.size <= _FEW_NUMBERS
        return Axis(parameter.name, float(parameter.lower), float(parameter.upper), parameter.log, whole=whole)
    if isinstance(parameter, Choice):
        labels = tuple(dict.fromkeys(map(cell, parameter.elements)))
        return Axis(parameter.name, labels=labels, ordered=not parameter.is_categorical)
    assert isinstance(parameter, Logical), "constants do not vary"
    return Axis(parameter.name, labels=("false", "true"), ordered=False)


def _of_values(name: str, values: Iterable[Value]) -> Axis:
    """An axis by what lies on it, where no space tells."""
    distinct = list(dict.fromkeys(values))
    numbers = sorted(float(value) for value in distinct if _is_number(value))
    if not numbers or len(numbers) < len(distinct):
        return Axis(name, labels=tuple(sorted(map(cell, distinct))), ordered=False)
    if len(numbers) <= _FEW and all(number.is_integer() for number in numbers):
        ordered = sorted((v for v in distinct if _is_number(v)), key=float)
        return Axis(name, labels=tuple(map(cell, ordered)))
    log = numbers[0] > 0 and math.log10(numbers[-1] / numbers[0]) >= _DECADES
    return Axis(name, numbers[0], numbers[-1], log)


def _is_number(value: Value | None) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
