"""Problems that look real trainings up in the tables of ``tables.py``.

Between two points of a grid the losses are interpolated, linearly on the hyperparameter's scale: so the least loss of
the grid is the best there is. A trial gives the loss of one initialisation, the truth is the mean over all. Where the
nearest training overflowed, the trial fails.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search_bench.problems import Result, duration
from search_bench.tables import GRIDS, TABLES, Axis, Grid
from search_bench.training import CAP
from workflow.space import Space
from workflow.space_file import parse_space
from workflow.trial import Params

Index = tuple[int, ...]


@dataclass(frozen=True)
class Tabulated:
    """``losses`` has the grid's axes and one for initialisations, ``seconds`` the grid's axes."""

    name: str
    split: str
    space: Space
    axes: tuple[Axis, ...]
    losses: NDArray[np.float32]
    seconds: NDArray[np.float32]
    kind: str = "table"
    worst: float = CAP

    @property
    def best(self) -> float:
        return float(np.nan_to_num(self.losses, nan=CAP).astype(np.float64).mean(-1).min())

    def evaluate(self, params: Params, rng: np.random.Generator) -> Result:
        seed, corners = int(rng.integers(self.losses.shape[-1])), list(self._corners(params))
        nearest, seconds = _nearest(corners), duration(self.weight(params), rng, 0.1)
        if math.isnan(self.losses[nearest][seed]):
            return Result(None, 0.5 * seconds)
        return Result(self._interpolated(corners)[seed], seconds)

    def weight(self, params: Params) -> float:
        nearest = _nearest(list(self._corners(params)))
        return math.log(float(self.seconds[nearest]) / float(np.median(self.seconds)))

    def truth(self, params: Params) -> float:
        return float(np.mean(self._interpolated(list(self._corners(params)))))

    def _interpolated(self, corners: list[tuple[Index, float]]) -> list[float]:
        """For each initialisation; an overflow beside a training that went well counts as ``CAP``."""
        losses = np.array([np.nan_to_num(self.losses[index], nan=CAP) for index, _ in corners], np.float64)
        return [float(loss) for loss in np.array([weight for _, weight in corners]) @ losses]

    def _corners(self, params: Params) -> Iterator[tuple[Index, float]]:
        """The points of the grid around a configuration, with their weights, which sum to 1."""
        sides = [_sides(axis, params[axis.name]) for axis in self.axes]
        for corner in itertools.product(*sides):
            yield tuple(index for index, _ in corner), math.prod(weight for _, weight in corner)


def _nearest(corners: list[tuple[Index, float]]) -> Index:
    return max(corners, key=lambda corner: corner[1])[0]


def _sides(axis: Axis, value: float | int | str | bool) -> list[tuple[int, float]]:
    """The one or two points of an axis beside a value, with their weights."""
    if value in axis.points:
        return [(axis.points.index(value), 1.0)]
    scale = math.log if axis.log else float
    points = [scale(float(point)) for point in axis.points]
    upper = int(np.clip(np.searchsorted(points, scale(float(value))), 1, len(points) - 1))
    share = (scale(float(value)) - points[upper - 1]) / (points[upper] - points[upper - 1])
    return [(upper - 1, 1 - share), (upper, share)]


def load(grid: Grid) -> Tabulated:
    with np.load(TABLES / f"{grid.name}.npz") as table:
        losses, seconds = table["curves"][..., -1], table["seconds"]
    space = parse_space([axis.entry for axis in grid.axes], grid.name)
    return Tabulated(grid.name, grid.split, space, grid.axes, losses, seconds)


def load_all() -> tuple[Tabulated, ...]:
    return tuple(load(grid) for grid in GRIDS)
