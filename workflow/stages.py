"""From a stage and its parameters to a command. All of it is pure.

A stage is one call of an interface script of the model: ``preprocess`` (once a campaign), ``train`` (once a trial) and
``infer`` (once, for the winner). The contract is that of IMPROVE's HPO page.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from workflow.arguments import Argument, fill, options, unfilled
from workflow.runtimes import RUNTIMES, Bind, Call, Container, Model, Runtime
from workflow.trial import Value

StageName = Literal["preprocess", "train", "infer"]
STAGES: tuple[StageName, ...] = ("preprocess", "train", "infer")


OUTPUT_DIRS = ("model_outdir", "output_dir", "infer_outdir")
"""Parameters that become the attempt's own directory, so that no two trials share one.

Not in preprocess where ``ml_data_outdir`` is given.
"""

# improvelib renamed its directories in 2024; a model knows the old names or the new ones.
_NEW_NAMES = frozenset({"input_dir", "output_dir", "input_data_dir", "input_model_dir"})
_DATA_INPUTS = {
    ("train", "old"): ("train_ml_data_dir", "val_ml_data_dir"),
    ("train", "new"): ("input_dir",),
    ("infer", "old"): ("test_ml_data_dir",),
    ("infer", "new"): ("input_data_dir",),
}
_OUTPUT_DIR = {
    ("preprocess", "old"): "ml_data_outdir",
    ("train", "old"): "model_outdir",
    ("infer", "old"): "infer_outdir",
}
_MODEL_DIR = {"old": "model_dir", "new": "input_model_dir"}

# Input directories: left as the page's "<...>" they are taken for not filled in.
PATH_NAMES = frozenset(
    {"train_ml_data_dir", "val_ml_data_dir", "test_ml_data_dir", "input_dir", "input_data_dir", *OUTPUT_DIRS}
)


@dataclass(frozen=True)
class Stage:
    """The settings of one stage.

    ``timeout`` and ``stall_timeout``, the longest time without output, are in seconds; None means no limit.
    """

    args: Mapping[str, Argument] = field(default_factory=dict)
    timeout: float | None = None
    config_file: str | None = None
    gpu_arg: bool = False
    stall_timeout: float | None = None


@dataclass(frozen=True)
class Place:
    """Where an attempt runs: its own directory (absolute), the run's name, the trial's id.

    ``checkpoints`` is the directory that all attempts of a trial share, for models that can resume.
    """

    directory: str
    run: str
    trial: int | None = None
    checkpoints: str = ""


@dataclass(frozen=True)
class Command:
    """A rendered stage.

    ``argv[gpu_index]`` stands for the GPU's number, which only the worker knows. ``programs`` are alternatives for
    ``argv[0]``, also found on the worker. Variables of the worker that are named in ``unset`` are kept from it.
    ``checkpoints`` is a directory to be there before.
    """

    stage: StageName
    argv: tuple[str, ...]
    env: Mapping[str, str]
    directory: str
    binds: tuple[Bind, ...] = ()
    gpu_index: int | None = None
    programs: tuple[str, ...] = ()
    timeout: float | None = None
    stall_timeout: float | None = None
    args: Mapping[str, Argument] = field(default_factory=dict)
    unset: tuple[str, ...] = ()
    checkpoints: str | None = None

    def shell(self, gpu: str = '"${CUDA_VISIBLE_DEVICES:-0}"') -> str:
        """One line for a POSIX shell; ``gpu`` is put in unquoted."""
        words = [shlex.quote(word) for word in self.argv]
        if self.gpu_index is not None:
            words[self.gpu_index] = gpu
        assignments = [f"{name}={shlex.quote(value)}" for name, value in self.env.items()]
        return " ".join([*assignments, *words])


@dataclass(frozen=True)
class Pipeline:
    """The stages of one campaign, wired: preprocess's output to train, train's output to infer.

    ``constants`` names the hyperparameters of type constant: placeholders are filled in those alone. ``data`` in the
    methods is where preprocess ran, None without that stage.
    """

    model: Model
    stages: Mapping[StageName, Stage]
    constants: frozenset[str] = frozenset()
    container: Container = field(default_factory=Container)

    def preprocess(self, place: Place) -> Command:
        return self._command("preprocess", place, self._preprocess_args(place))

    def train(self, place: Place, params: Mapping[str, Value], data: Place | None) -> Command:
        """One trial's training."""
        args = self._train_args(place, params, data)
        checkpoints = place.checkpoints if self.keeps_checkpoints(params) else ""
        binds = [*self._data_binds(data), *[Bind(checkpoints, checkpoints)] * bool(checkpoints)]
        return replace(self._command("train", place, args, binds), checkpoints=checkpoints or None)

    def keeps_checkpoints(self, params: Mapping[str, Value]) -> bool:
        """Whether an argument of the training names the directory that all its attempts share."""
        given = {**self.stages["train"].args, **params}
        fixed = (self.stages["train"].args.keys() - params.keys()) | self.constants
        return any("{checkpoint_dir}" in str(given[name]) for name in fixed & given.keys())

    def infer(self, place: Place, trained: Command, data: Place | None) -> Command:
        """Inference with the model that ``trained`` left in its directory."""
        given = dict(self.stages["infer"].args)
        names = self._names(trained.args)
        args = self._filled(given, given, place)
        data_dir = trained.args.get("test_ml_data_dir") or trained.args.get("input_dir") or self._data_output(data)
        _fill_inputs(args, _DATA_INPUTS["infer", names], data_dir)
        args[_MODEL_DIR[names]] = trained.directory
        _set_output(args, "infer", names, place.directory)
        model = Bind(trained.directory, trained.directory)
        return self._command("infer", place, args, [*self._data_binds(data), model])

    def inside(self, words: Sequence[str]) -> Command:
        """Any other command where the scripts run: in the container, with the binds that all stages have."""
        call = self._call("train", ())
        return Command("train", (*call.words, *words), call.env, "", call.binds, programs=call.programs)

    def _preprocess_args(self, place: Place) -> dict[str, Argument]:
        given = self.stages["preprocess"].args
        args = self._filled(given, given, place)
        if "ml_data_outdir" not in args:
            _set_output(args, "preprocess", self._names(args), place.directory)
        return args

    def _train_args(self, place: Place, params: Mapping[str, Value], data: Place | None) -> dict[str, Argument]:
        given: dict[str, Argument] = {**self.stages["train"].args, **params}
        fixed = (self.stages["train"].args.keys() - params.keys()) | self.constants
        args = self._filled(given, fixed, place)
        names = self._names(args)
        _fill_inputs(args, _DATA_INPUTS["train", names], self._data_output(data))
        for name in PATH_NAMES & args.keys():
            if unfilled(args[name]) and (output := self._data_output(data)):
                args[name] = output
        if self.model.contract == "improve" or set(OUTPUT_DIRS) & args.keys():
            _set_output(args, "train", names, place.directory)
        return args

    def inputs(self, params: Mapping[str, Value], place: Place, data: Place | None) -> tuple[list[str], list[str]]:
        """Files that decide about trainings, and among them those that preprocess writes; all of them on the host.

        With preprocess these are what that stage may read, in the data directory: what it writes follows from them.
        """
        if data is not None and "preprocess" in self.stages:
            return [self.model.data_dir], [self._on_host(str(self._data_output(data)), data)]
        args = self._train_args(place, params, data)
        given = [str(args[name]) for name in sorted(PATH_NAMES - set(OUTPUT_DIRS)) if name in args]
        return [self._on_host(path, data) for path in dict.fromkeys(given)] or [self.model.data_dir], []

    @property
    def config_file(self) -> str | None:
        """The config file of trainings on the host; None without one, or where it is the image's or preprocess's."""
        name = self.stages["train"].config_file
        if name is None:
            return None
        path = name if name.startswith("/") else f"{self._data_dir}/{name}"
        written = self._data_output(Place("", ""))
        if written and path.startswith(f"{written}/"):
            return None
        return self._bound(path, None) if self._runtime.contained else path

    def _on_host(self, path: str, data: Place | None) -> str:
        return self._bound(path, data) or path

    def _bound(self, path: str, data: Place | None) -> str | None:
        """A path in the container on the host, where it is below something that is bound; the innermost counts."""
        binds = [Bind(self.model.data_dir, self._data_dir), *self._data_binds(data), *self.binds]
        for bind in sorted(binds, key=lambda bind: len(bind.inside), reverse=True):
            inside = bind.inside.rstrip("/")
            if path == inside or path.startswith(f"{inside}/"):
                return bind.host.rstrip("/") + path.removeprefix(inside)
        return None

    @property
    def binds(self) -> tuple[Bind, ...]:
        """What the site and the model add to the binds of every stage."""
        added = (self.container.options, self.model.options) if self._runtime.contained else ()
        return tuple(bind for options in added for bind in options.binds)

    def _names(self, args: Mapping[str, Argument]) -> str:
        """Whether the model knows the old names of directories or the new ones, by those that anyone has used."""
        used = set(args).union(*(stage.args for stage in self.stages.values()))
        return "new" if _NEW_NAMES & used else "old"

    def _data_binds(self, data: Place | None) -> list[Bind]:
        """Preprocess's own directory, where its output is there and not in the data directory."""
        return [Bind(data.directory, data.directory)] if data and self._data_output(data) == data.directory else []

    def _data_output(self, data: Place | None) -> str | None:
        """Where preprocess writes, as the model sees it."""
        if data is None or "preprocess" not in self.stages:
            return None
        args = self._preprocess_args(data)
        return str(args.get("ml_data_outdir") or args.get("output_dir"))

    def _filled(self, args: Mapping[str, Argument], fixed: Iterable[str], place: Place) -> dict[str, Argument]:
        trial = "" if place.trial is None else f"{place.trial:04d}"
        values = {"trial": trial, "run": place.run, "data_dir": self._data_dir, "checkpoint_dir": place.checkpoints}
        fixed = set(fixed)
        return {name: fill(value, values) if name in fixed else value for name, value in args.items()}

    @property
    def _runtime(self) -> Runtime:
        return RUNTIMES[self.model.runtime]

    @property
    def _data_dir(self) -> str:
        """As the model sees it."""
        return self._runtime.data_dir(self.model)

    def _command(
        self,
        stage: StageName,
        place: Place,
        args: Mapping[str, Argument],
        extra_binds: Sequence[Bind] = (),
    ) -> Command:
        settings = self.stages[stage]
        takes_gpu = stage == "train" or (stage == "infer" and settings.gpu_arg)
        words = [self._runtime.script(self.model, f"{stage}.sh")] + ["0"] * takes_gpu + [self._data_dir]
        if settings.config_file is not None:
            words.append(settings.config_file)
        words += options(args)
        if self.model.contract == "candle":
            trial = stage if place.trial is None else f"{place.trial:04d}"
            words += ["--experiment_id", place.run, "--run_id", trial]
        call = self._call(stage, [*extra_binds, Bind(place.directory, place.directory)])
        gpu_index = len(call.words) + 1 if takes_gpu else None
        argv, limits = (*call.words, *words), (settings.timeout, settings.stall_timeout)
        return Command(
            stage, argv, call.env, place.directory, call.binds, gpu_index, call.programs, *limits, args, call.unset
        )

    def _call(self, stage: StageName, own_binds: Sequence[Bind]) -> Call:
        """What comes before a stage's script, which sees the data directory and, unless it writes there, its own."""
        writes_there = stage == "preprocess" and "ml_data_outdir" in self.stages[stage].args
        data = Bind(self.model.data_dir, self._data_dir)
        binds = [data, *(() if writes_there else own_binds), *self.binds] if self._runtime.contained else []
        return self._runtime.call(self.model, self.container, binds, gpu=stage != "preprocess")


def _set_output(args: dict[str, Argument], stage: str, names: str, directory: str) -> None:
    """Point every output directory to the attempt's own; add the one that the model knows if none was given."""
    given = [name for name in OUTPUT_DIRS if name in args]
    for name in given or [_OUTPUT_DIR.get((stage, names), "output_dir")]:
        args[name] = directory


def _fill_inputs(args: dict[str, Argument], names: Iterable[str], directory: Argument | None) -> None:
    if directory is None:
        return
    for name in names:
        if name not in args or unfilled(args[name]):
            args[name] = directory
