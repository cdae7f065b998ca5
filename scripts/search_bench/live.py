"""Problems that train an estimator of scikit-learn for every trial; the losses are kept in a cache file.

A trial's loss is that of one split and initialisation; the truth is the mean over other ones. Durations are drawn, not
measured, so that a run can be repeated on any machine.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from search_bench import lines
from search_bench.problems import Result, duration, position
from workflow.space import Space
from workflow.space_file import parse_space
from workflow.trial import Params

TRIAL_SEEDS = 1000
"""Seeds below are drawn for trials, those from here on score incumbents."""

TRUTH_SEEDS = range(TRIAL_SEEDS, TRIAL_SEEDS + 8)

Training = Callable[[Params, int], float]


@dataclass
class Cache:
    """Losses by problem, configuration and seed, in a file of JSON lines; None for a training that failed."""

    path: Path | None = None
    known: dict[str, float | None] = field(default_factory=dict)

    def open(self, path: Path) -> None:
        self.path = path
        lines.mend(path)
        self.known |= dict(lines.read(path))

    def add(self, key: str, loss: float | None) -> None:
        self.known[key] = loss
        if self.path is not None:
            lines.append(self.path, [key, loss])


CACHE = Cache()


@dataclass(frozen=True)
class Live:
    """``costs`` are the weights of positions in the logarithm of the duration."""

    name: str
    split: str
    space: Space
    training: Training
    costs: dict[str, float]
    worst: float
    kind: str = "live"
    best: float | None = None

    def evaluate(self, params: Params, rng: np.random.Generator) -> Result:
        seed = int(rng.integers(TRIAL_SEEDS))
        varying = {p.name: p for p in self.space.varying}
        weight = sum(cost * (position(varying[name], params[name]) - 0.5) for name, cost in self.costs.items())
        return Result(self._loss(params, seed), duration(weight, rng, 0.3))

    def truth(self, params: Params) -> float:
        losses = [self._loss(params, seed) for seed in TRUTH_SEEDS]
        return float(np.mean([self.worst if loss is None else loss for loss in losses]))

    def _loss(self, params: Params, seed: int) -> float | None:
        key = json.dumps([self.name, dict(params), seed], sort_keys=True)
        if key not in CACHE.known:
            CACHE.add(key, self._trained(params, seed))
        return CACHE.known[key]

    def _trained(self, params: Params, seed: int) -> float | None:
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")  # trainings that do not converge are part of a search
                loss = self.training(params, seed)
        except (ValueError, FloatingPointError):  # scikit-learn's words for weights that overflowed
            return None
        return min(loss, self.worst) if math.isfinite(loss) else None


def _boosting(params: Params, seed: int) -> float:
    """Friedman's first function with noise, by gradient boosting of trees on a sample: squared error of others."""
    from sklearn.datasets import make_friedman1
    from sklearn.ensemble import GradientBoostingRegressor

    x, y = make_friedman1(n_samples=2000, noise=1.0, random_state=0)
    train = np.random.default_rng(seed).choice(1000, 250, replace=False)
    settings: dict[str, Any] = dict(params)
    settings["criterion"] = "friedman_mse" if settings.pop("friedman_criterion") else "squared_error"
    model = GradientBoostingRegressor(random_state=seed, **settings).fit(x[train], y[train])
    return float(np.mean((model.predict(x[1000:]) - y[1000:]) ** 2) / np.var(y[1000:]))


def _perceptron(params: Params, seed: int) -> float:
    """Digits by scikit-learn's multi-layer perceptron on a small sample: log loss of the others."""
    from sklearn.datasets import load_digits
    from sklearn.metrics import log_loss
    from sklearn.neural_network import MLPClassifier

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    train, valid = order[:240], order[240:840]
    layers = (int(params["width"]),) * int(params["layers"])
    model = MLPClassifier(
        layers, activation=params["activation"], solver=params["solver"], alpha=params["alpha"],
        batch_size=params["batch_size"], learning_rate_init=params["learning_rate"], max_iter=12, random_state=seed,
    )  # fmt: skip
    model.fit(x[train] / (16.0 if params["scaled"] else 1.0), y[train])
    probabilities = model.predict_proba(x[valid] / (16.0 if params["scaled"] else 1.0))
    return float(log_loss(y[valid], np.clip(probabilities, 1e-6, 1.0), labels=range(10)))


_BOOSTING_SPACE = [
    {"name": "learning_rate", "type": "float", "lower": 0.003, "upper": 1.0, "use_log_scale": True},
    {"name": "n_estimators", "type": "int", "lower": 5, "upper": 80, "use_log_scale": True},
    {"name": "max_depth", "type": "ordered", "values": [1, 2, 3, 4, 6, 8], "element_type": "int"},
    {"name": "min_samples_leaf", "type": "int", "lower": 1, "upper": 40, "use_log_scale": True},
    {"name": "subsample", "type": "float", "lower": 0.2, "upper": 1.0},
    {"name": "max_features", "type": "float", "lower": 0.1, "upper": 1.0},
    {"name": "loss", "type": "categorical", "values": ["squared_error", "absolute_error", "huber"],
     "element_type": "string"},
    {"name": "friedman_criterion", "type": "logical"},
]  # fmt: skip

_PERCEPTRON_SPACE = [
    {"name": "learning_rate", "type": "float", "lower": 1e-4, "upper": 1.0, "use_log_scale": True},
    {"name": "alpha", "type": "float", "lower": 1e-6, "upper": 10.0, "use_log_scale": True},
    {"name": "width", "type": "int", "lower": 4, "upper": 64, "use_log_scale": True},
    {"name": "layers", "type": "int", "lower": 1, "upper": 3},
    {"name": "batch_size", "type": "ordered", "values": [16, 32, 64, 128], "element_type": "int"},
    {"name": "activation", "type": "categorical", "values": ["relu", "tanh", "logistic"], "element_type": "string"},
    {"name": "solver", "type": "categorical", "values": ["sgd", "adam"], "element_type": "string"},
    {"name": "scaled", "type": "logical"},
]

LIVE = (
    Live(
        "live_boosting", "tuned", parse_space(_BOOSTING_SPACE, "live_boosting"), _boosting,
        {"n_estimators": 2.0, "max_depth": 0.8}, worst=3.0,
    ),
    Live(
        "live_perceptron", "held_out", parse_space(_PERCEPTRON_SPACE, "live_perceptron"), _perceptron,
        {"batch_size": -1.5, "width": 0.6, "layers": 0.6}, worst=8.0,
    ),
)  # fmt: skip
