"""Synthetic mixed functions with noise, of the characters that searches of hyperparameters meet.

Each is ``floor + f(u)``: f is 0 at a stated configuration and positive elsewhere, u are positions from 0 to 1 on each
hyperparameter's scale. The forms follow the usual test functions (sphere, Rosenbrock 1960, Rastrigin 1974).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from search_bench.problems import Result, duration, positions
from workflow.space import Space
from workflow.space_file import parse_space
from workflow.trial import Params, Value

FAILED = math.inf
"""Of a function: the trial fails, as for want of memory."""

DIVERGED = 1e9
"""Of a function: beyond any problem's ``diverged``."""

Excess = Callable[[Mapping[str, float], Mapping[str, float], Params], float]
"""f from the positions, those of the best configuration, and the configuration."""


@dataclass(frozen=True)
class Synthetic:
    """``noise`` is the standard deviation of a loss near the optimum; it grows with the loss, like that of trainings.

    ``diverged`` is the loss that every diverged training has. ``costs`` are the weights of positions in the logarithm
    of the duration.
    """

    name: str
    split: str
    space: Space
    optimum: Params
    excess: Excess
    noise: float
    costs: Mapping[str, float]
    floor: float = 0.3
    diverged: float = 4.0
    kind: str = "synthetic"

    @property
    def best(self) -> float:
        return self.floor

    @property
    def worst(self) -> float:
        return self.floor + self.diverged

    def evaluate(self, params: Params, rng: np.random.Generator) -> Result:
        seconds, draw = duration(self.weight(params), rng, 0.2), rng.normal()
        excess = self._excess(positions(self.space, params), params)
        if excess == FAILED:
            return Result(None, 0.2 * seconds)
        if excess >= self.diverged:
            return Result(self.worst, seconds)
        return Result(self.floor + excess + self.noise * (1 + excess) * draw, seconds)

    def weight(self, params: Params) -> float:
        u = positions(self.space, params)
        return sum(cost * (u[name] - 0.5) for name, cost in self.costs.items())

    def truth(self, params: Params) -> float:
        return self.floor + self._excess(positions(self.space, params), params)

    def _excess(self, u: Mapping[str, float], params: Params) -> float:
        found = self.excess(u, positions(self.space, self.optimum), params)
        return found if found == FAILED else min(found, self.diverged)


def _number(name: str, lower: float, upper: float, log: bool = False) -> dict[str, Any]:
    kind = "int" if isinstance(lower, int) else "float"
    return {"name": name, "type": kind, "lower": lower, "upper": upper, "use_log_scale": log}


def _list(kind: str, name: str, *values: Value) -> dict[str, Any]:
    element_type = "string" if isinstance(values[0], str) else "int"
    return {"name": name, "type": kind, "values": list(values), "element_type": element_type}


def _logical(name: str) -> dict[str, Any]:
    return {"name": name, "type": "logical"}


RATE = _number("learning_rate", 1e-6, 1e-1, log=True)
DECAY = _number("weight_decay", 1e-8, 1e-1, log=True)
BATCH = _list("ordered", "batch_size", 16, 32, 64, 128, 256, 512)
DROPOUT = _number("dropout", 0.0, 0.8)
LAYERS = _number("layers", 1, 8)
WIDTH = _number("width", 16, 2048, log=True)
OPTIMIZER = _list("categorical", "optimizer", "sgd", "adam", "rmsprop")
ACTIVATION = _list("categorical", "activation", "relu", "tanh", "gelu", "elu")
NORM = _logical("batch_norm")


def _smooth(u: Mapping[str, float], best: Mapping[str, float], params: Params) -> float:
    """A bowl with one narrow and several flat directions; the optimizer shifts the best rate."""
    shift = {"sgd": 0.25, "adam": 0.0, "rmsprop": 0.05}[str(params["optimizer"])]
    loss = 12 * (u["learning_rate"] - best["learning_rate"] - shift) ** 2
    for name, weight in (("weight_decay", 0.4), ("batch_size", 0.8), ("dropout", 1.5), ("layers", 0.7), ("width", 1.2)):
        loss += weight * (u[name] - best[name]) ** 2
    return loss + 0.15 * (params["optimizer"] != "adam") + 0.1 * (not params["batch_norm"])


def _multimodal(u: Mapping[str, float], best: Mapping[str, float], params: Params) -> float:
    """Rastrigin's waves on a bowl over the numbers; categories add offsets that do not order them."""
    loss = 0.0
    for name in ("learning_rate", "weight_decay", "dropout", "width", "momentum"):
        d = u[name] - best[name]
        loss += 1.5 * d**2 + 0.12 * (1 - math.cos(6 * math.pi * d))
    loss += 0.5 * abs(u["layers"] - best["layers"])
    offsets = {"relu": 0.2, "tanh": 0.5, "gelu": 0.0, "elu": 0.3}
    return loss + offsets[str(params["activation"])] + 0.2 * (params["batch_norm"] != (params["activation"] == "gelu"))


def _ridge(u: Mapping[str, float], best: Mapping[str, float], params: Params) -> float:
    """Curved valleys: rate follows batch size and depth, decay follows rate, dropout follows width."""
    rate = u["learning_rate"] - best["learning_rate"]
    batch, depth = u["batch_size"] - best["batch_size"], u["layers"] - best["layers"]
    valley = rate - 0.4 * batch + 0.5 * depth * abs(depth)
    second = (u["weight_decay"] - best["weight_decay"]) + 0.7 * rate
    third = (u["dropout"] - best["dropout"]) - 0.8 * (u["width"] - best["width"])
    loss = 14 * valley**2 + 3 * second**2 + 3 * third**2
    loss += 0.6 * batch**2 + 0.4 * depth**2 + 0.6 * (u["width"] - best["width"]) ** 2
    return loss + 0.25 * abs(u["clip"] - best["clip"]) + 0.12 * (params["batch_norm"] != (params["optimizer"] == "sgd"))


def _plateau(u: Mapping[str, float], best: Mapping[str, float], params: Params) -> float:
    """Most rates diverge, and large networks in large batches fail, as in two published campaigns."""
    if u["width"] + 0.6 * u["batch_size"] + 0.5 * u["layers"] > 1.55:
        return FAILED
    limit = 0.62 - 0.25 * u["layers"] + 0.1 * (params["optimizer"] == "sgd") + 0.1 * bool(params["batch_norm"])
    if u["learning_rate"] > limit:
        return DIVERGED
    loss = 5 * (u["learning_rate"] - best["learning_rate"]) ** 2 + 0.4 * abs(u["width"] - best["width"])
    loss += 0.8 * (u["dropout"] - best["dropout"]) ** 2 + 0.3 * (u["layers"] - best["layers"]) ** 2
    loss += 0.3 * (u["batch_size"] - best["batch_size"]) ** 2
    return loss + 0.12 * (params["optimizer"] != "adam") + 0.1 * (not params["batch_norm"])


def _flat(u: Mapping[str, float], best: Mapping[str, float], params: Params) -> float:
    """A narrow funnel in a broad flat of trainings that learn nothing: their losses differ by noise only."""
    wide = {"warmup": 0.5, "weight_decay": 0.4, "batch_size": 0.6, "dropout": 0.5, "momentum": 0.6}
    distance = 9 * (u["learning_rate"] - best["learning_rate"]) ** 2
    distance += sum(weight * (u[name] - best[name]) ** 2 for name, weight in wide.items())
    distance += 0.15 * (params["schedule"] not in ("cosine", "linear")) + 0.06 * (params["schedule"] == "linear")
    distance += 0.12 * (not params["batch_norm"])
    return 1.6 * (1 - math.exp(-2.2 * distance))


def _conditional(u: Mapping[str, float], best: Mapping[str, float], params: Params) -> float:
    """Each optimizer is a landscape of its own, and some hyperparameters act under one of them only."""
    rate, kind = u["learning_rate"], params["optimizer"]
    loss = 0.5 * (u["width"] - best["width"]) ** 2 + 0.8 * (u["dropout"] - best["dropout"]) ** 2
    if kind == "sgd":
        loss += 8 * (rate - 0.8 + 0.3 * u["momentum"]) ** 2 + 0.5 * (u["momentum"] - best["momentum"]) ** 2
        loss += 0.2 * (not params["nesterov"])
    elif kind == "adam":
        loss += 0.35 + 3 * (rate - 0.4) ** 2 + 0.4 * u["weight_decay"] ** 2
    else:
        loss += 0.5 + 3 * (rate - 0.3) ** 2
    loss += 0.5 * (u["layers"] - best["layers"] - 0.2 * (kind == "adam")) ** 2
    return loss


def _make(name: str, split: str, entries: list[dict[str, Any]], excess: Excess, **rest: Any) -> Synthetic:
    return Synthetic(f"synthetic_{name}", split, parse_space(entries, name), excess=excess, **rest)


SYNTHETIC = (
    _make(
        "smooth", "tuned", [RATE, DECAY, BATCH, DROPOUT, LAYERS, WIDTH, OPTIMIZER, NORM], _smooth,
        optimum={
            "learning_rate": 7e-4, "weight_decay": 3e-5, "batch_size": 64, "dropout": 0.25, "layers": 3, "width": 400,
            "optimizer": "adam", "batch_norm": True,
        },
        noise=0.02, costs={"batch_size": -1.5, "layers": 1.0, "width": 1.2},
    ),
    _make(
        "multimodal", "held_out",
        [RATE, DECAY, DROPOUT, LAYERS, WIDTH, _number("momentum", 0.0, 0.99), ACTIVATION, NORM], _multimodal,
        optimum={
            "learning_rate": 2e-3, "weight_decay": 1e-6, "dropout": 0.3, "layers": 5, "width": 150, "momentum": 0.8,
            "activation": "gelu", "batch_norm": True,
        },
        noise=0.03, costs={"layers": 1.2, "width": 1.2},
    ),
    _make(
        "ridge", "held_out",
        [RATE, DECAY, BATCH, DROPOUT, LAYERS, WIDTH, _number("clip", 0.1, 10.0, True), OPTIMIZER, NORM], _ridge,
        optimum={
            "learning_rate": 3e-4, "weight_decay": 1e-4, "batch_size": 128, "dropout": 0.4, "layers": 4, "width": 256,
            "clip": 1.0, "optimizer": "rmsprop", "batch_norm": False,
        },
        noise=0.02, costs={"batch_size": -2.0, "layers": 0.8, "width": 0.8},
    ),
    _make(
        "plateau", "tuned", [RATE, BATCH, DROPOUT, LAYERS, WIDTH, OPTIMIZER, NORM], _plateau,
        optimum={
            "learning_rate": 2e-4, "batch_size": 64, "dropout": 0.15, "layers": 3, "width": 512, "optimizer": "adam",
            "batch_norm": True,
        },
        noise=0.02, costs={"batch_size": -1.5, "layers": 1.0, "width": 1.0},
    ),
    _make(
        "flat", "held_out",
        [
            RATE, DECAY, BATCH, DROPOUT, _number("momentum", 0.0, 0.99), _number("warmup", 0, 20),
            _list("categorical", "schedule", "constant", "step", "linear", "cosine"), NORM,
        ],
        _flat,
        optimum={
            "learning_rate": 5e-3, "weight_decay": 1e-5, "batch_size": 32, "dropout": 0.2, "momentum": 0.9, "warmup": 5,
            "schedule": "cosine", "batch_norm": True,
        },
        noise=0.03, costs={"batch_size": -2.0},
    ),
    _make(
        "conditional", "tuned",
        [
            RATE, DECAY, DROPOUT, LAYERS, WIDTH, _number("momentum", 0.0, 0.99),
            _list("categorical", "optimizer", "sgd", "adam", "rmsprop"), _logical("nesterov"),
        ],
        _conditional,
        optimum={
            "learning_rate": 10 ** (-6 + 5 * (0.8 - 0.3 * 0.85 / 0.99)), "weight_decay": 1e-5, "dropout": 0.2,
            "layers": 4, "width": 300, "momentum": 0.85, "optimizer": "sgd", "nesterov": True,
        },
        noise=0.02, costs={"layers": 1.5, "width": 1.5},
    ),
)  # fmt: skip
