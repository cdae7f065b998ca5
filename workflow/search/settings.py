"""The settings of all searches, as the experiment's ``search`` section has them, and what is out of their range."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workflow.errors import Problems, did_you_mean, listing, show
from workflow.search.halving import Fidelity

MOST_TRIALS = 1_000_000
"""Of numbers that decide how much a search computes."""

_MOST_SIZES = 30
"""Of trainings of a fidelity; each costs time at every ask."""

STRATEGIES = ("mu_plus_lambda", "simple", "random", "async", "optuna")
"""A new one needs a line here, one in ``make_search`` and one in the contract suite (tests/contract/test_search.py)."""

WITHOUT_GENERATIONS = ("async", "optuna", "random")
"""Strategies whose budget is ``evaluations``."""

_GENETIC = ("mut_prob", "cx_prob", "mut_indpb", "cx_indpb", "tournsize")
"""Settings of the generational strategies' operators, of which others make no use: that is warned of."""

Seconds = float
"""A duration as experiment files have it: a number, or a text such as 12h."""


@dataclass(frozen=True)
class SearchSettings:
    """The budget and the operators' settings, under the reference system's meaning and defaults.

    ``num_iterations`` counts the initial population: 5 iterations are 4 evolutions. ``mut_prob`` and ``cx_prob``
    are the shares of offspring that mutate and cross; ``mut_indpb`` and ``cx_indpb`` the probabilities for each
    hyperparameter of such an offspring; ``tournsize`` the individuals of a selection tournament. ``evaluations``
    is the budget of searches without generations, by default that of mu_plus_lambda with the same sizes.
    ``initial_population`` is the path of a CSV of hyperparameters or of an earlier run's directory. ``sampler`` is the
    name of a class of Optuna's, by default TPESampler, and ``sampler_options`` are its keyword arguments.
    ``gpu_hours``, ``wall_time`` and ``target`` are the campaign's to watch: no search knows of them.
    With a ``fidelity`` trainings may be smaller ones, and ``evaluations`` counts whole ones; ``cost_aware`` prefers
    configurations that are expected to be trained quickly.
    """

    strategy: str = "async"
    num_iterations: int = 5
    population_size: int = 16
    offspring_proportion: float = 0.5
    mut_prob: float = 0.8
    cx_prob: float = 0.2
    mut_indpb: float = 0.5
    cx_indpb: float = 0.5
    tournsize: int = 4
    seed: int = 1
    reevaluate: bool = False
    evaluations: int | None = None
    initial_population: str | None = None
    sampler: str | None = None
    sampler_options: Mapping[str, Any] | None = None
    gpu_hours: float | None = None
    wall_time: Seconds | None = None
    target: float | None = None
    fidelity: Fidelity | None = None
    cost_aware: bool = False
    warm_start: tuple[str, ...] = ()

    BUDGETS = ("num_iterations", "evaluations", "gpu_hours", "wall_time", "target")
    """Settings that may change at a resume: they extend or shorten a campaign without changing its sequence."""

    @property
    def unused(self) -> list[str]:
        """Settings that were changed, and of which the strategy knows nothing."""
        known = () if self.strategy in WITHOUT_GENERATIONS else _GENETIC
        defaults = SearchSettings()
        return [key for key in _GENETIC if key not in known and getattr(self, key) != getattr(defaults, key)]

    @property
    def from_earlier_runs(self) -> int:
        """How many of a population the best of earlier runs are."""
        return max(1, self.population_size // 4)

    @property
    def offspring(self) -> int:
        """Number of offspring a generation of mu_plus_lambda; the tolerance undoes 0.29 * 100 = 28.999..."""
        return math.floor(self.population_size * self.offspring_proportion + 1e-9)

    @property
    def trials_without_generations(self) -> int:
        """The budget of a search without generations; no limit of its own where hours are given instead."""
        if self.evaluations is None and (self.gpu_hours is not None or self.wall_time is not None):
            return MOST_TRIALS
        if self.evaluations is not None:
            return self.evaluations
        return self.population_size + (self.num_iterations - 1) * self.offspring

    def check(self, problems: Problems) -> None:
        """Add what is out of range to ``problems``."""
        if self.strategy not in STRATEGIES:
            remedy = did_you_mean(self.strategy, STRATEGIES)
            problems.add("search.strategy", f"{self.strategy!r} is not a strategy", remedy)
        self._check_ranges(problems)
        self._check_budgets(problems)
        if self.cost_aware:
            self._check_is_async("cost_aware", problems)
        if self.fidelity is not None:
            self._check_is_async("fidelity", problems)
            self._check_fidelity(self.fidelity, problems)
        if self.strategy == "mu_plus_lambda":
            self._check_mu_plus_lambda(problems)
        self._check_sampler(problems)

    def _check_ranges(self, problems: Problems) -> None:
        for key, least in (("num_iterations", 1), ("population_size", 1), ("tournsize", 1), ("seed", 0)):
            if getattr(self, key) < least:
                problems.add(f"search.{key}", f"{getattr(self, key)} is below {least}", f"write at least {least}")
        for key in ("num_iterations", "population_size", "tournsize", "evaluations"):
            if (getattr(self, key) or 0) > MOST_TRIALS:
                what = f"{getattr(self, key)} is above {MOST_TRIALS}"
                problems.add(f"search.{key}", what, f"write {MOST_TRIALS} at most")
        for key in ("offspring_proportion", "mut_prob", "cx_prob", "mut_indpb", "cx_indpb"):
            if not 0 <= getattr(self, key) <= 1:
                problems.add(f"search.{key}", f"{getattr(self, key)} is no proportion", "write a number from 0 to 1")

    def _check_budgets(self, problems: Problems) -> None:
        if self.evaluations is not None and self.evaluations < 1:
            problems.add("search.evaluations", f"{self.evaluations} is below 1", "write at least 1")
        if self.evaluations is not None and self.strategy not in WITHOUT_GENERATIONS:
            what = f"is a budget of strategies {listing(WITHOUT_GENERATIONS)}, not of {self.strategy}"
            problems.add("search.evaluations", what, "set num_iterations and population_size")
        if self.gpu_hours is not None and self.gpu_hours <= 0:
            problems.add("search.gpu_hours", f"{self.gpu_hours:g} is not above 0", "write hours, such as 100 or 0.5")

    def _check_is_async(self, key: str, problems: Problems) -> None:
        if self.strategy != "async":
            what = f"does not go with strategy {self.strategy}"
            problems.add(f"search.{key}", what, "set search.strategy to async, or leave it out")

    def _check_fidelity(self, fidelity: Fidelity, problems: Problems) -> None:
        if not 0 < fidelity.min < fidelity.max < math.inf:
            what = f"goes from {fidelity.min:g} to {fidelity.max:g}"
            problems.add("search.fidelity", what, "write 0 < min < max")
        elif not 1 < fidelity.eta < math.inf:
            problems.add("search.fidelity.eta", f"{fidelity.eta:g} is not above 1", "write a number such as 3")
        elif (sizes := _sizes(fidelity)) > _MOST_SIZES:
            what = f"has {sizes} sizes of trainings between {fidelity.min:g} and {fidelity.max:g}"
            problems.add("search.fidelity", what, f"raise min or eta, to {_MOST_SIZES} sizes at most")
        elif len(fidelity.rungs) < 2:
            what = f"has no smaller training between {fidelity.min:g} and {fidelity.max:g} / {fidelity.eta:g}"
            problems.add("search.fidelity", what, "lower min or eta")

    def _check_mu_plus_lambda(self, problems: Problems) -> None:
        if self.mut_prob + self.cx_prob > 1 + 1e-12:
            what = f"and cx_prob sum to {self.mut_prob + self.cx_prob:g}: an offspring comes from one of the two"
            problems.add("search.mut_prob", what, "make them sum to 1 at most, or use strategy simple")
        if self.num_iterations > 1 and not 1 <= self.offspring < self.population_size:
            what = f"gives {self.offspring} offspring for a population of {self.population_size}"
            problems.add("search.offspring_proportion", what, "leave at least one parent and one offspring")

    def _check_sampler(self, problems: Problems) -> None:
        for key in ("sampler", "sampler_options"):
            if getattr(self, key) is not None and self.strategy != "optuna":
                what = f"is a setting of strategy optuna, not of {self.strategy}"
                problems.add(f"search.{key}", what, "leave it out, or set strategy: optuna")
        options = self.sampler_options or {}
        if "seed" in options:
            problems.add("search.sampler_options.seed", "is given to every sampler", "set search.seed instead")
        elif not _is_plain(options):
            what = f"{show(dict(options))} holds values that cannot be written down"
            problems.add("search.sampler_options", what, "write strings, finite numbers, true/false, and lists of them")
        elif self.strategy == "optuna":
            self._check_optuna(problems)

    def _check_optuna(self, problems: Problems) -> None:
        try:
            from workflow.search.optuna_search import check_sampler
        except ImportError as error:
            what = f"'optuna' needs the package of that name, which cannot be used ({error})"
            problems.add("search.strategy", what, 'in the clone: pip install ".[optuna]"')
        else:
            check_sampler(self, problems)


def _sizes(fidelity: Fidelity) -> int:
    return 1 + math.floor((math.log(fidelity.max) - math.log(fidelity.min)) / math.log(fidelity.eta))


def _is_plain(options: Mapping[str, Any]) -> bool:
    try:
        json.dumps(options, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
