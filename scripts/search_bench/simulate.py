"""A simulated campaign: asynchronous workers, the durations of the problem, and what a search makes of them.

Budgets are read off one run: the incumbent at a budget is that of the trials that had ended by then.
"""

from __future__ import annotations

import heapq
import time
from dataclasses import dataclass, field
from typing import Protocol

from search_bench.problems import Problem
from workflow.search.base import keyed_rng
from workflow.trial import Params


@dataclass(frozen=True)
class Finished:
    """A trial that ended: the key of its ask, its loss (None for a failure), and its times in seconds."""

    key: int
    params: Params
    loss: float | None
    started: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.started


class Optimizer(Protocol):
    """Generational ones return None from ``ask`` until their generation has been told; so their workers wait."""

    def ask(self, key: int) -> Params | None: ...

    def tell(self, finished: Finished) -> None: ...


@dataclass
class Campaign:
    """One run of an optimizer.

    ``finished`` is in the order of the ends, ``search_seconds`` are the processor's in ask and tell.
    """

    problem: Problem
    optimizer: Optimizer
    workers: int
    seed: int
    finished: list[Finished] = field(default_factory=list)
    search_seconds: float = 0.0

    def __post_init__(self) -> None:
        self._running: list[tuple[float, int, Finished]] = []
        self._asked = 0
        self._now = 0.0

    def run(self, budget: int) -> None:
        """Until ``budget`` trials ended or the optimizer has none left."""
        while len(self.finished) < budget:
            while len(self._running) < self.workers and self._asked < budget and self._start():
                pass
            if not self._running:
                return
            self._end()

    def _start(self) -> bool:
        """Start the optimizer's next trial; its noise depends on the seed and its number, as for all optimizers."""
        begin = time.process_time()
        params = self.optimizer.ask(self._asked)
        self.search_seconds += time.process_time() - begin
        if params is None:
            return False
        result = self.problem.evaluate(params, keyed_rng(self.seed, self._asked))
        trial = Finished(self._asked, params, result.loss, self._now, self._now + result.seconds)
        heapq.heappush(self._running, (trial.ended, trial.key, trial))
        self._asked += 1
        return True

    def _end(self) -> None:
        self._now, _, trial = heapq.heappop(self._running)
        self.finished.append(trial)
        begin = time.process_time()
        self.optimizer.tell(trial)
        self.search_seconds += time.process_time() - begin

    def incumbent(self, budget: int) -> Params | None:
        """The configuration with the least noisy loss among the first ``budget`` trials; None if all failed."""
        losses = [(trial.loss, trial.key, trial) for trial in self.finished[:budget] if trial.loss is not None]
        return min(losses)[2].params if losses else None

    @property
    def wall_seconds(self) -> float:
        return self._now

    @property
    def busy_seconds(self) -> float:
        return sum(trial.seconds for trial in self.finished)
