"""Arguments of stages: placeholders in them, and the words that they become on a command line. All of it is pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from workflow.errors import listing
from workflow.trial import Value

Argument = Value | tuple[Value, ...]
"""A stage's argument; a tuple is several words after one flag."""

PLACEHOLDERS = ("trial", "run", "data_dir", "checkpoint_dir")

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{(\w*)\}|[{}]")


def unfilled(value: object) -> bool:
    """Whether a path is still the placeholder of the page's sample file, as in "<train_data_dir>"."""
    return isinstance(value, str) and re.fullmatch(r"<[^<>/]*>", value) is not None


def fill(value: Argument, values: Mapping[str, str]) -> Argument:
    """Replace ``{name}`` in a string by ``values[name]``; ``{{`` and ``}}`` stand for one brace.

    Raises ValueError for an unknown name or a single brace.
    """
    if isinstance(value, tuple):
        return tuple(str(fill(v, values)) if isinstance(v, str) else v for v in value)
    if not isinstance(value, str):
        return value

    def one(match: re.Match[str]) -> str:
        token = match.group()
        if token in ("{{", "}}"):
            return token[0]
        if match.group(1) not in values:
            known = listing(f"{{{name}}}" for name in values)
            raise ValueError(f"{token!r} is no placeholder; known: {known}; write '{{{{' for a brace")
        return values[match.group(1)]

    return _PLACEHOLDER.sub(one, value)


def words(value: Argument) -> list[str]:
    """The command-line words of one value: a string of numbers is several, every other value exactly one."""
    if isinstance(value, tuple):
        return [word for element in value for word in words(element)]
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if isinstance(value, str):
        parts = value.split()
        return parts if parts and all(_NUMBER.fullmatch(part) for part in parts) else [value]
    return [repr(value)]


def options(args: Mapping[str, Argument]) -> list[str]:
    return [word for name, value in args.items() for word in (f"--{name}", *words(value))]


def fragile(value: Argument) -> str:
    """Why published interface scripts, which pass ``$@`` on unquoted, would change this value; empty if not."""
    for word in words(value):
        if not word or any(character.isspace() for character in word):
            return "is empty or holds white space: a script that passes $@ on unquoted splits it again"
        if set(word) & set("*?["):
            return "holds a wildcard: a script that passes $@ on unquoted may expand it to file names"
    return ""
