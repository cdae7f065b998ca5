"""The optimizers of the benchmark: our strategies, and those of other packages where they are installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field

from search_bench.simulate import Finished, Optimizer
from workflow.search import STRATEGIES, Search, SearchSettings, make_search
from workflow.space import Space
from workflow.space_file import parse_space
from workflow.trial import Outcome, Params, Trial

WALLTIME = "walltime"
"""The metric of trials' seconds, for searches by several objectives."""

GENERATIONAL = ("mu_plus_lambda", "simple")
_ENDLESS = 100_000


@dataclass(frozen=True)
class Setting:
    """What an optimizer may know beforehand."""

    space: Space
    workers: int
    budget: int
    seed: int


@dataclass(frozen=True)
class Entry:
    """``packages`` must be importable. ``slow`` ones run 160 trials at most."""

    make: Callable[[Setting], Optimizer]
    packages: tuple[str, ...] = ()
    slow: bool = False

    @property
    def missing(self) -> list[str]:
        return [package for package in self.packages if importlib.util.find_spec(package) is None]


@dataclass
class Told:
    """A search of ``workflow.search``, told as the campaign's loop tells it."""

    search: Search
    trials: dict[int, Trial] = field(default_factory=dict)

    def ask(self, key: int) -> Params | None:
        trial = self.search.ask()
        if trial is None:
            return None
        self.trials[key] = trial
        return trial.params

    def tell(self, finished: Finished) -> None:
        trial, kind = self.trials.pop(finished.key), "failed" if finished.loss is None else "ok"
        metrics = {WALLTIME: finished.seconds}
        self.search.tell(Outcome(trial.id, 1, kind, finished.loss, metrics, finished.started, finished.ended))


def settings(strategy: str, setting: Setting) -> SearchSettings:
    """Generations fill all workers: those of mu_plus_lambda have two batches of parents, of simple 16 or more."""
    if strategy not in GENERATIONAL:
        return SearchSettings(strategy=strategy, evaluations=setting.budget, seed=setting.seed)
    size = max(16, setting.workers) if strategy == "simple" else 2 * setting.workers
    return SearchSettings(strategy=strategy, population_size=size, num_iterations=_ENDLESS, seed=setting.seed)


def linear(space: Space) -> Space:
    """A space without logarithmic scales."""
    return parse_space([{k: v for k, v in entry.items() if k != "use_log_scale"} for entry in space.entries], "linear")


def _ours(strategy: str) -> Entry:
    return Entry(lambda setting: Told(make_search(setting.space, settings(strategy, setting))))


def entries() -> dict[str, Entry]:
    """All optimizers by name, installed or not; imports of other packages wait until one is made."""
    from search_bench import peers

    ours = {strategy: _ours(strategy) for strategy in STRATEGIES}
    return {**ours, **peers.PEERS}
