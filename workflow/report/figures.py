"""What the plots of a report show: from a run to columns of numbers, without a word about how they are drawn."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from workflow.report.axes import Array, Axis, axes_of
from workflow.report.history import Run
from workflow.report.importance import Importance, Settle, importance
from workflow.report.markup import foreign
from workflow.report.units import Unit, charge, cost_unit, plotted, time_unit
from workflow.search import values_of
from workflow.space import Space
from workflow.trial import Outcome, Trial, is_rerun, loss_of, spoken

Kind = Literal["ok", "below", "stopped", "failed", "lost", "rerun", "stage"]
KIND_NAMES: dict[Kind, str] = {
    "ok": "succeeded",
    "below": "below full fidelity",
    "stopped": "stopped early",
    "failed": "failed",
    "lost": "lost or handed back",
    "rerun": "re-runs of finalists",
    "stage": "preprocess, infer",
}
"""How attempts ended; ``rerun`` is one that succeeded, ``stage`` one of another stage than train."""

KINDS = tuple(KIND_NAMES)
"""Plots know them by their numbers."""

Figure = dict[str, Any]

_PARTS = 10
"""Groups into which the trials of a search without generations fall."""

_LEAST_PART = 5
_TOLERANCE = 0.05
"""Seconds by which two attempts of one worker may overlap: clocks are read on both sides of a start."""


def kind_of(run: Run, outcome: Outcome) -> Kind:
    if outcome.kind == "ok" and is_rerun(outcome.trial_id):
        return "rerun"
    if outcome.kind == "ok":
        return "below" if is_below(run, run.trials.get(outcome.trial_id)) else "ok"
    return outcome.kind if outcome.kind in ("stopped", "failed") else "lost"


def is_below(run: Run, trial: Trial | None) -> bool:
    """Whether it is a training of less than full fidelity."""
    full = ((run.experiment.get("search") or {}).get("fidelity") or {}).get("max")
    return trial is not None and trial.fidelity is not None and full is not None and trial.fidelity < float(full)


# -- trials ----------------------------------------------------------------------------------------------------------


def trials(run: Run, axes: Sequence[Axis]) -> Figure:
    """Columns, an entry for each trial that has ended, in the order in which they did.

    ``cost`` is what all attempts so far have cost, in the run's unit; ``at`` the time since the first start, in its
    unit; ``best`` holds the places of those that were better than all before.
    """
    ended, unit, spent = list(run.ended()), cost_unit(run.attempts), _spent(run)
    start = first_start(run)
    clock = time_unit(max((o.ended or start for _, o in ended), default=start) - start)
    return {
        "id": [trial.id for trial, _ in ended],
        "generation": [trial.generation for trial, _ in ended],
        "kind": [KINDS.index(kind_of(run, outcome)) for _, outcome in ended],
        "value": [plotted(value_of(run, outcome)) for _, outcome in ended],
        "seconds": [plotted(outcome.seconds) for _, outcome in ended],
        "cost": [plotted(spent[outcome.trial_id] / unit.seconds) for _, outcome in ended],
        "at": [plotted(((o.ended or start) - start) / clock.seconds) for _, o in ended] if run.has_clock else None,
        "params": [[plotted(axis.place(trial.params.get(axis.name))) for trial, _ in ended] for axis in axes],
        "best": incumbents(run, [outcome for _, outcome in ended]),
        "unit": unit.name,
        "clock": clock.name,
    }


def value_of(run: Run, outcome: Outcome) -> float | None:
    """The first objective; of a trial that was stopped early the last value that it had printed."""
    return outcome.metrics.get(run.objective.metric) if outcome.kind == "stopped" else outcome.value


def incumbents(run: Run, outcomes: Iterable[Outcome]) -> list[int]:
    """Places in ``outcomes`` of the successful ones that were better than all before."""
    found, best = list[int](), None
    for place, outcome in enumerate(outcomes):
        value = plotted(outcome.value) if outcome.kind == "ok" else None
        if value is not None and (best is None or _is_better(run, value, best)):
            best = value
            found.append(place)
    return found


def _is_better(run: Run, value: float, other: float) -> bool:
    return loss_of(value, run.objective.mode) < loss_of(other, run.objective.mode)


def _spent(run: Run) -> Mapping[int, float]:
    """Seconds that all attempts had cost when each trial's last one ended."""
    attempts = list(run.attempts)
    if run.has_clock:
        attempts.sort(key=lambda outcome: (outcome.ended or 0.0, outcome.trial_id, outcome.attempt))
    total, spent = 0.0, defaultdict[int, float](float)
    for outcome in attempts:
        total += charge(outcome, run.trials_per_gpu)
        spent[outcome.trial_id] = total
    return spent


def first_start(run: Run) -> float:
    """Of an attempt of a trial or stage, in seconds since the epoch; 0 where none has started."""
    return min((o.started for o in [*run.attempts, *run.state.stage_outcomes.values()] if o.started), default=0.0)


def until_best(run: Run) -> float | None:
    """Seconds of GPUs, or of workers, that had been spent when the best trial ended."""
    return _spent(run)[run.best.trial_id] if run.best is not None else None


# -- generations -----------------------------------------------------------------------------------------------------


def groups(run: Run) -> list[Figure]:
    """Quartiles of each generation's values; of equal parts of the trials where there are no generations."""
    ended = [(trial, plotted(outcome.value)) for trial, outcome in run.ended()]
    found = defaultdict[str, list[float | None]](list)
    if all(trial.generation for trial, _ in ended):
        for trial, value in sorted(ended, key=lambda pair: pair[0].generation or 0):
            found[str(trial.generation)].append(value)
    else:
        size = max(_LEAST_PART, -(-len(ended) // _PARTS))
        for place, (_, value) in enumerate(ended):
            start = place // size * size
            found[f"{start + 1} to {min(start + size, len(ended))}"].append(value)
    return [_group(label, values) for label, values in found.items()]


def _group(label: str, values: Sequence[float | None]) -> Figure:
    known = [value for value in values if value is not None]
    quartiles = [plotted(float(q)) for q in np.percentile(known, (0, 25, 50, 75, 100))] if known else None
    return {"label": label, "trials": len(values), "without": len(values) - len(known), "quartiles": quartiles}


# -- importances -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Influence:
    """What was found of the axes that varied; ``fixed`` names the others. ``found`` is None where nothing could be."""

    axes: tuple[str, ...]
    fixed: tuple[str, ...]
    found: Importance | None
    trials: int
    """Successful trials, from which it was found."""


def influence(run: Run, axes: Sequence[Axis]) -> Influence:
    ended = [(trial, o) for trial, o in run.ended() if o.kind == "ok" and plotted(o.value) is not None]
    losses = np.array([loss_of(outcome.value or 0.0, run.objective.mode) for _, outcome in ended])
    columns = {axis: axis.units([axis.place(t.params.get(axis.name)) for t, _ in ended]) for axis in axes}
    varied = [axis for axis, column in columns.items() if len(column) and np.ptp(column) > 0]
    fixed = tuple(axis.name for axis in axes if axis not in varied)
    rows = np.array([columns[axis] for axis in varied]).reshape(len(varied), len(ended)).T
    sizes = [0 if axis.ordered else len(axis.labels) for axis in varied]
    found = importance(rows, losses, sizes, settled(run.space, varied))
    return Influence(tuple(axis.name for axis in varied), fixed, found, len(ended))


def settled(space: Space | None, axes: Sequence[Axis]) -> Settle:
    """What puts parameters that do not exist in a configuration to the one place that they have then."""
    named = {axis.name: column for column, axis in enumerate(axes)}
    known = () if space is None else space.by_dependence
    order = [p.name for p in known if space is not None and p.name in named and p.name in space.conditions]

    def settle(rows: Array) -> Array:
        there = np.ones(rows.shape, dtype=bool)
        placed = rows.copy()
        for name in order:
            assert space is not None
            column = named[name]
            for parent, allowed in space.conditions[name].items():
                if parent in named:
                    at = named[parent]
                    wanted = [place for place in map(axes[at].place, allowed) if place is not None]
                    met = np.isin(np.round(axes[at].places(rows[:, at])), wanted)
                    there[:, column] &= there[:, at] & met
            placed[~there[:, column], column] = axes[column].units([None])[0]
        return placed

    return settle


# -- time and cost ---------------------------------------------------------------------------------------------------


def timeline(run: Run) -> Figure | None:
    """Every attempt on its worker; None where it isn't known when they ran.

    ``lanes`` are workers by host and GPU; ``bars`` are columns, times in ``clock`` since the first start. ``spans`` are
    the times in which a controller had trials running: in them, a lane without a bar is idle.
    """
    started = [*run.attempts, *run.state.stage_outcomes.values()]
    started = sorted((o for o in started if o.started and o.ended), key=lambda o: (o.started or 0.0, o.trial_id))
    if not run.has_clock or not started:
        return None
    start = first_start(run)
    clock = time_unit(max(o.ended or start for o in started) - start)
    lanes = _lanes(started)
    order = sorted(set(lanes), key=_natural)
    return {
        "clock": clock.name,
        "lanes": [_lane_name(lane, lanes) for lane in order],
        "bars": {
            "lane": [order.index(lane) for lane in lanes],
            "start": [plotted(((o.started or start) - start) / clock.seconds) for o in started],
            "end": [plotted(((o.ended or start) - start) / clock.seconds) for o in started],
            "kind": [KINDS.index(_bar_kind(run, o)) for o in started],
            "name": [_bar_name(run, outcome) for outcome in started],
            "attempt": [outcome.attempt for outcome in started],
        },
        "spans": [[plotted((end - start) / clock.seconds) for end in span] for span in run.state.spans],
    }


def _bar_kind(run: Run, outcome: Outcome) -> Kind:
    return "stage" if _stage_of(run, outcome) else kind_of(run, outcome)


def _bar_name(run: Run, outcome: Outcome) -> str:
    return _stage_of(run, outcome) or spoken(outcome.trial_id)


def _stage_of(run: Run, outcome: Outcome) -> str:
    """The stage other than train that ended so; empty for an attempt of a trial."""
    return next((stage for stage, each in run.state.stage_outcomes.items() if each is outcome), "")


_Lane = tuple[str, str, int]
"""Host, GPU (empty without one), and the number of the worker among those that share it."""


def _lanes(outcomes: Iterable[Outcome]) -> list[_Lane]:
    """The lane of each attempt, in the order of their starts: the first of its host and GPU that is free."""
    busy: dict[tuple[str, str], list[float]] = defaultdict(list)
    found = []
    for outcome in outcomes:
        place = (outcome.host, outcome.gpu or "")
        until, started = busy[place], (outcome.started or 0.0) + _TOLERANCE
        slot = next((slot for slot, end in enumerate(until) if end <= started), len(until))
        until[slot : slot + 1] = [outcome.ended or 0.0]
        found.append((*place, slot))
    return found


def _natural(lane: _Lane) -> tuple[str, int, str, int]:
    """Node10 comes after node9, and GPU 10 after GPU 9: shorter names first."""
    host, gpu, slot = lane
    return host.rstrip("0123456789"), len(host), f"{host} {len(gpu):03} {gpu}", slot


def _lane_name(lane: _Lane, lanes: Iterable[_Lane]) -> str:
    host, gpu, slot = lane
    several = any(other[:2] == (host, gpu) and other[2] for other in lanes)
    return foreign(
        " ".join([host or "?", *([f"GPU {gpu}"] if gpu else []), *([f"worker {slot + 1}"] if several else [])])
    )


@dataclass(frozen=True)
class Cost:
    """Seconds of GPUs (of workers where there are none) by how their attempt ended; ``wall`` counts them once.

    ``available`` is what the workers had, None where that isn't known.
    """

    by_kind: Mapping[Kind, float]
    attempts: Mapping[Kind, int]
    wall: float
    available: float | None

    @property
    def total(self) -> float:
        return sum(self.by_kind.values())

    @property
    def utilization(self) -> float | None:
        return min(1.0, self.wall / self.available) if self.available else None


def cost(run: Run) -> Cost:
    by_kind, attempts = defaultdict[Kind, float](float), Counter[Kind]()
    for outcome in run.attempts:
        by_kind[kind_of(run, outcome)] += charge(outcome, run.trials_per_gpu)
        attempts[kind_of(run, outcome)] += 1
    workers = run.controllers[-1].about.get("workers") if run.controllers else None
    span = sum(last - first for first, last in run.state.spans)
    available = workers * span if isinstance(workers, int) and run.has_clock else None
    return Cost(by_kind, attempts, sum(outcome.seconds for outcome in run.attempts), available)


# -- all together ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Analysis:
    """A run, and what is made of it for more than one place of a report."""

    run: Run

    @cached_property
    def axes(self) -> list[Axis]:
        return axes_of(self.run)

    @cached_property
    def influence(self) -> Influence:
        return influence(self.run, self.axes)

    @cached_property
    def timeline(self) -> Figure | None:
        return timeline(self.run)

    @cached_property
    def groups(self) -> list[Figure]:
        return groups(self.run)

    @cached_property
    def cost(self) -> Cost:
        return cost(self.run)

    @cached_property
    def unit(self) -> Unit:
        """In which the run's cost is counted."""
        return cost_unit(self.run.attempts)

    @cached_property
    def has_values(self) -> bool:
        return any(plotted(outcome.value) is not None for outcome in self.run.outcomes.values())


# -- several objectives, several runs --------------------------------------------------------------------------------


def pareto(run: Run) -> Figure | None:
    """Values of all objectives, a column each, of the successful trials; None where there is one objective."""
    if not run.objectives[1:]:
        return None
    values = {t.id: values_of(o, run.objectives) for t, o in run.ended() if o.kind == "ok"}
    known = {number: each for number, each in values.items() if each and None not in map(plotted, each)}
    return {
        "metrics": [foreign(str(objective)) for objective in run.objectives],
        "id": list(known),
        "values": [[plotted(value) for value in column] for column in zip(*known.values(), strict=True)],
        "front": [outcome.trial_id for outcome in run.front if outcome.trial_id in known],
    }


def progress(run: Run, unit_seconds: float) -> Figure:
    """The best value so far, by the number of trials that have ended and by what they cost, in a common unit."""
    ended, spent = [outcome for _, outcome in run.ended()], _spent(run)
    places = incumbents(run, ended)
    last = max(len(ended) - 1, 0)
    at = [*places, last] if places else []
    return {
        "name": foreign(run.name),
        "trial": [place + 1 for place in at],
        "cost": [plotted(spent[ended[place].trial_id] / unit_seconds) for place in at],
        "value": [plotted(ended[place].value) for place in [*places, *places[-1:]]],
    }


def data(analysis: Analysis, runs: Sequence[Run]) -> Figure:
    """All that the plots are drawn from: of the run that is analysed, and the progress of all ``runs``."""
    run = analysis.run
    common = cost_unit([outcome for each in runs for outcome in each.attempts])
    return {
        "metric": foreign(run.objective.metric),
        "mode": run.objective.mode,
        "kinds": KIND_NAMES,
        "axes": [_axis(axis) for axis in analysis.axes],
        "trials": trials(run, analysis.axes),
        "winner": run.best.trial_id if run.best is not None else None,
        "groups": analysis.groups,
        "importance": _shares(analysis.influence),
        "timeline": analysis.timeline,
        "pareto": pareto(run),
        "progress": [progress(each, common.seconds) for each in runs],
        "unit": common.name,
    }


def _axis(axis: Axis) -> Figure:
    ends = {"lower": plotted(axis.lower), "upper": plotted(axis.upper), "log": axis.log, "whole": axis.whole}
    return {"name": foreign(axis.name), **ends, "labels": list(map(foreign, axis.labels))}


def _shares(influence: Influence) -> Figure | None:
    found = influence.found
    if found is None or not found.believable:
        return None
    shares = {"main": list(map(plotted, found.main)), "total": list(map(plotted, found.total))}
    return {"names": list(map(foreign, influence.axes)), **shares}
