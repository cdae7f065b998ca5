"""``strategy: async`` without one of its ingredients each: what every one is worth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from search_bench.optimizers import Entry, Setting, Told, linear, settings
from workflow.search.asynchronous import AsyncSearch
from workflow.search.cube import Cube, Rows
from workflow.search.gaussian_process import GaussianProcess
from workflow.search.screening import Observations, Screen


@dataclass(frozen=True)
class Ablation:
    """What takes the place of the parts of the search."""

    cube: type[Cube] = Cube
    screen: type[Screen] = Screen
    linear: bool = False

    def make(self, setting: Setting) -> Told:
        space = linear(setting.space) if self.linear else setting.space
        search = AsyncSearch(space, settings("async", setting))
        search._cube = self.cube(space)
        search._screen = self.screen(search._cube)
        return Told(search)


class _NoModel(Screen):
    def learn(self, known: Observations) -> bool:
        return False


class _BlindToPending(Screen):
    def learn(self, known: Observations) -> bool:
        number = len(known.losses)
        return super().learn(replace(known, rows=known.rows[:number], context=known.context[:number]))


class _BlindToFailures(Screen):
    def learn(self, known: Observations) -> bool:
        failed = np.flatnonzero(~np.isfinite(known.losses))
        rows, context = (np.delete(array, failed, axis=0) for array in (known.rows, known.context))
        losses, seconds = (np.delete(array, failed) for array in (known.losses, known.seconds))
        return super().learn(Observations(rows, context, losses, seconds))


class _AllFailures(Screen):
    def _without_strays(self, rows: Rows, losses: Any, chosen: Any) -> Any:
        return chosen


class _Uncapped(Screen):
    """But for failures, which are the worst of the losses seen."""

    cap = 1.0


class _OnlyImprovement(Screen):
    improvement = 1.0


class _OnlyBound(Screen):
    improvement = 0.0


class _NoDifferentialAsks(Screen):
    differential = 0.0


class _OneRound(Screen):
    """As many children, all of the elite."""

    rounds = 1

    def _bred(self, rng: np.random.Generator, elite: Rows, count: int) -> Rows:
        return super()._bred(rng, elite, count * Screen.rounds)


class _UniformChildren(Screen):
    """As many points of the whole cube in place of children."""

    rounds, differential = 1, 0.0

    def _bred(self, rng: np.random.Generator, elite: Rows, count: int) -> Rows:
        return self._cube.uniform(rng, count * Screen.rounds)


class _NoImmigrants(Screen):
    def _bred(self, rng: np.random.Generator, elite: Rows, count: int) -> Rows:
        return super()._bred(rng, elite, count)[: -(count // 12)]


class _EqualParents(Screen):
    def _picked(self, rng: np.random.Generator, elite: Rows, count: int) -> Rows:
        return elite[rng.integers(len(elite), size=count)]


class _OwnModel(Screen):
    """Another model than that of ``Screen``."""

    def __init__(self, cube: Cube) -> None:
        super().__init__(cube)
        self._model = self._made(cube)

    def _made(self, cube: Cube) -> GaussianProcess:
        raise NotImplementedError


class _OrderedCategories(_OwnModel):
    def _made(self, cube: Cube) -> GaussianProcess:
        return GaussianProcess(np.zeros_like(cube.categorical))


class _OneLength(_OwnModel):
    def _made(self, cube: Cube) -> GaussianProcess:
        return _Isotropic(cube.categorical)


class _Isotropic(GaussianProcess):
    def _loss(self, parameters: Any, *data: Any) -> tuple[float, Any]:
        """With one gradient for all lengths, which are equal at first and so remain equal."""
        loss, gradient = super()._loss(parameters, *data)
        ordered = int((~self.categorical).sum())
        gradient[:ordered] = gradient[:ordered].mean()
        return loss, gradient


class _NoPrior(_OwnModel):
    def _made(self, cube: Cube) -> GaussianProcess:
        model = GaussianProcess(cube.categorical)
        model._deviations = np.full_like(model._deviations, np.inf)
        return model


class _NoNoise(_OwnModel):
    def _made(self, cube: Cube) -> GaussianProcess:
        model = GaussianProcess(cube.categorical)
        model._bounds[-1] = (-11.0, -11.0)
        model.parameters[-1] = -11.0
        return model


class _Uniform(Cube):
    def latin(self, rng: np.random.Generator, count: int) -> Rows:
        return self.uniform(rng, count)


class _Undiffering(Cube):
    """Mutants in place of differential children."""

    def differ(self, rows: Rows, plus: Rows, minus: Rows, rng: np.random.Generator) -> Rows:
        return self.mutate(rows, rng)


class _UniformUndiffering(_Uniform, _Undiffering):
    """Neither a Latin hypercube nor differential children."""


class _OnlyMutants(Screen):
    improvement, differential = 1.0, 0.0


class _OneStep(Cube):
    sigmas = (0.08,)


ABLATIONS = {
    "no log scale": Ablation(linear=True),
    "no model: the children untested": Ablation(screen=_NoModel),
    "no evolution: the model's best of uniform draws": Ablation(screen=_UniformChildren),
    "one round of children": Ablation(screen=_OneRound),
    "no asks of differential children only": Ablation(screen=_NoDifferentialAsks),
    "mutants for differential children": Ablation(cube=_Undiffering),
    "no immigrants": Ablation(screen=_NoImmigrants),
    "parents drawn alike": Ablation(screen=_EqualParents),
    "mutations of one size": Ablation(cube=_OneStep),
    "expected improvement only": Ablation(screen=_OnlyImprovement),
    "confidence bound only": Ablation(screen=_OnlyBound),
    "pending trials not seen": Ablation(screen=_BlindToPending),
    "stray failures seen, too": Ablation(screen=_AllFailures),
    "failures not seen": Ablation(screen=_BlindToFailures),
    "losses not capped": Ablation(screen=_Uncapped),
    "categories as ordered numbers": Ablation(screen=_OrderedCategories),
    "one length for all parameters": Ablation(screen=_OneLength),
    "maximum likelihood, no prior": Ablation(screen=_NoPrior),
    "noise not modelled": Ablation(screen=_NoNoise),
    "uniform draws for the Latin hypercube": Ablation(cube=_Uniform),
    "no hypercube, differential children or bounds": Ablation(_UniformUndiffering, _OnlyMutants),
}


def entries() -> dict[str, Entry]:
    """The search itself first."""
    return {name: Entry(ablation.make) for name, ablation in {"async": Ablation(), **ABLATIONS}.items()}
