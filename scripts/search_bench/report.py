"""Markdown tables of the benchmark's results.

Regret is 0 for the best known true loss and 1 for the median of random search's incumbent after 16 trials; a regret
above ``CEILING`` counts as that. Means are over problems of means over seeds, with the standard error of the seeds: the
problems are a fixed list. Differences are paired by problem and seed; the pairs count as independent. Optimizers can be
compared where their numbers of runs are equal.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

from search_bench.problems import KINDS, SPLITS, Problem, Scale
from search_bench.study import Cell

CEILING = 5.0
COLUMNS = ((40, 8), (80, 8), (160, 8), (160, 40), (440, 40))
"""Trials and workers."""

PROBLEM_BUDGET = (160, 8)

Pairs = dict[tuple[str, int], float]
"""Regrets by problem and seed."""


class Results:
    """The cells of a file as regrets."""

    def __init__(self, cells: Iterable[Cell], problems: dict[str, Problem], scales: dict[str, Scale]) -> None:
        self.cells, self.scales = list(cells), scales
        seen = {cell.problem for cell in self.cells}
        self.problems = {name: problem for name, problem in problems.items() if name in seen}
        self.optimizers = list(dict.fromkeys(cell.optimizer for cell in self.cells))

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


def report(results: Results, against: str) -> str:
    parts = []
    groups = [("split", split) for split in SPLITS] + [("kind", kind) for kind in KINDS]
    for key, value in groups:
        names = [name for name, problem in results.problems.items() if getattr(problem, key) == value]
        if names:
            parts += [f"## Regret, {value} problems ({len(names)})", regret_table(results, names)]
        if names and key == "split":
            parts += [f"## {against} minus another, {value} problems", difference_table(results, against, names)]
    parts += [f"## Regret by problem, {PROBLEM_BUDGET[0]}@{PROBLEM_BUDGET[1]}", problem_table(results)]
    return "\n\n".join([*parts, "## Costs", cost_table(results)])


def regret_table(results: Results, names: Sequence[str]) -> str:
    rows = []
    for optimizer in results.optimizers:
        columns = [results.regrets(optimizer, budget, workers, names) for budget, workers in COLUMNS]
        rows.append([optimizer, *(_mean(pairs) for pairs in columns), "/".join(str(len(pairs)) for pairs in columns)])
    return _markdown(["optimizer", *_heads(), "runs"], rows)


def difference_table(results: Results, against: str, names: Sequence[str]) -> str:
    rows = []
    for optimizer in results.optimizers:
        if optimizer != against:
            columns = [
                _difference(*(results.regrets(name, budget, workers, names) for name in (against, optimizer)))
                for budget, workers in COLUMNS
            ]
            rows.append([optimizer, *columns])
    return _markdown(["optimizer", *_heads()], rows)


def problem_table(results: Results) -> str:
    rows = [
        [name, *(_mean(results.regrets(optimizer, *PROBLEM_BUDGET, [name])) for optimizer in results.optimizers)]
        for name in results.problems
    ]
    return _markdown(["problem", *results.optimizers], rows)


def cost_table(results: Results) -> str:
    """Of simulated campaigns on all problems but the live ones; busy hours are those in trials, of the hours held."""
    rows = []
    for optimizer in results.optimizers:
        row = [optimizer]
        for workers in (8, 40):
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
        for workers in (8, 40)
        for head in ("trials", "ms a trial", "wall h", "busy GPU-h", "held GPU-h", "utilization")
    ]
    return _markdown(["optimizer", *heads], rows)


def _costs(cells: Sequence[Cell]) -> list[str]:
    if not cells:
        return ["-"] * 6
    trials = statistics.mean(cell.trials for cell in cells)
    wall = statistics.mean(cell.wall_seconds for cell in cells) / 3600
    busy = statistics.mean(cell.busy_seconds for cell in cells) / 3600
    held = statistics.mean(cell.wall_seconds * cell.workers for cell in cells) / 3600
    spent = 1000 * statistics.median(cell.search_seconds / max(1, cell.trials) for cell in cells)
    return [f"{trials:.0f}", f"{spent:.2f}", f"{wall:.2f}", f"{busy:.1f}", f"{held:.1f}", f"{busy / held:.2f}"]


def _heads() -> list[str]:
    return [f"{budget}@{workers}" for budget, workers in COLUMNS]


def _mean(pairs: Pairs) -> str:
    """Mean over problems of means over seeds, and its standard error from the spread of the seeds."""
    groups: dict[str, list[float]] = {}
    for (problem, _), regret in pairs.items():
        groups.setdefault(problem, []).append(regret)
    if not groups:
        return "-"
    mean = statistics.mean(statistics.mean(group) for group in groups.values())
    if min(len(group) for group in groups.values()) < 2:
        return f"{mean:.3f}"
    variance = sum(statistics.variance(group) / len(group) for group in groups.values())
    return f"{mean:.3f} ± {math.sqrt(variance) / len(groups):.3f}"


def _difference(ours: Pairs, theirs: Pairs) -> str:
    """Mean of the paired differences, its standard error, and p of Wilcoxon's signed-rank test."""
    differences = [ours[key] - theirs[key] for key in ours if key in theirs]
    if len(differences) < 2:
        return "-"
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return f"{statistics.mean(differences):+.3f} ± {error:.3f} (p {_wilcoxon(differences)})"


def _wilcoxon(differences: Sequence[float]) -> str:
    from scipy.stats import wilcoxon

    if not any(differences):
        return "1"
    p = float(wilcoxon(differences, zero_method="zsplit").pvalue)
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
