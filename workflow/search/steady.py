"""What the searches share that learn without generations: budget, ids, lost records, no configuration twice.

Every ask takes the state of that moment, so that the asks depend on the order of the tells.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workflow.search.base import NOTHING_NEW, keyed_rng
from workflow.search.settings import SearchSettings
from workflow.space import Genome, Space
from workflow.trial import Objective, Outcome, Params, Trial


@dataclass
class SteadySearch(ABC):
    """A strategy says what to try (``_suggest``), and hears of trials (``_added``) and of their outcomes (``tell``).

    ``initial`` are configurations that are asked for first. A configuration is asked for twice only with
    ``reevaluate``. The first of the ``objectives`` is an outcome's value, further ones are among its metrics.

    A strategy that goes through a finite space from its beginning:

    >>> from workflow.space_file import parse_space
    >>> class GridSearch(SteadySearch):
    ...     def _suggest(self, rng, trial_id):
    ...         return next(filter(self._is_new, self.space.grid()), None)
    ...     def _added(self, trial, genome):
    ...         pass
    ...     def tell(self, outcome):
    ...         pass
    >>> space = parse_space([{"name": "layers", "type": "int", "lower": 1, "upper": 3}], "an example")
    >>> search = GridSearch(space, SearchSettings())
    >>> [trial.params["layers"] for trial in iter(search.ask, None)]
    [1, 2, 3]
    >>> search.message
    'the space holds only 3 configurations, and each one was asked for'
    """

    space: Space
    settings: SearchSettings
    objectives: Sequence[Objective] = (Objective(),)
    initial: Sequence[Params] = ()

    repeatable = False

    def __post_init__(self) -> None:
        self._initial = deque(map(self.space.genome, self.initial))
        self._next_id = 0
        self._gaps: deque[int] = deque()
        """Ids of trials whose record was lost: whatever is asked for next takes them."""
        self._exhausted = False
        self._known: dict[Genome, int] = {}

    @property
    def budget(self) -> int:
        ceiling = math.inf if self.settings.reevaluate else self.space.size
        return int(min(self.settings.trials_without_generations, ceiling))

    @property
    def done(self) -> bool:
        return self._exhausted or not (self._gaps or self._has_budget)

    @property
    def message(self) -> str:
        if not self.done:
            return ""
        if self.budget < self.settings.trials_without_generations:
            return f"the space holds only {len(self._known)} configurations, and each one was asked for"
        return NOTHING_NEW if self._exhausted else ""

    @property
    def _has_budget(self) -> bool:
        return self._next_id < self.budget

    @property
    def _may_go_on(self) -> bool:
        """Whether what runs may lead to further trials, though there is no new configuration."""
        return False

    @property
    def _free_id(self) -> int:
        return self._gaps[0] if self._gaps else self._next_id

    def ask(self) -> Trial | None:
        if self.done:
            return None
        trial_id = self._free_id
        genome = self._propose(keyed_rng(self.settings.seed, trial_id), trial_id)
        if genome is None:
            self._exhausted = not self._may_go_on
            return None
        return self._record(genome, trial_id, self._first_fidelity())

    @abstractmethod
    def tell(self, outcome: Outcome) -> None: ...

    def restore(self, trial: Trial, outcome: Outcome | None) -> None:
        """Take a recorded trial as it is. One whose record was lost comes as another one under its id."""
        self._gaps.extend(range(self._next_id, trial.id))
        genome = self.space.genome(trial.params)
        if genome in self._initial:
            self._initial.remove(genome)
        self._record(genome, trial.id, trial.fidelity)
        if outcome is not None:
            self.tell(outcome)

    @abstractmethod
    def _suggest(self, rng: np.random.Generator, trial_id: int) -> Genome | None:
        """The strategy's next configuration, a new and allowed one; None if it has found none.

        ``rng`` depends on the seed and ``trial_id``, the number of the ask.
        """

    def _first_fidelity(self) -> float | None:
        """Of a new configuration; None for whole trainings."""
        return None

    @abstractmethod
    def _added(self, trial: Trial, genome: Genome) -> None:
        """A trial was asked for, or restored."""

    def _record(self, genome: Genome, trial_id: int, fidelity: float | None) -> Trial:
        if self._gaps and self._gaps[0] == trial_id:
            self._gaps.popleft()
        self._next_id = max(self._next_id, trial_id + 1)
        config_id = self._known.setdefault(genome, trial_id)
        params = self.space.params(genome)
        if fidelity is not None and self.settings.fidelity is not None and self.settings.fidelity.parameter in params:
            params = {**params, self.settings.fidelity.parameter: fidelity}
        trial = Trial(trial_id, config_id, params, fidelity=fidelity)
        self._added(trial, genome)
        return trial

    def _propose(self, rng: np.random.Generator, trial_id: int) -> Genome | None:
        """None if there is no configuration left."""
        while self._initial:
            genome = self._initial.popleft()
            if self._is_new(genome):
                return genome
        suggested = self._suggest(rng, trial_id)
        return self._rest(rng) if suggested is None else suggested

    def _is_new(self, genome: Genome) -> bool:
        return self.settings.reevaluate or genome not in self._known

    def _rest(self, rng: np.random.Generator) -> Genome | None:
        """Any configuration that is left, where all that were suggested are known."""
        if self.space.is_small:
            left = [genome for genome in self.space.grid() if self._is_new(genome)]
            return left[int(rng.integers(len(left)))] if left else None
        drawn = itertools.chain(itertools.islice(self.space.draws(rng), 1000), self.space.rest(rng))
        return next(filter(self._is_new, drawn), None)
