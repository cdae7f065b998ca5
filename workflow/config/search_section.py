"""Reads the section ``search`` of an experiment file, and checks it against space and stages."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from workflow.config.strict import Section
from workflow.errors import Problems, SetupError, show
from workflow.search import SearchSettings, make_search
from workflow.search.halving import Fidelity
from workflow.space import Space
from workflow.stages import Stage, StageName
from workflow.trial import Objective, Outcome

_REFERENCE_NAMES = {
    name: name.lower()
    for name in (
        "NUM_ITERATIONS", "POPULATION_SIZE", "OFFSPRING_PROPORTION", "MUT_PROB", "CX_PROB", "MUT_INDPB", "CX_INDPB",
        "TOURNSIZE", "SEED",
    )
} | {"GA_STRATEGY": "strategy"}  # fmt: skip

_FIRST_ASKS = 12
"""More than the random ones with which Optuna's samplers start."""


def own_name(key: str) -> str:
    """A dotted key with the reference's upper-case name replaced by ours."""
    section, _, name = key.rpartition(".")
    return f"search.{_REFERENCE_NAMES[name]}" if section == "search" and name in _REFERENCE_NAMES else key


def use_own_names(search: object, problems: Problems) -> None:
    """Replace the reference's upper-case names in a file's section, in place."""
    for alias, name in _REFERENCE_NAMES.items():
        if isinstance(search, dict) and alias in search:
            if name in search:
                problems.add(f"search.{alias}", f"is given beside {name}", "keep one of the two")
            search[name] = search.pop(alias)


def read_search(section: Section) -> SearchSettings:
    defaults = SearchSettings()
    readers: dict[str, Callable[..., Any]] = {
        "str": section.text, "str | None": section.text, "int": section.integer, "int | None": section.integer,
        "float": section.number, "bool": section.boolean, "Seconds | None": section.duration,
        "float | None": lambda key, default: _optional_number(section, key),
        "tuple[str, ...]": lambda key, default: _read_paths(section, key),
        "Fidelity | None": lambda key, default: _read_fidelity(section.section(key)),
        "Mapping[str, Any] | None": lambda key, default: section.section(key).data or default,
    }  # fmt: skip
    values: dict[str, Any] = {}
    for setting in fields(SearchSettings):
        values[setting.name] = readers[str(setting.type)](setting.name, getattr(defaults, setting.name))
    section.finish()
    settings = SearchSettings(**values)
    settings.check(section.problems)
    return settings


def _optional_number(section: Section, key: str) -> float | None:
    number = section.number(key, math.nan)
    return None if math.isnan(number) else number


def _read_paths(section: Section, key: str) -> tuple[str, ...]:
    """A list of paths; one may be given as it is."""
    value = section.raw(key)
    given = value if isinstance(value, list) else [value] if value is not None else []
    read = [Section({key: each}, section.place, section.problems, section.base).path(key) for each in given]
    return tuple(path for path in read if path is not None)


def _read_fidelity(section: Section) -> Fidelity | None:
    if not section.data:
        return None
    name, least, most = section.text("parameter"), section.number("min", math.nan), section.number("max", math.nan)
    eta = section.number("eta", Fidelity.eta)
    section.finish()
    if name is None:
        section.problems.add(section.at("parameter"), "is missing", "name a constant of the space, such as epochs")
    return Fidelity(name or "", least, most, eta)


def check_fidelity(fidelity: Fidelity | None, space: Space, problems: Problems) -> None:
    """It takes the place of a constant's value, whose own one it should end with."""
    if fidelity is None:
        return
    name, value = fidelity.parameter, space.constants.get(fidelity.parameter)
    if isinstance(value, bool) or not isinstance(value, int | float):
        what = f"{name!r} is no constant of the space that holds a number"
        problems.add("search.fidelity.parameter", what, "write it there as one, with the value of whole trainings")
    elif name in space.conditions:
        what = f"{name!r} does not exist in all configurations, so that some have no smaller training"
        problems.add("search.fidelity.parameter", what, "leave its condition out")
    elif isinstance(value, int) and (parts := [v for v in (fidelity.min, fidelity.max) if v % 1 > 0]):
        what = f"a training of {parts[0]:g} {name} is none, since the space has a whole number of them"
        problems.add("search.fidelity", what, "write whole numbers")


def fidelity_warnings(fidelity: Fidelity | None, space: Space) -> Iterator[str]:
    if fidelity is None:
        return
    name, value = fidelity.parameter, space.constants.get(fidelity.parameter)
    if value != fidelity.max:
        yield f"search.fidelity: whole trainings have max, {fidelity.max:g} {name}, and not the {value} of the space"
    for constraint in space.constraints:
        if name in constraint.names:
            yield f"search.fidelity: {show(constraint.text)} is checked with {value} {name}, however many a trial has"


def with_checkpoints(search: SearchSettings, space: Space, stages: Mapping[StageName, Stage]) -> SearchSettings:
    """Longer trainings go on where shorter ones ended, if trainings are told where to keep their checkpoints."""
    given = [*space.constants.values(), *stages["train"].args.values()]
    if search.fidelity is None or not any("{checkpoint_dir}" in str(value) for value in given):
        return search
    return replace(search, fidelity=replace(search.fidelity, resumes=True))


def check_first_asks(
    space: Space, settings: SearchSettings, objectives: Sequence[Objective], problems: Problems
) -> None:
    """Some samplers refuse a space or several objectives, or miss a package of theirs, only when they are asked, or
    asked after results.
    """
    if settings.strategy != "optuna":
        return
    try:
        search = make_search(space, settings, objectives)
        for number in range(_FIRST_ASKS):
            if (trial := search.ask()) is not None:
                metrics = {objective.metric: float(number) for objective in objectives[1:]}
                search.tell(Outcome(trial.id, 1, "ok", float(number), metrics))
    except SetupError as error:
        what = str(error).removeprefix("search.sampler: ")
        problems.include(f"{problems.where('search.sampler')}: {what}")
        problems.raise_if_any()
