"""Searches by two objectives, loss and walltime: how much of the front they find.

A campaign's front are the trials that no other one dominates by what was measured; it is scored by their true losses
and durations without noise, as the share of the volume that a reference front dominates.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from search_bench import synthetic
from search_bench.optimizers import GENERATIONAL, WALLTIME, Entry, Setting, Told, settings
from search_bench.peers import Optuna
from search_bench.problems import Result
from search_bench.simulate import Campaign, Finished, Optimizer
from search_bench.synthetic import Synthetic
from search_bench.tabulated import Tabulated, load_all
from workflow.search import make_search
from workflow.search.base import keyed_rng
from workflow.search.pareto import is_non_dominated
from workflow.space import Space
from workflow.trial import Objective, Params

_DRAWN = 4096
_TYPICAL = 0.75
"""Quantile of random trials at which a loss or a logarithm of seconds bounds the volume."""

Point = tuple[float, float]
"""True loss, and logarithm of the seconds without noise."""


@dataclass(frozen=True)
class LossAndWalltime:
    base: Tabulated | Synthetic
    worst: float = 0.0
    best: float | None = None

    @property
    def name(self) -> str:
        return self.base.name

    @property
    def kind(self) -> str:
        return self.base.kind

    @property
    def split(self) -> str:
        return self.base.split

    @property
    def space(self) -> Space:
        return self.base.space

    def evaluate(self, params: Params, rng: np.random.Generator) -> Result:
        return self.base.evaluate(params, rng)

    def truth(self, params: Params) -> float:
        return self.base.truth(params)

    def point(self, params: Params) -> Point:
        return self.truth(params), self.base.weight(params)

    def share(self, found: Iterable[Params]) -> float:
        """Of the volume that the reference front dominates, what these configurations do."""
        corner, whole = self._reference
        return _volume(map(self.point, found), corner) / whole

    @functools.cached_property
    def _reference(self) -> tuple[Point, float]:
        """The volume's corner, and the volume of random configurations and of those known to be good."""
        drawn = [self.point(params) for params in self._drawn()]
        corner = tuple(float(value) for value in np.quantile(drawn, _TYPICAL, axis=0))
        return corner, _volume([*drawn, *map(self.point, self._good())], corner)

    def _drawn(self) -> Iterable[Params]:
        """Random configurations that succeeded."""
        for number in range(_DRAWN):
            rng = keyed_rng(0, number)
            params = {p.name: p.draw(rng) for p in self.space.varying}
            if self.evaluate(params, rng).loss is not None:
                yield params

    def _good(self) -> Iterable[Params]:
        """The table's own configurations, or the optimum with other values of what decides about durations."""
        if isinstance(self.base, Tabulated):
            names = [axis.name for axis in self.base.axes]
            for values in itertools.product(*(axis.points for axis in self.base.axes)):
                yield dict(zip(names, values, strict=True))
        else:
            for params in self._drawn():
                yield {**self.base.optimum, **{name: params[name] for name in self.base.costs}}


def _volume(points: Iterable[Point], corner: Point) -> float:
    """The area that points dominate, up to the corner."""
    area, height = 0.0, corner[1]
    for loss, weight in sorted(points):
        if loss < corner[0] and weight < height:
            area += (corner[0] - loss) * (height - weight)
            height = weight
    return area


def share_of_front(campaign: Campaign, budget: int) -> float | None:
    ended = [trial for trial in campaign.finished[:budget] if trial.loss is not None]
    if not ended:
        return None
    front = is_non_dominated([(trial.loss, trial.seconds) for trial in ended])
    return campaign.problem.share(trial.params for trial, is_there in zip(ended, front, strict=True) if is_there)


class OptunaOfTwo(Optuna):
    directions = ("minimize", "minimize")

    def _values(self, finished: Finished) -> list[float | None]:
        return [finished.loss, finished.seconds]


def _nsga(setting: Setting) -> Optimizer:
    """NSGA-II (Deb et al. 2002) with two batches of parents, as mu_plus_lambda; its default of 50 did worse."""
    from optuna.samplers import NSGAIISampler

    return OptunaOfTwo(setting, lambda seed: NSGAIISampler(seed=seed, population_size=2 * setting.workers))


def _tpe(setting: Setting) -> Optimizer:
    """The estimator of several objectives (Ozaki et al. 2022) with Optuna's defaults."""
    from optuna.samplers import TPESampler

    return OptunaOfTwo(setting, lambda seed: TPESampler(seed=seed))


def _ours(strategy: str) -> Entry:
    objectives = [Objective(), Objective(WALLTIME, "min")]
    return Entry(lambda setting: Told(make_search(setting.space, settings(strategy, setting), objectives)))


OPTIMIZERS = {
    **{strategy: _ours(strategy) for strategy in ("random", *GENERATIONAL, "async")},
    "optuna_nsga": Entry(_nsga, ("optuna",)),
    "optuna_tpe": Entry(_tpe, ("optuna",)),
}


def all_problems() -> list[LossAndWalltime]:
    """The tables, and two synthetic problems whose durations depend on several hyperparameters."""
    chosen = [problem for problem in synthetic.SYNTHETIC if problem.name in ("synthetic_smooth", "synthetic_ridge")]
    return [LossAndWalltime(problem) for problem in (*chosen, *load_all())]
