"""How a campaign stands at a moment: what the live view, status and the list of runs show. All of it is pure.

Times are in seconds, points of it since the epoch; None stands for what is not known.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from workflow.budgets import Use, clock
from workflow.report.tally import Attempt, Sign, Tally
from workflow.trial import Params

Condition = Literal["new", "running", "interrupted", "stale", "ended"]
"""``new``: no controller has begun it; ``stale``: its controller is gone without a word."""

_RESUMABLE = ("new", "interrupted", "stale")

_POINTS = 120
"""Of the course of the best value."""

_RECENT = 300.0
"""Seconds for which a host is shown after its last trial has ended."""


@dataclass(frozen=True)
class Trials:
    """``done`` have an outcome: ``ok``, ``failed`` or ``stopped`` early; there are ``budget`` at most.

    ``part`` is how much of that is used. With a fidelity ``done`` are worth ``worth`` of ``whole`` trainings, which are
    the budget. ``in_flight`` run or wait for a worker, ``lost_attempts`` ran again.
    """

    asked: int
    done: int
    ok: int
    failed: int
    stopped: int
    in_flight: int
    lost_attempts: int
    budget: int | None
    worth: float | None
    whole: int | None
    part: float


@dataclass(frozen=True)
class Reruns:
    """Trainings of the search's best with other seeds, of which ``done`` have ended."""

    of: int
    done: int


@dataclass(frozen=True)
class Best:
    """The search's; ``params`` are the hyperparameters that vary."""

    trial: int
    value: float
    params: Params


@dataclass(frozen=True)
class Winner:
    """Of the finalists: its ``value`` in the search and the ``mean`` of its re-runs, None if none succeeded."""

    trial: int
    value: float
    mean: float | None
    params: Params


@dataclass(frozen=True)
class Generation:
    """The latest one of ``of``: its trials so far, those that have ended, and their best value."""

    number: int
    of: int
    asked: int
    done: int
    best: float | None


@dataclass(frozen=True)
class Node:
    """A host: trials that run on it, and those of them of which nothing is heard; why it gets none any more."""

    host: str
    workers: int | None
    busy: int
    silent: int
    shunned: str


@dataclass(frozen=True)
class Workers:
    total: int | None
    busy: int
    idle: int
    silent: int
    nodes: Sequence[Node]


@dataclass(frozen=True)
class Running:
    """An attempt without an outcome. ``host`` is empty and ``seconds`` None while it waits for a worker.

    ``expected`` is the median of trainings like this one, ``last`` what its log said last.
    """

    trial: int
    attempt: int
    host: str
    seconds: float | None
    expected: float | None
    silent: bool
    last: str


@dataclass(frozen=True)
class Cost:
    """``hours`` are in ``unit``; ``budgets`` are those that are used up bit by bit; ``left`` is until the end."""

    hours: float
    unit: str
    wall_seconds: float
    budgets: Sequence[Use]
    left: float | None


@dataclass(frozen=True)
class Snapshot:
    """``history`` is the best value after equal numbers of trials, from the first success on.

    ``winner`` is None until the finalists' re-runs have decided, or where there are none: then the search's best wins.
    ``resume`` is the command that goes on with what was interrupted or has not begun. ``damaged`` lines of the journal
    could not be read.
    """

    name: str
    path: str
    condition: Condition
    reason: str
    resume: str | None
    controller: str
    site: str
    stage: str | None
    metric: str
    mode: str
    target: float | None
    trials: Trials
    reruns: Reruns | None
    best: Best | None
    winner: Winner | None
    generation: Generation | None
    history: Sequence[float]
    workers: Workers
    running: Sequence[Running]
    failures: Mapping[str, int]
    cost: Cost
    began: float | None
    last: float | None
    damaged: int

    @property
    def nearest(self) -> Use:
        """The budget that ends first; without text where it is that of trials."""
        return max([Use(self.trials.part, ""), *self.cost.budgets], key=lambda use: use.part)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Surroundings:
    """What the records of a run don't tell: the time, whether a controller leads it, what the attempts' files say.

    ``resume`` is the command that goes on with it, ``words`` are the last ones of the logs, by trial.
    """

    name: str
    path: str
    now: float
    alive: bool
    resume: str = ""
    controller: str = ""
    signs: Mapping[int, Sign] = field(default_factory=dict)
    words: Mapping[int, str] = field(default_factory=dict)
    damaged: int = 0


def snapshot(tally: Tally, around: Surroundings, params: Callable[[int], Params]) -> Snapshot:
    """``params`` tells those of a trial."""
    outline, condition = tally.outline, condition_of(tally, alive=around.alive)
    in_flight = sorted(tally.open.values(), key=lambda each: _order(each, around)) if around.alive else []
    return Snapshot(
        around.name, around.path, condition, tally.reason, around.resume if condition in _RESUMABLE else None,
        around.controller, tally.site,
        tally.stage if around.alive else None, outline.metric, outline.mode, outline.budgets.target,
        _trials(tally, len(in_flight)), _reruns(tally), _best(tally, params), _winner(tally, params),
        _generation(tally), _course(tally),
        _workers(tally, len(in_flight), around), [_running(tally, attempt, around) for attempt in in_flight],
        dict(Counter(tally.failures.values()).most_common()), _cost(tally, around), tally.began, tally.last,
        around.damaged,
    )  # fmt: skip


def _order(attempt: Attempt, around: Surroundings) -> tuple[float, int]:
    """What began first comes first, what waits last."""
    sign = around.signs.get(attempt.trial)
    return (sign.began if sign else math.inf), attempt.trial


def condition_of(tally: Tally, *, alive: bool) -> Condition:
    if tally.ended:
        return "ended"
    if alive:
        return "running"
    if tally.began is None:
        return "new"
    return "interrupted" if tally.reason else "stale"


def plain_line(shot: Snapshot) -> str:
    """Trials, budget that ends first, best value and time left, where there is no terminal to draw in."""
    trials, workers = shot.trials, shot.workers.total
    total = f"/{trials.budget}" if trials.budget is not None else ""
    if trials.worth is not None:
        total = f" (worth {trials.worth:.1f}/{trials.whole})"
    running = trials.in_flight if workers is None else min(trials.in_flight, workers)
    parts = [f"{trials.done}{total} trials, {running} running, {trials.failed} failed"]
    if trials.stopped:
        parts[0] += f", {trials.stopped} stopped early"
    if shot.generation is not None:
        parts.insert(0, f"gen {shot.generation.number}/{shot.generation.of}")
    if shot.reruns is not None and shot.reruns.done:
        parts.append(f"{shot.reruns.done}/{shot.reruns.of} re-runs")
    parts += filter(None, [shot.nearest.text])
    if shot.best is not None:
        target = f", target {shot.target:g}" if shot.target is not None else ""
        parts.append(f"best {shot.best.value:.6g} (#{shot.best.trial}){target}")
    if shot.winner is not None:
        parts.append(f"winner #{shot.winner.trial}")
    if shot.cost.left is not None:
        parts.append(f"{clock(shot.cost.left)} left")
    return " | ".join(parts)


def _trials(tally: Tally, in_flight: int) -> Trials:
    """Once the search is over, what it has asked for is all."""
    done, outline = len(tally.kinds), tally.outline
    bound = tally.asked if tally.over or tally.ended else outline.trials
    budget = None if bound is None else max(bound, done)
    worth = tally.worth / outline.fidelity_max if outline.fidelity_max else None
    part = worth / outline.whole if worth is not None and outline.whole else done / budget if budget else 0.0
    counts = tally.counts
    return Trials(
        tally.asked, done, counts["ok"], counts["failed"], counts["stopped"], in_flight, tally.lost_attempts, budget,
        worth, outline.whole if worth is not None else None, part,
    )  # fmt: skip


def _reruns(tally: Tally) -> Reruns | None:
    done = sum(rerun in tally.rerun_outcomes for rerun in tally.finals)
    return Reruns(len(tally.finals), done) if tally.finals else None


def _best(tally: Tally, params: Callable[[int], Params]) -> Best | None:
    return Best(*tally.best, _varying(tally, params(tally.best[0]))) if tally.best else None


def _winner(tally: Tally, params: Callable[[int], Params]) -> Winner | None:
    winner = tally.winner
    if winner is None or winner.outcome.value is None:
        return None
    trial = winner.outcome.trial_id
    return Winner(trial, winner.outcome.value, winner.mean, _varying(tally, params(trial)))


def _varying(tally: Tally, params: Params) -> Params:
    names = tally.outline.varying or params
    return {name: params[name] for name in names if name in params}


def _generation(tally: Tally) -> Generation | None:
    of = tally.outline.generations
    if of is None or not tally.generation:
        return None
    if tally.generation < of and _went_on_without_trials(tally):
        return Generation(of, of, 0, 0, None)
    return Generation(tally.generation, of, *tally.members)


def _went_on_without_trials(tally: Tally) -> bool:
    """Whether the last generations, too, are over: they asked for nothing, since all their individuals were known.

    Else a budget has ended the search, or it has tried all that there is.
    """
    trials = tally.outline.trials
    all_ended = len(tally.kinds) == tally.asked and (trials is None or tally.asked < trials)
    return all_ended and (tally.over or tally.ended) and not _budget_is_used(tally)


def _budget_is_used(tally: Tally) -> bool:
    """One beside the number of trials."""
    budgets = tally.outline.budgets
    met = tally.best is not None and budgets.meets_target(tally.best[1])
    return met or any(use.part >= 1 for use in budgets.uses(tally))


def _course(tally: Tally) -> list[float]:
    if not tally.history:
        return []
    first, last = tally.history[0][0], max(len(tally.kinds), tally.history[-1][0])
    points = min(_POINTS, last - first + 1)
    at = [first + (last - first) * number / max(1, points - 1) for number in range(points)]
    return [tally.history[bisect_right(tally.history, trial, key=lambda point: point[0]) - 1][1] for trial in at]


def _workers(tally: Tally, in_flight: int, around: Surroundings) -> Workers:
    """What is silent counts as lost, not as busy. Where no attempt can be seen, all that is submitted may run."""
    silent = sum(sign.silent for sign in around.signs.values())
    begun = len(around.signs) - silent if around.signs else in_flight
    busy = begun if tally.workers is None else min(begun, tally.workers)
    idle = max(0, (tally.workers or 0) - busy - silent) if around.alive else 0
    return Workers(tally.workers, busy, idle, silent, _nodes(tally, around) if around.alive else [])


def _nodes(tally: Tally, around: Surroundings) -> list[Node]:
    recent = {host for host, at in tally.active.items() if around.now - at < _RECENT}
    busy = Counter(sign.host for sign in around.signs.values() if not sign.silent)
    silent = Counter(sign.host for sign in around.signs.values() if sign.silent)
    hosts = sorted({*recent, *busy, *silent, *tally.shunned} - {""})
    per_node = tally.outline.workers_per_node
    return [Node(host, per_node, busy[host], silent[host], tally.shunned.get(host, "")) for host in hosts]


def _running(tally: Tally, attempt: Attempt, around: Surroundings) -> Running:
    sign = around.signs.get(attempt.trial)
    seconds = max(0.0, around.now - sign.began) if sign else None
    host, silent = (sign.host, sign.silent) if sign else ("", False)
    last = around.words.get(attempt.trial, "")
    return Running(attempt.trial, attempt.number, host, seconds, tally.expected(attempt.trial), silent, last)


def _cost(tally: Tally, around: Surroundings) -> Cost:
    budgets = tally.outline.budgets
    since = around.now - tally.last if around.alive and tally.last is not None else 0.0
    left = _left(tally, around.now) if around.alive else None
    return Cost(budgets.hours(tally), budgets.unit, tally.elapsed + max(0.0, since), budgets.uses(tally), left)


def _left(tally: Tally, now: float) -> float | None:
    """Seconds until the budget ends that ends first, with all that passes between trials."""
    uses = tally.outline.budgets.uses(tally)
    part = max([_trials(tally, 0).part, *(use.part for use in uses)])
    if not 0 < part < 1 or _budget_is_used(tally) or tally.over or tally.ended or not tally.kinds:
        return None
    since = now - tally.settled if tally.settled is not None else 0.0
    return max(0.0, tally.span * (1 - part) / part - max(0.0, since))
