"""Reads the sections ``model`` and ``stages`` of an experiment file."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workflow.arguments import PLACEHOLDERS, Argument, fill, unfilled
from workflow.config.options import read_options
from workflow.config.strict import Section, is_there
from workflow.errors import Problems, show, unusable_text
from workflow.runtimes import CONTRACTS, RUNTIMES, Model, data_dir_inside
from workflow.space import Space
from workflow.stages import OUTPUT_DIRS, PATH_NAMES, STAGES, Stage, StageName

OPTION_NAME = r"[A-Za-z_][\w.\-]*"

_MAX_ARGUMENT = 100_000


def read_model(section: Section, stages: Mapping[StageName, Stage], *, remote: bool) -> Model | None:
    image, scripts, data_dir = section.path("image"), section.path("scripts"), section.path("data_dir")
    runtime = section.text("runtime", "apptainer" if image else "none", tuple(RUNTIMES))
    contract = section.text("contract", "improve", CONTRACTS)
    options = read_options(section, [data_dir_inside(contract)], look=not remote)
    section.finish()
    if image and scripts and section.data.get("runtime") is None:
        remedy = "keep one of the two (--set model.scripts=null leaves it out), or write which runtime is meant"
        section.problems.add(section.at("scripts"), "is given beside image", remedy)
    if image is not None and re.match(r"[a-z]+://", str(section.data["image"])):
        remedy = f"a file is needed: apptainer pull model.sif {section.data['image']}, then write its path"
        section.wrong("image", section.data["image"], remedy)
    elif runtime == "apptainer" and image is None:
        section.problems.add(section.at("image"), "is missing", "write the path of the Singularity image (.sif)")
    elif runtime == "apptainer" and not remote and not is_there(Path(str(image))):
        section.wrong("image", image, "no such file: check the path, or pull or build the image")
    unreadable = image is None and section.data.get("image") is not None
    if runtime == "none" and scripts is None and not unreadable:
        remedy = "write the directory that holds train.sh, or an image"
        section.problems.add(section.at("scripts"), "is missing", remedy)
    elif runtime == "none" and scripts is not None and not remote:
        _check_scripts(section, Path(str(scripts)), stages)
    if data_dir is not None and not remote and not is_there(Path(data_dir), directory=True):
        section.wrong("data_dir", data_dir, "no such directory: check the path, or leave it out for one in the run")
    if remote:
        _check_remote(section, stages)
    return Model(runtime, contract, data_dir or "", image, scripts, options)


def _check_remote(section: Section, stages: Mapping[StageName, Stage]) -> None:
    """A relative path would mean this machine's; and what runs elsewhere ends by its own timeout alone."""
    for key in ("image", "scripts", "data_dir"):
        text = section.data.get(key)
        if text is not None and not str(text).startswith("/"):
            section.wrong(key, text, "write an absolute path of the endpoint's machine")
    for name, stage in stages.items():
        if stage.timeout is None:
            remedy = "write one, such as 2h: what runs behind Globus Compute cannot be stopped from here"
            section.problems.add(f"stages.{name}.timeout", "is missing", remedy)


def _check_scripts(section: Section, directory: Path, stages: Mapping[StageName, Stage]) -> None:
    if not is_there(directory, directory=True):
        section.wrong("scripts", str(directory), "no such directory: check the path")
        return
    for stage in stages:
        script = directory / f"{stage}.sh"
        if not script.is_file():
            section.wrong("scripts", str(directory), f"it has no {stage}.sh: add it, or take the stage out")
        elif not os.access(script, os.X_OK):
            section.wrong("scripts", str(script), f"it is not executable: chmod +x {script}")


def read_stages(section: Section) -> dict[StageName, Stage]:
    stages: dict[StageName, Stage] = {}
    for name in STAGES:
        given = name in section.data and section.data[name] is not None
        inner = section.section(name)
        if given or name == "train":
            stages[name] = _read_stage(name, inner)
    section.finish()
    return stages


def _read_stage(name: StageName, section: Section) -> Stage:
    arguments = section.section("args")
    args: dict[str, Argument] = {}
    for key, value in arguments.data.items():
        argument = _read_argument(arguments, key, value)
        if argument is not None:
            args[key] = argument
    timeout, stall_timeout = section.duration("timeout"), section.duration("stall_timeout")
    config_file = section.text("config_file") if name == "train" else None
    gpu_arg = section.boolean("gpu_arg", False) if name == "infer" else False
    section.finish()
    return Stage(args, timeout, config_file, gpu_arg, stall_timeout)


def _read_argument(section: Section, key: str, value: object) -> Argument | None:
    if not re.fullmatch(OPTION_NAME, key):
        section.problems.add(section.at(key), "cannot be an option's name", "write it without the leading '--'")
        return None
    elements: list[Any] = value if isinstance(value, list) else [value]
    for element in elements:
        if not isinstance(element, str | int | float | bool):
            section.wrong(key, value, "write a string, a number, true/false, or a list of them")
            return None
        if isinstance(element, float) and not math.isfinite(element):
            section.wrong(key, value, "write a finite number, or put it in quotes")
            return None
        if isinstance(element, str) and (reason := unusable_text(element)):
            section.problems.add(section.at(key), f"{show(element)} {reason}", "remove that character")
            return None
    argument: Argument = tuple(elements) if isinstance(value, list) else elements[0]
    return argument


def check_arguments(space: Space, stages: Mapping[StageName, Stage], problems: Problems) -> None:
    """Placeholders must be known, data directories filled in, and values short enough for a command line."""
    values = dict.fromkeys(PLACEHOLDERS, "")
    constants = [(f"space: {name}", name, value) for name, value in space.constants.items()]
    given: list[tuple[str, str, Argument]] = [*constants]
    for stage, settings in stages.items():
        given += [(f"stages.{stage}.args.{name}", name, value) for name, value in settings.args.items()]
    for place, name, value in given:
        try:
            fill(value, values)
        except ValueError as error:
            problems.add(place, str(error), "mend the placeholder")
        if name in PATH_NAMES - set(OUTPUT_DIRS) and unfilled(value) and "preprocess" not in stages:
            remedy = "write the directory, or add the stage preprocess, whose output it then becomes"
            problems.add(place, f"{show(value)} is not filled in", remedy)
    longest = sum(len(repr(value)) for *_, value in given)
    if longest > _MAX_ARGUMENT:
        what = f"the constants hold {longest} characters"
        problems.add("space", what, f"stay below {_MAX_ARGUMENT}: pass large values as a file")
