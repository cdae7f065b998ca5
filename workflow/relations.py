"""What relates the entries of a space to each other, read once each of them is known: conditions and constraints."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from workflow.errors import Problems, did_you_mean, json_type, show
from workflow.expressions import Constraint, ExpressionError, Kind, parse_constraint
from workflow.parameters import Choice, Constant, Number, Parameter
from workflow.space import TRIES, Condition, Space
from workflow.trial import Value


def place_of(number: int, entry: Mapping[str, Any]) -> str:
    """How messages name an entry."""
    name = entry.get("name")
    return f"entry {number} {show(name)}" if isinstance(name, str) else f"entry {number}"


class RelationsReader:
    """Reads the conditions and constraints of all entries; every problem goes to ``problems``.

    ``parameters`` are all names of the file, with None for an entry that could not be read.
    """

    def __init__(
        self, entries: Sequence[object], parameters: Mapping[str, Parameter | None], problems: Problems
    ) -> None:
        self.entries = [(place_of(n, e), e) for n, e in enumerate(entries, start=1) if isinstance(e, dict)]
        self.parameters = parameters
        self.problems = problems

    def conditions(self) -> dict[str, Condition]:
        given = self._given("condition")
        found = {name: self._condition(place, name, condition) for place, name, condition in given}
        for place, name, _ in given:
            if circle := _circle(name, found):
                way = " -> ".join(circle)
                self.problems.add(place, f"depends on itself: {way}", "leave one of these conditions out")
        return {name: condition for name, condition in found.items() if condition}

    def constraints(self) -> dict[str, Constraint]:
        """By their places."""
        kinds = {name: None if p is None else _kind(p) for name, p in self.parameters.items()}
        found: dict[str, Constraint] = {}
        for place, text in self._texts():
            try:
                found[place] = parse_constraint(text, kinds)
            except ExpressionError as error:
                self.problems.add(place, f"{show(text)}: {error}", error.remedy)
        return found

    def _given(self, key: str) -> list[tuple[str, str, object]]:
        """The place, the parameter's name and the value of a key, wherever it is given."""
        return [
            (f"{place}: {key}", entry["name"], entry[key])
            for place, entry in self.entries
            if key in entry and isinstance(entry.get("name"), str)
        ]

    def _condition(self, place: str, name: str, given: object) -> Condition:
        if not isinstance(given, dict):
            remedy = 'write {"another parameter": [its values]}'
            self.problems.add(place, f"{show(given)} is a {json_type(given)}, not a dictionary", remedy)
            return {}
        return {
            parent: self._values(f"{place}: {parent}", parent, values if isinstance(values, list) else [values])
            for parent, values in given.items()
            if self._can_depend(place, name, parent)
        }

    def _can_depend(self, place: str, name: str, parent: str) -> bool:
        parameter = self.parameters.get(parent)
        if parent == name:
            self.problems.add(place, f"{show(parent)} is this parameter itself", "name another one")
        elif parent not in self.parameters:
            remedy = did_you_mean(parent, list(self.parameters))
            self.problems.add(place, f"{show(parent)} is no hyperparameter of this space", remedy)
        elif isinstance(parameter, Number) and not parameter.integer:
            remedy = "name a parameter of another type, or write a constraint"
            self.problems.add(place, f"{show(parent)} is a float, which hardly ever has a given value", remedy)
        else:
            return parameter is not None
        return False

    def _values(self, place: str, parent: str, values: Sequence[object]) -> tuple[Value, ...]:
        """The values of the parent that the file names; of a constant parent, which may never have them, its own."""
        parameter, found = self.parameters[parent], []
        assert parameter is not None
        if not values:
            self.problems.add(place, "is an empty list", "give at least one value")
        for value in values:
            try:
                found.append(parameter.accept(value))
            except ValueError as error:
                if not isinstance(parameter, Constant):
                    self.problems.add(place, f"{show(value)} is never its value", f"write {error}")
        return tuple(found)

    def _texts(self) -> Iterator[tuple[str, str]]:
        for place, _, given in self._given("constraint"):
            for number, text in enumerate(given if isinstance(given, list) else [given], start=1):
                where = f"{place} {number}" if isinstance(given, list) else place
                if isinstance(text, str):
                    yield where, text
                else:
                    remedy = 'write an expression in quotes, such as "warmup < epochs", or a list of them'
                    self.problems.add(where, f"{show(text)} is a {json_type(text)}, not a string", remedy)


def _kind(parameter: Parameter) -> Kind:
    """What an expression may do with a parameter's values."""
    if isinstance(parameter, Number):
        return "number"
    if isinstance(parameter, Choice):
        return "string" if parameter.element_type == "string" else _kind_of(parameter.elements[0])
    return _kind_of(parameter.value) if isinstance(parameter, Constant) else "logical"


def _kind_of(value: Value) -> Kind:
    if isinstance(value, bool):
        return "logical"
    return "string" if isinstance(value, str) else "number"


def _circle(name: str, conditions: Mapping[str, Condition]) -> list[str]:
    """The way from a parameter over those on which it depends back to itself; empty if there is none."""
    ways, seen = deque([[name]]), {name}
    while ways:
        way = ways.popleft()
        for parent in conditions.get(way[-1], {}):
            if parent == name:
                return [*way, name]
            if parent not in seen:
                seen.add(parent)
                ways.append([*way, parent])
    return []


def without_fixed_conditions(space: Space, source: str) -> Space:
    """The space without conditions on constants: they hold always or never, of which warnings tell.

    A parameter that never exists is left out.
    """
    fixed: dict[str, Value] = {}
    gone: set[str] = set()
    conditions: dict[str, Condition] = {}
    warnings: list[str] = []
    for parameter in space.by_dependence:
        name, needed = parameter.name, space.conditions.get(parameter.name, {})
        never = [p for p, allowed in needed.items() if p in gone or (p in fixed and fixed[p] not in allowed)]
        always = [p for p in needed if p in fixed and p not in never]
        conditions[name] = {parent: allowed for parent, allowed in needed.items() if parent not in fixed}
        if never:
            gone.add(name)
            reason = "never exists" if never[0] in gone else f"is the constant {show(fixed[never[0]])}"
            warnings.append(f"{source}: {name}: condition: {never[0]} {reason}, so {name} never exists")
        elif isinstance(parameter, Constant) and not conditions[name]:
            fixed[name] = parameter.value
        warnings += [f"{source}: {name}: condition: {p} is a constant: it always holds" for p in always if not never]
    return replace(
        space,
        parameters=tuple(p for p in space.parameters if p.name not in gone),
        warnings=(*space.warnings, *warnings),
        defaults={name: value for name, value in space.defaults.items() if name not in gone},
        conditions={name: condition for name, condition in conditions.items() if condition and name not in gone},
    )


def check_allowed(space: Space, constraints: Mapping[str, Constraint], problems: Problems) -> None:
    """Some configuration must be allowed, and one that has the defaults; ``constraints`` are those by their places."""
    for place, constraint in constraints.items():
        alone = replace(space, constraints=(constraint,))
        if alone.example is None:
            problems.add(place, f"{show(constraint.text)} is met by {_none_of(space)}", _loosen(space))
        elif not _has_default(alone):
            what = f"{show(constraint.text)} is not met by the default configuration"
            problems.add(place, what, "change a default, or the constraint")
    if not problems and space.example is None:
        problems.add("", f"all the constraints together are met by {_none_of(space)}", _loosen(space))
    if not problems and not _has_default(space):
        problems.add("", "no configuration with these defaults meets all the constraints", "change a default")


def _none_of(space: Space) -> str:
    return "no configuration" if space.is_small else f"none of {TRIES:,} random configurations"


def _loosen(space: Space) -> str:
    return "loosen it, or widen the bounds" if space.is_small else "loosen it, or write defaults that meet it"


def _has_default(space: Space) -> bool:
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(0)))
    return not space.defaults or next(space.draws(rng, space.defaults), None) is not None
