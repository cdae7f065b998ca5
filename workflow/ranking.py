"""Who leads, by a journal's state: the best trials, the finalists, the winner, the Pareto front. All of it is pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from workflow.finals import Finalist, rank
from workflow.search import losses_of
from workflow.search.pareto import is_non_dominated
from workflow.state import State
from workflow.trial import Objective, Outcome, Trial, loss_of


def hall_of_fame(state: State, mode: str, size: int) -> list[Outcome]:
    """The outcomes with the best values, one for each configuration; the earliest trial of equals first."""
    first: dict[int, int] = {}
    for _, trial_id in sorted(_losses(state, mode)):
        first.setdefault(state.trials[trial_id].config_id, trial_id)
    return [state.outcomes[trial_id] for trial_id in list(first.values())[:size]]


def best(state: State, mode: str) -> Outcome | None:
    """The outcome with the best value; None if no trial succeeded."""
    found = min(_losses(state, mode), default=None)
    return None if found is None else state.outcomes[found[1]]


def _losses(state: State, mode: str) -> Iterator[tuple[float, int]]:
    """The loss and the id of each trial that succeeded."""
    for outcome in state.outcomes.values():
        if outcome.kind == "ok" and outcome.value is not None and outcome.trial_id in state.trials:
            yield loss_of(outcome.value, mode), outcome.trial_id


def finalists_of(state: State, mode: str) -> list[Finalist]:
    """Those whose re-runs decide who wins, the winner first.

    None while a re-run is missing, and once the search has found others.
    """
    groups: dict[int, list[Trial]] = {}
    for trial in (state.reruns[number] for number in state.finals):
        groups.setdefault(trial.parents[0], []).append(trial)
    best_ones = hall_of_fame(state, mode, len(groups))
    if {o.trial_id for o in best_ones} != groups.keys() or not all(map(state.rerun_outcomes.get, state.finals)):
        return []
    return rank([_finalist(state, outcome, groups[outcome.trial_id]) for outcome in best_ones], mode)


def _finalist(state: State, outcome: Outcome, reruns: Sequence[Trial]) -> Finalist:
    params = state.trials[outcome.trial_id].params
    changed = [{name: value for name, value in trial.params.items() if params.get(name) != value} for trial in reruns]
    ended = [state.rerun_outcomes[trial.id] for trial in reruns]
    return Finalist(outcome, list(zip(changed, ended, strict=True)))


def winner_of(state: State, mode: str) -> Outcome | None:
    """The outcome of the search that wins, by its re-runs if there were any; None if no trial succeeded."""
    ranked = finalists_of(state, mode)
    return ranked[0].outcome if ranked else best(state, mode)


def pareto_front(state: State, objectives: Sequence[Objective]) -> list[Outcome]:
    """The outcomes that no other one dominates, the best by the first objective first; the earlier of equals first.

    Empty where there is one objective.
    """
    if len(objectives) == 1:
        return []
    ok = [outcome for number, outcome in state.outcomes.items() if outcome.kind == "ok" and number in state.trials]
    losses = [losses_of(outcome, objectives) for outcome in ok]
    found = zip(is_non_dominated(losses), losses, ok, strict=True)
    front = [(loss, outcome.trial_id) for first, loss, outcome in found if first and all(map(math.isfinite, loss))]
    return [state.outcomes[trial_id] for _, trial_id in sorted(front)]
