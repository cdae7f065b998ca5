"""A cluster in virtual time, as a runner of the real campaign.

Nothing happens by itself: ``advance`` lets events happen, in the order of their times, until an attempt has ended.
Nodes come as blocks that end by a walltime or by a failure; a node's next block waits in the queue.
"""

from __future__ import annotations

import heapq
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np

from workflow.durations import Expectation
from workflow.search.base import keyed_rng
from workflow.stages import StageName
from workflow.state import Inputs, Record
from workflow.trial import Cause, Kind, Outcome, Params, Trial

_FRESH = 0.9
"""The share of a block for which a training waits that would need more, as in ``workflow.supervise``."""

_FRESH_UNMEASURED = 0.5
"""The same for a training of which only the time-out is known."""

_HESITATION = 30.0
"""Seconds for which a worker keeps a training that had better run elsewhere, before it hands it back."""


class Training(Protocol):
    """How a training goes that nothing disturbs; one without a finite loss fails."""

    @property
    def loss(self) -> float: ...

    @property
    def seconds(self) -> float: ...


class Trainings(Protocol):
    def run(self, number: int, params: Params) -> Training: ...


@dataclass(frozen=True)
class Machine:
    """``workers`` on nodes of ``per_node``. All times are in seconds.

    ``queue`` is the mean time for which a block waits, ``time_to_failure`` the mean one after which its node is lost.
    """

    workers: int
    per_node: int = 8
    walltime: float = math.inf
    queue: float = 0.0
    time_to_failure: float = math.inf
    seed: int = 1


@dataclass(eq=False, slots=True)
class _Attempt:
    trial: Trial
    number: int
    avoid: frozenset[str]
    expected: Expectation | None
    future: Future[Outcome] = field(default_factory=Future)
    started: float | None = None


@dataclass(eq=False)
class _Node:
    """``block`` counts its blocks; ``began`` and ``end`` are the times of the present one, if it is up."""

    number: int
    workers: int
    block: int = 0
    began: float = 0.0
    end: float = math.inf
    is_up: bool = False
    drains: bool = False
    running: set[_Attempt] = field(default_factory=set)

    @property
    def name(self) -> str:
        return f"node{self.number}"


class Cluster:
    """``available`` and ``busy`` are seconds of workers: those of ended blocks, and those in which an attempt ran.

    ``charged`` says that the campaign's own work takes the time that it takes here, of the processor.
    """

    def __init__(self, machine: Machine, trainings: Trainings, *, charged: bool = False) -> None:
        self.machine = machine
        self.trainings = trainings
        self.now = 0.0
        self.available = self.busy = 0.0
        self._charged = charged
        self._campaign_time, self._mark = 0.0, time.process_time()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._queue: deque[_Attempt] = deque()
        self._free: list[tuple[_Node, int]] = []
        """A worker each, with the block in which it is one."""
        self._choice = random.Random(machine.seed)
        self._ended = False
        """Whether an attempt has, since the last time that the campaign looked."""
        self._held = False
        size = machine.per_node
        sizes = [min(size, machine.workers - first) for first in range(0, machine.workers, size)]
        self._nodes = [_Node(number, workers) for number, workers in enumerate(sizes)]
        for node in self._nodes:
            self._request_block(node)

    # -- time ------------------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Until an attempt has ended, and past all that has happened while the campaign was at work."""
        self._charge()
        while not self._ended or (self._events and self._events[0][0] <= self._campaign_time):
            self.now, _, happen = heapq.heappop(self._events)
            happen()
        self._ended = False
        self._campaign_time = max(self._campaign_time, self.now)
        self._mark = time.process_time() if self._charged else 0.0

    def _charge(self) -> None:
        if self._charged:
            self._campaign_time += time.process_time() - self._mark
            self._mark = time.process_time()

    def _at(self, when: float, happen: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (when, self._count, happen))

    def give_back(self) -> None:
        """All nodes, at the time of the last event."""
        for node in self._nodes:
            self._end_block(node, node.block)

    # -- blocks ----------------------------------------------------------------------------------------------------

    def _request_block(self, node: _Node) -> None:
        wait = float(self._rng(node, 0).exponential(self.machine.queue)) if self.machine.queue else 0.0
        self._at(self.now + wait, partial(self._begin_block, node))

    def _begin_block(self, node: _Node) -> None:
        node.is_up, node.drains, node.began, node.end = True, False, self.now, self.now + self.machine.walltime
        if math.isfinite(node.end):
            self._at(node.end, partial(self._end_block, node, node.block, "walltime", "its block has ended"))
        if math.isfinite(self.machine.time_to_failure):
            life = float(self._rng(node, 1).exponential(self.machine.time_to_failure))
            self._at(self.now + life, partial(self._end_block, node, node.block, "infrastructure", "its node was lost"))
        self._free.extend([(node, node.block)] * node.workers)
        self._dispatch()

    def _end_block(self, node: _Node, block: int, cause: Cause = "", evidence: str = "") -> None:
        """End a block that has not ended before; its attempts are lost."""
        if node.block != block or not node.is_up:
            return
        self.available += node.workers * (self.now - node.began)
        node.block, node.is_up = block + 1, False
        for attempt in list(node.running):
            handed_back = attempt.started is None and cause == "walltime"
            self._end(attempt, node, "deferred" if handed_back else "lost", cause, evidence)
        self._request_block(node)

    def _rng(self, node: _Node, what: int) -> np.random.Generator:
        return keyed_rng(self.machine.seed, node.number, node.block, what)

    # -- attempts --------------------------------------------------------------------------------------------------

    def _submit(self, attempt: _Attempt) -> None:
        if self._held:
            return self._complete(attempt, "deferred")
        self._queue.append(attempt)
        return self._dispatch()

    def _dispatch(self) -> None:
        """Give what waits, in its order, to free workers."""
        while self._queue and self._free:
            node, block = self._take()
            if node.block == block and not node.drains:
                self._begin(self._queue.popleft(), node)

    def _take(self) -> tuple[_Node, int]:
        """Any free worker, as Parsl's interchange shuffles its managers: that of the longest idle would be in a block
        that soon ends, again and again.
        """
        chosen = self._choice.randrange(len(self._free))
        self._free[chosen], self._free[-1] = self._free[-1], self._free[chosen]
        return self._free.pop()

    def _begin(self, attempt: _Attempt, node: _Node) -> None:
        node.running.add(attempt)
        if attempt.expected is not None and self._is_too_long(attempt.expected, node):
            node.drains = True
            self._hand_back(attempt, node, "walltime", "its block ends too soon")
        elif node.name in attempt.avoid:
            self._hand_back(attempt, node, "", "it shall run on another node")
        else:
            attempt.started = self.now
            training = self.trainings.run(attempt.trial.id, attempt.trial.params)
            kind: Kind = "ok" if math.isfinite(training.loss) else "failed"
            cause: Cause = "" if kind == "ok" else "model"
            value = training.loss if kind == "ok" else None
            self._at(self.now + training.seconds, partial(self._end, attempt, node, kind, cause, "", value))

    def _is_too_long(self, expected: Expectation, node: _Node) -> bool:
        most = (node.end - node.began) * (_FRESH if expected.measured else _FRESH_UNMEASURED)
        return min(expected.seconds, most) > node.end - self.now

    def _hand_back(self, attempt: _Attempt, node: _Node, cause: Cause, evidence: str) -> None:
        self._at(self.now + _HESITATION, partial(self._end, attempt, node, "deferred", cause, evidence))

    def _end(
        self, attempt: _Attempt, node: _Node, kind: Kind, cause: Cause, evidence: str, value: float | None = None
    ) -> None:
        """End an attempt that has not ended with its block."""
        if attempt not in node.running:
            return
        node.running.remove(attempt)
        if attempt.started is not None:
            self.busy += self.now - attempt.started
        self._complete(attempt, kind, cause, evidence, value, node.name)
        if node.drains and not node.running:
            self._end_block(node, node.block)
        elif node.is_up:
            self._free.append((node, node.block))
            self._dispatch()

    def _complete(
        self, attempt: _Attempt, kind: Kind, cause: Cause = "", evidence: str = "",
        value: float | None = None, host: str = "",
    ) -> None:  # fmt: skip
        self._ended = True
        ended = None if attempt.started is None else self.now
        attempt.future.set_result(
            Outcome(
                attempt.trial.id, attempt.number, kind, value, started=attempt.started, ended=ended, host=host,
                evidence=evidence, cause=cause,
            )
        )  # fmt: skip

    # -- what the campaign calls -----------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """As ``workflow.site`` has it."""
        return self.machine.workers + max(1, self.machine.workers // 16)

    @property
    def node_count(self) -> int:
        return len(self._nodes)

    @property
    def has_ends(self) -> bool:
        return math.isfinite(self.machine.walltime)

    def train(self, trial: Trial, attempt: int, avoid: frozenset[str], expected: Expectation | None) -> Future[Outcome]:
        self._charge()
        submitted = _Attempt(trial, attempt, avoid, expected)
        self._at(self._campaign_time, partial(self._submit, submitted))
        return submitted.future

    def hold(self) -> None:
        self._held = True
        while self._queue:
            self._complete(self._queue.popleft(), "deferred")

    def recall(self, trial: Trial) -> Outcome | None:
        return None

    def attempts(self, stage: StageName) -> Iterable[tuple[int, int]]:
        return ()

    def recover(self, stage: StageName, attempts: Iterable[tuple[int, int]]) -> list[Outcome]:
        return []

    def inputs(self, record: Record) -> Inputs:
        return Inputs()

    def image_change(self) -> str:
        return ""

    def out_of_time(self) -> str:
        return ""

    def failure(self) -> str:
        return ""

    def log_tail(self, outcome: Outcome) -> str:
        return ""

    def shun(self, host: str) -> None:
        """Its attempts avoid the node from now on."""

    def stop(self) -> None:
        """Time stands still anyway."""

    notes: Sequence[str] = ()
    in_allocation = False
    keeps_checkpoints = False
