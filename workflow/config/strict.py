"""Strict YAML: typed values, and an error with file, key, value and remedy for everything that is wrong."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import yaml

from workflow.errors import Problems, did_you_mean, show, unusable_text

HOME = Path(__file__).resolve().parents[1]
"""The package's directory, ``$WORKFLOW_HOME`` in paths."""

COMMAND_KEY = "site.container_command"
PATH_KEYS = frozenset(
    {
        "model.image", "model.scripts", "model.data_dir", "model.binds", "space", "search.initial_population",
        "search.warm_start", "reuse", "site.binds", COMMAND_KEY,
    }
)  # fmt: skip
"""Keys whose relative paths, or lists of them, mean the working directory when they come from --set."""


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, keeps dates as the text that was written, and says where a value is wrong."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
            raise _wrong_node(node, f"the value cannot be read ({' '.join(str(error).split())})") from error
        if isinstance(value, int) and value.bit_length() > _MAX_BITS:
            raise _wrong_node(node, "the number has too many digits")
        return value


class _Dumper(yaml.SafeDumper):
    """Quotes a text that ``_Loader`` would take for a number."""


_MAX_BITS = 4096


def _wrong_node(node: yaml.Node, problem: str) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise _wrong_node(key_node, f"the key {show(key)} is not a string")
        if key in seen:
            raise _wrong_node(key_node, f"the key {key!r} is given twice")
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
# YAML 1.1 takes 1e-5 for a text, since it has no point; people don't.
_EXPONENT = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$")
for resolver in (_Loader, _Dumper):
    resolver.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))
_Loader.add_constructor("tag:yaml.org,2002:timestamp", lambda loader, node: str(node.value))


def read_yaml(path: Path, what: str) -> dict[str, Any]:
    """A YAML dictionary; ``what`` names the kind of file in messages. Raises InputError."""
    problems = Problems(str(path))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        problems.fail("", f"cannot be read ({error.strerror})", f"check the path of the {what}")
    except UnicodeDecodeError as error:
        problems.fail("", f"is not UTF-8 text (byte {error.start})", "save the file as UTF-8")
    try:
        data = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1} column {mark.column + 1}" if mark else ""
        problems.fail(place, f"is not valid YAML: {error.problem}", "mend the YAML there")
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        problems.fail("", f"is not valid YAML: {reason}", "mend the YAML")
    if not isinstance(data, dict):
        held = "is empty" if data is None else f"holds {show(data)}, not a dictionary"
        problems.fail("", held, f"write the {what} as 'key: value' lines")
    return data


def to_yaml(data: Mapping[str, Any]) -> str:
    """The text that ``read_yaml`` reads back to the same dictionary."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=120)


def parse_overrides(settings: Sequence[str]) -> dict[str, Any]:
    """``key=value`` of --set to {dotted key: value}; values are YAML. Raises InputError."""
    problems = Problems("--set")
    found: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", key):
            problems.add(show(setting), "is not key=value", "write --set search.population_size=8")
            continue
        if not text.strip():
            problems.add(show(setting), "has no value", f"write a value, {key}=null for the default, or {key}='\"\"'")
            continue
        try:
            value = yaml.load(text, _Loader)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            problems.add(show(setting), f"the value is not valid YAML ({type(error).__name__})", "put it in quotes")
            continue
        found[key] = _from_here(key, value) if key in PATH_KEYS else value
    problems.raise_if_any()
    return found


def _from_here(key: str, value: Any) -> Any:
    """A path or a list of paths; a command without a directory is looked up elsewhere."""
    if isinstance(value, list):
        return [_from_here(key, each) for each in value]
    if not isinstance(value, str) or re.match(r"[$~]|[a-z]+://", value) or (key == COMMAND_KEY and os.sep not in value):
        return value
    return str(Path(literal_path(str(Path.cwd()))) / value)


def split_overrides(overrides: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those of the experiment and those of the site, the latter without their ``site.``."""
    site = {key.removeprefix("site."): value for key, value in overrides.items() if key.startswith("site.")}
    return {key: value for key, value in overrides.items() if not key.startswith("site.")}, site


def shipped(folder: str) -> Path:
    """A folder that a wheel carries inside the package and a checkout beside it."""
    inside = HOME / folder
    return inside if inside.is_dir() else HOME.parent / folder


def literal_path(path: str) -> str:
    """A path that ``Section.path`` reads back unchanged."""
    return path.replace("$", "$$")


def apply_overrides(data: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    """Put dotted keys into nested dictionaries, in place. Raises InputError."""
    for key, value in overrides.items():
        *sections, last = key.split(".")
        target = data
        for section in sections:
            inner = target.get(section)
            if inner is not None and not isinstance(inner, dict):
                Problems("--set").fail(key, f"{section!r} is {show(inner)}, not a section", "check the key")
            target[section] = dict(inner or {})  # a copy: an alias may have put it in other places too
            target = target[section]
        target[last] = value


def is_there(path: Path, *, directory: bool = False) -> bool:
    """Whether a path exists; also False for one that the system cannot even look up, as one that is too long."""
    try:
        return path.is_dir() if directory else path.exists()
    except OSError:
        return False


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = 100 * 365 * 86400.0
"""Seconds: clocks and timers know no more than some centuries."""


class Section:
    """Reads one dictionary strictly: typed values, defaults, and at the end an error for every unknown key."""

    def __init__(self, data: object, place: str, problems: Problems, base: Path) -> None:
        self.problems = problems
        self.place = place
        self.base = base
        self.known: list[str] = []
        self.data: dict[str, Any] = {}
        if isinstance(data, dict):
            self.data = data
        elif data is not None:
            option = problems.option(place)
            remedy = f"write {option}.KEY=VALUE" if option else f"write '{place or 'key'}:' with keys below it"
            problems.add(place, f"is {show(data)}, not a section", remedy)

    def at(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place else key

    def raw(self, key: str) -> Any:
        if key not in self.known:
            self.known.append(key)
        return self.data.get(key)

    def section(self, key: str) -> Section:
        return Section(self.raw(key), self.at(key), self.problems, self.base)

    def wrong(self, key: str, value: object, remedy: str) -> None:
        self.problems.add(self.at(key), f"{show(value)} is not allowed", remedy)

    @overload
    def text(self, key: str, default: str, choices: Sequence[str] = ()) -> str: ...
    @overload
    def text(self, key: str, default: None = None, choices: Sequence[str] = ()) -> str | None: ...
    def text(self, key: str, default: str | None = None, choices: Sequence[str] = ()) -> str | None:
        value = self.raw(key)
        if value is None:
            return default
        if isinstance(value, bool | list | dict):
            self.wrong(key, value, "write a string")
            return default
        value = str(value)
        if reason := unusable_text(value):
            self.problems.add(self.at(key), f"{show(value)} {reason}", "remove that character")
            return default
        if choices and value not in choices:
            self.wrong(key, value, did_you_mean(value, choices))
            return default
        return value

    def texts(self, key: str) -> list[str]:
        """A list of texts; numbers are taken as texts."""
        value = self.raw(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(each, str | int) and each != "" for each in value):
            self.wrong(key, value, "write a list of strings")
            return []
        texts = [str(each) for each in value]
        for text in texts:
            if reason := unusable_text(text):
                self.problems.add(self.at(key), f"{show(text)} {reason}", "remove that character")
        return texts

    def expanded(self, key: str) -> str | None:
        """A text in which $NAME and ${NAME} are expanded, $$ is a dollar sign."""
        text = self.text(key)
        return None if text is None else self._expand(key, text)

    @overload
    def integer(self, key: str, default: int, least: int | None = None) -> int: ...
    @overload
    def integer(self, key: str, default: None, least: int | None = None) -> int | None: ...
    def integer(self, key: str, default: int | None, least: int | None = None) -> int | None:
        value = self.raw(key)
        if value is None:
            return default
        number = self._number(value)
        if number is None or not number.is_integer() or abs(number) > 2**53:
            self.wrong(key, value, "write a whole number")
            return default
        if least is not None and number < least:
            self.wrong(key, value, f"write at least {least}")
            return default
        return int(number)

    def number(self, key: str, default: float, least: float | None = None, most: float | None = None) -> float:
        value = self.raw(key)
        if value is None:
            return default
        number = self._number(value)
        if number is None:
            self.wrong(key, value, "write a finite number")
            return default
        if least is not None and number < least:
            self.wrong(key, value, f"write at least {least:g}")
            return default
        if most is not None and number > most:
            self.wrong(key, value, f"write at most {most:g}")
            return default
        return number

    def boolean(self, key: str, default: bool) -> bool:
        value = self.raw(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.wrong(key, value, "write true or false")
            return default
        return value

    @overload
    def duration(self, key: str, default: float) -> float: ...
    @overload
    def duration(self, key: str, default: None = None) -> float | None: ...
    def duration(self, key: str, default: float | None = None) -> float | None:
        """Seconds, from a number of seconds or a text such as 90s, 30m, 2h, 1d, 1h30m, 01:30:00."""
        value = self.raw(key)
        if value is None:
            return default
        seconds = self._number(value)
        if seconds is None and isinstance(value, str) and re.fullmatch(r"(\d+(\.\d+)?[smhd])+", value):
            seconds = sum(float(n) * _UNITS[unit] for n, unit in re.findall(r"([\d.]+)([smhd])", value))
        if seconds is None and isinstance(value, str) and re.fullmatch(r"\d+:[0-5]\d:[0-5]\d", value):
            seconds = sum(int(part) * unit for part, unit in zip(value.split(":"), (3600, 60, 1), strict=True))
        if seconds is None or not 0 < seconds <= _LONGEST:
            self.wrong(key, value, "write a time such as 90s, 30m, 2h or 1h30m")
            return default
        return seconds

    def path(self, key: str) -> str | None:
        """An absolute path: $NAME, ${NAME} and ~ expanded, $$ a dollar sign, relative to the file's directory."""
        text = self.text(key)
        if text is None:
            return None
        if not text:
            self.wrong(key, text, "write a path, or leave the key out")
            return None
        expanded = self._expand(key, text)
        try:
            return None if expanded is None else os.path.normpath(self.base / Path(expanded).expanduser())
        except RuntimeError:
            self.wrong(key, text, "write the home directory of a user that exists")
            return None

    def _expand(self, key: str, text: str) -> str | None:
        variables = {"WORKFLOW_HOME": str(HOME), **os.environ}
        missing = []

        def one(match: re.Match[str]) -> str:
            name = match.group(1) or match.group(2)
            if name is None:
                return "$"
            if not variables.get(name):
                missing.append(name)
            return variables.get(name, "")

        expanded = re.sub(r"\$(?:\$|(\w+)|\{(\w+)\})", one, text)
        for name in missing:
            state = "empty" if name in variables else "not set"
            what = f"{show(text)} needs the environment variable {name}, which is {state}"
            self.problems.add(self.at(key), what, f"export {name}=..., or write the value itself")
        return None if missing else expanded

    def _number(self, value: object) -> float | None:
        """Also a text such as 1e-3, which YAML 1.1 takes for a string."""
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            return None
        try:
            number = float(value)
        except (ValueError, OverflowError):
            return None
        return number if math.isfinite(number) else None

    def finish(self) -> None:
        for key in self.data:
            if key not in self.known:
                self.problems.add(self.at(key), "is not a known key", did_you_mean(key, self.known))
