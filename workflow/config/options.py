"""Reads what a site or a model adds to every call of a container: ``extra_args``, ``env`` and ``binds``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from workflow.config.strict import Section, is_there, literal_path
from workflow.runtimes import Bind, Options


def read_options(section: Section, data_dirs: Iterable[str], *, look: bool = True) -> Options:
    """The three keys of a section; every problem goes to the section's problems.

    ``data_dirs`` are the places of data directories in containers, which no other bind may take. ``look`` tells to
    check that the sources of binds are there; they may be on another machine.
    """
    binds = _binds(section, set(data_dirs), look)
    return Options(tuple(section.texts("extra_args")), _variables(section.section("env")), binds)


def options_data(options: Options) -> dict[str, Any]:
    """What ``read_options`` reads back to the same."""
    data: dict[str, Any] = {"extra_args": list(options.extra_args), "env": dict(options.env)}
    data["binds"] = [f"{literal_path(b.host)}:{b.inside}" + ":ro" * b.read_only for b in options.binds]
    return {key: value for key, value in data.items() if value}


def _variables(section: Section) -> dict[str, str]:
    found = {}
    for name in section.data:
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            section.problems.add(section.at(name), "cannot be a variable's name", "write letters, digits and '_'")
        elif (value := section.text(name)) is not None:
            found[name] = value
    return found


def _binds(section: Section, data_dirs: set[str], look: bool) -> tuple[Bind, ...]:
    found = []
    for text in section.texts("binds"):
        host, _, rest = text.partition(":")
        inside, _, mode = rest.partition(":")
        source = Section({"binds": host}, section.place, section.problems, section.base).path("binds")
        if mode not in ("", "ro", "rw") or (inside and not inside.startswith("/")):
            section.wrong("binds", text, "write HOST_PATH, HOST_PATH:PATH_INSIDE or HOST_PATH:PATH_INSIDE:ro")
        elif os.path.normpath(inside or source or "") in data_dirs:
            remedy = "the data directory's place: name it as the experiment's model.data_dir, which is bound there"
            section.wrong("binds", text, remedy)
        elif source is not None and look and not is_there(Path(source)):
            section.wrong("binds", text, f"no such file or directory: {source}")
        elif source is not None:
            found.append(Bind(source, inside or source, mode == "ro"))
    return tuple(found)
