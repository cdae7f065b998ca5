"""All problems of the benchmark, and what their regrets are measured by."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from operator import itemgetter

import numpy as np

from search_bench import live, synthetic, tabulated
from search_bench.problems import SCALES, Problem, Scale
from workflow.search.base import keyed_rng
from workflow.trial import Params

_DRAWN = {"synthetic": 4096, "table": 4096, "live": 256, "robust": 4096}
_REPETITIONS = 1001


def all_problems() -> dict[str, Problem]:
    problems: tuple[Problem, ...] = (*synthetic.SYNTHETIC, *tabulated.load_all(), *live.LIVE)
    return {problem.name: problem for problem in problems}


def make_scales(problems: Iterable[Problem], seen: Mapping[str, float]) -> None:
    """Write the scales; ``seen`` are the least true losses of earlier runs, for problems whose best is not known."""
    scales = {problem.name: _scale(problem, seen.get(problem.name, math.inf)) for problem in problems}
    text = json.dumps({name: vars(scale) for name, scale in scales.items()}, indent=1)
    SCALES.write_text(text + "\n")


def _scale(problem: Problem, seen: float) -> Scale:
    drawn = [_drawn(problem, number) for number in range(_DRAWN[problem.kind])]
    rng = np.random.default_rng(0)
    groups = (rng.choice(len(drawn), 16, replace=False) for _ in range(_REPETITIONS))
    incumbents = [min((drawn[index] for index in group), key=itemgetter(0))[1] for group in groups]
    truths = [problem.truth(params) for params in incumbents]
    best = problem.best if problem.best is not None else min(seen, *truths)
    return Scale(best, float(np.median(truths)))


def _drawn(problem: Problem, number: int) -> tuple[float, Params]:
    """A configuration of random search and its noisy loss, infinity for a failure."""
    rng = keyed_rng(0, number)
    params = {p.name: p.draw(rng) for p in problem.space.varying}
    loss = problem.evaluate(params, rng).loss
    return (math.inf if loss is None else loss), params
