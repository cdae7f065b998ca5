"""The interface between the campaign and a search, and what all searches share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from workflow.errors import Problems, did_you_mean
from workflow.trial import Outcome, Trial

_LARGEST = 1_000_000
"""Of numbers that decide how much a search computes."""

MODES = ("min", "max")
STRATEGIES = ("mu_plus_lambda", "simple", "random", "async")
WITHOUT_GENERATIONS = ("async", "random")
"""Strategies whose budget is ``evaluations``."""


class Search(Protocol):
    """Proposes trials and learns from their outcomes. Pure: no clock, no files, no global random state."""

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
        """The next trial; None for "nothing until someone tells", and when done."""

    def tell(self, outcome: Outcome) -> None:
        """Take a final outcome of a trial that was asked for. Any order of tells is allowed."""

    def restore(self, trial: Trial, outcome: Outcome | None) -> None:
        """At resume: a trial that was asked for earlier, in the order of the asks; None if it has no outcome yet."""

    @property
    def repeatable(self) -> bool:
        """Whether a trial whose record was lost is asked for again as it was, whatever has been told since."""


@dataclass(frozen=True)
class SearchSettings:
    """The budget and the operators' settings, under the reference system's meaning and defaults.

    ``num_iterations`` counts the initial population: 5 iterations are 4 evolutions. ``mut_prob`` and ``cx_prob``
    are the shares of offspring that mutate and cross; ``mut_indpb`` and ``cx_indpb`` the probabilities for each
    hyperparameter of such an offspring; ``tournsize`` the individuals of a selection tournament. ``evaluations``
    is the budget of searches without generations, by default that of mu_plus_lambda with the same sizes.
    ``initial_population`` is the path of a CSV of hyperparameters or of an earlier run's directory.
    """

    strategy: str = "mu_plus_lambda"
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

    BUDGETS = ("num_iterations", "evaluations")
    """Settings that may change at a resume: they extend or shorten a campaign without changing its sequence."""

    @property
    def offspring(self) -> int:
        """Number of offspring a generation of mu_plus_lambda; the tolerance undoes 0.29 * 100 = 28.999..."""
        return math.floor(self.population_size * self.offspring_proportion + 1e-9)

    @property
    def trials_without_generations(self) -> int:
        """The budget of a search without generations."""
        if self.evaluations is not None:
            return self.evaluations
        return self.population_size + (self.num_iterations - 1) * self.offspring

    def check(self, problems: Problems) -> None:
        """Add what is out of range to ``problems``."""
        if self.strategy not in STRATEGIES:
            remedy = did_you_mean(self.strategy, STRATEGIES)
            problems.add("search.strategy", f"{self.strategy!r} is not a strategy", remedy)
        for key, least in (("num_iterations", 1), ("population_size", 1), ("tournsize", 1), ("seed", 0)):
            if getattr(self, key) < least:
                problems.add(f"search.{key}", f"{getattr(self, key)} is below {least}", f"write at least {least}")
        for key in ("num_iterations", "population_size", "tournsize", "evaluations"):
            if (getattr(self, key) or 0) > _LARGEST:
                what = f"{getattr(self, key)} is above {_LARGEST}"
                problems.add(f"search.{key}", what, f"write {_LARGEST} at most")
        for key in ("offspring_proportion", "mut_prob", "cx_prob", "mut_indpb", "cx_indpb"):
            if not 0 <= getattr(self, key) <= 1:
                problems.add(f"search.{key}", f"{getattr(self, key)} is no proportion", "write a number from 0 to 1")
        if self.evaluations is not None and self.evaluations < 1:
            problems.add("search.evaluations", f"{self.evaluations} is below 1", "write at least 1")
        if self.evaluations is not None and self.strategy not in WITHOUT_GENERATIONS:
            what = f"is a budget of strategies {' and '.join(WITHOUT_GENERATIONS)}, not of {self.strategy}"
            problems.add("search.evaluations", what, "set num_iterations and population_size")
        if self.strategy == "mu_plus_lambda":
            self._check_mu_plus_lambda(problems)

    def _check_mu_plus_lambda(self, problems: Problems) -> None:
        if self.mut_prob + self.cx_prob > 1 + 1e-12:
            what = f"and cx_prob sum to {self.mut_prob + self.cx_prob:g}: an offspring comes from one of the two"
            problems.add("search.mut_prob", what, "make them sum to 1 at most, or use strategy simple")
        if self.num_iterations > 1 and not 1 <= self.offspring < self.population_size:
            what = f"gives {self.offspring} offspring for a population of {self.population_size}"
            problems.add("search.offspring_proportion", what, "leave at least one parent and one offspring")


def keyed_rng(seed: int, *key: int) -> np.random.Generator:
    """A generator that depends on the seed and on what is drawn, never on what was drawn before."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, *key))))


def fitness(outcome: Outcome, mode: str) -> float:
    """The value to be minimised; infinity, which ranks last, for a trial that failed."""
    if outcome.kind != "ok" or outcome.value is None:
        return math.inf
    return outcome.value if mode == "min" else -outcome.value
