"""Asynchronous successive halving (Li et al. 2020): trials start small, and the best of them go on.

A configuration's trainings stand on rungs, each with ``eta`` times what the rung below has. Whenever a worker is free
and a rung has promoted fewer than 1 / eta of its configurations, one of them goes on to the next rung; else a new one
starts. Unlike there, new ones leave a low rung as soon as it has shown what it can, and who goes on is the caller's
choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from workflow.search.arrays import Array

_ENOUGH = 12
"""Configurations on a rung after which new ones start on the next, but for the highest rung: that is for promoted ones.

12 did no worse than 6, 24 and 48 on the benchmark's tables of learning curves, in a few seeds each.
"""


Losses = tuple[float, ...]
"""One for each objective; infinite for a trial that failed."""


@dataclass(frozen=True)
class Fidelity:
    """What a training may have less of: ``parameter``, a constant of the space, from ``min`` to ``max``.

    ``resumes`` tells that a longer training goes on from the checkpoint of the shorter one.
    """

    parameter: str
    min: float
    max: float
    eta: float = 3.0
    resumes: bool = False

    @property
    def rungs(self) -> tuple[int | float, ...]:
        """The values of the parameter, the least first: ``max`` divided by powers of ``eta``.

        Whole numbers where ``min`` and ``max`` are. ``min`` itself is one only where it is so divided.
        """
        whole = float(self.min).is_integer() and float(self.max).is_integer()
        count = 1 + math.floor(math.log(self.max / self.min) / math.log(self.eta) + 1e-9)
        values = [self.max / self.eta**power for power in reversed(range(count))]
        return tuple(dict.fromkeys(round(value) if whole else value for value in values))

    def position(self, value: float) -> float:
        """From 0 for ``min`` to 1 for ``max``, by their ratio."""
        return math.log(value / self.min) / math.log(self.max / self.min)


class Ladder:
    """Which configuration stands on which rung, by their ids. Rungs are the values of the fidelity, the least first.

    Methods count rungs from 0, the least. Told of every training's begin and end:

    >>> ladder = Ladder([10, 30], eta=3, resumes=False)
    >>> for config_id in range(3):
    ...     ladder.begin(config_id, rung=0)
    ...     ladder.end(config_id, 0, losses=(float(config_id),))
    >>> ladder.promotable()
    (1, {0: (0.0,), 1: (1.0,), 2: (2.0,)})
    >>> ladder.begin(0, rung=1)
    >>> ladder.promotable() is None
    True
    """

    def __init__(self, rungs: Sequence[float], eta: float, *, resumes: bool) -> None:
        self.rungs = tuple(rungs)
        self._eta = eta
        self._resumes = resumes
        self._begun: list[set[int]] = [set() for _ in rungs]
        self._promoted = [0 for _ in rungs]
        self._losses: list[dict[int, Losses]] = [{} for _ in rungs]

    def rung(self, value: float | None) -> int:
        """The rung of a trial's fidelity; the highest one for a whole training."""
        return len(self.rungs) - 1 if value is None else int(np.argmin(np.abs(np.array(self.rungs) - value)))

    def cost(self, rung: int, config_id: int | None = None) -> float:
        """Of a training of a configuration (None for a new one), in whole trainings: 1 for one on the highest rung."""
        before = [r for r in range(rung) if self._resumes and config_id in self._losses[r]]
        return (self.rungs[rung] - (self.rungs[before[-1]] if before else 0.0)) / self.rungs[-1]

    def begin(self, config_id: int, rung: int) -> None:
        """On a rung above one on which it has begun before, a configuration counts as promoted."""
        self._begun[rung].add(config_id)
        if rung and config_id in self._begun[rung - 1]:
            self._promoted[rung - 1] += 1

    def end(self, config_id: int, rung: int, losses: Losses) -> None:
        """A trial that failed is never promoted."""
        self._losses[rung][config_id] = losses

    @property
    def start(self) -> int:
        """The rung on which a new configuration starts."""
        filling = (rung for rung, begun in enumerate(self._begun[:-1]) if len(begun) < _ENOUGH)
        return next(filling, max(0, len(self.rungs) - 2))

    def promotable(self) -> tuple[int, dict[int, Losses]] | None:
        """The rung to which a configuration is to go on, and those that may, by id, with their losses on the one below.

        None where no rung has promoted fewer than 1 / eta of its configurations.
        """
        for rung in reversed(range(len(self.rungs) - 1)):
            losses, above = self._losses[rung], self._begun[rung + 1]
            if self._promoted[rung] < int(len(losses) / self._eta):
                waiting = {c: loss for c, loss in losses.items() if c not in above and _is_finite(loss)}
                if waiting:
                    return rung + 1, waiting
        return None

    def gains(self) -> list[Array]:
        """What the losses on each rung have to gain until the highest one.

        That is what each rung above adds in the median of the configurations that were trained on both. An array of
        shape (objectives,) for each rung; (1,), for all of them, where no configuration was.
        """
        found = [np.zeros(1)]
        for below, above in zip(self._losses[-2::-1], self._losses[:0:-1], strict=True):
            found.append(found[-1] + _gain(below, above))
        return found[::-1]


def _gain(below: Mapping[int, Losses], above: Mapping[int, Losses]) -> Array:
    both = [c for c in above if c in below and _is_finite(above[c]) and _is_finite(below[c])]
    if not both:
        return np.zeros(1)
    gained = np.array([above[c] for c in both]) - np.array([below[c] for c in both])
    return np.asarray(np.median(gained, axis=0))


def _is_finite(losses: Losses) -> bool:
    return all(map(math.isfinite, losses))
