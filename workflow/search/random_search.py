"""Random search: every trial an independent draw from the space."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from workflow.search.base import NOTHING_NEW, SearchSettings, keyed_rng
from workflow.space import Genome, Space
from workflow.trial import Outcome, Params, Trial

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
        self._known: dict[Genome, int] = {}
        self._lost: deque[Trial] = deque()
        self._exhausted = False

    @property
    def budget(self) -> int:
        ceiling = math.inf if self.settings.reevaluate else self.space.size
        return int(min(self.settings.trials_without_generations, ceiling))

    @property
    def done(self) -> bool:
        if self._lost or (self._next_id < self.budget and not self._exhausted):
            return False
        if self.budget < self.settings.trials_without_generations:
            self.message = f"the space holds only {self.budget} configurations, and each one was asked for"
        return True

    def ask(self) -> Trial | None:
        if self._lost:
            return self._lost.popleft()
        if self.done:
            return None
        genome = self._draw(self._next_id)
        if genome is None:
            self._exhausted, self.message = True, NOTHING_NEW
            return None
        return self._record(genome)

    def tell(self, outcome: Outcome) -> None:
        """Nothing is learned from an outcome."""

    def restore(self, trial: Trial, outcome: Outcome | None) -> None:
        """Take a recorded trial as it is; trials of which the record was lost are drawn again."""
        while self._next_id < trial.id:
            genome = self._draw(self._next_id)
            assert genome is not None, "what was asked for can be drawn again"
            self._lost.append(self._record(genome))
        self._record(self.space.genome(trial.params))

    def _record(self, genome: Genome) -> Trial:
        trial_id, self._next_id = self._next_id, self._next_id + 1
        config_id = self._known.setdefault(genome, trial_id)
        return Trial(trial_id, config_id, self.space.params(genome))

    def _draw(self, number: int) -> Genome | None:
        """None if there is no configuration left."""
        if number < len(self.initial) and self._is_new(genome := self.space.genome(self.initial[number])):
            return genome
        rng = keyed_rng(self.settings.seed, number)
        drawn = itertools.islice(self.space.draws(rng), _REDRAWS)
        for genome in filter(self._is_new, drawn):
            return genome
        left = list(filter(self._is_new, self.space.rest()))
        return left[int(rng.integers(len(left)))] if left else None

    def _is_new(self, genome: Genome) -> bool:
        return self.settings.reevaluate or genome not in self._known
