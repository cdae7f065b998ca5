"""The parts of the benchmark: which optimizers run on which problems, and by which plans."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from search_bench import ablations, objectives, optimizers, report, suite
from search_bench.problems import Scale, read_scales
from search_bench.robust import ROBUST
from search_bench.study import Cell, Part, Plan
from workflow.search import STRATEGIES

PLANS = (Plan(8, (40, 80, 160), live=True), Plan(40, (160, 440)))
_EDGES = (Plan(8, (40, 160)),)
_WORKERS = (Plan(1, (80,)), Plan(1000, (2000,)))
_CROWD = (Plan(10_000, (12_000,)),)
REDUCED = (Plan(8, (40,)),)
_COMPARED = ("random", "optuna_tpe", "async")


def _peers() -> Sequence[Part]:
    return [Part(list(suite.all_problems().values()), optimizers.entries(), PLANS)]


def _ablations() -> Sequence[Part]:
    plans = (PLANS[0], Plan(40, (160,)))
    return [Part(list(suite.all_problems().values()), ablations.entries(), plans)]


def _objectives() -> Sequence[Part]:
    plans = (Plan(8, (80, 160)),)
    return [Part(objectives.all_problems(), objectives.OPTIMIZERS, plans, objectives.share_of_front)]


def _robust() -> Sequence[Part]:
    known, problems = optimizers.entries(), suite.all_problems()
    compared = {name: known[name] for name in _COMPARED}
    usual = [problems["synthetic_multimodal"], problems["table_diabetes"]]
    ours = {name: entry for name, entry in compared.items() if name in STRATEGIES}
    return [Part(ROBUST, compared, _EDGES), Part(usual, compared, _WORKERS), Part(usual[:1], ours, _CROWD)]


PARTS: dict[str, Callable[[], Sequence[Part]]] = {
    "peers": _peers,
    "ablations": _ablations,
    "objectives": _objectives,
    "robust": _robust,
}


def stored(part: str) -> Path:
    """The results that the README's tables are made of."""
    return Path(__file__).parent / "results" / f"{part}.jsonl.gz"


def table(part: str, cells: Iterable[Cell], against: str) -> str:
    problems = {problem.name: problem for each in PARTS[part]() for problem in each.problems}
    if part == "objectives":
        share = dict.fromkeys(problems, Scale(best=1.0, random=0.0))  # a regret is the share that is missing
        return report.report(report.Results(cells, problems, share), against, "Missing part of the front")
    results = report.Results(cells, problems, read_scales())
    return report.edge_table(results, against) if part == "robust" else report.report(results, against)
