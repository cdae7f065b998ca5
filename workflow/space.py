"""The hyperparameter space of IMPROVE's HPO page: parameters, their draws and their mutations.

What the page leaves open is settled so: a value that leaves its bounds (or an index its list) is clamped; an int
is rounded to the nearest; sigma's default is a tenth of the range (of the log10 range with ``use_log_scale``; of
the list's length, at least 1, for ``ordered``); a categorical mutation may return the current value.

Beyond that page, a parameter may exist in some configurations only (its condition), and configurations may be
disallowed (constraints).
"""

from __future__ import annotations

import contextlib
import itertools
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import TopologicalSorter
from typing import Any, Protocol, TypeGuard

import numpy as np

from workflow.errors import listing, show
from workflow.expressions import Constraint
from workflow.trial import Params, Value

Genome = tuple[Value | None, ...]
"""The values of the searched parameters, in the file's order; None for one that does not exist in a configuration."""

Condition = Mapping[str, tuple[Value, ...]]
"""Other parameters, each with the values of which it must have one for a parameter to exist."""

_LARGEST_GRID = 20_000
"""Combinations that are looked through one by one, where not all of them are allowed configurations."""

TRIES = 10_000
"""Draws in a row that are not allowed, after which no more are made."""

_HALVINGS = 20
"""Of the way from a configuration that is not allowed to one that is."""

_STEPS, _WALKS = 8, 1000
"""Of a walk from one allowed configuration to the next, and the most such walks."""


class Parameter(Protocol):
    """One hyperparameter: how it is drawn for the initial population, and how it mutates."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> float:
        """Number of distinct values; infinity for a float."""

    def draw(self, rng: np.random.Generator) -> Value: ...

    def mutate(self, value: Value, rng: np.random.Generator) -> Value: ...

    @property
    def is_categorical(self) -> bool:
        """Whether its values have no order."""

    def to_unit(self, value: Value) -> float:
        """The position of a value from 0 to 1, on the parameter's own scale; of a categorical its number."""

    def from_unit(self, position: float) -> Value:
        """The value at a position."""

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
    name: str
    value: Value
    size: float = 1
    is_categorical: bool = True

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
        if value != self.value or isinstance(value, bool) != isinstance(self.value, bool):
            raise ValueError(f"{show(self.value)}")
        return self.value

    def parse(self, text: str) -> Value:
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

    is_categorical = False

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
    name: str
    size: float = 2
    is_categorical: bool = True

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
            if value == element and isinstance(value, bool) == isinstance(element, bool):
                return element
        raise ValueError(f"one of {listing(map(show, self.elements))}")

    def parse(self, text: str) -> Value:
        parsers: dict[str, Callable[[str], Value]] = {
            "int": int, "float": float, "string": str, "logical": _parse_logical,
        }  # fmt: skip
        with contextlib.suppress(ValueError):
            return self.accept(parsers[self.element_type](text))
        return self.accept(text)


@dataclass(frozen=True)
class Space:
    """A list of parameters. ``entries`` are the dictionaries that they were read from, without ignored keys.

    ``defaults`` are values of the first configuration to try. A parameter with a condition exists in those
    configurations that meet it; a configuration is allowed that meets all ``constraints``.
    """

    parameters: tuple[Parameter, ...]
    entries: tuple[Mapping[str, Any], ...]
    warnings: tuple[str, ...] = ()
    defaults: Mapping[str, Value] = field(default_factory=dict)
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    constraints: tuple[Constraint, ...] = ()

    @cached_property
    def varying(self) -> tuple[Parameter, ...]:
        """The parameters that are searched: those that aren't of type constant, in the file's order."""
        return tuple(p for p in self.parameters if not isinstance(p, Constant))

    @property
    def constants(self) -> dict[str, Value]:
        """The values of the others, by name."""
        return {p.name: p.value for p in self.parameters if isinstance(p, Constant)}

    @cached_property
    def by_dependence(self) -> tuple[Parameter, ...]:
        """The parameters, each one after those of its condition."""
        if not self.conditions:
            return self.parameters
        named = {p.name: p for p in self.parameters}
        order = TopologicalSorter({name: self.conditions.get(name, {}) for name in named})
        return tuple(named[name] for name in order.static_order())

    @cached_property
    def size(self) -> float:
        """Number of allowed configurations that differ; an upper bound of it where they cannot be counted.

        Infinity where a float is searched.
        """
        return sum(1 for _ in self.grid()) if self._is_partial and self.is_small else self._combinations

    @property
    def is_countable(self) -> bool:
        """Whether all configurations can be looked through."""
        return self.is_small or (not self._is_partial and math.isfinite(self._combinations))

    @property
    def is_small(self) -> bool:
        """Whether all combinations of values can be looked through."""
        return self._combinations <= _LARGEST_GRID

    @property
    def _combinations(self) -> float:
        return math.prod(p.size for p in self.parameters)

    @property
    def _is_partial(self) -> bool:
        """Whether there are combinations of values that are no configurations of their own."""
        return bool(self.conditions or self.constraints)

    def exists(self, name: str, values: Mapping[str, Value]) -> bool:
        """Whether a parameter exists where those that its condition names have ``values``, if they exist."""
        needed = self.conditions.get(name, {})
        return all(parent in values and values[parent] in allowed for parent, allowed in needed.items())

    def complete(self, values: Mapping[str, Value | None], rng: np.random.Generator | None = None) -> Params:
        """``values`` of the varying parameters that exist, with the constants filled in, in the file's order.

        With ``rng``, what exists and has no value is drawn.
        """
        found: dict[str, Value] = {}
        for parameter in self.by_dependence:
            if self.exists(parameter.name, found):
                found[parameter.name] = _value(parameter, values, rng)
        return self.in_order(found) if self.conditions else found

    def in_order(self, values: Mapping[str, Value]) -> Params:
        """The same values in the order of the file."""
        return {p.name: values[p.name] for p in self.parameters if p.name in values}

    def params(self, genome: Genome, rng: np.random.Generator | None = None) -> Params:
        return self.complete(dict(zip((p.name for p in self.varying), genome, strict=True)), rng)

    def genome(self, params: Params) -> Genome:
        return tuple(params.get(p.name) for p in self.varying)

    def settle(self, genome: Genome, rng: np.random.Generator | None = None) -> Genome:
        """The one genome of a configuration: without what does not exist in it, and with all that does."""
        return self.genome(self.params(genome, rng)) if self.conditions else genome

    def allows(self, genome: Genome) -> bool:
        return not self.constraints or not any(self.violated(self.params(genome)))

    def violated(self, params: Params) -> Iterator[Constraint]:
        """The constraints that a configuration does not meet."""
        return (constraint for constraint in self.constraints if not constraint.holds(params))

    def draws(self, rng: np.random.Generator, fixed: Mapping[str, Value] | None = None) -> Iterator[Genome]:
        """Random allowed configurations, with the values of ``fixed``; ends where they are too rare to be met."""
        fixed, misses = fixed or {}, 0
        while misses < TRIES:
            genome = self._drawn(rng, fixed)
            misses = 0 if self.allows(genome) else misses + 1
            if not misses:
                yield genome

    def _drawn(self, rng: np.random.Generator, fixed: Mapping[str, Value]) -> Genome:
        drawn = ((p.name, p.draw(rng)) for p in self.varying)
        return self.settle(tuple(fixed.get(name, value) for name, value in drawn))

    def rest(self, rng: np.random.Generator) -> Iterator[Genome]:
        """Where draws find nothing: all configurations, or a random walk if they are too many to be looked through."""
        if self.is_countable:
            yield from self.grid()
        elif (genome := self.example) is not None:
            yield genome
            for _ in range(_WALKS):
                for _ in range(_STEPS):
                    genome = self.towards(genome, self._beside(genome, rng), rng)
                yield genome

    def _beside(self, genome: Genome, rng: np.random.Generator) -> Genome:
        """Any configuration, on any side of this one."""
        pairs = zip(self.varying, genome, strict=True)
        return tuple(p.draw(rng) if v is None or p.is_categorical else _shifted(p, v, rng) for p, v in pairs)

    def towards(self, allowed: Genome, wanted: Genome, rng: np.random.Generator) -> Genome:
        """The allowed configuration that is nearest to ``wanted`` on a way there from one that is ``allowed``.

        The way is halved until it stays among the allowed ones.
        """
        shares = (0.5**halving for halving in range(_HALVINGS))
        found = (self.settle(self._part_of_way(allowed, wanted, share, rng), rng) for share in shares)
        return next(filter(self.allows, found), allowed)

    def _part_of_way(self, begin: Genome, end: Genome, share: float, rng: np.random.Generator) -> Genome:
        triples = zip(self.varying, begin, end, strict=True)
        return tuple(b if a is None else a if b is None else _moved(p, a, b, share, rng) for p, a, b in triples)

    @cached_property
    def example(self) -> Genome | None:
        """An allowed configuration, the same one always; None if there is none, or they are too rare to be met.

        Where few are allowed, the default configuration may be one.
        """
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(0)))
        with_defaults = self.draws(rng, self.defaults) if self.defaults else ()
        return next(self.grid() if self.is_small else itertools.chain(self.draws(rng), with_defaults), None)

    def grid(self) -> Iterator[Genome]:
        """Every allowed configuration of a finite space."""
        combinations: Iterator[Genome] = itertools.product(*(list(p.values()) for p in self.varying))
        if self.conditions:
            combinations = iter(dict.fromkeys(map(self.settle, combinations)))
        yield from filter(self.allows, combinations)


def _value(parameter: Parameter, values: Mapping[str, Value | None], rng: np.random.Generator | None) -> Value:
    if isinstance(parameter, Constant):
        return parameter.value
    value = values[parameter.name]
    if value is None:
        assert rng is not None, f"{parameter.name} exists without a value"
        return parameter.draw(rng)
    return value


def _moved(parameter: Parameter, begin: Value, end: Value, share: float, rng: np.random.Generator) -> Value:
    """A value at a ``share`` of the way; without an order it is the end's with that probability."""
    if parameter.is_categorical:
        return end if rng.random() < share else begin
    start = parameter.to_unit(begin)
    return parameter.from_unit(start + share * (parameter.to_unit(end) - start)) if share < 1 else end


def _shifted(parameter: Parameter, value: Value, rng: np.random.Generator) -> Value:
    return parameter.from_unit(parameter.to_unit(value) + rng.uniform(-1.0, 1.0))


def _power_of_ten(exponent: float) -> float:
    try:
        return math.pow(10.0, exponent)
    except OverflowError:
        return sys.float_info.max


def nearest(value: float) -> int:
    """The nearest int, halves upwards (``round`` would take halves to the even one)."""
    return value if isinstance(value, int) else math.floor(value + 0.5)


def _parse_logical(text: str) -> bool:
    try:
        return {"true": True, "false": False, "1": True, "0": False}[text.strip().lower()]
    except KeyError:
        raise ValueError("true or false") from None
