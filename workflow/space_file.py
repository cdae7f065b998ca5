"""Reads a hyperparameter space from its JSON file or from a list in an experiment, with all problems at once."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from workflow.errors import Problems, did_you_mean, json_type, listing, show, unusable_text
from workflow.parameters import Choice, Constant, Logical, Number, Parameter, nearest
from workflow.relations import RelationsReader, check_allowed, place_of, without_fixed_conditions
from workflow.result_table import is_own
from workflow.space import Space
from workflow.trial import Value

TYPES = ("constant", "int", "float", "logical", "categorical", "ordered")
ELEMENT_TYPES = ("int", "float", "string", "logical")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")
_REQUIRED = {
    "constant": ("value",),
    "int": ("lower", "upper"),
    "float": ("lower", "upper"),
    "logical": (),
    "categorical": ("values", "element_type"),
    "ordered": ("values", "element_type"),
}
_RELATING = ("default", "condition", "constraint")
_OPTIONAL = {
    "constant": ("condition", "constraint"),
    "int": ("use_log_scale", "sigma", *_RELATING),
    "float": ("use_log_scale", "sigma", *_RELATING),
    "logical": _RELATING,
    "categorical": _RELATING,
    "ordered": ("sigma", *_RELATING),
}
_KNOWN_KEYS = frozenset({"name", "type"}.union(*_REQUIRED.values(), *_OPTIONAL.values()))
_CLOSE = 0.85
"""Likeness from which a key is taken for a misspelt one: def_values and the like, which real spaces have, are below."""

_INT_LIMIT = 2**63 - 1


def load_space(path: Path) -> Space:
    """Read a space from its JSON file.

    Raises InputError with all problems of the file.
    """
    problems = Problems(str(path))
    return parse_space(_read_json(path, problems), str(path))


def parse_space(entries: object, source: str) -> Space:
    """Build a space from a list of JSON dictionaries; ``source`` names it in messages.

    Raises InputError with all problems.

    >>> space = parse_space([{"name": "layers", "type": "int", "lower": 1, "upper": 3}], "an example")
    >>> space.size
    3
    >>> parse_space([{"name": "layers", "type": "int", "lower": 3}], "an example")
    Traceback (most recent call last):
    workflow.errors.InputError: an example: entry 1 'layers': upper: is missing
        -> type int needs lower, upper
    """
    problems = Problems(source)
    if not isinstance(entries, list):
        what = f"{show(entries)} is a {json_type(entries)}, not a list"
        problems.fail("", what, "write a list of dictionaries: [{...}, {...}]")
    if not entries:
        problems.fail("", "is an empty list", "define at least one hyperparameter")
    warnings: list[str] = []
    parameters, defaults = _read_entries(entries, problems, warnings)
    _check_duplicates(entries, problems)
    relations = RelationsReader(entries, parameters, problems)
    conditions, constraints = relations.conditions(), relations.constraints()
    problems.raise_if_any()
    read = tuple(p for p in parameters.values() if p is not None)
    meant = tuple(map(_meaning, entries))
    space = Space(read, meant, tuple(warnings), defaults, conditions, tuple(constraints.values()))
    space = without_fixed_conditions(space, source)
    check_allowed(space, constraints, problems)
    problems.raise_if_any()
    return space


def _read_entries(
    entries: Sequence[object], problems: Problems, warnings: list[str]
) -> tuple[dict[str, Parameter | None], dict[str, Value]]:
    """Parameters by name, None for one that cannot be read, and defaults."""
    parameters: dict[str, Parameter | None] = {}
    defaults: dict[str, Value] = {}
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict):
            problems.add(f"entry {number}", f"{show(entry)} is not a dictionary", 'write {"name": ..., "type": ...}')
            continue
        reader = _EntryReader(number, entry, problems, warnings)
        parameter, name = reader.read(), entry.get("name")
        if isinstance(name, str):
            parameters[name] = parameter
        if parameter is not None and reader.default is not None:
            defaults[parameter.name] = reader.default
    return parameters, defaults


def _meaning(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that this program reads from such an entry; a comment in YAML can hold what JSON cannot."""
    read = ("name", "type", *_REQUIRED[entry["type"]], *_OPTIONAL[entry["type"]])
    return {key: entry[key] for key in read if key in entry}


class _Object(dict[str, Any]):
    """A JSON object that remembers keys that were given twice."""

    repeated: tuple[str, ...] = ()


def _read_json(path: Path, problems: Problems) -> object:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        problems.fail("", f"cannot be read ({error.strerror})", "check the path of the hyperparameter space")
    except UnicodeDecodeError as error:
        problems.fail("", f"is not UTF-8 text (byte {error.start})", "save the file as UTF-8")
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        problems.fail(f"line {error.lineno} column {error.colno}", f"is not JSON: {error.msg}", "mend the JSON there")
    except (RecursionError, ValueError) as error:
        problems.fail("", f"cannot be read as JSON ({error})", "write a plain list of dictionaries")


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    result = _Object(pairs)
    keys = [key for key, _ in pairs]
    result.repeated = tuple(dict.fromkeys(key for key in keys if keys.count(key) > 1))
    return result


def _check_duplicates(entries: Sequence[object], problems: Problems) -> None:
    first: dict[object, int] = {}
    for number, entry in enumerate(entries, start=1):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            continue
        if name in first:
            what = f"name: {show(name)} is defined a second time (first in entry {first[name]})"
            problems.add(f"entry {number} {show(name)}", what, "rename or remove one of the two")
        first.setdefault(name, number)


class _EntryReader:
    """Reads one dictionary of the list; every problem goes to ``problems``, none is raised."""

    def __init__(self, number: int, entry: dict[str, Any], problems: Problems, warnings: list[str]) -> None:
        self.entry = entry
        self.found = Problems(problems.file)
        self.problems = problems
        self.warnings = warnings
        self.place = place_of(number, entry)
        self.default: Value | None = None

    def read(self) -> Parameter | None:
        """None for an entry with a problem."""
        kind = self._header()
        parameter = None
        if kind is not None and self._has_required(kind):
            parameter = _READERS[kind](self, str(self.entry.get("name")))
            self._read_default(kind, parameter)
        self._warn_of_misspelt_keys()
        self.problems.extend(self.found)
        return None if self.found else parameter

    def _header(self) -> str | None:
        for key in getattr(self.entry, "repeated", ()):
            self._add(key, "is given more than once", "keep one of them")
        if "name" not in self.entry:
            self._missing("name", "give the hyperparameter's name, as train.sh knows it")
        elif not isinstance(self.entry["name"], str) or not _NAME.fullmatch(self.entry["name"]):
            remedy = "write a string of letters, digits, '_', '.' and '-' that starts with a letter or '_'"
            self._add("name", f"{show(self.entry['name'])} cannot be an option's name", remedy)
        elif is_own(self.entry["name"]) and self.entry.get("type") != "constant":
            self._add("name", f"{show(self.entry['name'])} is a column of hpo.csv", "rename the hyperparameter")
        if "type" not in self.entry:
            self._missing("type", f"one of {listing(TYPES)}")
            return None
        kind = self.entry["type"]
        if not isinstance(kind, str) or kind not in TYPES:
            self._add("type", f"{show(kind)} is not a type", did_you_mean(kind, TYPES))
            return None
        return kind

    def _has_required(self, kind: str) -> bool:
        missing = [key for key in _REQUIRED[kind] if key not in self.entry]
        for key in missing:
            self._missing(key, f"type {kind} needs {listing(_REQUIRED[kind])}")
        return not missing

    def _missing(self, key: str, remedy: str) -> None:
        unknown = [k for k in self.entry if isinstance(k, str) and k not in _KNOWN_KEYS]
        close = [k for k in unknown if did_you_mean(k, [key]).startswith("did")]
        if close:
            remedy = f"{show(close[0])} looks like a misspelling of it; {remedy}"
        self._add(key, "is missing", remedy)

    def _add(self, key: str, what: str, remedy: str) -> None:
        self.found.add(f"{self.place}: {key}", what, remedy)

    def _read_default(self, kind: str, parameter: Parameter | None) -> None:
        if parameter is None or "default" not in self.entry or "default" not in _OPTIONAL[kind]:
            return
        try:
            self.default = parameter.accept(self.entry["default"])
        except ValueError as error:
            self._add("default", f"{show(self.entry['default'])} is not in the space", f"write {error}")

    def _warn_of_misspelt_keys(self) -> None:
        """Keys that other tools ignore are easily lost."""
        for key in self.entry:
            close = difflib.get_close_matches(str(key), _RELATING, n=1, cutoff=_CLOSE)
            if close and key not in _RELATING:
                self._warn(f"the key {show(key)} is ignored: did you mean {show(close[0])}?")

    def _warn(self, what: str) -> None:
        self.warnings.append(f"{self.found.file}: {self.place}: {what}")

    def _read_constant(self, name: str) -> Parameter:
        value = self.entry["value"]
        if not isinstance(value, str | int | float | bool):
            self._add("value", f"{show(value)} is a {json_type(value)}", "give a string, a number or true/false")
        else:
            self._check_scalar("value", value)
        return Constant(name, value)

    def _read_logical(self, name: str) -> Parameter:
        return Logical(name)

    def _read_int(self, name: str) -> Parameter | None:
        return self._read_number(name, integer=True)

    def _read_float(self, name: str) -> Parameter | None:
        return self._read_number(name, integer=False)

    def _read_number(self, name: str, *, integer: bool) -> Parameter | None:
        lower, upper = self._bound("lower", integer), self._bound("upper", integer)
        log = self.entry.get("use_log_scale", False)
        if not isinstance(log, bool):
            self._add("use_log_scale", f"{show(log)} is not logical", "write true or false, without quotes")
            log = False
        if lower is None or upper is None:
            self._sigma(1.0)
            return None
        if lower > upper:
            self._add("lower", f"{show(lower)} is greater than upper {show(upper)}", "swap lower and upper")
        elif log and lower <= 0:
            self._add("lower", f"{show(lower)} has no logarithm", "give a lower > 0, or leave use_log_scale out")
        elif math.isinf(upper - lower):
            self._add("upper", f"{show(upper)} is too far from lower {show(lower)}", "narrow the range")
        if self.found:
            self._sigma(1.0)
            return None
        span = math.log10(upper) - math.log10(lower) if log else upper - lower
        sigma = self._sigma(span / 10)
        self._check_sigma(sigma, span, " decades" if log else "")
        return Number(name, lower, upper, sigma, log, integer)

    def _check_sigma(self, sigma: float, span: float, unit: str) -> None:
        """Warn of a mutation that barely moves a value, or that throws it from bound to bound."""
        if sigma < span / 100:
            scale = "in decades with use_log_scale, and " if unit else ""
            self._warn(
                f"sigma {sigma:g} is {scale}below a hundredth of the range's {span:g}{unit}: "
                f"mutation will barely move it (try {span / 10:.2g})"
            )
        if 0 < span < sigma:
            self._warn(
                f"sigma {sigma:g} is larger than the whole range of {span:g}{unit}: most mutations will end at a "
                f"bound (try {span / 10:.2g})"
            )

    def _bound(self, key: str, integer: bool) -> float | None:
        value = self.entry[key]
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._add(key, f"{show(value)} is a {json_type(value)}, not a number", "write a number, without quotes")
            return None
        if not _is_finite(value):
            self._add(key, f"{show(value)} is not finite", "write a finite number")
            return None
        if integer and value != int(value):
            self._add(key, f"{show(value)} is not a whole number", "write a whole number, or use type float")
            return None
        if integer and abs(value) > _INT_LIMIT:
            self._add(key, f"{show(value)} does not fit into 64 bits", "narrow the range, or use type float")
            return None
        return int(value) if integer else float(value)

    def _sigma(self, default: float) -> float:
        """Sigma as a positive number; a numeric string is taken as its number, as real spaces have it."""
        if "sigma" not in self.entry:
            return default
        raw = self.entry["sigma"]
        try:
            sigma = math.nan if isinstance(raw, bool) else float(raw)
        except (TypeError, ValueError, OverflowError):
            sigma = math.nan
        if not math.isfinite(sigma) or sigma < 0:
            self._add("sigma", f"{show(raw)} is not a size", "write a finite number >= 0, or leave it out")
            return default
        return sigma

    def _read_categorical(self, name: str) -> Parameter | None:
        elements = self._elements()
        return Choice(name, elements, self.entry["element_type"], None) if elements else None

    def _read_ordered(self, name: str) -> Parameter | None:
        elements = tuple(dict.fromkeys(self._elements()))  # a repeated element would be a place that no step leaves
        sigma = self._sigma(max(1.0, len(elements) / 10))
        self._check_sigma(sigma, len(elements) - 1, "")
        return Choice(name, elements, self.entry["element_type"], _max_step(sigma)) if elements else None

    def _elements(self) -> tuple[Value, ...]:
        values, element_type = self.entry["values"], self.entry["element_type"]
        if not isinstance(element_type, str) or element_type not in ELEMENT_TYPES:
            self._add("element_type", f"{show(element_type)} is not one", did_you_mean(element_type, ELEMENT_TYPES))
            element_type = None
        if not isinstance(values, list):
            self._add("values", f"{show(values)} is a {json_type(values)}, not a list", "write a list: [a, b, c]")
            return ()
        if not values:
            self._add("values", "is an empty list", "give at least one element")
        if element_type is None:
            return ()
        return tuple(self._element(position, value, element_type) for position, value in enumerate(values, start=1))

    def _element(self, position: int, value: object, element_type: str) -> Value:
        key = f"values element {position}"
        if not _is_of_type(value, element_type):
            self._add(key, f"{show(value)} is not of element_type {element_type}", _ELEMENT_REMEDY[element_type])
            return ""
        assert isinstance(value, str | int | float | bool)
        self._check_scalar(key, value)
        return float(value) if element_type == "float" and _is_finite(value) else value

    def _check_scalar(self, key: str, value: Value) -> None:
        if isinstance(value, str):
            reason = unusable_text(value)
            if reason:
                self._add(key, f"{show(value)} {reason}", "remove that character")
        elif not _is_finite(value):
            self._add(key, f"{show(value)} is not finite", "write a finite number")


_READERS: Mapping[str, Callable[[_EntryReader, str], Parameter | None]] = {
    "constant": _EntryReader._read_constant,
    "int": _EntryReader._read_int,
    "float": _EntryReader._read_float,
    "logical": _EntryReader._read_logical,
    "categorical": _EntryReader._read_categorical,
    "ordered": _EntryReader._read_ordered,
}

_ELEMENT_REMEDY = {
    "int": "write a whole number, without quotes",
    "float": "write a number, without quotes",
    "string": "put it in quotes",
    "logical": "write true or false, without quotes",
}


def _max_step(sigma: float) -> int:
    return min(max(1, nearest(sigma)), _INT_LIMIT)


def _is_of_type(value: object, element_type: str) -> bool:
    if element_type == "logical":
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    if element_type == "string":
        return isinstance(value, str)
    return isinstance(value, int) if element_type == "int" else isinstance(value, int | float)


def _is_finite(value: Any) -> bool:
    """False for NaN and infinity, and for an int that no float can hold."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
