"""What earlier runs found, of other data perhaps, as a model may take it: for how configurations compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from workflow.search.arrays import Array
from workflow.search.base import LARGEST_LOSS, Earlier
from workflow.space import Genome, Space

_MOST = 60
"""Results of all earlier runs that a model sees."""

_FEW = 4
"""Results of a run below which their spread says nothing."""


class Known(NamedTuple):
    """A result of the earlier run ``source`` (1, 2, ...), its ``loss`` in spreads of that run's results."""

    genome: Genome
    loss: float
    source: int


def typical(earlier: Sequence[Earlier], space: Space) -> list[Known]:
    """Of each run its best results and an even choice of the others, the best first."""
    found: list[Known] = []
    sources = sorted({result.source for result in earlier})
    for number, source in enumerate(sources, start=1):
        results = sorted((each for each in earlier if each.source == source), key=lambda each: each.loss)
        losses = in_spreads(np.array([each.loss for each in results]))
        best = max(1, _MOST // len(sources) // 2)
        evenly = np.linspace(best, max(best, len(results) - 1), best).round().astype(int).tolist()
        chosen = [at for at in dict.fromkeys([*range(best), *evenly]) if at < len(results)]
        found += [Known(space.genome(results[at].params), float(losses[at]), number) for at in chosen]
    return sorted(found, key=lambda known: known.loss)


def in_spreads(losses: Array) -> Array:
    """Losses from their median on, in units of the distance between their quartiles; infinite ones stay so."""
    finite = losses[np.isfinite(losses)]
    if len(finite) < _FEW:
        return np.where(np.isfinite(losses), 0.0, np.inf)
    finite = np.clip(finite, -LARGEST_LOSS, LARGEST_LOSS)
    lower, middle, upper = np.quantile(finite, [0.25, 0.5, 0.75])
    spread = upper - lower if upper > lower else float(finite.std()) or 1.0
    within = np.where(np.isfinite(losses), np.clip(losses, -LARGEST_LOSS, LARGEST_LOSS), losses)
    levelled: Array = (within - middle) / spread
    return levelled


def beside(losses: Array, genomes: Sequence[Genome], known: Mapping[Genome, float]) -> Array:
    """Own losses in spreads, on the level of the earlier ones by the configurations that both have."""
    own = in_spreads(losses)
    both = [known[genome] - loss for genome, loss in zip(genomes, own, strict=True) if genome in known]
    shifts = [shift for shift in both if np.isfinite(shift)]
    return own + (float(np.median(shifts)) if shifts else 0.0)
