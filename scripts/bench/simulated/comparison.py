"""Our searches beside the reference's published campaigns, on as many workers.

The published campaign takes its own walltimes, with a barrier after each generation. Ours go on for as long as that
one held its workers. Three targets stand for its loss:

    expected   at most 0.5 % above what is expected of the best configuration that it evaluated, without noise
    published  the best loss that it published, noise included
    observed   the luckiest of 440, were its configurations trained again, in the median of repetitions

A training differs from what is expected of it by 1.5 to 3 %.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from search_bench import lines

from simulated import published
from simulated.campaigns import Ended, ended, run, utilization, with_barriers, work
from simulated.cluster import Cluster, Machine
from simulated.published import Model, Published, Trainings
from workflow.budgets import Budgets
from workflow.search import SearchSettings, make_search

WORKERS = 40
"""As many as offspring in a generation: the published utilization is that of so many workers."""

TARGETS = ("expected", "published", "observed")

_USES = ("utilization", "whole_utilization")

_UNLIMITED = 1_000_000
_TIMES = 20
_TOLERANCE = 0.005

SEARCHES = {
    "async": SearchSettings("async", evaluations=_UNLIMITED),
    "mu_plus_lambda": SearchSettings("mu_plus_lambda", population_size=2 * WORKERS, num_iterations=1000),
    "random": SearchSettings("random", evaluations=_UNLIMITED),
}


PUBLISHED = "as published"


@dataclass(frozen=True)
class Cell:
    """A campaign with as many hours of workers as the published one held, or that one itself (``PUBLISHED``).

    ``wall`` and ``work`` are, by target, parts of the wall time of the published campaign, and of the time in which its
    workers were busy; None where it was not reached. ``utilization`` is that until the last training began,
    ``whole_utilization`` that until the last one ended.
    """

    table: str
    model: str
    search: str
    seed: int
    wall: Mapping[str, float | None]
    work: Mapping[str, float | None]
    trainings: int
    utilization: float
    whole_utilization: float
    published_utilization: float

    @property
    def key(self) -> tuple[str, str, str, int]:
        return self.table, self.model, self.search, self.seed


def read(path: Path) -> list[Cell]:
    return [Cell(**data) for data in lines.read(path)]


class Comparison:
    """Of searches with one published campaign, under one model of its trainings."""

    def __init__(self, campaign: Published, model: str) -> None:
        self.campaign, self.name = campaign, model
        self.model = Model(campaign, model)
        self.reference = with_barriers(campaign.generations, WORKERS)
        self.targets = {
            "expected": (1 + _TOLERANCE) * min(self.model.expected(row.params) for row in campaign.rows),
            "published": min(row.loss for row in campaign.rows),
            "observed": statistics.median(self._best(_UNLIMITED + time) for time in range(_TIMES)),
        }

    def _best(self, seed: int) -> float:
        """Of the published configurations, trained again."""
        again = Trainings(self.model, seed)
        return min(again.run(number, row.params).loss for number, row in enumerate(self.campaign.rows))

    def run(self, search: str, seed: int) -> Cell:
        total, wall = work(self.reference), self.reference[-1].ended
        found = self._trainings(search, seed, WORKERS * wall / 3600) if search in SEARCHES else self.reference
        times = {target: self.reached(found, target) for target in TARGETS}
        last = max(training.started for training in found)
        return Cell(
            self.campaign.name, self.name, search, seed,
            {target: None if time is None else time / wall for target, time in times.items()},
            {target: None if time is None else work(found, time) / total for target, time in times.items()},
            len(found), work(found, last) / last / WORKERS, utilization(found, WORKERS),
            utilization(self.reference, WORKERS),
        )  # fmt: skip

    def _trainings(self, search: str, seed: int, hours: float) -> list[Ended]:
        """Those of a campaign with so many hours of workers."""
        cluster = Cluster(Machine(WORKERS), Trainings(self.model, seed))
        found = make_search(self.campaign.space, replace(SEARCHES[search], seed=seed))
        return ended(run(found, cluster, Budgets(hours, gpus=False)))

    def reached(self, trainings: Iterable[Ended], target: str) -> float | None:
        """When the first training reached a target, of those in the order of their ends."""
        limit = self.targets[target]
        if target == "expected":
            found = (training.ended for training in trainings if self.model.expected(training.params) <= limit)
        else:
            found = (training.ended for training in trainings if training.loss <= limit)
        return next(found, None)


def run_all(tables: Iterable[str], models: Iterable[str], seeds: Iterable[int], path: Path) -> Iterator[Cell]:
    """Run what the file does not have yet."""
    lines.mend(path)
    known = {cell.key for cell in read(path)}
    for table, model in itertools.product(tables, models):
        every = [(PUBLISHED, 0), *itertools.product(SEARCHES, seeds)]
        wanted = [key for key in every if (table, model, *key) not in known]
        if wanted:
            comparison = Comparison(published.read(table), model)
        for search, seed in wanted:
            cell = comparison.run(search, seed)
            lines.append(path, asdict(cell))
            yield cell


def table(cells: Sequence[Cell]) -> str:
    """Markdown: for each target the parts of wall time and of work, medians over seeds, and how many are enough."""
    heads = ["campaign (utilization)", "model", "search", "utilization, to the end", *TARGETS]
    rows = ["| " + " | ".join(heads) + " |", "| --- " * len(heads) + "|"]
    for key in dict.fromkeys((cell.table, cell.model, cell.search) for cell in cells):
        rows.append(_line([cell for cell in cells if (cell.table, cell.model, cell.search) == key]))
    return "\n".join(rows)


def _line(cells: Sequence[Cell]) -> str:
    """Of one campaign, model and search."""
    first = cells[0]
    used, whole = (statistics.median(getattr(cell, what) for cell in cells) for what in _USES)
    campaign = f"{first.table} ({first.published_utilization:.2f})"
    reached = [_reach(cells, target) for target in TARGETS]
    shown = [campaign, first.model, first.search, f"{used:.2f}, {whole:.2f}", *reached]
    return "| " + " | ".join(shown) + " |"


def _reach(cells: Sequence[Cell], target: str) -> str:
    """Medians; in how many a third of the wall time was enough, and in how many of those half of the work."""
    walls, works = ([_or_infinite(getattr(cell, what)[target]) for cell in cells] for what in ("wall", "work"))
    quick = [spent for wall, spent in zip(walls, works, strict=True) if wall <= 1 / 3]
    cheap = [spent for spent in quick if spent <= 1 / 2]
    medians = f"{statistics.median(walls):.2f}, {statistics.median(works):.2f}"
    return f"{medians} ({len(quick)}, {len(cheap)} of {len(cells)})"


def _or_infinite(value: float | None) -> float:
    return math.inf if value is None else value
