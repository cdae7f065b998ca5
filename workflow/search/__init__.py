"""Searches: which configuration to try next. Import ``make_search`` and the ``Search`` protocol from here."""

from __future__ import annotations

from collections.abc import Sequence

from workflow.search.base import MODES, Earlier, Search, best_of, first_configurations, losses_of, values_of
from workflow.search.genetic import GenerationStatistics, GeneticSearch
from workflow.search.random_search import RandomSearch
from workflow.search.settings import MOST_TRIALS, STRATEGIES, WITHOUT_GENERATIONS, SearchSettings
from workflow.space import Space
from workflow.trial import Objective, Params

__all__ = [
    "MODES",
    "MOST_TRIALS",
    "STRATEGIES",
    "WITHOUT_GENERATIONS",
    "Earlier",
    "GenerationStatistics",
    "GeneticSearch",
    "RandomSearch",
    "Search",
    "SearchSettings",
    "losses_of",
    "make_search",
    "values_of",
]


def make_search(
    space: Space, settings: SearchSettings, objectives: Sequence[Objective] = (Objective(),),
    initial: Sequence[Params] = (), earlier: Sequence[Earlier] = (),
) -> Search:  # fmt: skip
    """The search that ``settings.strategy`` names; ``initial`` are configurations to evaluate before any of its own.

    The first of the ``objectives`` is an outcome's value, by default to be minimised; further ones are among its
    metrics. The best of ``earlier`` runs come after ``initial``.

    >>> from workflow.space_file import parse_space
    >>> from workflow.trial import Outcome
    >>> space = parse_space([{"name": "x", "type": "float", "lower": -1, "upper": 1}], "an example")
    >>> search = make_search(space, SearchSettings(strategy="async", evaluations=20))
    >>> losses = []
    >>> while (trial := search.ask()) is not None:
    ...     losses.append(trial.params["x"] ** 2)
    ...     search.tell(Outcome(trial.id, attempt=1, kind="ok", value=losses[-1]))
    >>> len(losses), min(losses) < 0.01, search.done
    (20, True, True)
    """
    initial = first_configurations(space, settings, [*initial, *best_of(earlier, settings.from_earlier_runs)])
    if settings.strategy == "random":
        return RandomSearch(space, settings, objectives, initial)
    if settings.strategy == "async":
        from workflow.search.asynchronous import AsyncSearch  # with scipy, which other strategies need not wait for

        return AsyncSearch(space, settings, objectives, initial, earlier=earlier)
    if settings.strategy == "optuna":
        from workflow.search.optuna_search import OptunaSearch  # with Optuna, an extra

        return OptunaSearch(space, settings, objectives, initial)
    return GeneticSearch(space, settings, objectives, initial)
