"""Search methods of other packages behind the benchmark's interface, with the settings that their users would have.

All are given the logarithmic scale, ordered lists as indices and categories as such, except ``deap_published``.
"""

from __future__ import annotations

import math
import random
import tempfile
import warnings
from collections.abc import Callable, Generator, Mapping
from typing import Any

import numpy as np

from search_bench.optimizers import Entry, Setting, linear
from search_bench.simulate import Finished, Optimizer
from search_bench.training import CAP
from workflow.parameters import Choice, Logical, Number
from workflow.space import Space
from workflow.trial import Params, Value


class Optuna:
    """Akiba et al. 2019 by ask and tell; a failed trial is told as failed."""

    directions = ("minimize",)

    def __init__(self, setting: Setting, sampler: Callable[[int], Any]) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", module="optuna")
        self.optuna, self.space = optuna, setting.space
        self.study = optuna.create_study(sampler=sampler(setting.seed), directions=self.directions)
        self.distributions = {p.name: self._distribution(p) for p in setting.space.varying}
        self.trials: dict[int, Any] = {}

    def _distribution(self, parameter: Any) -> Any:
        kinds = self.optuna.distributions
        if isinstance(parameter, Number) and parameter.integer:
            return kinds.IntDistribution(int(parameter.lower), int(parameter.upper), log=parameter.log)
        if isinstance(parameter, Number):
            return kinds.FloatDistribution(parameter.lower, parameter.upper, log=parameter.log)
        if isinstance(parameter, Choice) and parameter.max_step is not None:
            return kinds.IntDistribution(0, len(parameter.elements) - 1)
        return kinds.CategoricalDistribution(tuple(parameter.values()))

    def ask(self, key: int) -> Params | None:
        self.trials[key] = trial = self.study.ask(self.distributions)
        return _named(self.space, trial.params)

    def tell(self, finished: Finished) -> None:
        trial = self.trials.pop(finished.key)
        if finished.loss is None:
            self.study.tell(trial, state=self.optuna.trial.TrialState.FAIL)
        else:
            self.study.tell(trial, self._values(finished))

    def _values(self, finished: Finished) -> list[float | None]:
        return [finished.loss]


def _named(space: Space, found: Mapping[str, Any]) -> Params:
    """The hyperparameters from a package's values: an ordered list's index becomes its element."""
    params: dict[str, Value] = {}
    for parameter in space.varying:
        value = found[parameter.name]
        if isinstance(parameter, Choice) and parameter.max_step is not None:
            value = parameter.elements[int(value)]
        elif isinstance(parameter, Number):
            value = int(value) if parameter.integer else float(value)
        elif isinstance(parameter, Logical):
            value = bool(value)
        params[parameter.name] = value
    return params


def _tpe(setting: Setting) -> Optimizer:
    """Tree-structured Parzen estimator (Bergstra et al. 2011; Watanabe 2023) with Optuna's defaults."""
    from optuna.samplers import TPESampler

    return Optuna(setting, lambda seed: TPESampler(seed=seed))


def _cma_es(setting: Setting) -> Optimizer:
    """CMA-ES (Hansen 2016) on numbers and ordered lists; categories are drawn at random, as Optuna does."""
    from optuna.samplers import CmaEsSampler

    return Optuna(setting, lambda seed: CmaEsSampler(seed=seed, warn_independent_sampling=False))


def _gp(setting: Setting) -> Optimizer:
    """Optuna's Gaussian process with log expected improvement (Ament et al. 2023)."""
    from optuna.samplers import GPSampler

    return Optuna(setting, lambda seed: GPSampler(seed=seed))


Batches = Generator[list[Params], list[float], None]
"""Yields configurations and is sent their losses, infinity for a failure."""


class Generations:
    """An optimizer that evaluates batch after batch."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches
        self.batch = next(batches)
        self.first = 0
        self.losses: dict[int, float] = {}

    def ask(self, key: int) -> Params | None:
        if len(self.losses) == len(self.batch):
            losses = [self.losses[self.first + number] for number in range(len(self.batch))]
            self.first += len(self.batch)
            self.losses.clear()
            self.batch = self.batches.send(losses)
        number = key - self.first
        return self.batch[number] if number < len(self.batch) else None

    def tell(self, finished: Finished) -> None:
        self.losses[finished.key] = math.inf if finished.loss is None else finished.loss


def _deap_published(setting: Setting) -> Optimizer:
    """DEAP's eaMuPlusLambda (Fortin et al. 2012) by the reference workflow's published settings, log scale ignored.

    Draws and mutations are uniform and Gaussian on the linear scale, with the space's sigma as it is given.
    """
    return Generations(_deap(linear(setting.space), setting))


def _deap(space: Space, setting: Setting) -> Batches:
    """The loop of deap/algorithms.py: mutation 0.8, crossover 0.2, tournaments of 4; mu and lambda are one batch."""
    from deap import algorithms, base, creator, tools

    if not hasattr(creator, "Individual"):
        creator.create("Fitness", base.Fitness, weights=(-1.0,))
        creator.create("Individual", list, fitness=creator.Fitness)
    rng = np.random.default_rng(setting.seed)
    random.seed(setting.seed)
    toolbox = base.Toolbox()
    toolbox.register("mate", tools.cxUniform, indpb=0.5)
    toolbox.register("mutate", _mutate, space=space, rng=rng)
    population = [creator.Individual(p.draw(rng) for p in space.varying) for _ in range(2 * setting.workers)]
    yield from _evaluated(space, population)
    while True:
        offspring = algorithms.varOr(population, toolbox, setting.workers, cxpb=0.2, mutpb=0.8)
        yield from _evaluated(space, offspring)
        population = tools.selTournament(population + offspring, setting.workers, tournsize=4)


def _mutate(genes: Any, space: Space, rng: np.random.Generator) -> tuple[Any]:
    """Each gene with probability 0.5, by IMPROVE's rules for its type."""
    for index, parameter in enumerate(space.varying):
        if rng.random() < 0.5:
            genes[index] = parameter.mutate(genes[index], rng)
    return (genes,)


def _evaluated(space: Space, population: list[Any]) -> Batches:
    """Yield those without a valid fitness, and take their losses."""
    waiting = [individual for individual in population if not individual.fitness.valid]
    if waiting:
        names = [p.name for p in space.varying]
        losses = yield [dict(zip(names, individual, strict=True)) for individual in waiting]
        for individual, loss in zip(waiting, losses, strict=True):
            individual.fitness.values = (loss,)


def _pymoo(setting: Setting) -> Optimizer:
    return Generations(_pymoo_batches(setting))


def _pymoo_batches(setting: Setting) -> Batches:
    """MixedVariableGA (Blank & Deb 2020) with a batch of offspring from two batches of parents; logarithms by hand."""
    from pymoo.core.mixed import MixedVariableGA
    from pymoo.core.problem import Problem
    from pymoo.core.termination import NoTermination

    variables = {p.name: _pymoo_variable(p) for p in setting.space.varying}
    algorithm = MixedVariableGA(pop_size=2 * setting.workers, n_offsprings=setting.workers)
    algorithm.setup(Problem(vars=variables, n_obj=1), termination=NoTermination(), seed=setting.seed)
    while True:
        batch = algorithm.ask()
        losses = yield [_named(setting.space, _powers(setting.space, individual.X)) for individual in batch]
        batch.set("F", np.array([[min(loss, CAP)] for loss in losses]))
        algorithm.tell(infills=batch)


def _pymoo_variable(parameter: Any) -> Any:
    from pymoo.core import variable as kinds

    if isinstance(parameter, Number) and parameter.log:
        return kinds.Real(bounds=(math.log10(parameter.lower), math.log10(parameter.upper)))
    if isinstance(parameter, Number):
        kind = kinds.Integer if parameter.integer else kinds.Real
        return kind(bounds=(parameter.lower, parameter.upper))
    if isinstance(parameter, Logical):
        return kinds.Binary()
    if parameter.max_step is None:
        return kinds.Choice(options=list(parameter.elements))
    return kinds.Integer(bounds=(0, len(parameter.elements) - 1))


def _powers(space: Space, found: Mapping[str, Any]) -> dict[str, Any]:
    """Values of logarithmic numbers from their exponents."""
    values = dict(found)
    for parameter in space.varying:
        if isinstance(parameter, Number) and parameter.log:
            value = min(max(10.0 ** values[parameter.name], parameter.lower), parameter.upper)
            values[parameter.name] = round(value) if parameter.integer else value
    return values


class Smac:
    """SMAC3's facade for hyperparameters (Lindauer et al. 2022), a random forest, by ask and tell.

    A failure costs as much as the largest loss of any problem: the model does not take infinity, SMAC's own cost.
    """

    def __init__(self, setting: Setting) -> None:
        from ConfigSpace import ConfigurationSpace
        from smac import HyperparameterOptimizationFacade, Scenario

        self.setting = setting
        space = ConfigurationSpace(seed=setting.seed)
        space.add([self._hyperparameter(p) for p in setting.space.varying])
        self.directory = tempfile.TemporaryDirectory()
        scenario = Scenario(
            space, n_trials=setting.budget, seed=setting.seed, deterministic=True, output_directory=self.directory.name
        )
        self.facade = HyperparameterOptimizationFacade(
            scenario, lambda config, seed: 0.0, overwrite=True, logging_level=False
        )
        self.trials: dict[int, Any] = {}

    def _hyperparameter(self, parameter: Any) -> Any:
        from ConfigSpace import CategoricalHyperparameter, UniformFloatHyperparameter, UniformIntegerHyperparameter

        if isinstance(parameter, Number):
            kind = UniformIntegerHyperparameter if parameter.integer else UniformFloatHyperparameter
            return kind(parameter.name, parameter.lower, parameter.upper, log=parameter.log)
        if isinstance(parameter, Choice) and parameter.max_step is not None:
            return UniformIntegerHyperparameter(parameter.name, 0, len(parameter.elements) - 1)
        return CategoricalHyperparameter(parameter.name, list(parameter.values()))

    def ask(self, key: int) -> Params | None:
        self.trials[key] = info = self.facade.ask()
        return _named(self.setting.space, dict(info.config))

    def tell(self, finished: Finished) -> None:
        from smac.runhistory import StatusType, TrialValue

        status = StatusType.SUCCESS if finished.loss is not None else StatusType.CRASHED
        cost = CAP if finished.loss is None else finished.loss
        self.facade.tell(self.trials.pop(finished.key), TrialValue(cost=cost, status=status))


PEERS = {
    "optuna_tpe": Entry(_tpe, ("optuna",)),
    "optuna_cma_es": Entry(_cma_es, ("optuna", "cmaes")),
    "optuna_gp": Entry(_gp, ("optuna", "torch", "scipy"), slow=True),
    "deap_published": Entry(_deap_published, ("deap",)),
    "pymoo_ga": Entry(_pymoo, ("pymoo",)),
    "smac": Entry(Smac, ("smac", "ConfigSpace"), slow=True),
}
