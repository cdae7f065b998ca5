"""Random search: every trial an independent draw from the space."""

from __future__ import annotations

import itertools
from collections import deque

import numpy as np

from workflow.search.base import keyed_rng
from workflow.search.steady import SteadySearch
from workflow.space import Genome
from workflow.trial import Outcome, Trial

_REDRAWS = 100


class RandomSearch(SteadySearch):
    """Draws keyed by (seed, number of the ask), so that a trial whose record was lost is drawn again as it was.

    >>> from workflow.search.settings import SearchSettings
    >>> from workflow.space_file import parse_space
    >>> space = parse_space([{"name": "x", "type": "float", "lower": -1, "upper": 1}], "an example")
    >>> first, second = (RandomSearch(space, SearchSettings(evaluations=3)) for _ in range(2))
    >>> asked = list(iter(first.ask, None))
    >>> second.restore(asked[1], None)
    >>> [second.ask(), second.ask()] == [asked[0], asked[2]]
    True
    """

    repeatable = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._lost: deque[Trial] = deque()

    @property
    def done(self) -> bool:
        return not self._lost and super().done

    def ask(self) -> Trial | None:
        return self._lost.popleft() if self._lost else super().ask()

    def tell(self, outcome: Outcome) -> None:
        """Nothing is learned from an outcome."""

    def restore(self, trial: Trial, outcome: Outcome | None) -> None:
        while self._next_id < trial.id:
            number = self._next_id
            genome = self._propose(keyed_rng(self.settings.seed, number), number)
            assert genome is not None, "what was asked for can be drawn again"
            self._lost.append(self._record(genome, number, None))
        super().restore(trial, outcome)

    def _suggest(self, rng: np.random.Generator, trial_id: int) -> Genome | None:
        return next(filter(self._is_new, itertools.islice(self.space.draws(rng), _REDRAWS)), None)

    def _added(self, trial: Trial, genome: Genome) -> None:
        """Nothing has to be kept of it."""
