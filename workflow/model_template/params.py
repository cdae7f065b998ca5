"""The parameters of the three scripts, each declared once here; their defaults are in model_params.txt.

A value comes from the command line, else from the config file (if one is given), else from model_params.txt.
A relative directory means: on the command line, from the working directory; in a .txt file, from the data directory.
"""

from __future__ import annotations

import argparse
import configparser
import math
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlp import OPTIMIZERS, WARMUP_TYPES

DEFAULTS = Path(__file__).resolve().with_name("model_params.txt")


class InputError(Exception):
    """Something that the user can put right; the message is one line and says how."""


def positive_int(text: str) -> int:
    return _at_least(1, int(text))


def non_negative_int(text: str) -> int:
    return _at_least(0, int(text))


def positive_float(text: str) -> float:
    value = float(text)
    if not 0.0 < value < math.inf:
        raise ValueError
    return value


def directory(text: str) -> Path:
    # Path("") would be the working directory.
    if not text:
        raise ValueError
    return Path(text)


def one_of(*known: str) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text not in known:
            raise ValueError
        return text

    convert.__name__ = "|".join(known)
    return convert


def _at_least(minimum: int, value: int) -> int:
    if value < minimum:
        raise ValueError
    return value


@dataclass(frozen=True)
class Param:
    """One parameter; `alias` is improvelib's newer name, if it has one.

    `convert` raises ValueError for a bad text; its `__name__` tells users what is expected.
    """

    name: str
    convert: Callable[[str], Any]
    help: str
    alias: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, self.alias) if self.alias else (self.name,)


_SPLIT = "file in DATA_DIR, or an absolute path: numbers of the {} rows, from 0, one a line; without it a seeded draw"

SECTIONS: dict[str, tuple[Param, ...]] = {
    "Preprocess": (
        Param("train_split_file", str, _SPLIT.format("training")),
        Param("val_split_file", str, _SPLIT.format("validation")),
        Param("test_split_file", str, _SPLIT.format("test")),
        Param("ml_data_outdir", directory, "where the prepared data are written", "output_dir"),
        Param("seed", non_negative_int, "seed of the split"),
    ),
    "Train": (
        Param("train_ml_data_dir", directory, "where preprocess.sh wrote train_data.npz", "input_dir"),
        Param("val_ml_data_dir", directory, "where preprocess.sh wrote val_data.npz", "input_dir"),
        Param("test_ml_data_dir", directory, "accepted, as IMPROVE models do, but training does not read it"),
        Param("model_outdir", directory, "where the model and its scores are written", "output_dir"),
        Param("learning_rate", positive_float, "learning rate after the warm-up"),
        Param("num_layers", positive_int, "number of hidden layers"),
        Param("hidden_size", positive_int, "units in each hidden layer"),
        Param("batch_size", positive_int, "rows in one step of the optimizer"),
        Param("warmup_type", one_of(*WARMUP_TYPES), "how the learning rate grows over the first tenth of the steps"),
        Param("optimizer", one_of(*OPTIMIZERS), "optimizer"),
        Param("epochs", positive_int, "passes over the training data"),
        Param("seed", non_negative_int, "seed of the first weights and of the order of the rows"),
    ),
    "Infer": (
        Param("test_ml_data_dir", directory, "where preprocess.sh wrote test_data.npz", "input_data_dir"),
        Param("model_dir", directory, "where train.sh wrote model.npz", "input_model_dir"),
        Param("infer_outdir", directory, "where the predictions and scores are written", "output_dir"),
    ),
}


def read_params(section: str, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return all values of a section and `data_dir`; a bad command line ends the program with exit status 2."""
    given = vars(_parser(section).parse_args(argv))
    data_dir = _data_dir()
    layers = [given]
    if config_file := given.pop("config_file", ""):
        layers.append(_read_txt(data_dir / config_file, section, data_dir))
    layers.append(_read_txt(DEFAULTS, section, data_dir))
    return argparse.Namespace(data_dir=data_dir, **{p.name: _first(layers, p) for p in SECTIONS[section]})


def run(main: Callable[[], None]) -> None:
    """Run a script's main function; an error that the user can put right becomes one line and exit status 1."""
    try:
        main()
    except (InputError, OSError) as error:
        sys.exit(f"{Path(sys.argv[0]).stem}: {error}")


def _first(layers: Sequence[dict[str, Any]], param: Param) -> Any:
    for layer in layers:
        for name in param.names:
            if name in layer:
                return layer[name]
    raise InputError(f"{DEFAULTS} has no value for {param.name}")


def _parser(section: str) -> argparse.ArgumentParser:
    # No abbreviations: a typo must not be taken for another parameter.
    parser = argparse.ArgumentParser(
        prog=f"{section.lower()}.sh",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        epilog=f"The defaults are in {DEFAULTS.name} beside the script, section [{section}].",
    )
    parser.add_argument("--config_file", help="file in DATA_DIR, or an absolute path, in the form of model_params.txt")
    for name, param in _by_name(section).items():
        kind = param.convert
        parser.add_argument(f"--{name}", type=kind, metavar=kind.__name__, help=_help(name, section))
    return parser


def _by_name(section: str) -> dict[str, Param]:
    return {name: param for param in SECTIONS[section] for name in param.names}


def _help(name: str, section: str) -> str:
    own = [p.help for p in SECTIONS[section] if p.name == name]
    return own[0] if own else "newer name for " + ", ".join(p.name for p in SECTIONS[section] if p.alias == name)


def _data_dir() -> Path:
    text = os.environ.get("IMPROVE_DATA_DIR", "")
    if not text:
        raise InputError("IMPROVE_DATA_DIR is not set: start preprocess.sh, train.sh or infer.sh instead")
    if not Path(text).is_dir():
        raise InputError(f"no data directory {text}: create it (mkdir -p), then run preprocess.sh")
    return Path(text)


def _read_txt(path: Path, section: str, data_dir: Path) -> dict[str, Any]:
    """Return a section's values by name, its directories taken from the data directory."""
    return {name: _convert(path, section, name, text, data_dir) for name, text in _items(path, section).items()}


class _CaseSensitive(configparser.ConfigParser):
    """Keeps the names of parameters as they are, as the command line has them."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def _items(path: Path, section: str) -> dict[str, str]:
    if not path.is_file():
        raise InputError(f"no config file {path}")
    txt = _CaseSensitive(interpolation=None, default_section="")  # and a % is a character
    try:
        txt.read_string(path.read_text(encoding="utf-8"), str(path))
    except (configparser.Error, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    if section not in txt or not set(txt.sections()) <= set(SECTIONS):
        found = " ".join(f"[{name}]" for name in txt.sections()) or "none"
        raise InputError(f"{path} needs [{section}], and knows no section but [{'] ['.join(SECTIONS)}]; it has {found}")
    return dict(txt[section])


def _convert(path: Path, section: str, name: str, text: str, data_dir: Path) -> Any:
    known = _by_name(section)
    if name not in known:
        raise InputError(f"{path} [{section}] has an unknown parameter {name}; known are {', '.join(known)}")
    convert = known[name].convert
    try:
        value = convert(text)
    except ValueError as error:
        raise InputError(f"{path} [{section}] {name}: invalid {convert.__name__} value: {text!r}") from error
    return data_dir / value if isinstance(value, Path) else value
