"""A run as a study of Optuna's, in a journal file that optuna-dashboard opens."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from workflow import __version__
from workflow.parameters import Constant, Number
from workflow.report.history import Run
from workflow.search import values_of
from workflow.trial import Outcome, Trial

_LOG_RANGE = 1000.0
"""Without a space, numbers that are this many times apart are taken for ones on a log scale."""

_EXACT = 2**53
"""The largest whole number that Optuna, which keeps them as floats, tells from the next one."""


class _Memory(BaseJournalBackend):
    """A journal in memory: a file would be locked and synced for every trial."""

    def __init__(self) -> None:
        self.logs: list[dict[str, Any]] = []

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        return self.logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.logs += logs


def write(run: Run, path: Path) -> None:
    """Write the study, named as the run, to a file that is not there yet. Raises OSError."""
    journal = _Memory()
    directions = [StudyDirection.MINIMIZE if o.mode == "min" else StudyDirection.MAXIMIZE for o in run.objectives]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(storage=JournalStorage(journal), study_name=run.name, directions=directions)
        study.set_metric_names([objective.metric for objective in run.objectives])
    for name, value in _about(run).items():
        study.set_user_attr(name, value)
    distributions = {name: _distribution(run, name) for name in run.varying}
    study.add_trials(_frozen(run, trial, distributions) for trial in run.trials.values())
    JournalFileBackend(str(path)).append_logs(journal.logs)


def _about(run: Run) -> dict[str, Any]:
    constants = {p.name: p.value for p in run.space.parameters if isinstance(p, Constant)} if run.space else {}
    winner = run.best.trial_id if run.best is not None else None
    about = {"run": str(run.path), "complete": run.complete, "winner": winner}
    return {**about, "workflow": __version__, "constants": constants}


def _distribution(run: Run, name: str) -> BaseDistribution:
    """That of the space; of what isn't searched in one (a table's, a fidelity) as far as its values tell."""
    searched = {p.name: p for p in run.space.varying} if run.space is not None else {}
    parameter, kind = searched.get(name), run.parameter_types[name]
    if isinstance(parameter, Number):
        return _range(kind, parameter.lower, parameter.upper, parameter.log)
    values = list(dict.fromkeys(run.values_of(name) if parameter is None else parameter.values()))
    if parameter is not None or kind not in (int, float) or not values:
        return CategoricalDistribution(values or [None])
    low, high = float(min(values)), float(max(values))
    return _range(kind, low, high, low > 0 and high >= _LOG_RANGE * low)


def _range(kind: type, low: float, high: float, log: bool) -> BaseDistribution:
    if kind is int and max(-low, high) <= _EXACT:
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(low, high, log=log)


def _frozen(run: Run, trial: Trial, distributions: Mapping[str, BaseDistribution]) -> FrozenTrial:
    outcome = run.outcomes.get(trial.id)
    state, values = _state(run, trial, outcome)
    params = {name: trial.params[name] for name in distributions if name in trial.params}
    frozen = create_trial(
        state=state,
        values=values,
        params=params,
        distributions={name: distributions[name] for name in params},
        user_attrs=_attributes(run, trial, outcome),
        intermediate_values=dict(outcome.curve) if outcome is not None else {},
    )
    started = run.begun.get(trial.id) if outcome is None else outcome.started
    if frozen.datetime_start is not None:
        frozen.datetime_start = datetime.fromtimestamp(started or 0.0)
    if outcome is not None:
        frozen.datetime_complete = datetime.fromtimestamp((started or 0.0) + outcome.seconds)
    return frozen


def _state(run: Run, trial: Trial, outcome: Outcome | None) -> tuple[TrialState, Sequence[float] | None]:
    """A trial's state and values; of one that was stopped early the last value, as Optuna has it, of one objective."""
    if outcome is None:
        return TrialState.RUNNING if run.is_under_way(trial) else TrialState.WAITING, None
    if outcome.kind == "stopped":
        last = None if run.objectives[1:] else outcome.metrics.get(run.objective.metric)
        return TrialState.PRUNED, None if last is None else [last]
    values = values_of(outcome, run.objectives)
    return TrialState.FAIL if values is None else TrialState.COMPLETE, values


def _attributes(run: Run, trial: Trial, outcome: Outcome | None) -> dict[str, Any]:
    """What is known of a trial beside what Optuna has a place for."""
    found: dict[str, Any] = {"trial": trial.id, "config_id": trial.config_id, "parents": list(trial.parents)}
    found |= {"generation": trial.generation, "fidelity": trial.fidelity}
    if outcome is not None:
        found |= {
            "attempt": outcome.attempt, "directory": run.directory_of(outcome), "evidence": outcome.evidence,
            "cause": outcome.cause, "host": outcome.host, "gpu": outcome.gpu, "gpu_seconds": run.gpu_seconds(outcome),
            "peak_memory": outcome.peak_memory, **{f"metrics_{name}": v for name, v in outcome.metrics.items()},
        }  # fmt: skip
    return {name: value for name, value in found.items() if value not in (None, "", [])}
