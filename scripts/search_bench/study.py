"""Runs the benchmark's cells, one run of an optimizer on a problem each, and keeps them in a file of JSON lines."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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


SLOW_BUDGET = 160

Score = Callable[[Campaign, int], float | None]
"""Of a campaign's first trials, as many as the budget says; None stands for no success."""


@dataclass(frozen=True)
class Cell:
    """``truths`` are the scores by budget, as of the part: mostly incumbents' true losses. Times in seconds."""

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

    @property
    def milliseconds(self) -> float:
        """A trial, in ask and tell."""
        return 1000 * self.search_seconds / max(1, self.trials)


def read(path: Path) -> list[Cell]:
    return [Cell(**data) for data in lines.read(path)]


def true_loss(campaign: Campaign, budget: int) -> float | None:
    params = campaign.incumbent(budget)
    return None if params is None else campaign.problem.truth(params)


@dataclass(frozen=True)
class Part:
    """Optimizers that run on the same problems."""

    problems: Sequence[Problem]
    optimizers: Mapping[str, Entry]
    plans: Sequence[Plan]
    score: Score = true_loss


def run_all(part: Part, seeds: Iterable[int], path: Path) -> Iterator[Cell]:
    """Run the cells that ``path`` does not have, seed by seed, so that the table is balanced whenever one stops."""
    lines.mend(path)
    done = {cell.key for cell in read(path)}
    for seed, problem, plan, name in itertools.product(seeds, part.problems, part.plans, part.optimizers):
        if (problem.kind == "live" and not plan.live) or (problem.name, name, seed, plan.workers) in done:
            continue
        cell = run(part, problem, name, plan, seed)
        lines.append(path, asdict(cell))
        yield cell


def run(part: Part, problem: Problem, name: str, plan: Plan, seed: int) -> Cell:
    entry = part.optimizers[name]
    budgets = [budget for budget in plan.budgets if not entry.slow or budget <= SLOW_BUDGET]
    optimizer = entry.make(Setting(problem.space, plan.workers, budgets[-1], seed))
    campaign = Campaign(problem, optimizer, plan.workers, seed)
    campaign.run(budgets[-1])
    truths = {str(budget): part.score(campaign, budget) for budget in budgets}
    failed = sum(trial.loss is None for trial in campaign.finished)
    return Cell(
        problem.name, name, seed, plan.workers, truths, len(campaign.finished), failed,
        round(campaign.wall_seconds), round(campaign.busy_seconds), round(campaign.search_seconds, 4),
    )  # fmt: skip
