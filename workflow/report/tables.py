"""The files of a finished or interrupted run: ``hpo.csv``, ``best.json`` and ``summary.json``."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from workflow.arguments import Argument
from workflow.budgets import Budgets
from workflow.config.initial import cell, cells, csv_line
from workflow.disk import write_text
from workflow.finals import Finalist, optimism
from workflow.ranking import best, finalists_of, hall_of_fame, pareto_front, winner_of
from workflow.result_table import PARETO, PLACE, RESULT, further_column
from workflow.rundir import RunDir
from workflow.search import Search, values_of
from workflow.state import State
from workflow.trial import Objective, Outcome, Trial, Value

_HALL_OF_FAME = 10


@dataclass(frozen=True)
class Table:
    """What the tables need to know of the experiment; ``varying`` names the hyperparameters that are searched."""

    varying: tuple[str, ...]
    objectives: Sequence[Objective]
    population_size: int
    workers: int
    arguments: Callable[[Trial, Outcome], Mapping[str, Argument]] = lambda trial, outcome: trial.params
    """Hyperparameters as a training got them."""
    there: RunDir | None = None
    """The run as the workers see it, if they do so elsewhere."""
    budgets: Budgets = field(default_factory=Budgets)

    @property
    def objective(self) -> Objective:
        """The first one, by which trials are ranked."""
        return self.objectives[0]

    @property
    def further(self) -> Sequence[Objective]:
        """Those beside it."""
        return self.objectives[1:]

    def front(self, state: State) -> list[Outcome]:
        """Nothing where there is one objective."""
        return pareto_front(state, self.objectives)

    def params(self, state: State, outcome: Outcome) -> dict[str, Argument]:
        """The hyperparameters of an outcome's trial, as its training got them."""
        return dict(self.arguments(state.trials[outcome.trial_id], outcome))

    def values(self, outcome: Outcome) -> dict[str, float]:
        """Those of all objectives by their metrics; none of a trial that failed."""
        names = [objective.metric for objective in self.objectives]
        return dict(zip(names, values_of(outcome, self.objectives) or (), strict=False))


def write_tables(run: RunDir, table: Table, state: State, search: Search) -> None:
    """Write all three files, each one at once. Raises SiteError if the disk takes them not."""
    winner = winner_of(state, table.objective.mode)
    write_text(run.hpo_csv, hpo_csv(table, state))
    if winner is not None:
        write_text(run.best, json.dumps(table.params(state, winner), indent=2) + "\n")
    write_text(run.summary, summary_json(table, state, search, run))


def summary_json(table: Table, state: State, search: Search, run: RunDir) -> str:
    return json.dumps(_strict(summary(table, state, search, run)), indent=2, allow_nan=False) + "\n"


def hpo_csv(table: Table, state: State) -> str:
    """The reference's result table: one row for each evaluated trial, by id; a failed trial's result is empty.

    ``iteration`` counts from 001, ``sample`` from 0000 within its iteration, ``walltime`` is in whole seconds. Several
    objectives add columns: the results by the further ones, and 1 for a trial that no other one dominates.
    """
    further = [further_column(objective.metric) for objective in table.further]
    rows = [[*PLACE, *table.varying, *RESULT, *further, *[PARETO] * bool(further)]]
    front = {outcome.trial_id for outcome in table.front(state)}
    samples: Counter[int] = Counter()
    for trial in sorted(state.trials.values(), key=lambda t: t.id):
        iteration = trial.generation or 1 + trial.id // table.population_size
        sample = samples[iteration]
        samples[iteration] += 1
        outcome = state.outcomes.get(trial.id)
        if outcome is not None:
            row = _row(table, trial, outcome, iteration, sample)
            rows.append([*row, *_further_cells(table, outcome, trial.id in front)])
    return "".join(csv_line(row) for row in rows)


def _row(table: Table, trial: Trial, outcome: Outcome, iteration: int, sample: int) -> list[str]:
    values = cells(trial.params, table.varying)
    result = "" if outcome.value is None else repr(outcome.value)
    return [f"{iteration:03d}", f"{sample:04d}", *values, table.objective.metric, result, str(round(outcome.seconds))]


def _further_cells(table: Table, outcome: Outcome, on_front: bool) -> list[str]:
    if not table.further:
        return []
    values = table.values(outcome)
    results = [repr(values[o.metric]) if values else "" for o in table.further]
    return [*results, "1" if on_front else "0"]


def summary(table: Table, state: State, search: Search, run: RunDir) -> dict[str, Any]:
    """Times are in seconds, ``gpu_seconds`` as the budget ``gpu_hours`` counts them, 0 without GPUs.

    ``utilization`` is None where no trial ran. ``best_directory`` holds the winner's model.
    """
    winner = winner_of(state, table.objective.mode)
    available = table.workers * sum(last - first for first, last in state.spans)
    ended = [*state.outcomes.values(), *state.rerun_outcomes.values()]
    on_gpus = any(outcome.gpus for outcome in ended)
    infer = state.stage_outcomes.get("infer")
    scored = infer is not None and winner is not None and infer.trial_id == winner.trial_id and infer.kind == "ok"
    return {
        "metric": table.objective.metric,
        "mode": table.objective.mode,
        "best_value": winner.value if winner else None,
        "best_trial": winner.trial_id if winner else None,
        "best_directory": model_directory(table.there or run, winner) if winner else None,
        "best_metrics": dict(winner.metrics) if winner else None,
        "test_scores": dict(infer.metrics) if infer is not None and scored else None,
        "hall_of_fame": [
            {"trial": o.trial_id, "value": o.value, "params": table.params(state, o)}
            for o in hall_of_fame(state, table.objective.mode, _HALL_OF_FAME)
        ],
        **_front_data(table, state),
        **_finals_data(table, state, run),
        "trials": counts(state),
        "shunned_nodes": dict(state.shunned),
        "wall_seconds": round(state.elapsed, 3),
        "busy_seconds": round(state.seconds, 3),
        "gpu_seconds": round(table.budgets.hours(state) * 3600, 3) if on_gpus else 0.0,
        "workers": table.workers,
        "utilization": round(state.seconds / available, 4) if available > 0 else None,
        "generations": [vars(s) for s in getattr(search, "statistics", [])],
        "complete": state.ended,
        "message": table.budgets.cut(search, state) or search.message,
    }


def _front_data(table: Table, state: State) -> dict[str, Any]:
    """Nothing where there is one objective."""
    entries = [
        {"trial": o.trial_id, "values": table.values(o), "params": table.params(state, o)} for o in table.front(state)
    ]
    return {"pareto_front": entries} if table.further else {}


def _finals_data(table: Table, state: State, run: RunDir) -> dict[str, Any]:
    """The finalists, the winner first; nothing until they have been trained again.

    ``optimism`` is by how much the search's best value is better than the mean of the winner's re-runs.
    """
    ranked, found = finalists_of(state, table.objective.mode), best(state, table.objective.mode)
    if not ranked or found is None or found.value is None:
        return {}
    return {
        "search_best_trial": found.trial_id,
        "search_best_value": found.value,
        "finalists": [_finalist_data(finalist, table.there or run) for finalist in ranked],
        "optimism": optimism(ranked, found.value, table.objective.mode),
    }


def _finalist_data(finalist: Finalist, run: RunDir) -> dict[str, Any]:
    reruns = [
        {**changed, "kind": outcome.kind, "value": outcome.value, "directory": model_directory(run, outcome)}
        for changed, outcome in finalist.reruns
    ]
    found = {"trial": finalist.outcome.trial_id, "value": finalist.outcome.value, "mean": finalist.mean}
    return {**found, "std": finalist.std, "failed": finalist.failed, "reruns": reruns}


def finals_lines(table: Table, state: State) -> list[str]:
    """The finalists, the winner first, for the terminal; nothing until they have been trained again."""
    ranked, found = finalists_of(state, table.objective.mode), best(state, table.objective.mode)
    if not ranked or found is None or found.value is None:
        return []
    lines = ["finalist       search  mean of re-runs          std  failed"]
    for finalist in ranked:
        numbers = (finalist.outcome.value, finalist.mean, finalist.std)
        search, mean, std = ("-" if number is None else f"{number:.6g}" for number in numbers)
        lines.append(f"{finalist.outcome.trial_id:>8} {search:>12} {mean:>16} {std:>12} {finalist.failed:>7}")
    gap = optimism(ranked, found.value, table.objective.mode)
    if gap is not None:
        lines.append(f"optimism: the search's best, {found.value:.6g}, is {gap:.2g} better than the winner's mean")
    return lines


def front_lines(table: Table, state: State) -> list[str]:
    """The size of the Pareto front and its ends, for the terminal; nothing where there is one objective."""
    front = table.front(state)
    if not front:
        return []
    found = [f"Pareto front: {len(front)} of {counts(state)['ok']} trials"]
    for name, mode in ((objective.metric, objective.mode) for objective in table.objectives):
        end = (min if mode == "min" else max)(front, key=lambda outcome: table.values(outcome)[name])
        values = ", ".join(f"{metric}={value:.6g}" for metric, value in table.values(end).items())
        found.append(f"    {'least' if mode == 'min' else 'most'} {name}: {values} (trial {end.trial_id})")
    return found


def model_directory(run: RunDir, outcome: Outcome) -> str:
    """Where a trial's model lies."""
    return outcome.source or str(run.trial_attempt(outcome.trial_id, outcome.attempt))


def _strict(data: Any) -> Any:
    """As JSON has it, which knows no nan: null."""
    if isinstance(data, dict):
        return {key: _strict(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_strict(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def counts(state: State) -> dict[str, int]:
    """Trials by state; ``lost_attempts`` counts attempts that ran again, ``reused`` the ones of earlier runs."""
    kinds = Counter(outcome.kind for outcome in state.outcomes.values())
    return {
        "asked": len(state.trials),
        "ok": kinds["ok"],
        "failed": kinds["failed"],
        "stopped": kinds["stopped"],
        "reused": sum(bool(outcome.source) for outcome in state.outcomes.values()),
        "unfinished": len(state.unfinished),
        "lost_attempts": sum(state.lost.values()) + sum(state.cut.values()) + state.doubted + state.abandoned,
    }


def lines(parameters: Mapping[str, Value], names: Iterable[str]) -> str:
    return ", ".join(f"{name}={cell(parameters[name])}" for name in names if name in parameters)
