"""Campaigns on 8 to 10,000 workers, beside what a list schedule of the same trainings would make of them.

A list schedule (Graham 1966) gives each training, in the order in which they were asked for, to the first worker that
is free, and needs no time for it. The campaign's own work takes the processor's time that it takes.
"""

from __future__ import annotations

import itertools
import resource
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from search_bench import lines

from simulated import published
from simulated.campaigns import ended, list_schedule, run, work
from simulated.cluster import Cluster, Machine
from simulated.comparison import Comparison
from simulated.published import Model, Published, Trainings
from workflow.search import SearchSettings, make_search

_EACH, _LEAST = 10, 440
"""Trainings for each worker, and in all: with fewer the end of a campaign, when workers fall idle, is most of it."""

SEARCHES = ("async", "mu_plus_lambda", "random")


@dataclass(frozen=True)
class Cell:
    """``utilization`` counts what led to a result, ``bound`` is that of the list schedule on workers without faults.

    ``hours`` of workers and ``wall_hours`` passed until the target ``expected`` of ``comparison``; None if it was not
    reached. ``seconds`` of the processor were the controller's.
    """

    table: str
    search: str
    workers: int
    fails: bool
    trainings: int
    utilization: float
    bound: float
    hours: float | None
    wall_hours: float | None
    seconds: float

    @property
    def key(self) -> tuple[str, str, int, bool]:
        return self.table, self.search, self.workers, self.fails


def read(path: Path) -> list[Cell]:
    return [Cell(**data) for data in lines.read(path)]


def run_all(tables: Iterable[str], searches: Iterable[str], workers: Iterable[int], path: Path) -> Iterator[Cell]:
    """Run what the file does not have yet."""
    lines.mend(path)
    known = {cell.key for cell in read(path)}
    for table in tables:
        comparison = Comparison(published.read(table), "kernel")
        for search, count, fails in itertools.product(searches, workers, (False, True)):
            if (table, search, count, fails) not in known:
                cell = _run(comparison, search, count, fails)
                lines.append(path, asdict(cell))
                yield cell


def settings(search: str, workers: int) -> SearchSettings:
    """A generation of mu_plus_lambda has a child for each worker."""
    count = max(_LEAST, _EACH * workers)
    if search == "mu_plus_lambda":
        return SearchSettings(search, population_size=2 * workers, num_iterations=count // workers - 1)
    return SearchSettings(search, evaluations=count)


def machine(campaign: Published, workers: int, fails: bool) -> Machine:
    """One that fails has blocks of four times the longest training, of which every fifth loses its node."""
    if not fails:
        return Machine(workers)
    walltime = 4 * max(row.seconds for row in campaign.rows)
    return Machine(workers, walltime=walltime, queue=walltime / 10, time_to_failure=5 * walltime)


def _run(comparison: Comparison, search: str, workers: int, fails: bool) -> Cell:
    campaign = comparison.campaign
    trainings = Trainings(comparison.model, seed=1)
    cluster = Cluster(machine(campaign, workers, fails), trainings, charged=True)
    begin = time.process_time()
    state = run(make_search(campaign.space, settings(search, workers)), cluster)
    seconds = time.process_time() - begin
    durations = [outcome.seconds for _, outcome in sorted(state.outcomes.items())]
    ends = map(sum, zip(list_schedule(durations, workers), durations, strict=True))
    found = ended(state)
    reached = comparison.reached(found, "expected")
    return Cell(
        campaign.name, search, workers, fails, len(durations),
        sum(durations) / cluster.available, sum(durations) / workers / max(ends),
        None if reached is None else work(found, reached) / 3600, None if reached is None else reached / 3600, seconds,
    )  # fmt: skip


def table(cells: Sequence[Cell]) -> str:
    """Markdown."""
    heads = ["campaign", "workers", "search", "trials", "bound", "utilization", "of the bound", "with lost nodes"]
    heads.append("hours of workers, of wall time, until the target")
    rows = ["| " + " | ".join(heads) + " |", "| --- " * len(heads) + "|"]
    by_key = {cell.key: cell for cell in cells}
    for cell in cells:
        failing = by_key.get((*cell.key[:3], True))
        if not cell.fails and failing is not None:
            target = "not reached" if cell.hours is None else f"{cell.hours:.1f}, {cell.wall_hours:.2f}"
            rows.append(
                f"| {cell.table} | {cell.workers} | {cell.search} | {cell.trainings} | {cell.bound:.3f} | "
                f"{cell.utilization:.3f} | {cell.utilization / cell.bound:.3f} | {failing.utilization:.3f} | {target} |"
            )
    return "\n".join(rows)


def largest(workers: int, trials: int) -> str:
    """What a campaign of random search costs its controller."""
    campaign = published.read("igtd-ccle-large")
    cluster = Cluster(Machine(workers), Trainings(Model(campaign, "kernel"), seed=1))
    search = make_search(campaign.space, SearchSettings("random", evaluations=trials))
    begin, begin_wall = time.process_time(), time.monotonic()
    state = run(search, cluster)
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (
        f"{len(state.outcomes)} trials on {workers} workers: {time.process_time() - begin:.0f} s of the processor, "
        f"{time.monotonic() - begin_wall:.0f} s in all, {megabytes:.0f} MB at most, "
        f"utilization {cluster.busy / cluster.available:.3f}"
    )
