"""Small trainings first: what a search with a fidelity finds on the tables' learning curves, by epochs spent.

A training of some epochs gives the least loss of its curve until then, as one that keeps its best model does. The
longest curve's is the truth, whatever a trial was trained for. A training that goes on from a checkpoint keeps its
initialisation, one that begins anew has another.

Beside what a user gets stand two oracles that know the truth: what separates them from the user is lost in choosing,
the rest in searching.
"""

from __future__ import annotations

import heapq
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import spearmanr

from search_bench.problems import Scale
from search_bench.report import shown
from search_bench.tables import GRIDS, TABLES, Grid
from search_bench.tabulated import Tabulated, load
from search_bench.training import EPOCHS
from workflow.finals import FinalistsSettings
from workflow.search import Search, SearchSettings, make_search
from workflow.search.base import keyed_rng
from workflow.search.halving import Fidelity
from workflow.space_file import parse_space
from workflow.trial import Outcome, Params, Trial

BUDGETS = (13, 27, 40, 53, 80, 160)
"""In whole trainings; 53 is a third of 160."""

METHODS = {
    "`async`": None,
    "with a `fidelity`": Fidelity("epochs", 3, EPOCHS[-1]),
    "the same, resuming": Fidelity("epochs", 3, EPOCHS[-1], resumes=True),
}
_WORKERS = 8
_INITIAL, _REPETITIONS = 16, 200

_RERUN = 1
"""The last part of the key of a re-run's draws."""


@dataclass(frozen=True)
class Curves:
    """A table as a problem for each number of epochs."""

    grid: Grid
    by_epochs: dict[int, Tabulated]
    scale: Scale

    @classmethod
    def load(cls, grid: Grid) -> Curves:
        base = load(grid)
        with np.load(TABLES / f"{grid.name}.npz") as table:
            losses = np.fmin.accumulate(table["curves"], axis=-1)
        by_epochs = {epochs: replace(base, losses=losses[..., index]) for index, epochs in enumerate(EPOCHS)}
        return cls(grid, by_epochs, _scale(by_epochs[EPOCHS[-1]], losses[..., -1]))

    @property
    def whole(self) -> Tabulated:
        return self.by_epochs[EPOCHS[-1]]

    def regret(self, params: Params) -> float:
        return self.scale.regret(self.whole.truth(params))


def _scale(whole: Tabulated, losses: np.ndarray) -> Scale:
    with np.errstate(all="ignore"):
        best = float(np.nanmin(np.nanmean(np.where(np.isnan(losses).all(-1, keepdims=True), np.inf, losses), axis=-1)))
    truths = [_random_truth(whole, number) for number in range(_REPETITIONS)]
    return Scale(best, statistics.median(truths))


def _random_truth(whole: Tabulated, number: int) -> float:
    rng = keyed_rng(0, number)
    drawn = [{p.name: p.draw(rng) for p in whole.space.varying} for _ in range(_INITIAL)]
    losses = [whole.evaluate(params, rng).loss for params in drawn]
    best = min(range(_INITIAL), key=lambda index: math.inf if losses[index] is None else losses[index])
    return whole.truth(drawn[best])


@dataclass(frozen=True)
class Training:
    """One that has ended, with the regret of its configuration; ``loss`` is infinite if it failed.

    ``spent`` is what all have cost by then, in whole trainings.
    """

    config_id: int
    params: Params
    loss: float
    regret: float
    spent: float


def run(curves: Curves, fidelity: Fidelity | None, seed: int) -> list[Training]:
    """A campaign's trainings, in the order of their ends."""
    search, resumes = _search(curves.grid, fidelity, seed), fidelity is not None and fidelity.resumes
    running: list[tuple[float, int, Trial, float | None]] = []
    trained: dict[int, int] = {}
    found: list[Training] = []
    now = spent = 0.0
    while True:
        while len(running) < _WORKERS and (trial := search.ask()) is not None:
            draws = keyed_rng(seed, trial.config_id if resumes else trial.id)  # of the initialisation
            result = curves.by_epochs[_epochs(trial)].evaluate(trial.params, draws)
            ends = now + result.seconds * _epochs(trial) / EPOCHS[-1]
            heapq.heappush(running, (ends, trial.id, trial, result.loss))
        if not running:
            return found
        now, _, trial, loss = heapq.heappop(running)
        spent += (_epochs(trial) - trained.get(trial.config_id, 0) * resumes) / EPOCHS[-1]
        trained[trial.config_id] = _epochs(trial)
        known = math.inf if loss is None else loss
        found.append(Training(trial.config_id, trial.params, known, curves.regret(trial.params), spent))
        search.tell(Outcome(trial.id, 1, "failed" if loss is None else "ok", loss))


def _search(grid: Grid, fidelity: Fidelity | None, seed: int) -> Search:
    entries = [axis.entry for axis in grid.axes]
    space = parse_space([*entries, {"name": "epochs", "type": "constant", "value": EPOCHS[-1]}], grid.name)
    return make_search(space, SearchSettings("async", evaluations=BUDGETS[-1], fidelity=fidelity, seed=seed))


def _epochs(trial: Trial) -> int:
    return int(trial.params["epochs"])


def incumbent(curves: Curves, trainings: Sequence[Training], seed: int) -> float:
    """The regret of the least loss seen."""
    return min(trainings, key=lambda training: training.loss).regret


def winner(curves: Curves, trainings: Sequence[Training], seed: int) -> float:
    """The regret of the finalist that re-runs choose: whole trainings, for which the last of the budget is kept."""
    finals, budget = FinalistsSettings(), trainings[-1].spent
    paid = [each for each in trainings if each.spent <= budget - finals.count * finals.repeats]
    best: dict[int, Training] = {}
    for each in sorted(paid, key=lambda training: training.loss):
        best.setdefault(each.config_id, each)
    finalists = [*best.values()][: finals.count]
    return min(finalists, key=lambda finalist: _mean(curves.whole, finalist, finals.repeats, seed)).regret


def _mean(whole: Tabulated, finalist: Training, repeats: int, seed: int) -> float:
    """Of a finalist's re-runs; infinite if one of them failed."""
    draws = keyed_rng(seed, finalist.config_id, _RERUN)
    losses = [whole.evaluate(finalist.params, draws).loss for _ in range(repeats)]
    return statistics.fmean(math.inf if loss is None else loss for loss in losses)


def best_whole(curves: Curves, trainings: Sequence[Training], seed: int) -> float:
    whole = [each.regret for each in trainings if each.params["epochs"] == EPOCHS[-1]]
    return min(whole, default=math.nan)


def best_started(curves: Curves, trainings: Sequence[Training], seed: int) -> float:
    return min(each.regret for each in trainings)


CHOICES: dict[str, Callable[[Curves, Sequence[Training], int], float]] = {
    "the least loss seen": incumbent,
    "the winner by 9 re-runs": winner,
    "an oracle's, of whole trainings": best_whole,
    "an oracle's, of all started": best_started,
}


def regrets(curves: Curves, fidelity: Fidelity | None, seed: int) -> list[list[float]]:
    """Of what each choice gives at each budget: (choices, budgets)."""
    trainings = run(curves, fidelity, seed)
    by_budget = [[each for each in trainings if each.spent <= budget + 1e-6] for budget in BUDGETS]
    return [[choose(curves, ended, seed) for ended in by_budget] for choose in CHOICES.values()]


def rows(seeds: Iterable[int]) -> Iterator[tuple[str, str, str, list[float], list[float]]]:
    """Split, method, choice, and mean and standard error of the regrets over its tables and seeds."""
    problems = [Curves.load(grid) for grid in GRIDS]
    for split in sorted({curves.grid.split for curves in problems}):
        for method, fidelity in METHODS.items():
            found = np.array([regrets(c, fidelity, seed) for c in problems if c.grid.split == split for seed in seeds])
            means, errors = found.mean(axis=0), found.std(axis=0, ddof=1) / math.sqrt(len(found))
            for choice, mean, error in zip(CHOICES, means, errors, strict=True):
                yield split, method, choice, list(mean), list(error)


def agreement(curves: Curves) -> list[tuple[float, float]]:
    """For each number of epochs the rank correlation of the mean losses with those of the longest trainings.

    First over all configurations of the grid that train, then over the best twentieth of them.
    """
    means = np.array([curves.by_epochs[epochs].losses.mean(axis=-1).ravel() for epochs in EPOCHS])
    means = means[:, np.isfinite(means).all(axis=0)]
    best = means[:, np.argsort(means[-1])[: means.shape[1] // 20]]
    every, near = ([float(spearmanr(row, rows[-1])[0]) for row in rows] for rows in (means, best))
    return list(zip(every, near, strict=True))


def report(seeds: Iterable[int]) -> str:
    """Markdown: the regrets, and what small trainings tell of the longest ones."""
    heads = ["table", *(f"{epochs} epochs" for epochs in EPOCHS[:-1])]
    lines = [table(seeds), "", "| " + " | ".join(heads) + " |", "| --- " * len(heads) + "|"]
    for grid in GRIDS:
        cells = [f"{every:.2f}, {best:.2f}" for every, best in agreement(Curves.load(grid))[:-1]]
        lines.append("| " + " | ".join([grid.name, *cells]) + " |")
    return "\n".join(lines)


def table(seeds: Iterable[int]) -> str:
    head = " | ".join(str(budget) for budget in BUDGETS)
    lines = [f"| tables | method | choice | {head} |", f"| --- | --- | --- |{' --- |' * len(BUDGETS)}"]
    for split, method, choice, means, errors in rows(seeds):
        cells = " | ".join(f"{shown(mean)} ± {shown(error)}" for mean, error in zip(means, errors, strict=True))
        lines.append(f"| {split} | {method} | {choice} | {cells} |")
    return "\n".join(lines)
