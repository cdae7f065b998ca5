"""What a training is expected to take: an upper bound from those before it."""

from __future__ import annotations

import random

import pytest

from workflow.durations import Durations, Expectation
from workflow.trial import Trial, Value


def trial(number: int = 0, **params: Value) -> Trial:
    return Trial(number, number, params)


def seconds_of(epochs: int, layers: int, optimizer: str) -> float:
    return 3.0 + 0.5 * epochs * layers * (1.5 if optimizer == "Adam" else 1.0)


def learned(count: int, seed: int = 1, noise: float = 0.1) -> Durations:
    rng = random.Random(seed)
    durations = Durations()
    for number in range(count):
        params = {"epochs": rng.randint(2, 200), "layers": rng.randint(1, 8), "optimizer": rng.choice(["Adam", "SGD"])}
        durations.learn(trial(number, **params), seconds_of(**params) * rng.uniform(1 - noise, 1 + noise))
    return durations


def test_without_history_the_timeout_is_expected() -> None:
    assert Durations(timeout=600.0).expect(trial(x=1)) == Expectation(600.0, measured=False)
    assert Durations().expect(trial(x=1)) is None


def test_with_little_history_the_longest_counts_with_a_margin() -> None:
    durations = Durations()
    for seconds in (10.0, 40.0, 20.0):
        durations.learn(trial(x=1), seconds)
    assert durations.expect(trial(x=9)) == Expectation(50.0, measured=True)


def test_bounds_hold_and_are_of_use() -> None:
    """Of new trainings, nearly all end within their bound, and short ones are told from long ones."""
    durations = learned(200)
    rng = random.Random(2)
    late, ratios = 0, []
    for number in range(300):
        params = {"epochs": rng.randint(2, 200), "layers": rng.randint(1, 8), "optimizer": rng.choice(["Adam", "SGD"])}
        true = seconds_of(**params) * rng.uniform(0.9, 1.1)
        bound = durations.expect(trial(number, **params))
        assert bound is not None
        late += true > bound.seconds
        ratios.append(bound.seconds / true)
    assert late <= 6
    assert sorted(ratios)[150] < 3
    short, long = (durations.expect(trial(epochs=e, layers=4, optimizer="SGD")) for e in (5, 200))
    assert short is not None and long is not None and short.seconds < long.seconds / 5


def test_hyperparameters_that_do_not_exist_in_the_last_trial_count() -> None:
    durations = Durations()
    for number in range(40):
        deep = {"deep": True, "layers": 1 + number % 8}
        durations.learn(trial(number, **deep), 10.0 * (1 + number % 8))
        durations.learn(trial(100 + number, deep=False), 5.0)
    short, long = (durations.expect(trial(deep=True, layers=layers)) for layers in (1, 8))
    assert short is not None and long is not None and short.seconds < long.seconds / 3


def test_no_bound_is_above_the_timeout() -> None:
    durations = learned(50)
    durations.timeout = 30.0
    assert durations.expect(trial(epochs=200, layers=8, optimizer="Adam")) == Expectation(30.0, measured=True)


def test_one_that_was_cut_off_is_expected_to_take_longer() -> None:
    durations = Durations()
    durations.learn(trial(1, x=1), 10.0)
    durations.cut(trial(7, x=1), 100.0)
    assert durations.expect(trial(7, x=1)) == Expectation(150.0, measured=True)
    assert durations.expect(trial(8, x=1)) == Expectation(12.5, measured=True)


@pytest.mark.parametrize("odd", [{}, {"epochs": "many", "layers": True, "optimizer": 7}, {"epochs": 10**9}])
def test_odd_parameters_are_no_error(odd: dict[str, Value]) -> None:
    bound = learned(40).expect(trial(**odd))
    assert bound is not None and 0 < bound.seconds <= 2.5 * seconds_of(200, 8, "Adam") * 1.1


def test_the_same_trainings_give_the_same_bound() -> None:
    assert learned(60).expect(trial(epochs=50, layers=3)) == learned(60).expect(trial(epochs=50, layers=3))
