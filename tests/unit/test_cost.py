"""Durations by hyperparameters, and a search that minds them."""

from __future__ import annotations

import numpy as np

from workflow.search import SearchSettings, make_search
from workflow.search.cost import Cost
from workflow.space_file import parse_space
from workflow.trial import Outcome, Trial

SPACE = parse_space(
    [
        {"name": "x", "type": "float", "lower": 0, "upper": 1},
        {"name": "layers", "type": "int", "lower": 1, "upper": 9},
        {"name": "kind", "type": "categorical", "element_type": "string", "values": ["slow", "fast"]},
    ],
    "test",
)


def test_logarithms_of_durations_are_learned() -> None:
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.random((80, 2)), rng.integers(3, size=80)])

    def logarithm(rows: np.ndarray) -> np.ndarray:
        return 5 + 3 * rows[:, 0] - 2 * rows[:, 1] ** 2 + (rows[:, 2] == 1)

    cost = Cost(np.array([False, False, True]))
    seconds = np.exp(logarithm(rows[:60]) + rng.normal(0, 0.1, 60))
    seconds[::10] = 0.0  # which tells nothing
    cost.fit(rows[:60], seconds)
    assert np.abs(cost.predict(rows[60:]) - logarithm(rows[60:])).mean() < 0.15


def test_nothing_known_is_no_difference() -> None:
    cost = Cost(np.array([False]))
    cost.fit(np.array([[0.5]]), np.array([0.0]))
    assert cost.predict(np.array([[0.0], [1.0]])).tolist() == [0.0, 0.0]


def seconds_of(trial: Trial) -> float:
    return 10.0 * int(trial.params["layers"]) ** 2 * (10 if trial.params["kind"] == "slow" else 1)


def seconds_spent(seed: int, *, cost_aware: bool) -> float:
    """Neither layers nor kind matter for the loss."""
    search = make_search(SPACE, SearchSettings("async", evaluations=60, seed=seed, cost_aware=cost_aware))
    noise, spent = np.random.default_rng(seed), 0.0
    while (trial := search.ask()) is not None:
        loss = abs(float(trial.params["x"]) - 0.4) + 0.05 * noise.normal()
        search.tell(Outcome(trial.id, 1, "ok", loss, {}, 0.0, seconds_of(trial)))
        spent += seconds_of(trial)
    return spent


def test_of_equals_the_quicker_ones_are_tried() -> None:
    aware, unaware = (sum(seconds_spent(seed, cost_aware=aware) for seed in range(3)) for aware in (True, False))
    assert aware < 0.5 * unaware
