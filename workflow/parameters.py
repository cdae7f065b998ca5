"""The parameters of IMPROVE's HPO page: what each kind is drawn from, and how it mutates.

What the page leaves open is settled so: a value that leaves its bounds (or an index its list) is clamped; an int
is rounded to the nearest; sigma's default is a tenth of the range (of the log10 range with ``use_log_scale``; of
the list's length, at least 1, for ``ordered``); a categorical mutation may return the current value.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeGuard

import numpy as np

from workflow.errors import listing, show
from workflow.trial import Value


class Parameter(Protocol):
    """One hyperparameter: how it is drawn for the initial population, and how it mutates."""

    @property
    def name(self) -> str:
        """As the model's scripts know it."""

    @property
    def size(self) -> float:
        """Number of distinct values; infinity for a float."""

    def draw(self, rng: np.random.Generator) -> Value:
        """A value of the initial population."""

    def mutate(self, value: Value, rng: np.random.Generator) -> Value:
        """A value near this one, by the parameter's own rule; of what has no order any value."""

    @property
    def is_categorical(self) -> bool:
        """Whether its values have no order."""

    def to_unit(self, value: Value) -> float:
        """The position of a value from 0 to 1, on the parameter's own scale; of a categorical its number, 0, 1, ..."""

    def from_unit(self, position: float) -> Value:
        """The value at a position, or of a categorical's number; the nearest one beyond the ends."""

    def values(self) -> Iterator[Value]:
        """All values, for a finite parameter."""

    def accept(self, value: object) -> Value:
        """A value from elsewhere as one of the parameter's own.

        Raises ValueError, with the allowed values, for one that is outside the space.
        """

    def parse(self, text: str) -> Value:
        """The value that ``text`` stands for. Raises ValueError as ``accept`` does."""


@dataclass(frozen=True)
class Constant:
    """A value that every configuration has."""

    name: str
    value: Value

    size = 1.0
    is_categorical = True

    def to_unit(self, value: Value) -> float:
        return 0.0

    def from_unit(self, position: float) -> Value:
        return self.value

    def draw(self, rng: np.random.Generator) -> Value:
        return self.value

    def mutate(self, value: Value, rng: np.random.Generator) -> Value:
        return self.value

    def values(self) -> Iterator[Value]:
        yield self.value

    def accept(self, value: object) -> Value:
        if not _is_same(value, self.value):
            raise ValueError(show(self.value))
        return self.value

    def parse(self, text: str) -> Value:
        """Its value, whatever a table says: that is what it will have."""
        return self.value


@dataclass(frozen=True)
class Number:
    """An int or a float between two bounds, on a linear or a log10 scale.

    ``sigma`` is in the parameter's unit, in decades with ``log``.
    """

    name: str
    lower: float
    upper: float
    sigma: float
    log: bool
    integer: bool

    is_categorical = False

    @property
    def size(self) -> float:
        if self.integer:
            return self.upper - self.lower + 1
        return 1 if self.lower == self.upper else math.inf

    def draw(self, rng: np.random.Generator) -> Value:
        if self.log:
            return self._from_scale(rng.uniform(self._to_scale(self.lower), self._to_scale(self.upper)))
        if self.integer:
            return int(rng.integers(int(self.lower), int(self.upper), endpoint=True))
        return self._clamp(rng.uniform(self.lower, self.upper))

    def mutate(self, value: Value, rng: np.random.Generator) -> Value:
        return self._from_scale(self._to_scale(float(value)) + rng.normal(0.0, self.sigma))

    def to_unit(self, value: Value) -> float:
        low, high = self._scale
        return (self._to_scale(float(value)) - low) / (high - low) if high > low else 0.5

    def from_unit(self, position: float) -> Value:
        low, high = self._scale
        return self._from_scale(low + position * (high - low))

    @property
    def _scale(self) -> tuple[float, float]:
        """What the unit interval stands for: every whole number has an equal part of it, also those at the ends."""
        if self.integer and not self.log:
            return self.lower - 0.5, self.upper + 0.5
        return self._to_scale(self.lower), self._to_scale(self.upper)

    def values(self) -> Iterator[Value]:
        if not self.integer:
            return iter((self.lower,))
        return iter(range(int(self.lower), int(self.upper) + 1))

    def accept(self, value: object) -> Value:
        if self._holds(value):
            return self._clamp(value)
        kind = "a whole number" if self.integer else "a number"
        raise ValueError(f"{kind} from {self._clamp(self.lower)} to {self._clamp(self.upper)}")

    def parse(self, text: str) -> Value:
        with contextlib.suppress(ValueError):
            return self.accept(int(text))  # exact beyond 53 bits, too
        with contextlib.suppress(ValueError):
            return self.accept(float(text))
        return self.accept(text)

    def _holds(self, value: object) -> TypeGuard[float]:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return self.lower <= value <= self.upper and (not self.integer or value == int(value))

    def _to_scale(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def _from_scale(self, scaled: float) -> Value:
        scaled = min(max(scaled, self._to_scale(self.lower)), self._to_scale(self.upper))
        return self._clamp(_power_of_ten(scaled) if self.log else scaled)

    def _clamp(self, value: float) -> Value:
        if self.integer:
            return min(max(nearest(value), int(self.lower)), int(self.upper))
        return float(min(max(value, self.lower), self.upper))


@dataclass(frozen=True)
class Logical:
    """True or false; a mutation flips it."""

    name: str

    size = 2.0
    is_categorical = True

    def to_unit(self, value: Value) -> float:
        return float(bool(value))

    def from_unit(self, position: float) -> Value:
        return position >= 0.5

    def draw(self, rng: np.random.Generator) -> Value:
        return bool(rng.integers(2))

    def mutate(self, value: Value, rng: np.random.Generator) -> Value:
        return not value

    def values(self) -> Iterator[Value]:
        return iter((False, True))

    def accept(self, value: object) -> Value:
        if not isinstance(value, bool):
            raise ValueError("true or false")
        return value

    def parse(self, text: str) -> Value:
        return _parse_logical(text)


@dataclass(frozen=True)
class Choice:
    """One element of a list. ``ordered`` mutates to a neighbour, ``categorical`` to any element."""

    name: str
    elements: tuple[Value, ...]
    element_type: str
    max_step: int | None
    """Largest move along the list, in elements; None for a categorical."""

    @property
    def size(self) -> float:
        return len(set(self.elements))

    def draw(self, rng: np.random.Generator) -> Value:
        return self.elements[int(rng.integers(len(self.elements)))]

    def mutate(self, value: Value, rng: np.random.Generator) -> Value:
        if self.max_step is None:
            return self.draw(rng)
        step = int(rng.integers(1, self.max_step, endpoint=True))
        if rng.random() < 0.5:
            step = -step
        index = self.elements.index(value) + step
        return self.elements[min(max(index, 0), len(self.elements) - 1)]

    @property
    def is_categorical(self) -> bool:
        return self.max_step is None

    def to_unit(self, value: Value) -> float:
        index = self.elements.index(value)
        return float(index) if self.is_categorical else (index + 0.5) / len(self.elements)

    def from_unit(self, position: float) -> Value:
        index = position if self.is_categorical else position * len(self.elements)
        return self.elements[min(max(int(index), 0), len(self.elements) - 1)]

    def values(self) -> Iterator[Value]:
        return iter(dict.fromkeys(self.elements))

    def accept(self, value: object) -> Value:
        for element in self.elements:
            if _is_same(value, element):
                return element
        raise ValueError(f"one of {listing(map(show, self.elements))}")

    def parse(self, text: str) -> Value:
        parsers: dict[str, Callable[[str], Value]] = {
            "int": int, "float": float, "string": str, "logical": _parse_logical,
        }  # fmt: skip
        with contextlib.suppress(ValueError):
            return self.accept(parsers[self.element_type](text))
        return self.accept(text)


def _power_of_ten(exponent: float) -> float:
    try:
        return math.pow(10.0, exponent)
    except OverflowError:
        return sys.float_info.max


def _is_same(value: object, own: Value) -> bool:
    """Whether they are equal and of a kind: True is no 1 here."""
    return value == own and isinstance(value, bool) == isinstance(own, bool)


def nearest(value: float) -> int:
    """The nearest int, halves upwards (``round`` would take halves to the even one)."""
    return value if isinstance(value, int) else math.floor(value + 0.5)


def _parse_logical(text: str) -> bool:
    try:
        return {"true": True, "false": False, "1": True, "0": False}[text.strip().lower()]
    except KeyError:
        raise ValueError("true or false") from None
