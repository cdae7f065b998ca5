"""The errors of a campaign, one class for each party who must act on it."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

EXIT_DONE, EXIT_NO_SUCCESS, EXIT_INTERRUPTED = 0, 4, 130
"""Exit codes of the command line beside those of the errors."""


class WorkflowError(Exception):
    """Base of every error that is shown to the user as text, without a traceback.

    ``exit_code`` is the command line's exit code.
    """

    exit_code = 1


class InputError(WorkflowError):
    """The user mends a file or an option; nothing was submitted."""

    exit_code = 2


class SiteError(WorkflowError):
    """The site (executor, scheduler, disk) failed; the run can be resumed."""

    exit_code = 3


class SetupError(WorkflowError):
    """The model's set-up is broken (scripts, image, data); the run can be resumed once it is mended."""

    exit_code = 5


class OutOfTime(WorkflowError):
    """The allocation ends in which the controller runs; the run can be resumed in another one."""

    exit_code = 6


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with the input: where it stands, what it is, what would be right."""

    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}\n    -> {self.remedy}"


class Problems:
    """Collects all problems of one file, so that the user mends them in one go.

    ``overridden`` maps dotted keys whose values came from the command line to the option that gave them.
    """

    def __init__(self, file: str, overridden: Mapping[str, str] | None = None) -> None:
        self.file = file
        self.overridden = overridden or {}
        self._found: list[Problem | str] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, place: str, what: str, remedy: str) -> None:
        self._found.append(Problem(self.where(place), what, remedy))

    def where(self, place: str) -> str:
        """A place (a dotted key, an entry) with the source that has to be mended there."""
        return self.option(place) or (f"{self.file}: {place}" if place else self.file)

    def option(self, place: str) -> str:
        """The option that gave what stands at a place, with its key; empty where the file did."""
        for key, option in self.overridden.items():
            if place == key or place.startswith(f"{key}."):
                return option + place.removeprefix(key)
        return ""

    def extend(self, other: Problems) -> None:
        self._found.extend(other._found)

    def include(self, text: str) -> None:
        """Take over the text of problems that were found elsewhere."""
        self._found.append(text)

    def fail(self, place: str, what: str, remedy: str) -> NoReturn:
        """Add a problem after which nothing else of the file can be read, and raise."""
        self.add(place, what, remedy)
        raise InputError(self.text())

    def raise_if_any(self) -> None:
        if self._found:
            raise InputError(self.text())

    def text(self) -> str:
        return "\n".join(str(problem) for problem in self._found)


_repr = reprlib.Repr()
_repr.maxlevel, _repr.maxstring, _repr.maxother, _repr.maxlong = 3, 80, 80, 80


def show(value: object) -> str:
    """``repr`` of an offending value, short enough for a message whatever the value is."""
    try:
        return _repr.repr(value)
    except ValueError:  # an int of more digits than Python writes
        return "a huge number"


def json_type(value: object) -> str:
    names = {dict: "dictionary", list: "list", str: "string", bool: "logical", int: "number", float: "number"}
    return "null" if value is None else next((n for t, n in names.items() if isinstance(value, t)), "value")


def listing(names: Iterable[str]) -> str:
    return ", ".join(str(name) for name in names)


def did_you_mean(name: object, known: Sequence[str]) -> str:
    """A hint for a misspelt name, with the known ones."""
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {listing(known)}"


_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")


def printable(text: str) -> str:
    """``text`` without what would move a terminal's cursor or change its colours; lines and tabs stay.

    A carriage return, with which a progress bar writes over its line, ends a line.
    """
    text = _ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c for c in text if c in "\n\t" or c.isprintable())


def shortened(line: str, most: int = 300) -> str:
    """A line of a log that is short enough for a message."""
    return line if len(line) <= most else f"{line[: most - 3]}..."


def one_line(error: BaseException, most: int = 500) -> str:
    """An unexpected error with its kind, for a message."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:most]


def unusable_text(text: str) -> str:
    """Why ``text`` cannot be a command line argument on POSIX; empty where it can."""
    if "\0" in text:
        return "holds a NUL character, which no command line can carry"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "holds half a surrogate pair, which is no character"
    return ""
