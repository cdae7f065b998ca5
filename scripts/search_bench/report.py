"""Markdown tables of the benchmark's results.

Regret is 0 for the best known true loss and 1 for the median of random search's incumbent after 16 trials; a regret
above ``CEILING`` counts as that. Means are over problems of means over seeds, with the standard error of the seeds: the
problems are a fixed list. Differences are paired by problem and seed; the pairs count as independent. One star is for
p < .05 in Wilcoxon's signed-rank test, two for .01, three for .001, not corrected for their number. Optimizers can be
compared where they ran on the same seeds.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter

from search_bench.problems import KINDS, SPLITS, Problem, Scale
from search_bench.study import Cell
from workflow.search import STRATEGIES

CEILING = 5.0
LEVELS = (0.05, 0.01, 0.001)
PROBLEM_BUDGET = (160, 8)
NAMES = {
    "optuna_tpe": "Optuna TPE",
    "optuna_cma_es": "Optuna CMA-ES",
    "optuna_gp": "Optuna GP",
    "optuna_nsga": "Optuna NSGA-II",
    "smac": "SMAC",
    "pymoo_ga": "pymoo MixedVariableGA",
    "deap_published": "the reference as published (no log scale)",
    **{strategy: f"`{strategy}`" for strategy in STRATEGIES},
}

Pairs = dict[tuple[str, int], float]
"""Regrets by problem and seed."""


class Results:
    """The cells of a file as regrets."""

    def __init__(self, cells: Iterable[Cell], problems: dict[str, Problem], scales: dict[str, Scale]) -> None:
        self.cells, self.scales = list(cells), scales
        seen = {cell.problem for cell in self.cells}
        self.problems = {name: problem for name, problem in problems.items() if name in seen}
        self.optimizers = list(dict.fromkeys(cell.optimizer for cell in self.cells))
        runs = {(int(budget), cell.workers) for cell in self.cells for budget in cell.truths}
        self.columns = sorted(runs, key=itemgetter(1, 0))
        """Trials and workers."""

    def regrets(self, optimizer: str, budget: int, workers: int, names: Sequence[str]) -> Pairs:
        return {
            (cell.problem, cell.seed): self._regret(cell, budget)
            for cell in self.cells
            if (cell.optimizer, cell.workers) == (optimizer, workers)
            and str(budget) in cell.truths
            and cell.problem in names
        }

    def _regret(self, cell: Cell, budget: int) -> float:
        truth = cell.truths[str(budget)]
        worst = self.problems[cell.problem].worst
        return min(CEILING, self.scales[cell.problem].regret(worst if truth is None else truth))


def report(results: Results, against: str, what: str = "Regret") -> str:
    """``what`` names the numbers."""
    parts = []
    for group, names in _groups(results):
        parts += [f"## {what}, {group} problems ({len(names)})", regret_table(results, names)]
        if group not in KINDS:
            parts += [
                f"## {_named(against)} minus another, {group} problems",
                difference_table(results, against, names),
            ]
    parts += [f"## {what} by problem, {_head(PROBLEM_BUDGET)}", problem_table(results)]
    return "\n\n".join([*parts, "## Costs", cost_table(results)])


def _groups(results: Results) -> Iterator[tuple[str, list[str]]]:
    """Held-out and tuned problems, all, and those of each kind."""
    problems = results.problems.items()
    for split in SPLITS:
        yield split, [name for name, problem in problems if problem.split == split]
    yield "all", list(results.problems)
    for kind in KINDS:
        if names := [name for name, problem in problems if problem.kind == kind]:
            yield kind, names


def regret_table(results: Results, names: Sequence[str]) -> str:
    rows = []
    for optimizer in results.optimizers:
        columns = [results.regrets(optimizer, *column, names) for column in results.columns]
        seeds = {seed for pairs in columns for _, seed in pairs}
        rows.append([_named(optimizer), *map(_mean, columns), str(len(seeds)), _milliseconds(results, optimizer)])
    return _markdown(["", *_heads(results), "seeds", "ms a trial"], rows)


def _milliseconds(results: Results, optimizer: str) -> str:
    """In asks and tells; the median over the runs with the fewest workers."""
    cells = [cell for cell in results.cells if cell.optimizer == optimizer]
    fewest = min(cell.workers for cell in cells)
    return f"{statistics.median(cell.milliseconds for cell in cells if cell.workers == fewest):.1f}"


def difference_table(results: Results, against: str, names: Sequence[str]) -> str:
    rows = []
    for optimizer in results.optimizers:
        if optimizer != against:
            columns = [
                _difference(*(results.regrets(name, *column, names) for name in (against, optimizer)))
                for column in results.columns
            ]
            rows.append([_named(optimizer), *columns])
    return _markdown(["", *_heads(results)], rows)


def problem_table(results: Results) -> str:
    rows = [
        [name, *(_mean(results.regrets(optimizer, *PROBLEM_BUDGET, [name])) for optimizer in results.optimizers)]
        for name in results.problems
    ]
    return _markdown(["", *map(_named, results.optimizers)], rows)


def edge_table(results: Results, against: str) -> str:
    """A row for each problem, and each number of trials and workers that it was run with."""
    others = [optimizer for optimizer in results.optimizers if optimizer != against]
    rows = []
    for name in results.problems:
        for column in results.columns:
            found = {optimizer: results.regrets(optimizer, *column, [name]) for optimizer in results.optimizers}
            if found[against]:
                differences = [_difference(found[against], found[other]) for other in others]
                rows.append([name, _head(column), *map(_mean, found.values()), *differences])
    heads = [*map(_named, results.optimizers), *(f"{_named(against)} - {_named(other)}" for other in others)]
    return _markdown(["", "trials@workers", *heads], rows)


def cost_table(results: Results) -> str:
    """Of simulated campaigns on all problems but the live ones; busy hours are those in trials, of the hours held."""
    rows, numbers = [], sorted({workers for _, workers in results.columns})
    for optimizer in results.optimizers:
        row = [_named(optimizer)]
        for workers in numbers:
            row += _costs(
                [
                    cell
                    for cell in results.cells
                    if (cell.optimizer, cell.workers) == (optimizer, workers)
                    and results.problems[cell.problem].kind != "live"
                ]
            )
        rows.append(row)
    heads = [
        f"{head} @{workers}"
        for workers in numbers
        for head in ("trials", "ms a trial", "wall h", "busy GPU-h", "held GPU-h", "utilization")
    ]
    return _markdown(["", *heads], rows)


def _costs(cells: Sequence[Cell]) -> list[str]:
    if not cells:
        return ["-"] * 6
    trials = statistics.mean(cell.trials for cell in cells)
    wall = statistics.mean(cell.wall_seconds for cell in cells) / 3600
    busy = statistics.mean(cell.busy_seconds for cell in cells) / 3600
    held = statistics.mean(cell.wall_seconds * cell.workers for cell in cells) / 3600
    spent = statistics.median(cell.milliseconds for cell in cells)
    return [f"{trials:.0f}", f"{spent:.2f}", f"{wall:.2f}", f"{busy:.1f}", f"{held:.1f}", f"{busy / held:.2f}"]


def _heads(results: Results) -> list[str]:
    return [_head(column) for column in results.columns]


def _head(column: tuple[int, int]) -> str:
    return f"{column[0]}@{column[1]}"


def _named(optimizer: str) -> str:
    return NAMES.get(optimizer, optimizer)


def _mean(pairs: Pairs) -> str:
    """Mean over problems of means over seeds, and its standard error from the spread of the seeds."""
    groups: dict[str, list[float]] = {}
    for (problem, _), regret in pairs.items():
        groups.setdefault(problem, []).append(regret)
    if not groups:
        return "-"
    mean = statistics.mean(statistics.mean(group) for group in groups.values())
    if min(len(group) for group in groups.values()) < 2:
        return shown(mean)
    variance = sum(statistics.variance(group) / len(group) for group in groups.values())
    return f"{shown(mean)} ± {shown(math.sqrt(variance) / len(groups))}"


def shown(number: float) -> str:
    return re.sub(r"^(-?)0\.", r"\1.", f"{number:.3f}")


def _difference(ours: Pairs, theirs: Pairs) -> str:
    """Mean of the paired differences, its standard error, and stars for significance."""
    differences = [ours[key] - theirs[key] for key in ours if key in theirs]
    if len(differences) < 2:
        return "-"
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    stars = "\\*" * sum(_wilcoxon(differences) < level for level in LEVELS)
    return f"{shown(statistics.mean(differences))} ± {shown(error)}{stars}"


def _wilcoxon(differences: Sequence[float]) -> float:
    from scipy.stats import wilcoxon

    return float(wilcoxon(differences, zero_method="zsplit").pvalue) if any(differences) else 1.0


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
