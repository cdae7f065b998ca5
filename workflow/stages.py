"""From a stage and its parameters to a command. All of it is pure.

A stage is one call of an interface script of the model: ``preprocess`` (once a campaign), ``train`` (once a trial) and
``infer`` (once, for the winner). The contract is that of IMPROVE's HPO page.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from workflow.errors import listing
from workflow.trial import Value

Argument = Value | tuple[Value, ...]
"""A stage's argument; a tuple is several words after one flag."""

StageName = Literal["preprocess", "train", "infer"]

CONTRACTS = ("improve", "candle")
RUNTIMES = ("apptainer", "none")
PLACEHOLDERS = ("trial", "run", "data_dir", "checkpoint_dir")

OUTPUT_DIRS = ("model_outdir", "output_dir", "infer_outdir")
"""Parameters that always become the attempt's own directory, so that no two trials share one."""

_PROGRAMS = ("APPTAINER", "SINGULARITY")
_HOST_ONLY = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONUSERBASE", "VIRTUAL_ENV", "LD_PRELOAD")
"""What speaks of files of the host's Python, and would speak of others in a container."""

_IMAGE_DATA_DIR = {"improve": "/IMPROVE_DATA_DIR", "candle": "/candle_data_dir"}
_DATA_DIR_VARIABLE = {"improve": "IMPROVE_DATA_DIR", "candle": "CANDLE_DATA_DIR"}

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


def data_dir_inside(contract: str) -> str:
    """Where images of a contract have their data directory."""
    return _IMAGE_DATA_DIR[contract]


class Bind(NamedTuple):
    """A path of the host, and where it is in the container."""

    host: str
    inside: str
    read_only: bool = False


@dataclass(frozen=True)
class Options:
    """What a site or a model adds to every call: words for ``apptainer exec``, variables, binds."""

    extra_args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    binds: tuple[Bind, ...] = ()


@dataclass(frozen=True)
class Model:
    """Where the model is and how it is called. Paths are absolute; ``data_dir`` is the host's."""

    runtime: str
    contract: str
    data_dir: str
    image: str | None = None
    scripts: str | None = None
    options: Options = Options()


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
class Container:
    """How this site runs containers: program names in order of preference, GPU flag ('--nv', '--rocm' or '').

    ``own_pids`` gives each one a process namespace, at whose end nothing of it can be left; ``fakeroot`` is what ALCF
    asks for.
    """

    programs: tuple[str, ...] = ("apptainer", "singularity")
    gpu_flag: str = ""
    own_pids: bool = False
    fakeroot: bool = False
    options: Options = Options()


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
    container: Container = Container()

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
        prefix, env, binds = self._wrapper("train", ())
        programs = self.container.programs if prefix else ()
        return Command("train", (*prefix, *words), env, "", binds, programs=programs)

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
        return path if self.model.runtime == "none" else self._bound(path, None)

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
        options = (self.container.options, self.model.options) if self.model.runtime != "none" else ()
        return tuple(bind for option in options for bind in option.binds)

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
    def _data_dir(self) -> str:
        return self.model.data_dir if self.model.runtime == "none" else data_dir_inside(self.model.contract)

    def _command(
        self,
        stage: StageName,
        place: Place,
        args: Mapping[str, Argument],
        extra_binds: Sequence[Bind] = (),
    ) -> Command:
        settings = self.stages[stage]
        takes_gpu = stage == "train" or (stage == "infer" and settings.gpu_arg)
        call = [self._script(stage)] + ["0"] * takes_gpu + [self._data_dir]
        if settings.config_file is not None:
            call.append(settings.config_file)
        call += _words(args)
        if self.model.contract == "candle":
            trial = stage if place.trial is None else f"{place.trial:04d}"
            call += ["--experiment_id", place.run, "--run_id", trial]
        prefix, env, binds = self._wrapper(stage, [*extra_binds, Bind(place.directory, place.directory)])
        gpu_index = len(prefix) + 1 if takes_gpu else None
        programs = self.container.programs if prefix else ()
        argv = (*prefix, *call)
        limits = settings.timeout, settings.stall_timeout
        unset = _HOST_ONLY if prefix else ()
        return Command(stage, argv, env, place.directory, binds, gpu_index, programs, *limits, args, unset)

    def _script(self, stage: StageName) -> str:
        name = f"{stage}.sh"
        return f"{self.model.scripts}/{name}" if self.model.runtime == "none" else name

    def _wrapper(
        self, stage: StageName, own_binds: Sequence[Bind]
    ) -> tuple[list[str], dict[str, str], tuple[Bind, ...]]:
        """The words before the script, the environment, and the binds."""
        variable = _DATA_DIR_VARIABLE[self.model.contract]
        options = (self.container.options, self.model.options)
        given = {name: value for option in options for name, value in option.env.items()}
        if self.model.runtime == "none":
            return [], {**given, variable: self.model.data_dir}, ()
        writes_elsewhere = stage == "preprocess" and "ml_data_outdir" in self.stages[stage].args
        binds = (Bind(self.model.data_dir, self._data_dir), *(() if writes_elsewhere else own_binds))
        binds += self.binds
        words = [self.container.programs[0], "exec"]
        if self.container.gpu_flag and stage != "preprocess":
            words.append(self.container.gpu_flag)
        words += ["--fakeroot"] * self.container.fakeroot + ["--pid"] * self.container.own_pids
        words += [word for option in options for word in option.extra_args]
        for bind in binds:
            words += _bind_option(bind)
        if self.model.contract == "candle":
            words += ["--env", f"{variable}={self._data_dir}"]
        assert self.model.image is not None
        return [*words, self.model.image], {"PYTHONNOUSERSITE": "1", **_inside(given)}, binds


def _inside(variables: Mapping[str, str]) -> dict[str, str]:
    """Variables that win over those of the image, whatever they hold.

    Apptainer 1.4 has a shell read them inside double quotes, of which it escapes only these.
    """
    escaped = {name: re.sub(r"([\\$`])", r"\\\1", value) for name, value in variables.items()}
    return {f"{program}ENV_{name}": value for name, value in escaped.items() for program in _PROGRAMS}


def _bind_option(bind: Bind) -> list[str]:
    """The words for a bind. --bind cannot carry every path (seen with Apptainer 1.4), --mount reads CSV."""
    if not re.search(r'[\\:,"]', bind.host + bind.inside):
        return ["--bind", f"{bind.host}:{bind.inside}" + ":ro" * bind.read_only]
    source, destination = (path.replace('"', '""') for path in (bind.host, bind.inside))
    return ["--mount", f'type=bind,"source={source}","destination={destination}"' + ",ro" * bind.read_only]


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


def unfilled(value: object) -> bool:
    """Whether a path is still the placeholder of the page's sample file, as in "<train_data_dir>"."""
    return isinstance(value, str) and re.fullmatch(r"<[^<>/]*>", value) is not None


# -- values ----------------------------------------------------------------------------------------------------------

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{(\w*)\}|[{}]")


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


def _words(args: Mapping[str, Argument]) -> list[str]:
    return [word for name, value in args.items() for word in (f"--{name}", *words(value))]


def fragile(value: Argument) -> str:
    """Why published interface scripts, which pass ``$@`` on unquoted, would change this value; empty if not."""
    for word in words(value):
        if not word or any(character.isspace() for character in word):
            return "is empty or holds white space: a script that passes $@ on unquoted splits it again"
        if set(word) & set("*?["):
            return "holds a wildcard: a script that passes $@ on unquoted may expand it to file names"
    return ""
