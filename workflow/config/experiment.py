"""An experiment: what a campaign searches for, with which model, and how it is written down for a resume."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from workflow.budgets import Budgets
from workflow.config.notify import NotifySettings
from workflow.config.options import options_data
from workflow.config.strict import is_there, literal_path, to_yaml
from workflow.finals import FinalistsSettings
from workflow.parameters import Constant, Logical, Parameter
from workflow.rundir import RunDir
from workflow.runtimes import Container, Model
from workflow.search import Earlier, Search, SearchSettings, make_search
from workflow.space import Space
from workflow.stages import Pipeline, Stage, StageName
from workflow.stopping import EarlyStopping, StoppingSettings
from workflow.trial import Objective, Params

_NO_SETTINGS = frozenset({*SearchSettings.BUDGETS, "initial_population", "warm_start"})
"""Keys of ``search`` that a resume may change, or that are told otherwise."""

_FIRST_SETTINGS = frozenset({
    "strategy", "population_size", "offspring_proportion", "mut_prob", "cx_prob", "mut_indpb", "cx_indpb", "tournsize",
    "seed", "reevaluate", "sampler", "sampler_options", "fidelity", "cost_aware",
})  # fmt: skip
"""Settings that every fingerprint holds. Later ones are in it only where they are not at their defaults: so runs of
versions that knew nothing of them can be resumed."""


@dataclass(frozen=True)
class Experiment:
    """A campaign's definition. ``model.data_dir`` is empty where the run's own data directory is meant.

    The first of the ``objectives`` decides who wins; further ones are searched for beside it.
    """

    name: str
    model: Model
    stages: Mapping[StageName, Stage]
    space: Space
    objectives: tuple[Objective, ...]
    search: SearchSettings
    initial: Sequence[Params] = ()
    max_attempts: int = 3
    same_failures: int = 5
    reuse: tuple[str, ...] = ()
    early_stopping: StoppingSettings | None = None
    warnings: tuple[str, ...] = ()
    earlier: Sequence[Earlier] = ()
    finalists: FinalistsSettings = field(default_factory=FinalistsSettings)
    notify: NotifySettings | None = None

    @property
    def objective(self) -> Objective:
        """The first one."""
        return self.objectives[0]

    @property
    def varying(self) -> tuple[str, ...]:
        """The names of the hyperparameters in which trials differ."""
        searched = tuple(p.name for p in self.space.varying)
        return searched if self.search.fidelity is None else (*searched, self.search.fidelity.parameter)

    def make_search(self) -> Search:
        return make_search(self.space, self.search, self.objectives, self.initial, self.earlier)

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
        return Pipeline(model, self.stages, frozenset(self.space.constants), container)

    def too_long_for(self, walltime: float) -> str:
        """How a training may outlast a job of so many seconds; empty if it can't, or would go on where it was."""
        timeout = self.stages["train"].timeout or 0.0
        if timeout <= walltime or self.pipeline(Container(), RunDir(Path())).keeps_checkpoints(self.space.constants):
            return ""
        most, job = timedelta(seconds=timeout), timedelta(seconds=walltime)
        return f"the time-out of train is {most}, and the walltime of a job {job}"

    def missing_config_file(self, container: Container) -> str:
        """Where the config file of trainings should be on this machine and isn't; empty if it is there, or may be."""
        path = Pipeline(self.model, self.stages, container=container).config_file if self.model.data_dir else None
        return path if path is not None and not is_there(Path(path)) else ""

    def fingerprint(self) -> dict[str, Any]:
        """What a resumed run must share with the one before: space, objective and search, budgets excluded."""
        search, defaults = _search_data(self.search), _search_data(SearchSettings())
        for key in search.keys() - _FIRST_SETTINGS:
            if key in _NO_SETTINGS or search[key] == defaults[key]:
                del search[key]
        space = {p.name: {**_described(p), **_relations(p.name, self.space)} for p in self.space.parameters}
        constraints = [c.text for c in self.space.constraints]
        return {
            "space": space, "objective": vars(self.objective), "search": search, "initial": list(self.initial),
            **({"constraints": constraints} if constraints else {}),
            **({"objectives": list(map(str, self.objectives))} if len(self.objectives) > 1 else {}),
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


def _described(parameter: Parameter) -> dict[str, Any]:
    described = {"type": type(parameter).__name__, **vars(parameter)}
    del described["name"]
    if isinstance(parameter, Constant | Logical):  # as journals have it of all that were ever begun
        described |= {"size": parameter.size, "is_categorical": parameter.is_categorical}
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
