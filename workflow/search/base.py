"""The interface between the campaign and a search, and what all searches share."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from workflow.search.settings import SearchSettings
from workflow.space import Space
from workflow.trial import Objective, Outcome, Params, Trial, loss_of

MODES = ("min", "max")

NOTHING_NEW = "no further configuration was found that is allowed"
"""The message of a search that ends although the size of its space is not known to be reached."""

LARGEST_LOSS = 1e150
"""Differences of larger ones, and their squares, leave the range of floats."""

_DEFAULTS = 2**32 - 1
"""The key of the draws that fill up the default configuration: beyond every number of a trial."""


class Search(Protocol):
    """Proposes trials and learns from their outcomes. Pure: no clock, no files, no global random state.

    See ``make_search`` for its use. First everything recorded is restored; then asks and tells come in any order.
    """

    @property
    def done(self) -> bool:
        """True once no further trial will be asked for, whatever is told."""

    @property
    def message(self) -> str:
        """Why the search ended before its budget; empty otherwise."""

    @property
    def budget(self) -> int:
        """The largest number of trials that it may ask for."""

    def ask(self) -> Trial | None:
        """The next trial; None for "nothing until someone tells", and when done.

        Raises SetupError where a sampler cannot go on with this space.
        """

    def tell(self, outcome: Outcome) -> None:
        """Take a final outcome of a trial that was asked for, once. Any order of tells is allowed."""

    def restore(self, trial: Trial, outcome: Outcome | None) -> None:
        """At resume: a trial that was asked for earlier, in the order of the asks; None if it has no outcome yet.

        Raises InputError for one that does not fit this search.
        """

    @property
    def repeatable(self) -> bool:
        """Whether a trial whose record was lost is asked for again as it was, whatever has been told since."""


def keyed_rng(seed: int, *key: int) -> np.random.Generator:
    """A generator that depends on the seed and on what is drawn, never on what was drawn before."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, *key))))


class Earlier(NamedTuple):
    """A result of the earlier run number ``source``, with a loss (to be minimised) on that run's own scale."""

    params: Params
    loss: float
    source: int


def best_of(earlier: Iterable[Earlier], count: int) -> list[Params]:
    """The best configurations of the earlier runs, of each run in turn."""
    by_source: dict[int, list[Earlier]] = {}
    for result in sorted(earlier, key=lambda result: result.loss):
        by_source.setdefault(result.source, []).append(result)
    turns = itertools.zip_longest(*(by_source[source] for source in sorted(by_source)))
    return [result.params for result in itertools.chain.from_iterable(turns) if result is not None][:count]


def first_configurations(space: Space, settings: SearchSettings, initial: Sequence[Params]) -> list[Params]:
    """What every search begins with: the default configuration, where the space has defaults, then ``initial``."""
    genomes = [space.genome(params) for params in initial]
    if space.defaults:
        drawn = space.draws(keyed_rng(settings.seed, _DEFAULTS), space.defaults)
        genomes = list(dict.fromkeys([*itertools.islice(drawn, 1), *genomes]))
    return [space.params(genome) for genome in genomes[: settings.population_size]]


def losses_of(outcome: Outcome, objectives: Sequence[Objective]) -> tuple[float, ...]:
    """What is to be minimised, a number for each objective; infinity in all, which ranks last, for a failed trial.

    What is larger than LARGEST_LOSS counts as that.
    """
    values = values_of(outcome, objectives)
    if values is None:
        return (math.inf,) * len(objectives)
    bounded = (min(max(value, -LARGEST_LOSS), LARGEST_LOSS) for value in values)
    return tuple(loss_of(value, objective.mode) for objective, value in zip(objectives, bounded, strict=True))


def values_of(outcome: Outcome, objectives: Sequence[Objective]) -> tuple[float, ...] | None:
    """The values of all objectives; None for a trial that failed, or lacks one.

    The first one is the outcome's value, whatever its metric is called; further ones are among its metrics.
    """
    found = [outcome.value, *(outcome.metrics.get(objective.metric) for objective in objectives[1:])]
    values = tuple(value for value in found if value is not None)
    return values if outcome.kind == "ok" and len(values) == len(found) else None
