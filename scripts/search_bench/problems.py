"""What a problem of the benchmark is, and the list of all of them.

A problem gives noisy losses, as a campaign would see them, and the true loss, by which an incumbent is scored. It is
``tuned`` if our searches' settings may be chosen by it, else ``held_out``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from workflow.parameters import Choice, Number, Parameter
from workflow.space import Space
from workflow.trial import Params, Value

SCALES = Path(__file__).parent / "scales.json"
SPLITS = ("held_out", "tuned")
KINDS = ("synthetic", "table", "live")
TYPICAL_SECONDS = 600.0
"""Median duration of a trial in the simulated campaigns, of the order of the published medium ones'."""


@dataclass(frozen=True)
class Result:
    """The noisy loss of a trial, None where it failed, and its simulated duration in seconds."""

    loss: float | None
    seconds: float


class Problem(Protocol):
    """``kind`` is ``synthetic``, ``table`` or ``live``.

    ``best`` is the least true loss, None where nobody knows it; ``worst`` that of a search without any success.
    """

    name: str
    kind: str
    split: str
    space: Space
    best: float | None
    worst: float

    def evaluate(self, params: Params, rng: np.random.Generator) -> Result: ...

    def truth(self, params: Params) -> float:
        """The expected loss of a configuration whose trial succeeded."""


@dataclass(frozen=True)
class Scale:
    """Regret is 0 at ``best``, the best known true loss, and 1 at ``random``.

    ``random`` is the median over repetitions of the true loss of random search's incumbent after 16 trials.
    """

    best: float
    random: float

    def regret(self, truth: float) -> float:
        return (truth - self.best) / (self.random - self.best)


def read_scales() -> dict[str, Scale]:
    return {name: Scale(**scale) for name, scale in json.loads(SCALES.read_text()).items()}


def position(parameter: Parameter, value: Value) -> float:
    """A value's place from 0 to 1, on the parameter's scale; a category's is its index over their number less one."""
    if isinstance(parameter, Number):
        lower, upper, here = (
            math.log10(v) if parameter.log else float(v) for v in (parameter.lower, parameter.upper, float(value))
        )
        return (here - lower) / (upper - lower)
    if isinstance(parameter, Choice):
        return parameter.elements.index(value) / (len(parameter.elements) - 1)
    return float(value)


def positions(space: Space, params: Mapping[str, Value]) -> dict[str, float]:
    return {p.name: position(p, params[p.name]) for p in space.varying}


def duration(weight: float, rng: np.random.Generator, spread: float) -> float:
    """Seconds of a trial whose hyperparameters make it ``exp(weight)`` times as long as the typical one.

    Walltimes of the published campaigns have a standard deviation of 0.1 to 1.2 in their logarithm, most of which the
    hyperparameters explain; ``spread`` is that of the rest.
    """
    return TYPICAL_SECONDS * math.exp(weight + rng.normal(0.0, spread))
