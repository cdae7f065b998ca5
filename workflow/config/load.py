"""Reads experiment files: strict YAML, with file, key, value and remedy in every error."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from workflow.arguments import Argument, fragile
from workflow.config.experiment import Experiment
from workflow.config.initial import read_earlier, read_initial, searched_by
from workflow.config.model_section import OPTION_NAME, check_arguments, read_model, read_stages
from workflow.config.notify import read_notify
from workflow.config.search_section import (
    check_fidelity,
    check_first_asks,
    fidelity_warnings,
    own_name,
    read_search,
    use_own_names,
    with_checkpoints,
)
from workflow.config.strict import Section, apply_overrides, read_yaml
from workflow.errors import InputError, Problems, listing
from workflow.finals import SEED_ARGUMENTS, FinalistsSettings
from workflow.rundir import RunDir
from workflow.search import MODES
from workflow.space import Space
from workflow.space_file import load_space, parse_space
from workflow.stages import PATH_NAMES, Stage, StageName
from workflow.stopping import StoppingSettings
from workflow.trial import GREATER_IS_BETTER, Objective, Params

_LESS_IS_BETTER = frozenset({"val_loss", "loss", "mse", "rmse", "mae"})
_METRIC = r"[A-Za-z_][\w.\-]*"
_EXAMPLE = "val_loss min"

_MOST_OBJECTIVES = 4
"""Among more of them hardly any trial is dominated, so that NSGA-II's order says little."""


def load_experiment(path: Path, overrides: Mapping[str, Any], *, remote: bool = False) -> Experiment:
    """Read and check an experiment file. Raises InputError with all its problems.

    ``remote`` tells that the model's paths are on a machine whose files cannot be seen from here.
    """
    top = _top_section(path, overrides)
    experiment = _read(top, path.stem, remote=remote)
    experiment = _with_earlier_results(experiment)
    check_first_asks(experiment.space, experiment.search, experiment.objectives, top.problems)
    return experiment


def _top_section(path: Path, overrides: Mapping[str, Any]) -> Section:
    data = read_yaml(path, "experiment")
    overrides = {own_name(key): value for key, value in overrides.items()}
    problems = Problems(str(path), {key: f"--set {key}" for key in overrides})
    use_own_names(data.get("search"), problems)
    apply_overrides(data, overrides)
    use_own_names(data.get("search"), problems)  # of a whole section on the command line
    return Section(data, "", problems, path.absolute().parent)


def _read(top: Section, default_name: str, *, remote: bool) -> Experiment:
    """All that the file itself says."""
    name = _read_name(top, default_name)
    stages = read_stages(top.section("stages"))
    model = read_model(top.section("model"), stages, remote=remote)
    space = _read_space(top)
    objectives = _read_objectives(top)
    search = read_search(top.section("search"))
    initial = Section({"initial_population": search.initial_population}, "search", top.problems, top.base)
    search = replace(search, initial_population=initial.path("initial_population"))
    max_attempts = top.integer("max_attempts", Experiment.max_attempts, least=1)
    same_failures = top.integer("same_failures", Experiment.same_failures, least=0)
    reuse = _read_reuse(top)
    early_stopping = _read_early_stopping(top, remote=remote)
    finalists = _read_finalists(top, space, stages)
    notify = read_notify(top)
    top.finish()
    if space is not None:
        check_arguments(space, stages, top.problems)
        check_fidelity(search.fidelity, space, top.problems)
    if search.warm_start and len(objectives) > 1:
        what_helps = "leave it out, or name one objective"
        top.problems.add("search.warm_start", "does not go with several objectives", what_helps)
    top.problems.raise_if_any()
    assert space is not None and model is not None
    warnings = (*space.warnings, *_warnings(space, stages, objectives))
    warnings += tuple(fidelity_warnings(search.fidelity, space))
    warnings += tuple(f"search.{key}: {search.strategy} makes no use of it" for key in search.unused)
    search = with_checkpoints(search, space, stages)
    return Experiment(
        name, model, stages, space, tuple(objectives), search, (), max_attempts, same_failures, reuse, early_stopping,
        warnings, (), finalists, notify,
    )  # fmt: skip


def _with_earlier_results(experiment: Experiment) -> Experiment:
    """With the initial population and the results of earlier runs, which lie in files of their own."""
    search, space, warnings = experiment.search, experiment.space, experiment.warnings
    initial: Sequence[Params] = ()
    if search.initial_population:
        file = Path(search.initial_population)
        initial = read_initial(file, space, search.population_size)
        warnings += _objective_warning("initial_population", file, experiment.objective)
    files = list(map(Path, search.warm_start))
    earlier, left_out = read_earlier(files, space, experiment.objective)
    for file in files:
        warnings += _objective_warning("warm_start", file, experiment.objective)
    return replace(experiment, initial=initial, earlier=earlier, warnings=(*warnings, *left_out))


def _read_name(top: Section, default: str) -> str:
    name = top.text("name", default) or default
    if not re.fullmatch(r"[\w.\-+ ]+", name) or name.strip(". ") == "":
        top.wrong("name", name, "write letters, digits, '_', '-', '.': it becomes a directory's name")
    return name


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
    metric = section.text("metric", "val_loss")
    if not re.fullmatch(_METRIC, metric):
        section.wrong("metric", metric, "write the name of a score, such as val_loss, mse or pcc")
    mode = section.text("mode", "min", MODES)
    section.finish()
    return Objective(metric, mode)


def _read_early_stopping(top: Section, *, remote: bool) -> StoppingSettings | None:
    """None where it is off: an empty section switches it on."""
    if top.raw("early_stopping") is None:
        return None
    section, defaults = top.section("early_stopping"), StoppingSettings()
    settings = StoppingSettings(
        section.text("rule", defaults.rule),
        section.number("percentile", defaults.percentile),
        section.integer("grace", defaults.grace),
        section.integer("min_trials", defaults.min_trials),
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
    constants = space.constants if space is not None else {}
    given: dict[str, Argument] = {**stages["train"].args, **constants}
    known = next((name for name in SEED_ARGUMENTS if name in given and name not in searched), None)
    count = section.integer("count", defaults.count, least=0)
    repeats = section.integer("repeats", defaults.repeats, least=1)
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
    elif not re.fullmatch(OPTION_NAME, name):
        section.wrong("seed_argument", name, remedy)
    elif name in searched:
        section.problems.add(section.at("seed_argument"), f"{name!r} is searched", f"{remedy}, no hyperparameter")


def _objective_warning(key: str, earlier: Path, own: Objective) -> tuple[str, ...]:
    found = searched_by(earlier, own)
    was, now = f"{found.metric} ({found.mode})", f"{own.metric} ({own.mode})"
    text = f"search.{key}: {earlier} searched {was}, this experiment {now}: its best may not be yours"
    return () if found == own else (text,)


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
