"""The tables: complete grids of real trainings on data sets that scikit-learn carries, made by our own command.

A table holds the losses of every configuration of a grid at ``EPOCHS`` for ``SEEDS`` initialisations, and how long the
training took. The space of the search is that of the grid's ends; values between two points of the grid are
interpolated by the problem (``tabulated.py``).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from search_bench.training import EPOCHS, Data, Numbers, Shape, train

TABLES = Path(__file__).parent / "tables"
SEEDS = (0, 1, 2)
Value = float | int | str | bool


@dataclass(frozen=True)
class Axis:
    """A hyperparameter of a grid: its points, and its entry in the space without name and bounds."""

    name: str
    points: tuple[Value, ...]
    kind: str
    log: bool = False

    @property
    def entry(self) -> dict[str, Any]:
        """As IMPROVE's JSON format has it."""
        head = {"name": self.name, "type": self.kind}
        if self.kind == "logical":
            return head
        if self.kind in ("float", "int"):
            return {**head, "lower": self.points[0], "upper": self.points[-1], "use_log_scale": self.log}
        element_type = "string" if isinstance(self.points[0], str) else "int"
        return {**head, "values": list(self.points), "element_type": element_type}


@dataclass(frozen=True)
class Grid:
    """What a table is made of. ``split`` says whether our searches' settings may be chosen by it."""

    name: str
    split: str
    data: Callable[[], Data]
    axes: tuple[Axis, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(axis.points) for axis in self.axes)


def _prepared(x: np.ndarray, y: np.ndarray, classes: bool, training: int) -> Data:
    """Shuffled, split and standardised by the training part."""
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order].astype(np.float32), y[order]
    mean, deviation = x[:training].mean(0), x[:training].std(0) + np.float32(1e-3)
    x = (x - mean) / deviation
    if classes:
        target = np.eye(int(y.max()) + 1, dtype=np.float32)[y]
    else:
        target = ((y - y[:training].mean()) / y[:training].std()).astype(np.float32)[:, None]
    return Data(x[:training], target[:training], x[training:], target[training:], classes)


def _digits() -> Data:
    from sklearn.datasets import load_digits

    return _prepared(*load_digits(return_X_y=True), classes=True, training=512)


def _breast_cancer() -> Data:
    from sklearn.datasets import load_breast_cancer

    return _prepared(*load_breast_cancer(return_X_y=True), classes=True, training=192)


def _diabetes() -> Data:
    from sklearn.datasets import load_diabetes

    return _prepared(*load_diabetes(return_X_y=True), classes=False, training=256)


def _friedman() -> Data:
    """Friedman 1991, section 4.2: five of ten inputs matter."""
    from sklearn.datasets import make_friedman1

    return _prepared(*make_friedman1(n_samples=1024, noise=1.0, random_state=0), classes=False, training=384)


_ACTIVATION = Axis("activation", ("relu", "tanh"), "categorical")
_OPTIMIZER = Axis("optimizer", ("sgd", "adam"), "categorical")
_COSINE = Axis("cosine", (False, True), "logical")

GRIDS = (
    Grid(
        "table_digits", "tuned", _digits,
        (
            Axis("learning_rate", (1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 1.0), "float", log=True),
            Axis("weight_decay", (1e-6, 1e-2, 1e0), "float", log=True),
            Axis("width", (8, 24, 64), "ordered"),
            Axis("layers", (1, 2), "int"),
            Axis("batch_size", (16, 64), "ordered"),
            _ACTIVATION, _OPTIMIZER, _COSINE,
        ),
    ),
    Grid(
        "table_friedman", "tuned", _friedman,
        (
            Axis("learning_rate", (1e-4, 1e-3, 5e-3, 2e-2, 1e-1, 1.0), "float", log=True),
            Axis("momentum", (0.0, 0.6, 0.95), "float"),
            Axis("init_scale", (0.1, 1.0, 4.0), "float", log=True),
            Axis("width", (4, 16, 64), "int", log=True),
            Axis("layers", (1, 2), "int"),
            Axis("batch_size", (16, 64), "ordered"),
            _OPTIMIZER, _COSINE,
        ),
    ),
    Grid(
        "table_diabetes", "held_out", _diabetes,
        (
            Axis("learning_rate", (1e-4, 1e-3, 1e-2, 1e-1, 1.0), "float", log=True),
            Axis("dropout", (0.0, 0.25, 0.7), "float"),
            Axis("weight_decay", (1e-5, 1e-1, 3e0), "float", log=True),
            Axis("width", (4, 16, 48), "int", log=True),
            Axis("batch_size", (8, 32, 128), "ordered"),
            _ACTIVATION, _OPTIMIZER, _COSINE,
        ),
    ),
    Grid(
        "table_breast_cancer", "held_out", _breast_cancer,
        (
            Axis("learning_rate", (1e-4, 1e-3, 1e-2, 1e-1, 1.0), "float", log=True),
            Axis("weight_decay", (1e-5, 1e-2, 1e0), "float", log=True),
            Axis("init_scale", (0.1, 0.7, 4.0), "float", log=True),
            Axis("width", (4, 16, 48), "ordered"),
            Axis("batch_size", (8, 32), "ordered"),
            _ACTIVATION, _OPTIMIZER, _COSINE,
        ),
    ),
)  # fmt: skip


def make_table(grid: Grid, path: Path) -> None:
    """Train every configuration of the grid, and write curves (grid, seeds, epochs) and seconds (grid)."""
    data = grid.data()
    hard = [axis.name for axis in grid.axes if axis.name in {field.name for field in fields(Shape)}]
    configurations = [
        dict(zip((axis.name for axis in grid.axes), values, strict=True))
        for values in itertools.product(*(axis.points for axis in grid.axes))
    ]
    curves = np.zeros((len(configurations), len(SEEDS), len(EPOCHS)), np.float32)
    seconds = np.zeros(len(configurations), np.float32)
    groups: dict[tuple[Value, ...], list[int]] = {}
    for number, configuration in enumerate(configurations):
        groups.setdefault(tuple(configuration[name] for name in hard), []).append(number)
    begin = time.monotonic()
    for done, (key, members) in enumerate(groups.items(), start=1):
        shape = Shape(**dict(zip(hard, key, strict=True)))  # type: ignore[arg-type]
        numbers = _numbers([configurations[member] for member in members])
        for position, seed in enumerate(SEEDS):
            curves[members, position], spent = train(data, shape, numbers, seed)
            seconds[members] += spent / len(SEEDS)
        print(f"{grid.name}: {done} of {len(groups)} groups, {time.monotonic() - begin:.0f} s", flush=True)
    np.savez_compressed(
        path, curves=curves.reshape(*grid.shape, len(SEEDS), len(EPOCHS)), seconds=seconds.reshape(grid.shape)
    )


def _numbers(configurations: Sequence[Mapping[str, Value]]) -> Numbers:
    defaults = {
        "learning_rate": 1e-2, "weight_decay": 0.0, "dropout": 0.0, "momentum": 0.9, "init_scale": 1.0, "cosine": 0.0,
    }  # fmt: skip
    return Numbers(
        **{
            name: np.array([configuration.get(name, default) for configuration in configurations], np.float32)
            for name, default in defaults.items()
        }
    )
