"""A run as its files tell it, for those who look at it: status, report, exports, notebooks.

Nothing is locked, repaired or written, so that a run may be looked at while its controller leads it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from workflow.config.initial import objectives_of, read_csv, run_of
from workflow.config.strict import is_there, read_yaml
from workflow.errors import InputError, Problems, listing
from workflow.journal import Follower, unreadable
from workflow.ranking import pareto_front, winner_of
from workflow.report.columns import Column, Row, columns_of, common_type, to_frame, type_of
from workflow.report.tables import model_directory
from workflow.report.units import charge
from workflow.result_table import further_column, further_metrics, is_own
from workflow.rundir import RunDir, why_no_run
from workflow.space import Space
from workflow.space_file import load_space
from workflow.state import Record, State
from workflow.trial import Kind, Objective, Outcome, Trial, Value, likely_mode

_NUMBER = r"[0-9]{1,18}"
"""What an integer of data frames can hold."""

_NEEDED = ("metric", "result", "walltime")
"""Columns of every table of the form of ``hpo.csv``: those of older versions and of the Swift/T system have no more."""

_LONGEST = 1e10
"""Seconds: three centuries, which every clock knows."""


@dataclass(frozen=True)
class Controller:
    """One controller of a run: when it began and wrote its last record, in seconds since the epoch."""

    began: float
    last: float
    about: Record
    """The record with which it began: program versions, image, host."""


@dataclass(frozen=True)
class Run:
    """All that is known of a campaign.

    ``path`` is its directory, or the CSV file where that is all there is; such a run has no ``space``, settings,
    clock or controllers, and its trials are numbered by row. ``experiment`` and ``site`` are the settings as their
    files have them. ``attempts`` are all that ended, lost ones and those that were taken back too, as they ended; also
    those of re-runs, which are not among ``trials`` and ``outcomes``.
    """

    path: Path
    name: str
    objectives: tuple[Objective, ...]
    varying: tuple[str, ...]
    """Hyperparameters in which the trials may differ, in the order of the space."""
    state: State
    attempts: Sequence[Outcome] = ()
    controllers: Sequence[Controller] = ()
    space: Space | None = None
    begun: Mapping[int, float] = field(default_factory=dict)
    """When the last attempt of each trial was submitted, in seconds since the epoch."""
    experiment: Mapping[str, Any] = field(default_factory=dict)
    site: Mapping[str, Any] = field(default_factory=dict)
    damaged: int = 0
    """Lines of its journal that could not be read."""

    @property
    def files(self) -> RunDir | None:
        """Where its files lie; None of a mere table."""
        return RunDir(self.path) if self.space is not None else None

    @property
    def has_clock(self) -> bool:
        """Whether outcomes tell when they began and on which host, not only how long they took."""
        return self.space is not None

    @property
    def trials_per_gpu(self) -> int:
        """How many trials share a GPU, on the site of the last controller."""
        return int(self.site.get("trials_per_gpu") or 1)

    def gpu_seconds(self, outcome: Outcome) -> float:
        """As the budget ``gpu_hours`` counts them; 0 without GPUs."""
        return charge(outcome, self.trials_per_gpu) if outcome.gpus else 0.0

    @property
    def objective(self) -> Objective:
        """The one that decides who wins."""
        return self.objectives[0]

    @property
    def trials(self) -> Mapping[int, Trial]:
        return self.state.trials

    @property
    def outcomes(self) -> Mapping[int, Outcome]:
        """The final outcome of each trial that has one."""
        return self.state.outcomes

    @property
    def is_mode_guessed(self) -> bool:
        """Whether it is by the metrics' names that their values are to be minimised or maximised."""
        return not self.has_clock and run_of(self.path) is None

    @cached_property
    def best(self) -> Outcome | None:
        """The winner's, by its re-runs if there were any."""
        return winner_of(self.state, self.objective.mode)

    @cached_property
    def front(self) -> list[Outcome]:
        """The Pareto front; empty where there is one objective."""
        return pareto_front(self.state, self.objectives)

    @property
    def complete(self) -> bool:
        """Whether its search and inference ended, so that a resume would do nothing more."""
        return self.state.ended

    @property
    def unfinished(self) -> Sequence[Trial]:
        """The trials that were asked for and have no result: a resume runs them again before it asks for others."""
        return self.state.unfinished

    def is_under_way(self, trial: Trial) -> bool:
        """Whether an attempt of it began and hasn't ended, as far as the journal knows: its controller may be gone."""
        return self.state.attempts.get(trial.id, 0) > self.state.closed.get(trial.id, 0)

    @property
    def resume_command(self) -> str | None:
        """What goes on with it; None where there is nothing to go on with."""
        return None if self.files is None or self.complete else self.files.resume_command

    @cached_property
    def parameter_types(self) -> Mapping[str, type]:
        """int, float, bool or str for each hyperparameter that is searched, by the space or, without it, the values."""
        by_space = {p.name: type_of(p) for p in (self.space.varying if self.space is not None else ())}
        return {name: by_space.get(name) or common_type(self.values_of(name)) for name in self.varying}

    def values_of(self, name: str) -> Iterator[Value]:
        """The values of a hyperparameter, one for each trial in which it exists."""
        return (trial.params[name] for trial in self.trials.values() if name in trial.params)

    def frame(self, library: str = "pandas") -> Any:
        """A data frame of ``pandas`` or ``polars``: one row for each trial, with how it ended.

        The columns are those of ``columns``. Raises InputError if the library is not installed.
        """
        return to_frame(self.columns(), library)

    def attempts_frame(self, library: str = "pandas") -> Any:
        """As ``frame``, with one row for each attempt that ended, in the order in which they did; also of re-runs."""
        return to_frame(self.columns(attempts=True), library)

    def columns(self, *, attempts: bool = False) -> list[Column]:
        """Trials with their final outcomes, or all ``attempts`` that ended, as columns of one type each."""
        if attempts:
            rows = [self._row(o.trial_id, o) for o in self.attempts]
        else:
            rows = [self._row(number, self.outcomes.get(number)) for number in self.trials]
        return columns_of(rows, self.parameter_types, clock=self.has_clock)

    def _row(self, trial_id: int, outcome: Outcome | None) -> Row:
        trial = self.trials.get(trial_id) or self.state.reruns.get(trial_id)
        last = self.state.outcome_of(trial_id)
        final = outcome is not None and outcome.final and last is not None and outcome.attempt == last.attempt
        gpu_seconds = self.gpu_seconds(outcome) if outcome is not None else 0.0
        return Row(trial_id, trial, outcome, final, self.directory_of(outcome), gpu_seconds)

    def directory_of(self, outcome: Outcome | None) -> str:
        """Where an attempt left its model and log; empty where that is not known."""
        if outcome is None or self.files is None:
            return ""
        elsewhere = self.site.get("endpoint_directory")
        return model_directory(RunDir(Path(elsewhere, self.path.name)) if elsewhere else self.files, outcome)

    def ended(self) -> Iterator[tuple[Trial, Outcome]]:
        """Trials that have ended, in the order in which they did; in that of its rows where a table has no clock."""
        clock = self.has_clock
        last = sorted(self.outcomes.values(), key=lambda o: ((o.ended or 0.0) if clock else 0.0, o.trial_id))
        return ((self.trials[o.trial_id], o) for o in last if o.trial_id in self.trials)


def load_run(path: str | Path) -> Run:
    """Read a run by its directory, or by a table of the form of ``hpo.csv``, also one of the Swift/T system.

    Raises InputError for what is neither.
    """
    place = Path(path).expanduser().absolute()
    return _load_directory(place) if is_there(place, directory=True) else _load_table(place)


def _load_directory(path: Path) -> Run:
    files = RunDir(path)
    if reason := why_no_run(path):
        raise InputError(f"{path}: {reason}\n    -> give the directory of a run, such as runs/NAME, or its hpo.csv")
    objectives = objectives_of(path)
    space, experiment = load_space(files.space), read_yaml(files.experiment, "experiment of that run")
    site = read_yaml(files.site, "site of that run") if is_there(files.site) else {}
    follower = Follower(files.journal, _Story)
    told = _told(follower)
    names = tuple(parameter.name for parameter in space.varying)
    fidelity = (experiment.get("search") or {}).get("fidelity") or {}
    if fidelity.get("parameter") not in (None, *names):
        names += (fidelity["parameter"],)
    return Run(
        path, path.name, objectives, names, told.state, told.attempts, told.controllers, space, told.begun, experiment,
        site, follower.damaged,
    )  # fmt: skip


class _Story:
    """What the records of a journal tell: its state, and what that doesn't keep."""

    def __init__(self) -> None:
        self.state = State()
        self.attempts: list[Outcome] = []
        self.controllers: list[Controller] = []
        self.begun: dict[int, float] = {}

    def apply(self, record: Record) -> None:
        """Fold one record in. Raises KeyError, TypeError or ValueError for one that is malformed."""
        self.state.apply(record)
        kind, at = record["type"], record["at"]
        if kind == "outcome":
            self.attempts.append(Outcome.from_json(record["outcome"]))
        elif kind == "attempt" and isinstance(record["trial"], int):
            self.begun[record["trial"]] = at
        elif kind in ("campaign", "resumed"):
            self.controllers.append(Controller(at, at, record))
        if self.controllers:
            self.controllers[-1] = replace(self.controllers[-1], last=at)


def _told(follower: Follower[_Story]) -> _Story:
    """Raises InputError for a journal that cannot be read, or of which no line can."""
    try:
        told = follower.look()
    except FileNotFoundError as error:
        raise InputError(f"{follower.path}: no such file\n    -> give the directory of a run") from error
    except OSError as error:
        raise unreadable(follower.path, error) from error
    if follower.damaged and told.state.header is None and not told.state.trials:
        raise InputError(f"{follower.path}: holds no valid record\n    -> give the directory of a run")
    return told


def _load_table(path: Path) -> Run:
    problems = Problems(str(path))
    rows = read_csv(path, problems)
    header = [name for name in (rows[0] if rows else ()) if name not in (None, "_line")]
    missing = [name for name in _NEEDED if rows and name not in header]
    if missing or not rows:
        what = f"has no column {listing(missing)}" if missing else "has no row"
        problems.fail("header" if missing else "", what, "give a run's directory or its hpo.csv")
    further = further_metrics(header)
    metric = _metric_of(rows, problems)
    objectives = _objectives(path, (metric, *further))
    names = tuple(name for name in header if not is_own(name))
    state, first = State(ended=True), dict[tuple[tuple[str, Value], ...], int]()
    values = {name: _values([row[name] or "" for row in rows]) for name in names}
    for number, row in enumerate(rows):
        params = {name: value for name in names if (value := values[name][number]) is not None}
        generation = row.get("iteration") or ""
        config_id = first.setdefault(tuple(params.items()), number)
        known = int(generation) if re.fullmatch(_NUMBER, generation) else None
        state.trials[number] = Trial(number, config_id, params, known)
        try:
            state.outcomes[number] = _outcome_of(row, number, metric, further)
        except (TypeError, ValueError) as error:
            problems.add(f"line {row['_line']}", str(error), "mend or remove this line")
    problems.raise_if_any()
    state.seconds = state.charged = sum(outcome.seconds for outcome in state.outcomes.values())
    return Run(path, path.stem, objectives, names, state, list(state.outcomes.values()))


def _objectives(table: Path, metrics: Sequence[str]) -> tuple[Objective, ...]:
    """Those of the run in which a table lies, as that knows them; of another table by the metrics' names."""
    run = run_of(table)
    known = {objective.metric: objective for objective in (objectives_of(run) if run is not None else ())}
    return tuple(known.get(metric, Objective(metric, likely_mode(metric))) for metric in metrics)


def _metric_of(rows: Sequence[Mapping[str, Any]], problems: Problems) -> str:
    """The one that all rows have, but those of failures, which may lack it. Raises InputError."""
    metrics = {row["metric"] for row in rows if row["metric"]}
    if len(metrics) != 1:
        what = f"holds {listing(sorted(metrics))}" if metrics else "is empty"
        problems.fail("column metric", what, "give a table whose results are all of one metric")
    return str(metrics.pop())


def _outcome_of(row: Mapping[str, Any], number: int, metric: str, further: Sequence[str]) -> Outcome:
    """A row without a finite result is that of a trial that failed. Raises TypeError or ValueError."""
    results = {metric: row["result"]} | {name: row[further_column(name)] for name in further}
    metrics = {name: score for name, text in results.items() if text and math.isfinite(score := float(text))}
    value, seconds = metrics.get(metric), float(row["walltime"] or 0.0)
    if not 0 <= seconds < _LONGEST:
        raise ValueError(f"walltime: {row['walltime']} is no time in seconds")
    evidence = f"result: {row['result'] or 'none'}" if value is None else ""
    kind: Kind = "failed" if value is None else "ok"
    return Outcome(number, 1, kind, value, metrics, started=0.0, ended=seconds, evidence=evidence)


def _values(cells: Sequence[str]) -> Sequence[Value | None]:
    """The values of a column by its looks, since a table has no types: all whole numbers, logical, numbers, or text.

    An empty cell has none.
    """
    for kind in (_whole, _logical, _finite):
        try:
            return [kind(cell) if cell else None for cell in cells]
        except (ValueError, KeyError):
            continue
    return [cell or None for cell in cells]


def _whole(text: str) -> int:
    if not re.fullmatch(rf"[+-]?{_NUMBER}", text):
        raise ValueError(text)
    return int(text)


def _logical(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(text)
    return number
