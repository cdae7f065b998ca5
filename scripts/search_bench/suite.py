"""All problems of the benchmark, and what their regrets are measured by."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from search_bench import live, synthetic, tabulated
from search_bench.problems import SCALES, Problem, Scale
from workflow.search.base import keyed_rng

_DRAWN = {"synthetic": 4096, "table": 4096, "live": 256}
_REPETITIONS = 1001


def all_problems() -> dict[str, Problem]:
    problems: tuple[Problem, ...] = (*synthetic.SYNTHETIC, *tabulated.load_all(), *live.LIVE)
    return {problem.name: problem for problem in problems}


def make_scales(problems: Iterable[Problem], seen: Mapping[str, float]) -> None:
    """Write the scales; ``seen`` are the least true losses of earlier runs, for problems whose best is not known."""
    scales = {problem.name: _scale(problem, seen.get(problem.name, np.inf)) for problem in problems}
    text = json.dumps({name: vars(scale) for name, scale in scales.items()}, indent=1)
    Path(SCALES).write_text(text + "\n")


def _scale(problem: Problem, seen: float) -> Scale:
    drawn = []
    for number in range(_DRAWN[problem.kind]):
        rng = keyed_rng(0, number)
        params = {p.name: p.draw(rng) for p in problem.space.varying}
        loss = problem.evaluate(params, rng).loss
        drawn.append((np.inf if loss is None else loss, params))
    rng, truths = np.random.default_rng(0), dict[int, float]()
    incumbents = []
    for _ in range(_REPETITIONS):
        incumbent = min(rng.choice(len(drawn), 16, replace=False), key=lambda index: drawn[index][0])
        if incumbent not in truths:
            truths[incumbent] = problem.truth(drawn[incumbent][1])
        incumbents.append(truths[incumbent])
    best = problem.best if problem.best is not None else min(seen, *truths.values())
    return Scale(best, float(np.median(incumbents)))
