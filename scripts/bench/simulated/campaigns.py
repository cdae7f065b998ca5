"""Campaigns of the real code on the virtual cluster, and schedules that need no code."""

from __future__ import annotations

import heapq
import math
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple, cast

from simulated.cluster import Cluster
from simulated.published import Row
from workflow.budgets import Budgets
from workflow.campaign import Campaign, Plan
from workflow.journal import Journal
from workflow.protocols import Runner
from workflow.search import Search
from workflow.state import State
from workflow.trial import Outcome, Params


class Ended(NamedTuple):
    """A training that ended well, with its times in seconds since its campaign began."""

    params: Params
    loss: float
    started: float
    ended: float


class SimulatedCampaign(Campaign):
    """Its waiting lets the cluster's time pass. Everything else is the campaign's own."""

    def __init__(self, search: Search, journal: Journal, cluster: Cluster, budgets: Budgets) -> None:
        plan = Plan(preprocess=False, infer=False, mode="min", budgets=budgets)
        runner = cast(Runner, cluster)  # of which such a plan calls nothing that the cluster has not
        super().__init__(plan, search, journal, runner, _Silent())
        self._cluster = cluster

    def _wait(self) -> list[Future[Outcome]]:
        self._cluster.advance()
        return super()._wait()


class _Silent:
    def changed(self, campaign: Campaign) -> None:
        """Nobody looks."""

    def say(self, text: str) -> None:
        """Nobody listens."""


_NO_LIMIT = Budgets()


def run(search: Search, cluster: Cluster, budgets: Budgets = _NO_LIMIT) -> State:
    """A campaign from its begin to its end; its journal is in the directory for temporary files."""
    with tempfile.TemporaryDirectory() as directory:
        journal = Journal(Path(directory) / "journal.jsonl")
        try:
            SimulatedCampaign(search, journal, cluster, budgets).run()
        finally:
            journal.close()
    cluster.give_back()
    return journal.state


def ended(state: State) -> list[Ended]:
    """In the order of the ends."""
    found = [
        Ended(state.trials[number].params, outcome.value, outcome.started, outcome.ended)
        for number, outcome in state.outcomes.items()
        if outcome.value is not None and outcome.started is not None and outcome.ended is not None
    ]
    return sorted(found, key=lambda training: training.ended)


def with_barriers(generations: Iterable[Sequence[Row]], workers: int) -> list[Ended]:
    """The trainings of generations each of which begins when all of the one before have ended, by their ends."""
    found: list[Ended] = []
    begin = 0.0
    for rows in generations:
        starts = list_schedule([row.seconds for row in rows], workers)
        found += [
            Ended(row.params, row.loss, begin + start, begin + start + row.seconds)
            for row, start in zip(rows, starts, strict=True)
        ]
        begin = max(training.ended for training in found)
    return sorted(found, key=lambda training: training.ended)


def list_schedule(seconds: Iterable[float], workers: int) -> list[float]:
    """When each training starts if it takes the first worker that is free, in their order."""
    free = [0.0] * workers
    return [heapq.heapreplace(free, free[0] + each) for each in seconds]


def utilization(trainings: Sequence[Ended], workers: int) -> float:
    return work(trainings) / (workers * trainings[-1].ended)


def work(trainings: Iterable[Ended], until: float = math.inf) -> float:
    return sum(max(0.0, min(training.ended, until) - training.started) for training in trainings)
