"""Trainings of several fidelities: the rungs, who is promoted, and what it costs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from workflow.search import Search, SearchSettings, make_search
from workflow.search.halving import Fidelity, Ladder
from workflow.space_file import parse_space
from workflow.trial import Objective, Outcome, Trial

SPACE = parse_space(
    [
        {"name": "epochs", "type": "constant", "value": 27},
        {"name": "x", "type": "float", "lower": 0, "upper": 1},
        {"name": "y", "type": "float", "lower": 0, "upper": 1},
    ],
    "test",
)
SIX = parse_space([SPACE.entries[0], {"name": "n", "type": "int", "lower": 1, "upper": 6}], "six")
FIDELITY = Fidelity("epochs", 3, 27)


@pytest.mark.parametrize(
    ("least", "most", "eta", "rungs"),
    [
        (10, 150, 3, (17, 50, 150)),
        (10, 270, 3, (10, 30, 90, 270)),
        (1, 8, 2, (1, 2, 4, 8)),
        (0.1, 1, 3, (1 / 9, 1 / 3, 1.0)),
        (1, 3, 1.2, (1, 2, 3)),
    ],
)
def test_rungs_end_with_whole_trainings(least: float, most: float, eta: float, rungs: tuple[float, ...]) -> None:
    found = Fidelity("epochs", least, most, eta).rungs
    assert found == pytest.approx(rungs)
    assert all(isinstance(value, int) for value in found) == isinstance(most, int) * isinstance(least, int)


def ladder(*losses: float, resumes: bool = False) -> Ladder:
    made = Ladder((3, 9, 27), 3, resumes=resumes)
    for config_id, loss in enumerate(losses):
        made.begin(config_id, 0)
        made.end(config_id, 0, (loss,))
    return made


def test_a_third_of_a_rung_is_promoted() -> None:
    made = ladder(5.0, 1.0)
    assert made.promotable() is None
    made.begin(2, 0)
    made.end(2, 0, (3.0,))
    assert made.promotable() == (1, {0: (5.0,), 1: (1.0,), 2: (3.0,)})
    made.begin(1, 1)
    assert made.promotable() is None


def test_higher_rungs_come_first() -> None:
    made = ladder(*range(12))
    for config_id in range(3):
        made.begin(config_id, 1)
        made.end(config_id, 1, (config_id / 10,))
    assert made.promotable() == (2, {0: (0.0,), 1: (0.1,), 2: (0.2,)})


def test_failures_are_not_promoted() -> None:
    assert ladder(math.inf, math.inf, math.inf).promotable() is None
    assert ladder(math.inf, 2.0, math.inf).promotable() == (1, {1: (2.0,)})


def test_what_a_rung_has_to_gain_is_the_median_of_what_others_gained() -> None:
    made = ladder(10.0, 20.0, 30.0)
    for config_id, loss in ((0, 9.0), (1, 17.0), (2, 25.0)):
        made.end(config_id, 1, (loss,))
    made.end(0, 2, (8.5,))
    assert np.array_equal(made.gains(), [[-3.5], [-0.5], [0.0]])


@pytest.mark.parametrize(("resumes", "cost"), [(False, 1.0), (True, 24 / 27)])
def test_a_training_that_resumes_costs_what_it_adds(resumes: bool, cost: float) -> None:
    made = ladder(1.0, resumes=resumes)
    assert made.cost(2) == 1.0
    assert made.cost(2, 0) == pytest.approx(cost)


def make(space: Any = SPACE, fidelity: Fidelity = FIDELITY, **keys: Any) -> Search:
    return make_search(space, SearchSettings(strategy="async", fidelity=fidelity, **keys))


def test_gains_are_those_of_each_objective() -> None:
    made = Ladder((3, 9), 3, resumes=False)
    for rung, losses in ((0, (10.0, 1.0)), (1, (9.0, 3.0))):
        made.end(0, rung, losses)
        made.end(1, rung, (math.inf, math.inf))
    assert np.array_equal(made.gains()[0], [-1.0, 2.0])


def loss(trial: Trial) -> float:
    params = trial.params
    return abs(float(params["x"]) - 0.3) + abs(float(params["y"]) - 0.6) + 3 / float(params["epochs"])


def drive(search: Search, workers: int = 4) -> list[Trial]:
    asked: list[Trial] = []
    running: list[Trial] = []
    while True:
        while len(running) < workers and (trial := search.ask()) is not None:
            asked.append(trial)
            running.append(trial)
        if not running:
            return asked
        trial = running.pop(0)
        search.tell(Outcome(trial.id, 1, "ok", loss(trial)))


@pytest.mark.parametrize("evaluations", [1, 7, 30])
@pytest.mark.parametrize("resumes", [False, True])
def test_evaluations_count_whole_trainings(evaluations: int, resumes: bool) -> None:
    search = make(fidelity=Fidelity("epochs", 3, 27, resumes=resumes), evaluations=evaluations)
    trials = drive(search)
    done: dict[int, float] = {}
    spent = 0.0
    for trial in trials:
        assert trial.fidelity is not None
        spent += (trial.fidelity - (done.get(trial.config_id, 0.0) if resumes else 0.0)) / 27
        done[trial.config_id] = trial.fidelity
    assert spent <= evaluations + 1e-6
    assert spent > evaluations - 3 / 27 - 1e-6
    assert len(trials) <= search.budget


def test_the_best_go_on_and_keep_their_configuration() -> None:
    trials = drive(make(evaluations=40))
    whole = [trial for trial in trials if trial.fidelity == 27]
    assert 10 < len(whole) < 40
    first = {trial.config_id: trial for trial in reversed(trials)}
    for trial in whole:
        assert first[trial.config_id].fidelity < 27
        assert {**first[trial.config_id].params, "epochs": 27} == trial.params
    assert min(map(loss, whole)) < 0.2
    assert sum(map(loss, whole)) / len(whole) < sum(loss(t) for t in first.values()) / len(first)


def test_several_objectives_go_on_along_the_front() -> None:
    """The first wants x = 0, the second x = 1, both y = 0.6 and many epochs."""
    settings = SearchSettings(strategy="async", fidelity=FIDELITY, evaluations=40)
    search = make_search(SPACE, settings, [Objective(), Objective("other")])
    running: list[Trial] = []
    whole: list[Trial] = []
    while not search.done or running:
        if len(running) < 4 and (trial := search.ask()) is not None:
            running.append(trial)
            continue
        trial = running.pop(0)
        x, y, epochs = (float(trial.params[name]) for name in ("x", "y", "epochs"))
        harm = abs(y - 0.6) + 3 / epochs
        search.tell(Outcome(trial.id, 1, "ok", x + harm, {"other": 1e6 * (1 - x + harm)}))
        whole += [trial] if epochs == 27 else []
    places = sorted(float(trial.params["x"]) for trial in whole)
    assert places[0] < 0.2 and places[-1] > 0.8
    assert np.median([abs(float(trial.params["y"]) - 0.6) for trial in whole]) < 0.1


def test_a_finite_space_ends_once_nobody_is_left_to_go_on() -> None:
    search = make(SIX, evaluations=500)
    asked = 0
    running: list[Trial] = []
    while not search.done:
        if (trial := search.ask()) is not None:
            asked += 1
            running.append(trial)
        elif running:
            trial = running.pop()
            search.tell(Outcome(trial.id, 1, "ok", float(trial.params["n"])))
    assert running == []
    assert 6 < asked <= search.budget == 18
    assert "6 configurations" in search.message
