"""Random search: every trial an independent draw from the space."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from workflow.search.base import SearchSettings, keyed_rng
from workflow.space import Space
from workflow.trial import Outcome, Params, Trial, Value

_REDRAWS = 100


@dataclass
class RandomSearch:
    """Draws keyed by (seed, number of the ask); a configuration is drawn twice only with ``reevaluate``.

    ``initial`` are configurations that are asked for first.
    """

    space: Space
    settings: SearchSettings
    mode: str = "min"
    initial: Sequence[Params] = ()
    message: str = ""
    repeatable: bool = True

    def __post_init__(self) -> None:
        self._next_id = 0
        self._known: dict[tuple[Value, ...], int] = {}
        self._lost: deque[Trial] = deque()

    @property
    def budget(self) -> int:
        ceiling = math.inf if self.settings.reevaluate else self.space.size
        return int(min(self.settings.trials_without_generations, ceiling))

    @property
    def done(self) -> bool:
        if self._lost or self._next_id < self.budget:
            return False
        if self.budget < self.settings.trials_without_generations:
            self.message = f"the space holds only {self.budget} configurations, and each one was asked for"
        return True

    def ask(self) -> Trial | None:
        if self._lost:
            return self._lost.popleft()
        if self.done:
            return None
        return self._record(self._draw(self._next_id))

    def tell(self, outcome: Outcome) -> None:
        """Nothing is learned from an outcome."""

    def restore(self, trial: Trial, outcome: Outcome | None) -> None:
        """Take a recorded trial as it is; trials of which the record was lost are drawn again."""
        while self._next_id < trial.id:
            self._lost.append(self._record(self._draw(self._next_id)))
        self._record(tuple(trial.params[p.name] for p in self.space.varying))

    def _record(self, genome: tuple[Value, ...]) -> Trial:
        trial_id, self._next_id = self._next_id, self._next_id + 1
        config_id = self._known.setdefault(genome, trial_id)
        params = self.space.complete(dict(zip((p.name for p in self.space.varying), genome, strict=True)))
        return Trial(trial_id, config_id, params)

    def _draw(self, number: int) -> tuple[Value, ...]:
        if number < len(self.initial):
            genome = tuple(self.initial[number][p.name] for p in self.space.varying)
            if self.settings.reevaluate or genome not in self._known:
                return genome
        rng = keyed_rng(self.settings.seed, number)
        for _ in range(_REDRAWS):
            genome = tuple(p.draw(rng) for p in self.space.varying)
            if self.settings.reevaluate or genome not in self._known:
                return genome
        if math.isinf(self.space.size):
            return genome
        unknown = [g for g in self.space.grid() if g not in self._known]
        return unknown[int(rng.integers(len(unknown)))]
