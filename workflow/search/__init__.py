"""Searches: which configuration to try next. Import ``make_search`` and the ``Search`` protocol from here."""

from __future__ import annotations

from collections.abc import Sequence

from workflow.search.base import MODES, STRATEGIES, WITHOUT_GENERATIONS, Search, SearchSettings
from workflow.search.genetic import GenerationStatistics, GeneticSearch
from workflow.search.random_search import RandomSearch
from workflow.space import Space
from workflow.trial import Params

__all__ = [
    "MODES",
    "STRATEGIES",
    "WITHOUT_GENERATIONS",
    "GenerationStatistics",
    "GeneticSearch",
    "RandomSearch",
    "Search",
    "SearchSettings",
    "make_search",
]


def make_search(space: Space, settings: SearchSettings, mode: str, initial: Sequence[Params] = ()) -> Search:
    """The search that ``settings.strategy`` names; ``initial`` are configurations to evaluate first."""
    initial = initial[: settings.population_size]
    if settings.strategy == "random":
        return RandomSearch(space, settings, mode, initial)
    if settings.strategy == "async":
        from workflow.search.asynchronous import AsyncSearch  # with scipy, which other strategies need not wait for

        return AsyncSearch(space, settings, mode, initial)
    if settings.strategy == "optuna":
        from workflow.search.optuna_search import OptunaSearch  # with Optuna, an extra

        return OptunaSearch(space, settings, mode, initial)
    return GeneticSearch(space, settings, mode, initial)
