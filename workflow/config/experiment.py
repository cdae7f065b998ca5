"""Experiment files: strict YAML to dataclasses, with file, key, value and remedy in every error."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from workflow.budgets import Budgets
from workflow.config.initial import objective_of, read_earlier, read_initial
from workflow.config.notify import NotifySettings, read_notify
from workflow.config.options import options_data, read_options
from workflow.config.strict import Section, apply_overrides, is_there, literal_path, read_yaml, to_yaml
from workflow.errors import InputError, Problems, listing, show, unusable_text
from workflow.finals import SEED_ARGUMENTS, FinalistsSettings
from workflow.rundir import RunDir
from workflow.search import MODES, Earlier, Search, SearchSettings, make_search
from workflow.search.halving import Fidelity
from workflow.space import Constant, Space
from workflow.space_file import load_space, parse_space
from workflow.stages import (
    CONTRACTS,
    OUTPUT_DIRS,
    PATH_NAMES,
    PLACEHOLDERS,
    RUNTIMES,
    Argument,
    Container,
    Model,
    Pipeline,
    Stage,
    StageName,
    data_dir_inside,
    fill,
    fragile,
    unfilled,
)
from workflow.stopping import EarlyStopping, StoppingSettings
from workflow.trial import GREATER_IS_BETTER, Objective, Outcome, Params, Value

STAGES: tuple[StageName, ...] = ("preprocess", "train", "infer")

_REFERENCE_NAMES = {
    name: name.lower()
    for name in (
        "NUM_ITERATIONS", "POPULATION_SIZE", "OFFSPRING_PROPORTION", "MUT_PROB", "CX_PROB", "MUT_INDPB", "CX_INDPB",
        "TOURNSIZE", "SEED",
    )
} | {"GA_STRATEGY": "strategy"}  # fmt: skip
_LESS_IS_BETTER = frozenset({"val_loss", "loss", "mse", "rmse", "mae"})
_METRIC = _OPTION = r"[A-Za-z_][\w.\-]*"
_EXAMPLE = "val_loss min"
_MAX_ARGUMENT = 100_000
_FIRST_ASKS = 12
"""More than the random ones with which Optuna's samplers start."""


_MOST_OBJECTIVES = 4
"""Among more of them hardly any trial is dominated, so that NSGA-II's order says little."""


@dataclass(frozen=True)
class Experiment:
    """A campaign's definition. ``model.data_dir`` is empty where the run's own data directory is meant.

    ``objective`` decides who wins; ``further`` ones are searched for beside it.
    """

    name: str
    model: Model
    stages: Mapping[StageName, Stage]
    space: Space
    objective: Objective
    search: SearchSettings
    initial: Sequence[Params] = ()
    max_attempts: int = 3
    same_failures: int = 5
    reuse: tuple[str, ...] = ()
    early_stopping: StoppingSettings | None = None
    warnings: tuple[str, ...] = ()
    further: tuple[Objective, ...] = ()
    earlier: Sequence[Earlier] = ()
    finalists: FinalistsSettings = field(default_factory=FinalistsSettings)
    notify: NotifySettings | None = None

    @property
    def objectives(self) -> tuple[Objective, ...]:
        return self.objective, *self.further

    @property
    def varying(self) -> tuple[str, ...]:
        """The names of the hyperparameters in which trials differ."""
        searched = tuple(p.name for p in self.space.varying)
        return searched if self.search.fidelity is None else (*searched, self.search.fidelity.parameter)

    def make_search(self) -> Search:
        return make_search(self.space, self.search, self.objective.mode, self.initial, self.further, self.earlier)

    def budgets(self, *, gpus: bool, trials_per_gpu: int) -> Budgets:
        search = self.search
        return Budgets(
            search.gpu_hours, search.wall_time, search.target, self.objective.metric, self.objective.mode, gpus,
            trials_per_gpu,
        )  # fmt: skip

    def early_stopping_rule(self) -> EarlyStopping | None:
        if self.early_stopping is None:
            return None
        return EarlyStopping(self.early_stopping, self.objective.metric, self.objective.mode)

    def pipeline(self, container: Container, run: RunDir) -> Pipeline:
        model = self.model if self.model.data_dir else replace(self.model, data_dir=str(run.data))
        return Pipeline(model, self.stages, frozenset(self.constants), container)

    @property
    def constants(self) -> dict[str, Value]:
        """Hyperparameters that have one value."""
        return {p.name: p.value for p in self.space.parameters if isinstance(p, Constant)}

    def too_long_for(self, walltime: float) -> str:
        """How a training may outlast a job of so many seconds; empty if it can't, or would go on where it was."""
        timeout = self.stages["train"].timeout or 0.0
        if timeout <= walltime or self.pipeline(Container(), RunDir(Path())).keeps_checkpoints(self.constants):
            return ""
        most, job = timedelta(seconds=timeout), timedelta(seconds=walltime)
        return f"the time-out of train is {most}, and the walltime of a job {job}"

    def missing_config_file(self, container: Container) -> str:
        """Where the config file of trainings should be on this machine and isn't; empty if it is there, or may be."""
        path = Pipeline(self.model, self.stages, container=container).config_file if self.model.data_dir else None
        return path if path is not None and not is_there(Path(path)) else ""

    def fingerprint(self) -> dict[str, Any]:
        """What a resumed run must share with the one before: space, objective and search, budgets excluded."""
        search = _search_data(self.search)
        for key in (*SearchSettings.BUDGETS, "initial_population", "warm_start"):
            del search[key]
        space = {p.name: {**_described(p), **_relations(p.name, self.space)} for p in self.space.parameters}
        constraints = [c.text for c in self.space.constraints]
        return {
            "space": space, "objective": vars(self.objective), "search": search, "initial": list(self.initial),
            **({"constraints": constraints} if constraints else {}),
            **({"objectives": list(map(str, self.objectives))} if self.further else {}),
            **({"warm_start": [result.loss for result in self.earlier]} if self.earlier else {}),
        }  # fmt: skip

    def to_yaml(self) -> str:
        """The file that a resume reads: all resolved, with the space and the initial population in files beside it."""
        data = {
            "name": self.name,
            "model": _model_data(self.model),
            "stages": {name: _stage_data(name, stage) for name, stage in self.stages.items()},
            "space": "space.json",
            **_objectives_data(self.objectives),
            "search": {
                **_search_data(self.search),
                "initial_population": "initial.csv" if self.initial else None,
                "warm_start": ["warm_start.csv"] if self.earlier else None,
            },
            "max_attempts": self.max_attempts,
            "same_failures": self.same_failures,
            "reuse": [literal_path(path) for path in self.reuse],
            "early_stopping": vars(self.early_stopping) if self.early_stopping is not None else None,
            "finalists": _finalists_data(self.finalists),
            "notify": self.notify.to_json() if self.notify is not None else None,
        }
        return to_yaml(data)


def _finalists_data(finalists: FinalistsSettings) -> dict[str, Any] | None:
    """None where no seed is known, as without the section; the first seed follows from the trainings' own."""
    if finalists.count and finalists.seed_argument is None:
        return None
    return {"count": finalists.count, "repeats": finalists.repeats, "seed_argument": finalists.seed_argument}


def _objectives_data(objectives: Sequence[Objective]) -> dict[str, Any]:
    if len(objectives) == 1:
        return {"objective": vars(objectives[0])}
    return {"objectives": list(map(str, objectives))}


def _search_data(search: SearchSettings) -> dict[str, Any]:
    data = asdict(search)
    if search.fidelity is not None:
        del data["fidelity"]["resumes"]  # which follows from the stage's arguments
    return data


def _described(parameter: object) -> dict[str, Any]:
    described = {"type": type(parameter).__name__, **vars(parameter)}
    del described["name"]
    plain: dict[str, Any] = json.loads(json.dumps(described))
    return plain


def _relations(name: str, space: Space) -> dict[str, Any]:
    """The default and condition of a parameter; nothing where it has none, as in journals that know neither."""
    found: dict[str, Any] = {}
    if name in space.defaults:
        found["default"] = space.defaults[name]
    if name in space.conditions:
        found["condition"] = {parent: list(values) for parent, values in space.conditions[name].items()}
    return found


def _model_data(model: Model) -> dict[str, Any]:
    paths = {key: literal_path(value) if value else None for key, value in vars(model).items() if key != "options"}
    return {**paths, **options_data(model.options)}


def _stage_data(name: StageName, stage: Stage) -> dict[str, Any]:
    data: dict[str, Any] = {"args": {k: list(v) if isinstance(v, tuple) else v for k, v in stage.args.items()}}
    limits = {"timeout": stage.timeout, "stall_timeout": stage.stall_timeout}
    data |= {key: limit for key, limit in limits.items() if limit is not None}
    if name == "train" and stage.config_file is not None:
        data["config_file"] = stage.config_file
    if name == "infer":
        data["gpu_arg"] = stage.gpu_arg
    return data


def load_experiment(path: Path, overrides: Mapping[str, Any], *, remote: bool = False) -> Experiment:
    """Read and check an experiment file. Raises InputError with all its problems.

    ``remote`` tells that the model's paths are on a machine whose files cannot be seen from here.
    """
    data = read_yaml(path, "experiment")
    overrides = {_own_name(key): value for key, value in overrides.items()}
    problems = Problems(str(path), {key: f"--set {key}" for key in overrides})
    _use_own_names(data.get("search"), problems)
    apply_overrides(data, overrides)
    _use_own_names(data.get("search"), problems)  # of a whole section on the command line
    top = Section(data, "", problems, path.absolute().parent)
    name = top.text("name", path.stem) or path.stem
    if not re.fullmatch(r"[\w.\-+ ]+", name) or name.strip(". ") == "":
        top.wrong("name", name, "write letters, digits, '_', '-', '.': it becomes a directory's name")
    stages = _read_stages(top.section("stages"))
    model = _read_model(top.section("model"), stages, remote=remote)
    space = _read_space(top)
    objective, *further = _read_objectives(top)
    search = _read_search(top.section("search"))
    initial_path = Section({"initial_population": search.initial_population}, "search", problems, top.base)
    initial_file = initial_path.path("initial_population")
    max_attempts = top.integer("max_attempts", Experiment.max_attempts, least=1)
    same_failures = top.integer("same_failures", Experiment.same_failures, least=0)
    reuse = _read_reuse(top)
    early_stopping = _read_early_stopping(top, remote=remote)
    finalists = _read_finalists(top, space, stages)
    notify = read_notify(top)
    top.finish()
    if space is not None:
        _check_arguments(space, stages, problems)
        _check_fidelity(search.fidelity, space, problems)
    if search.warm_start and further:
        problems.add("search.warm_start", "does not go with several objectives", "leave it out, or name one objective")
    problems.raise_if_any()
    assert space is not None and model is not None and max_attempts is not None and same_failures is not None
    warnings: tuple[str, ...] = (*space.warnings, *_warnings(space, stages, [objective, *further]))
    warnings += tuple(_fidelity_warnings(search.fidelity, space))
    search = _with_checkpoints(search, space, stages)
    initial: Sequence[Params] = ()
    if initial_file:
        initial = read_initial(Path(initial_file), space, search.population_size)
        search = replace(search, initial_population=initial_file)
        warnings += _objective_warning(Path(initial_file), objective)
    earlier, left_out = read_earlier(list(map(Path, search.warm_start)), space, objective.mode)
    _check_first_asks(space, search, further, problems)
    return Experiment(
        name, model, stages, space, objective, search, initial, max_attempts, same_failures, reuse,
        early_stopping, (*warnings, *left_out), tuple(further), earlier, finalists, notify,
    )  # fmt: skip


def _read_model(section: Section, stages: Mapping[StageName, Stage], *, remote: bool) -> Model | None:
    image, scripts, data_dir = section.path("image"), section.path("scripts"), section.path("data_dir")
    runtime = section.text("runtime", "apptainer" if image else "none", RUNTIMES) or "none"
    contract = section.text("contract", "improve", CONTRACTS) or "improve"
    options = read_options(section, [data_dir_inside(contract)], look=not remote)
    section.finish()
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


def _read_stages(section: Section) -> dict[StageName, Stage]:
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
    if not re.fullmatch(_OPTION, key):
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


def _read_space(top: Section) -> Space | None:
    value = top.raw("space")
    if value is None:
        top.problems.add("space", "is missing", "write the path of the hyperparameter space (JSON), or a list in place")
        return None
    try:
        if isinstance(value, str):
            path = top.path("space")
            return None if path is None else load_space(Path(path))
        return parse_space(value, top.problems.where("space"))
    except InputError as error:
        top.problems.include(str(error))
        return None


def _read_reuse(top: Section) -> tuple[str, ...]:
    """Directories of earlier runs whose results are taken over where they fit; one may be given as it is."""
    value = top.raw("reuse")
    found = []
    for each in value if isinstance(value, list) else [value] if value is not None else []:
        path = Section({"reuse": each}, "", top.problems, top.base).path("reuse")
        if path is not None and not RunDir(Path(path)).journal.is_file():
            top.wrong("reuse", each, "no run there: name the directories of earlier runs")
        elif path is not None:
            found.append(path)
    return tuple(found)


def _read_objectives(top: Section) -> list[Objective]:
    """At least one, also where what is given is wrong."""
    texts = top.raw("objectives")
    if texts is None:
        return [_read_objective(top.section("objective"))]
    if top.raw("objective") is not None:
        top.problems.add("objectives", "is given beside objective", "keep one of the two")
    if not isinstance(texts, list) or not 1 <= len(texts) <= _MOST_OBJECTIVES:
        top.wrong("objectives", texts, f"write a list of 1 to {_MOST_OBJECTIVES}, such as [{_EXAMPLE}, walltime min]")
        return [Objective()]
    found = [_parse_objective(text, top) for text in texts]
    metrics = [objective.metric for objective in found]
    if twice := [metric for metric in dict.fromkeys(metrics) if metrics.count(metric) > 1]:
        top.problems.add("objectives", f"names {listing(twice)} more than once", "keep one of each")
    return found


def _parse_objective(text: object, top: Section) -> Objective:
    match = re.fullmatch(rf"({_METRIC}) +({'|'.join(MODES)})", text) if isinstance(text, str) else None
    if match is None:
        top.wrong("objectives", text, f"write the name of a score and {' or '.join(MODES)}, such as {_EXAMPLE}")
        return Objective(str(text))
    return Objective(*match.groups())


def _read_objective(section: Section) -> Objective:
    metric = section.text("metric", "val_loss") or ""
    if not re.fullmatch(_METRIC, metric):
        section.wrong("metric", metric, "write the name of a score, such as val_loss, mse or pcc")
    mode = section.text("mode", "min", MODES) or "min"
    section.finish()
    return Objective(metric, mode)


def _read_early_stopping(top: Section, *, remote: bool) -> StoppingSettings | None:
    """None where it is off: an empty section switches it on."""
    if top.raw("early_stopping") is None:
        return None
    section, defaults = top.section("early_stopping"), StoppingSettings()
    settings = StoppingSettings(
        section.text("rule", defaults.rule) or "",
        section.number("percentile", defaults.percentile),
        section.integer("grace", defaults.grace) or 0,
        section.integer("min_trials", defaults.min_trials) or 0,
        section.text("pattern"),
    )
    section.finish()
    settings.check(section.problems)
    if remote:
        what = "needs the logs of running trials, which cannot be seen behind Globus Compute"
        top.problems.add("early_stopping", what, "leave it out, or choose a site that shares a file system")
    return settings


def _read_finalists(top: Section, space: Space | None, stages: Mapping[StageName, Stage]) -> FinalistsSettings:
    """Without the section, those of an experiment that gives its trainings a seed, and none of another one."""
    section, defaults = top.section("finalists"), FinalistsSettings()
    searched = [p.name for p in space.varying] if space is not None else []
    constants = {p.name: p.value for p in space.parameters if isinstance(p, Constant)} if space is not None else {}
    given: dict[str, Argument] = {**stages["train"].args, **constants}
    known = next((name for name in SEED_ARGUMENTS if name in given and name not in searched), None)
    count = section.integer("count", defaults.count, least=0) or 0
    repeats = section.integer("repeats", defaults.repeats, least=1) or 1
    name = section.text("seed_argument", known)
    section.finish()
    if count and section.data:
        _check_seed_argument(section, name, searched)
    seed = given.get(name or "")
    return FinalistsSettings(count, repeats, name, seed if type(seed) is int else defaults.seed)


def _check_seed_argument(section: Section, name: str | None, searched: Sequence[str]) -> None:
    remedy = f"name the option of train.sh that takes a seed, such as {SEED_ARGUMENTS[0]}"
    if name is None:
        section.problems.add(section.at("seed_argument"), "is missing", f"{remedy}; or leave the section out")
    elif not re.fullmatch(_OPTION, name):
        section.wrong("seed_argument", name, remedy)
    elif name in searched:
        section.problems.add(section.at("seed_argument"), f"{name!r} is searched", f"{remedy}, no hyperparameter")


def _own_name(key: str) -> str:
    """A dotted key with the reference's upper-case name replaced by ours."""
    section, _, name = key.rpartition(".")
    return f"search.{_REFERENCE_NAMES[name]}" if section == "search" and name in _REFERENCE_NAMES else key


def _use_own_names(search: object, problems: Problems) -> None:
    """Replace the reference's upper-case names in a file's section, in place."""
    for alias, name in _REFERENCE_NAMES.items():
        if isinstance(search, dict) and alias in search:
            if name in search:
                problems.add(f"search.{alias}", f"is given beside {name}", "keep one of the two")
            search[name] = search.pop(alias)


def _read_search(section: Section) -> SearchSettings:
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


def _check_fidelity(fidelity: Fidelity | None, space: Space, problems: Problems) -> None:
    """It takes the place of a constant's value, whose own one it should end with."""
    if fidelity is None:
        return
    name, value = fidelity.parameter, _constant(fidelity.parameter, space)
    if isinstance(value, bool) or not isinstance(value, int | float):
        what = f"{name!r} is no constant of the space that holds a number"
        problems.add("search.fidelity.parameter", what, "write it there as one, with the value of whole trainings")
    elif name in space.conditions:
        what = f"{name!r} does not exist in all configurations, so that some have no smaller training"
        problems.add("search.fidelity.parameter", what, "leave its condition out")
    elif isinstance(value, int) and (parts := [v for v in (fidelity.min, fidelity.max) if v % 1 > 0]):
        what = f"a training of {parts[0]:g} {name} is none, since the space has a whole number of them"
        problems.add("search.fidelity", what, "write whole numbers")


def _constant(name: str, space: Space) -> Value | None:
    return next((p.value for p in space.parameters if isinstance(p, Constant) and p.name == name), None)


def _fidelity_warnings(fidelity: Fidelity | None, space: Space) -> Iterator[str]:
    if fidelity is None:
        return
    name, value = fidelity.parameter, _constant(fidelity.parameter, space)
    if value != fidelity.max:
        yield f"search.fidelity: whole trainings have max, {fidelity.max:g} {name}, and not the {value} of the space"
    for constraint in space.constraints:
        if name in constraint.names:
            yield f"search.fidelity: {show(constraint.text)} is checked with {value} {name}, however many a trial has"


def _with_checkpoints(search: SearchSettings, space: Space, stages: Mapping[StageName, Stage]) -> SearchSettings:
    """Longer trainings go on where shorter ones ended, if trainings are told where to keep their checkpoints."""
    constants = [p.value for p in space.parameters if isinstance(p, Constant)]
    given = [*constants, *stages["train"].args.values()]
    if search.fidelity is None or not any("{checkpoint_dir}" in str(value) for value in given):
        return search
    return replace(search, fidelity=replace(search.fidelity, resumes=True))


def _optional_number(section: Section, key: str) -> float | None:
    number = section.number(key, math.nan)
    return None if math.isnan(number) else number


def _check_first_asks(space: Space, settings: SearchSettings, further: Sequence[Objective], problems: Problems) -> None:
    """Some samplers refuse a space or several objectives, or miss a package of theirs, only when they are asked, or
    asked after results.
    """
    if settings.strategy != "optuna":
        return
    try:
        search = make_search(space, settings, "min", (), further)
        for number in range(_FIRST_ASKS):
            if (trial := search.ask()) is not None:
                metrics = {objective.metric: float(number) for objective in further}
                search.tell(Outcome(trial.id, 1, "ok", float(number), metrics))
    except InputError as error:
        what = str(error).removeprefix("search.sampler: ")
        problems.include(f"{problems.where('search.sampler')}: {what}")
        problems.raise_if_any()


def _check_arguments(space: Space, stages: Mapping[StageName, Stage], problems: Problems) -> None:
    """Placeholders must be known, data directories filled in, and values short enough for a command line."""
    values = dict.fromkeys(PLACEHOLDERS, "")
    constants = [(f"space: {p.name}", p.name, p.value) for p in space.parameters if isinstance(p, Constant)]
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


def _objective_warning(initial: Path, objective: Objective) -> tuple[str, ...]:
    if not is_there(initial, directory=True) or objective_of(initial) == (objective.metric, objective.mode):
        return ()
    metric, mode = objective_of(initial)
    was, now = f"{metric} ({mode})", f"{objective.metric} ({objective.mode})"
    return (f"search.initial_population: {initial} searched {was}, this experiment {now}: its best may not be yours",)


def _warnings(space: Space, stages: Mapping[StageName, Stage], objectives: Sequence[Objective]) -> list[str]:
    found = []
    for metric, mode in ((objective.metric, objective.mode) for objective in objectives):
        if metric in GREATER_IS_BETTER and mode == "min":
            found.append(f"objective: {metric} is minimised; set its mode to max if greater is better")
        if metric in _LESS_IS_BETTER and mode == "max":
            found.append(f"objective: {metric} is maximised; set its mode to min if less is better")
    for parameter in space.parameters:
        values = parameter.values() if parameter.size < 1000 else iter(())
        reason = next((r for value in values if (r := fragile(value))), "")
        if reason and parameter.name not in PATH_NAMES:
            found.append(f"space: {parameter.name}: a value {reason}")
    for stage, settings in stages.items():
        found += [f"stages.{stage}.args.{k}: {r}" for k, v in settings.args.items() if (r := fragile(v))]
    return found
