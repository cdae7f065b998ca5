"""Small trainings first: what a search with a fidelity finds on the tables' learning curves, by epochs spent.

A training of some epochs gives the least loss of its curve until then, as one that keeps its best model does. The
longest curve's is the truth, whatever a trial was trained for. A training that goes on from a checkpoint keeps its
initialisation, one that begins anew has another.
"""

from __future__ import annotations

import heapq
import math
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from search_bench.problems import Scale
from search_bench.tables import GRIDS, TABLES, Grid
from search_bench.tabulated import Tabulated, load
from search_bench.training import EPOCHS
from workflow.search import SearchSettings, make_search
from workflow.search.base import keyed_rng
from workflow.search.halving import Fidelity
from workflow.space_file import parse_space
from workflow.trial import Outcome, Params

BUDGETS = (13, 27, 40, 53, 80, 160)
"""In whole trainings; 53 is a third of 160."""

METHODS = {
    "async": None,
    "async, fidelity": Fidelity("epochs", 3, EPOCHS[-1]),
    "async, fidelity, resumes": Fidelity("epochs", 3, EPOCHS[-1], resumes=True),
}
_WORKERS = 8
_INITIAL, _REPETITIONS = 16, 200


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

    def regret(self, params: Params) -> float:
        return self.scale.regret(self.by_epochs[EPOCHS[-1]].truth(params))


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


def run(curves: Curves, fidelity: Fidelity | None, seed: int) -> list[float]:
    """The regret of the incumbent at each budget."""
    entries = [axis.entry for axis in curves.grid.axes]
    space = parse_space([*entries, {"name": "epochs", "type": "constant", "value": EPOCHS[-1]}], curves.grid.name)
    settings = SearchSettings(strategy="async", evaluations=BUDGETS[-1], fidelity=fidelity, seed=seed)
    search = make_search(space, settings, "min")
    spent, best, regrets, done = 0.0, (math.inf, 0.0), [], {}
    running: list[tuple[float, int, object, float | None]] = []
    now = 0.0
    while True:
        while len(running) < _WORKERS and (trial := search.ask()) is not None:
            epochs, goes_on = int(trial.params["epochs"]), fidelity is not None and fidelity.resumes
            draws = keyed_rng(seed, trial.config_id if goes_on else trial.id)  # of the initialisation
            result = curves.by_epochs[epochs].evaluate(trial.params, draws)
            heapq.heappush(running, (now + result.seconds * epochs / EPOCHS[-1], trial.id, trial, result.loss))
        if not running:
            return [*regrets, *[best[1]] * (len(BUDGETS) - len(regrets))]
        now, _, trial, loss = heapq.heappop(running)
        before = done.get(trial.config_id, 0) if fidelity is not None and fidelity.resumes else 0
        done[trial.config_id] = int(trial.params["epochs"])
        spent += (done[trial.config_id] - before) / EPOCHS[-1]
        while len(regrets) < len(BUDGETS) and spent > BUDGETS[len(regrets)] + 1e-6:
            regrets.append(best[1])
        if loss is not None and loss < best[0]:
            best = loss, curves.regret(trial.params)
        search.tell(Outcome(trial.id, 1, "failed" if loss is None else "ok", loss))


def rows(seeds: Iterable[int]) -> Iterator[tuple[str, str, list[float], list[float]]]:
    """Split, method, and mean and standard error of the regrets over its tables and seeds."""
    problems = [Curves.load(grid) for grid in GRIDS]
    for split in sorted({curves.grid.split for curves in problems}):
        for method, fidelity in METHODS.items():
            found = np.array([run(c, fidelity, seed) for c in problems if c.grid.split == split for seed in seeds])
            yield split, method, list(found.mean(axis=0)), list(found.std(axis=0, ddof=1) / math.sqrt(len(found)))


def table(seeds: Iterable[int]) -> str:
    head = " | ".join(str(budget) for budget in BUDGETS)
    lines = [f"| tables | method | {head} |", f"| --- | --- |{' --- |' * len(BUDGETS)}"]
    for split, method, means, errors in rows(seeds):
        cells = " | ".join(f"{mean:.3f} ± {error:.3f}" for mean, error in zip(means, errors, strict=True))
        lines.append(f"| {split} | {method} | {cells} |")
    return "\n".join(lines)
