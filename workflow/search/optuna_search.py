"""Optuna's samplers (Akiba et al. 2019) as a strategy, by ask and tell with a study in memory.

The journal holds configurations and outcomes, which a resume gives to a new study. What a sampler keeps beside them, as
CMA-ES its distribution, begins anew there.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeGuard

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from workflow.errors import Problems, SetupError, did_you_mean, listing, show
from workflow.parameters import Choice, Number, Parameter
from workflow.search.base import values_of
from workflow.search.settings import SearchSettings
from workflow.search.steady import SteadySearch
from workflow.space import Genome
from workflow.trial import Outcome, Trial, Value

DEFAULT_SAMPLER = "TPESampler"

_REPEATS = 10
"""Suggestions in a row of known configurations, or of ones that are not allowed, after which one is drawn at random."""


class OptunaSearch(SteadySearch):
    """The strategy ``optuna``. Told in order and without repeats, it asks for what the study alone would suggest.

    A suggestion that was asked for before is told to the study with its known outcome, or as soon as there is one.

    >>> from workflow.space_file import parse_space
    >>> space = parse_space([{"name": "x", "type": "float", "lower": -1, "upper": 1}], "an example")
    >>> search = OptunaSearch(space, SearchSettings(strategy="optuna", sampler="TPESampler", evaluations=20))
    >>> for trial in iter(search.ask, None):
    ...     search.tell(Outcome(trial.id, 1, "ok", trial.params["x"] ** 2))
    >>> search.done
    True
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        _silence()
        self._distributions = {p.name: distribution(p) for p in self.space.varying}
        modes = [objective.mode for objective in self.objectives]
        directions = [StudyDirection.MINIMIZE if mode == "min" else StudyDirection.MAXIMIZE for mode in modes]
        sampler = make_sampler(self.settings, self.settings.seed)
        self._study = optuna.create_study(sampler=sampler, directions=directions)
        self._study.stop = _go_on  # type: ignore[method-assign]  # samplers may call it: see _go_on
        self._resumed = False
        self._suggested: int | None = None
        """The study's number of what becomes the next trial; None for one that the study didn't suggest."""
        self._numbers: dict[int, list[int]] = {}
        """The study's numbers of each trial without an outcome: its own, and those of repeats."""
        self._outcomes: dict[int, Outcome] = {}

    def tell(self, outcome: Outcome) -> None:
        self._outcomes[outcome.trial_id] = outcome
        for number in self._numbers.pop(outcome.trial_id, ()):
            self._tell_study(number, outcome)

    def restore(self, trial: Trial, outcome: Outcome | None) -> None:
        super().restore(trial, outcome)
        self._resumed = True

    def _added(self, trial: Trial, genome: Genome) -> None:
        number, self._suggested = self._suggested, None
        if number is None:
            pairs = zip(self.space.varying, genome, strict=True)
            params = {p.name: _to_study(p, value) for p, value in pairs if value is not None}
            distributions = {name: self._distributions[name] for name in params}
            running = create_trial(state=TrialState.RUNNING, params=params, distributions=distributions)
            number = len(self._study.get_trials(deepcopy=False))
            self._study.add_trial(running)
        self._numbers[trial.id] = [number]

    def _suggest(self, rng: np.random.Generator, trial_id: int) -> Genome | None:
        if self._resumed:  # the first sampler's draws would come a second time
            self._study.sampler = make_sampler(self.settings, int(rng.integers(2**31)))
            self._resumed = False
        for _ in range(_REPEATS):
            with self._explained():
                suggested = self._study.ask(self._distributions)
            values = (_from_study(p, suggested.params[p.name]) for p in self.space.varying)
            genome = self.space.settle(tuple(values))
            if not self.space.allows(genome):
                self._study.tell(suggested.number, state=TrialState.FAIL)
            elif self._is_new(genome):
                self._suggested = suggested.number
                return genome
            else:
                self._repeat(suggested.number, self._known[genome])
        return None

    def _repeat(self, number: int, trial_id: int) -> None:
        outcome = self._outcomes.get(trial_id)
        if outcome is None:
            self._numbers[trial_id].append(number)
        else:
            self._tell_study(number, outcome)

    def _tell_study(self, number: int, outcome: Outcome) -> None:
        with self._explained():
            values = values_of(outcome, self.objectives)
            state = TrialState.FAIL if values is None else TrialState.COMPLETE
            self._study.tell(number, values, state)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """An error of a sampler, as for a kind of hyperparameter that it doesn't know, is one of its choice."""
        try:
            yield
        except Exception as error:
            what = f"{sampler_name(self.settings)} cannot go on: {' '.join(str(error).split())}"
            raise SetupError(f"search.sampler: {what}\n    -> {self._remedy(error)}") from error

    def _remedy(self, error: Exception) -> str:
        if isinstance(error, ImportError):
            return "install what it misses, or choose another"
        options = "mend sampler_options, or " if self.settings.sampler_options else ""
        return f"{options}choose another sampler for this space"


def check_sampler(settings: SearchSettings, problems: Problems) -> None:
    """Add to ``problems`` why the sampler cannot be made."""
    name, known = sampler_name(settings), samplers()
    if name not in known:
        problems.add(
            "search.sampler", f"{name!r} is no sampler of Optuna's to be used here", did_you_mean(name, list(known))
        )
        return
    _silence()
    try:
        make_sampler(settings, settings.seed)
    except Exception as error:
        what = f"{name} cannot be made with {show(dict(settings.sampler_options or {}))}: {error}"
        options = [option for option in inspect.signature(known[name]).parameters if option != "seed"]
        problems.add("search.sampler_options", what, f"its options: {listing(options)}")


def sampler_name(settings: SearchSettings) -> str:
    return settings.sampler or DEFAULT_SAMPLER


def samplers() -> dict[str, type[BaseSampler]]:
    """Those of Optuna's that can be made without arguments."""
    found = {name: getattr(optuna.samplers, name) for name in sorted(optuna.samplers.__all__)}
    return {name: kind for name, kind in found.items() if inspect.isclass(kind) and _needs_nothing(kind)}


def _needs_nothing(kind: type) -> TypeGuard[type[BaseSampler]]:
    if not issubclass(kind, BaseSampler) or inspect.isabstract(kind):
        return False
    return all(p.default is not p.empty for p in inspect.signature(kind).parameters.values())


def make_sampler(settings: SearchSettings, seed: int) -> BaseSampler:
    kind = samplers()[sampler_name(settings)]
    seeded = {"seed": seed} if "seed" in inspect.signature(kind).parameters else {}
    return kind(**dict(settings.sampler_options or {}), **seeded)


def distribution(parameter: Parameter) -> BaseDistribution:
    """The parameter as Optuna has it; of an ordered one the number of its element, an int, whose order samplers use."""
    if isinstance(parameter, Number) and parameter.integer:
        return IntDistribution(int(parameter.lower), int(parameter.upper), log=parameter.log)
    if isinstance(parameter, Number):
        return FloatDistribution(parameter.lower, parameter.upper, log=parameter.log)
    elements = list(parameter.values())
    if _is_ordered(parameter):
        return IntDistribution(0, len(elements) - 1)
    return CategoricalDistribution(elements)


def _is_ordered(parameter: Parameter) -> bool:
    return isinstance(parameter, Choice) and not parameter.is_categorical


def _to_study(parameter: Parameter, value: Value) -> Value:
    return list(parameter.values()).index(value) if _is_ordered(parameter) else value


def _from_study(parameter: Parameter, value: Value) -> Value:
    return list(parameter.values())[int(value)] if _is_ordered(parameter) else value


def _silence() -> None:
    """Neither a line for every trial nor warnings of Optuna's own code, or that a class is experimental."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", module=r"optuna\.")
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)


def _go_on() -> None:
    """In place of ``Study.stop``, by which some samplers end ``Study.optimize``: here the budget ends the search."""
