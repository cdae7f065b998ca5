"""Problems at the edges of what a search meets: failures, plateaus, one kind of parameters, one or very many."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from search_bench import synthetic
from search_bench.problems import Problem, Result
from search_bench.synthetic import Synthetic
from search_bench.tables import GRIDS
from search_bench.tabulated import load
from workflow.space import Space
from workflow.space_file import parse_space
from workflow.trial import Params

_MANY = 50
_KINDS = tuple("abcdef")


@dataclass(frozen=True)
class Failing:
    """Another problem of which a ``share`` of the trials fails, whatever their configuration."""

    base: Problem
    name: str
    share: float
    kind: str = "robust"
    split: str = "robust"

    @property
    def space(self) -> Space:
        return self.base.space

    @property
    def best(self) -> float | None:
        return self.base.best

    @property
    def worst(self) -> float:
        return self.base.worst

    def evaluate(self, params: Params, rng: np.random.Generator) -> Result:
        result = self.base.evaluate(params, rng)
        return Result(None, result.seconds) if rng.random() < self.share else result

    def truth(self, params: Params) -> float:
        return self.base.truth(params)


def _categorical(u: Mapping[str, float], best: Mapping[str, float], params: Params) -> float:
    """Values without an order: each costs something of its own, and some pairs do."""
    names = sorted(params)
    loss = sum(0.3 * _cost(name, str(params[name])) for name in names)
    pairs = itertools.pairwise(names)
    return loss + sum(0.2 * _cost(f"{a}{b}", f"{params[a]}{params[b]}") for a, b in pairs)


def _cost(place: str, value: str) -> float:
    """From 0 to 1, 0 for the value (or pair) of ones."""
    if set(value) == {"1"}:
        return 0.0
    return 0.2 + 0.8 * np.random.default_rng([ord(letter) for letter in place + value]).random()


def _single(u: Mapping[str, float], best: Mapping[str, float], params: Params) -> float:
    distance = u["learning_rate"] - best["learning_rate"]
    return 4 * distance**2 + 0.1 * (1 - math.cos(8 * math.pi * distance))


def _many(u: Mapping[str, float], best: Mapping[str, float], params: Params) -> float:
    """A few parameters matter much, most of them little."""
    return sum(4 / number * (u[f"x{number}"] - best[f"x{number}"]) ** 2 for number in range(1, _MANY + 1))


def _memory(u: Mapping[str, float], best: Mapping[str, float], params: Params) -> float:
    """Better with size, until the memory is full: half of the space fails, and the optimum stands at the border."""
    size = u["width"] + 0.6 * u["batch_size"] + 0.4 * u["layers"]
    if size > 1.0:
        return synthetic.FAILED
    limit = best["width"] + 0.6 * best["batch_size"] + 0.4 * best["layers"]
    loss = 6 * (u["learning_rate"] - best["learning_rate"]) ** 2 + 0.8 * (u["dropout"] - best["dropout"]) ** 2
    loss += 1.5 * max(0.0, limit - size) + 0.3 * (u["layers"] - best["layers"]) ** 2
    return loss + 0.12 * (params["optimizer"] != "adam") + 0.1 * (not params["batch_norm"])


def _base(name: str) -> Synthetic:
    return next(problem for problem in synthetic.SYNTHETIC if problem.name == name)


def _plateaued(name: str, diverged: float) -> Synthetic:
    """A problem with a loss that almost all random trials have in common."""
    return replace(_base(name), name=f"diverged_{name}", diverged=diverged, split="robust", kind="robust")


def _made(
    name: str, entries: list[dict[str, object]], excess: synthetic.Excess, optimum: Params, noise: float = 0.02
) -> Synthetic:
    return Synthetic(name, "robust", parse_space(entries, name), optimum, excess, noise, costs={}, kind="robust")


ROBUST: tuple[Problem, ...] = (
    Failing(_base("synthetic_smooth"), "failing_synthetic_smooth", 0.3),
    Failing(load(next(grid for grid in GRIDS if grid.name == "table_diabetes")), "failing_table_diabetes", 0.3),
    _plateaued("synthetic_ridge", 0.55),
    _plateaued("synthetic_multimodal", 1.15),
    _made(
        "memory",
        [
            synthetic.RATE, synthetic.BATCH, synthetic.DROPOUT, synthetic.LAYERS, synthetic.WIDTH, synthetic.OPTIMIZER,
            synthetic.NORM,
        ],
        _memory,
        {
            "learning_rate": 3e-4, "batch_size": 16, "dropout": 0.2, "layers": 3, "width": 1024, "optimizer": "adam",
            "batch_norm": True,
        },
    ),
    _made(
        "categorical",
        [
            {"name": name, "type": "categorical", "values": list("123456"), "element_type": "string"}
            for name in _KINDS
        ],
        _categorical, dict.fromkeys(_KINDS, "1"),
    ),
    _made("single", [synthetic.RATE], _single, {"learning_rate": 3e-4}, noise=0.002),
    _made(
        "fifty", [{"name": f"x{n}", "type": "float", "lower": 0.0, "upper": 1.0} for n in range(1, _MANY + 1)],
        _many, {f"x{n}": 0.2 + 0.6 * (n * 7 % 10) / 10 for n in range(1, _MANY + 1)},
    ),
)  # fmt: skip
