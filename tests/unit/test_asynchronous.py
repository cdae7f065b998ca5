"""The strategy ``async`` under constraints, and with several objectives: the whole front, each ask by a weighting."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from workflow.search import SearchSettings
from workflow.search.asynchronous import AsyncSearch
from workflow.space_file import parse_space
from workflow.trial import Objective, Outcome, Trial

SPACE = parse_space([{"name": name, "type": "float", "lower": 0, "upper": 1} for name in "xy"], "test")


def made(**keys: Any) -> AsyncSearch:
    return AsyncSearch(SPACE, SearchSettings("async", **keys), [Objective(), Objective("gain", "max")])


def outcome(trial: Trial) -> Outcome:
    """The front has every x, and the least y; its losses are (x^2, (1 - x)^2), the second in other units."""
    x, y = float(trial.params["x"]), float(trial.params["y"])
    return Outcome(trial.id, 1, "ok", x**2 + y, {"gain": -1e6 * ((1 - x) ** 2 + y)})


def driven(search: AsyncSearch) -> list[Trial]:
    trials = []
    while (trial := search.ask()) is not None:
        trials.append(trial)
        search.tell(outcome(trial))
    return trials


def test_the_model_screens_what_is_allowed() -> None:
    """Few draws are: a search that took what is left of its children would not get near the border."""
    entries = [{"name": name, "type": "float", "lower": 0, "upper": 1} for name in "xyzw"]
    space = parse_space([{**entries[0], "constraint": "0.99 < x + y < 1.01"}, *entries[1:]], "test")
    search = AsyncSearch(space, SearchSettings("async", evaluations=50))
    values = []
    while (trial := search.ask()) is not None:
        values.append(sum((float(trial.params[name]) - 0.05) ** 2 for name in "xyzw"))
        search.tell(Outcome(trial.id, 1, "ok", values[-1], {}))
    assert min(values) < 2 * 0.445**2 + 0.001


def test_losses_at_the_ends_of_floats_are_no_trouble() -> None:
    search = AsyncSearch(SPACE, SearchSettings("async", evaluations=30))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        while (trial := search.ask()) is not None:
            search.tell(Outcome(trial.id, 1, "ok", (-1.7e308, 1.7e308, 1.0)[trial.id % 3], {}))


def test_the_front_is_found_from_end_to_end() -> None:
    late = driven(made(evaluations=60))[30:]
    places = [float(trial.params["x"]) for trial in late]
    assert np.histogram(places, bins=4, range=(0, 1))[0].min() >= 2
    assert np.median([float(trial.params["y"]) for trial in late]) < 0.1


def test_each_ask_has_a_weighting_of_its_own_which_a_resumed_search_has_too() -> None:
    search, again = made(evaluations=20, seed=3), made(evaluations=20, seed=3)
    losses = np.array([(0.0, 4.0), (1.0, 1.0), (4.0, 0.0)])
    best = []
    for _ in range(20):
        best.append(int(np.argmin(search._scalar(losses))))
        assert search._scalar(losses).tolist() == search._scalar(losses).tolist() == again._scalar(losses).tolist()
        trial = search.ask()
        assert trial is not None
        again.restore(trial, None)
    assert set(best) == {0, 1, 2}


def test_parents_are_the_first_by_front_and_crowding() -> None:
    search = made(population_size=3)
    found = {(0.0, 10.0): 0.1, (1.0, 6.0): 0.2, (4.0, 5.0): 0.3, (10.0, 0.0): 0.4, (5.0, 7.0): 0.5}
    for number, ((value, loss), x) in enumerate(found.items()):
        search.restore(Trial(number, number, {"x": x, "y": 0.5}), Outcome(number, 1, "ok", value, {"gain": -loss}))
    assert search._elite()[:, 0].tolist() == [0.1, 0.4, 0.3]
