"""The hyperparameter space: which configurations there are, how they are drawn, and which of them are allowed.

A parameter may exist in some configurations only (its condition), and configurations may be disallowed (constraints).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import TopologicalSorter
from typing import Any

import numpy as np

from workflow.expressions import Constraint
from workflow.parameters import Constant, Parameter
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


@dataclass(frozen=True)
class Space:
    """A list of parameters. ``entries`` are the dictionaries that they were read from, without ignored keys.

    ``defaults`` are values of the first configuration to try. A parameter with a condition exists in those
    configurations that meet it; a configuration is allowed that meets all ``constraints``.

    >>> from workflow.space_file import parse_space
    >>> optimizer = {"name": "optimizer", "type": "categorical", "element_type": "string", "values": ["Adam", "SGD"]}
    >>> nesterov = {"name": "nesterov", "type": "logical", "condition": {"optimizer": "SGD"}}
    >>> space = parse_space([optimizer, nesterov], "an example")
    >>> list(space.grid())
    [('Adam', None), ('SGD', False), ('SGD', True)]
    >>> space.params(("Adam", None))
    {'optimizer': 'Adam'}
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
        """The configuration of a genome, as ``complete`` makes it."""
        return self.complete(dict(zip((p.name for p in self.varying), genome, strict=True)), rng)

    def genome(self, params: Params) -> Genome:
        """The values of the varying parameters, None for those that ``params`` lack."""
        return tuple(params.get(p.name) for p in self.varying)

    def settle(self, genome: Genome, rng: np.random.Generator | None = None) -> Genome:
        """The one genome of a configuration: without what does not exist in it, and with all that does."""
        return self.genome(self.params(genome, rng)) if self.conditions else genome

    def allows(self, genome: Genome) -> bool:
        """Whether a genome with all that exists in it meets the constraints."""
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
