"""Runs the benchmark's cells, one run of an optimizer on a problem each, and keeps them in a file of JSON lines."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from search_bench import lines
from search_bench.optimizers import Entry, Setting
from search_bench.problems import Problem
from search_bench.simulate import Campaign


@dataclass(frozen=True)
class Plan:
    """A run's workers, and the budgets that are read off it. ``live`` says whether live problems have this run."""

    workers: int
    budgets: tuple[int, ...]
    live: bool = False


PLANS = (Plan(8, (40, 80, 160), live=True), Plan(40, (160, 440)))
REDUCED = (Plan(8, (40,)),)
SLOW_BUDGET = 160


@dataclass(frozen=True)
class Cell:
    """``truths`` are the incumbents' true losses by budget; ``None`` stands for no success. Times in seconds."""

    problem: str
    optimizer: str
    seed: int
    workers: int
    truths: dict[str, float | None]
    trials: int
    failed: int
    wall_seconds: float
    busy_seconds: float
    search_seconds: float

    @property
    def key(self) -> tuple[str, str, int, int]:
        return self.problem, self.optimizer, self.seed, self.workers


def read(path: Path) -> list[Cell]:
    return [Cell(**data) for data in lines.read(path)]


def run_all(
    problems: Iterable[Problem],
    optimizers: Mapping[str, Entry],
    plans: Iterable[Plan],
    seeds: Iterable[int],
    path: Path,
) -> Iterator[Cell]:
    """Run the cells that ``path`` does not have, seed by seed, so that the table is balanced whenever one stops."""
    lines.mend(path)
    done = {cell.key for cell in read(path)}
    for seed, problem, plan, name in itertools.product(seeds, problems, plans, optimizers):
        if (problem.kind == "live" and not plan.live) or (problem.name, name, seed, plan.workers) in done:
            continue
        cell = run(problem, name, optimizers[name], plan, seed)
        lines.append(path, asdict(cell))
        yield cell


def run(problem: Problem, name: str, entry: Entry, plan: Plan, seed: int) -> Cell:
    budgets = [budget for budget in plan.budgets if not entry.slow or budget <= SLOW_BUDGET]
    optimizer = entry.make(Setting(problem.space, plan.workers, budgets[-1], seed))
    campaign = Campaign(problem, optimizer, plan.workers, seed)
    campaign.run(budgets[-1])
    incumbents = {str(budget): campaign.incumbent(budget) for budget in budgets}
    truths = {key: None if params is None else problem.truth(params) for key, params in incumbents.items()}
    failed = sum(trial.loss is None for trial in campaign.finished)
    return Cell(
        problem.name, name, seed, plan.workers, truths, len(campaign.finished), failed,
        round(campaign.wall_seconds), round(campaign.busy_seconds), round(campaign.search_seconds, 4),
    )  # fmt: skip
