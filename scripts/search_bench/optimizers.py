"""The optimizers of the benchmark: our strategies, and those of other packages where they are installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field

from search_bench.simulate import Finished, Optimizer
from workflow.search import STRATEGIES, SearchSettings, make_search
from workflow.space import Space
from workflow.trial import Outcome, Params, Trial

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
class Ours:
    """A strategy of ``workflow.search``, told as the campaign's loop tells it."""

    strategy: str
    setting: Setting
    trials: dict[int, Trial] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.search = make_search(self.setting.space, self._settings(), "min")

    def _settings(self) -> SearchSettings:
        """Generations fill all workers: those of mu_plus_lambda have two batches of parents, of simple 16 or more."""
        workers, seed = self.setting.workers, self.setting.seed
        if self.strategy not in GENERATIONAL:
            return SearchSettings(strategy=self.strategy, evaluations=self.setting.budget, seed=seed)
        size = max(16, workers) if self.strategy == "simple" else 2 * workers
        return SearchSettings(strategy=self.strategy, population_size=size, num_iterations=_ENDLESS, seed=seed)

    def ask(self, key: int) -> Params | None:
        trial = self.search.ask()
        if trial is None:
            return None
        self.trials[key] = trial
        return trial.params

    def tell(self, finished: Finished) -> None:
        trial, kind = self.trials.pop(finished.key), "failed" if finished.loss is None else "ok"
        outcome = Outcome(trial.id, 1, kind, finished.loss, started=finished.started, ended=finished.ended)
        self.search.tell(outcome)


def _ours(strategy: str) -> Entry:
    return Entry(lambda setting: Ours(strategy, setting))


def entries() -> dict[str, Entry]:
    """All optimizers by name, installed or not; imports of other packages wait until one is made."""
    from search_bench import peers

    ours = {strategy: _ours(strategy) for strategy in STRATEGIES}
    return {**ours, **peers.PEERS}
