"""How a model's scripts are called: in a container, or on the host itself. All of it is pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

CONTRACTS = ("improve", "candle")

_IMAGE_DATA_DIR = {"improve": "/IMPROVE_DATA_DIR", "candle": "/candle_data_dir"}
_DATA_DIR_VARIABLE = {"improve": "IMPROVE_DATA_DIR", "candle": "CANDLE_DATA_DIR"}

_VARIABLES = ("APPTAINER", "SINGULARITY")
_HOST_ONLY = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONUSERBASE", "VIRTUAL_ENV", "LD_PRELOAD")
"""What speaks of files of the host's Python, and would speak of others in a container."""


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
class Call:
    """What comes before a script: words, of which ``programs`` are alternatives for the first, variables, binds.

    Variables of the worker that are named in ``unset`` are kept from it.
    """

    words: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    binds: tuple[Bind, ...] = ()
    programs: tuple[str, ...] = ()
    unset: tuple[str, ...] = ()


class Runtime(Protocol):
    """One way to call scripts. ``contained``: they see the paths of an image, and of the host what is bound."""

    @property
    def contained(self) -> bool: ...

    def data_dir(self, model: Model) -> str:
        """The data directory as the scripts see it."""

    def script(self, model: Model, name: str) -> str:
        """A script's first word."""

    def call(self, model: Model, container: Container, binds: Sequence[Bind], *, gpu: bool) -> Call:
        """What comes before a script that sees ``binds`` and, with ``gpu``, GPUs."""


class Host:
    """Scripts of a directory, by the worker itself."""

    contained = False

    def data_dir(self, model: Model) -> str:
        return model.data_dir

    def script(self, model: Model, name: str) -> str:
        return f"{model.scripts}/{name}"

    def call(self, model: Model, container: Container, binds: Sequence[Bind], *, gpu: bool) -> Call:
        return Call(env={**_added(model, container), _DATA_DIR_VARIABLE[model.contract]: model.data_dir})


class Apptainer:
    """Scripts of an image, by Apptainer or Singularity."""

    contained = True

    def data_dir(self, model: Model) -> str:
        return data_dir_inside(model.contract)

    def script(self, model: Model, name: str) -> str:
        return name

    def call(self, model: Model, container: Container, binds: Sequence[Bind], *, gpu: bool) -> Call:
        assert model.image is not None
        words = [container.programs[0], "exec"]
        if container.gpu_flag and gpu:
            words.append(container.gpu_flag)
        words += ["--fakeroot"] * container.fakeroot + ["--pid"] * container.own_pids
        words += [word for options in (container.options, model.options) for word in options.extra_args]
        for bind in binds:
            words += _bind_option(bind)
        if model.contract == "candle":
            words += ["--env", f"{_DATA_DIR_VARIABLE[model.contract]}={self.data_dir(model)}"]
        env = {"PYTHONNOUSERSITE": "1", **_inside(_added(model, container))}
        return Call((*words, model.image), env, tuple(binds), container.programs, _HOST_ONLY)


RUNTIMES: dict[str, Runtime] = {"apptainer": Apptainer(), "none": Host()}


def data_dir_inside(contract: str) -> str:
    """Where images of a contract have their data directory."""
    return _IMAGE_DATA_DIR[contract]


def _added(model: Model, container: Container) -> dict[str, str]:
    """The variables of site and model; the model's win."""
    return {**container.options.env, **model.options.env}


def _inside(variables: Mapping[str, str]) -> dict[str, str]:
    """Variables that win over those of the image, whatever they hold.

    Apptainer 1.4 has a shell read them inside double quotes, of which it escapes only these.
    """
    escaped = {name: re.sub(r"([\\$`])", r"\\\1", value) for name, value in variables.items()}
    return {f"{program}ENV_{name}": value for name, value in escaped.items() for program in _VARIABLES}


def _bind_option(bind: Bind) -> list[str]:
    """The words for a bind. --bind cannot carry every path (seen with Apptainer 1.4), --mount reads CSV."""
    if not re.search(r'[\\:,"]', bind.host + bind.inside):
        return ["--bind", f"{bind.host}:{bind.inside}" + ":ro" * bind.read_only]
    source, destination = (path.replace('"', '""') for path in (bind.host, bind.inside))
    return ["--mount", f'type=bind,"source={source}","destination={destination}"' + ",ro" * bind.read_only]
