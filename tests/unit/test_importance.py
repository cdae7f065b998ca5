"""Importances of functions whose variance is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from workflow.report.importance import Array, Importance, importance

Function = Callable[[Array], Array]


def of(function: Function, *, sizes: tuple[int, ...] = (0, 0, 0), trials: int = 80) -> Importance | None:
    rng = np.random.Generator(np.random.PCG64(1))
    rows = rng.random((trials, len(sizes)))
    for column, size in enumerate(sizes):
        if size:
            rows[:, column] = np.floor(rows[:, column] * size)
    return importance(rows, function(rows), sizes, lambda settled: settled)


def found(function: Function, *, sizes: tuple[int, ...] = (0, 0, 0), trials: int = 80) -> Importance:
    answer = of(function, sizes=sizes, trials=trials)
    assert answer is not None
    return answer


def test_a_parameter_that_decides_alone_has_all_of_the_variance() -> None:
    answer = found(lambda rows: 3 * rows[:, 1])
    assert answer.r2 > 0.95 and answer.believable and answer.trials == 80
    assert answer.main[1] == pytest.approx(1.0, abs=0.05)
    assert answer.total[1] == pytest.approx(1.0, abs=0.05)
    assert max(answer.main[0], answer.main[2], *(share for _, _, share in answer.pairs)) < 0.05


def test_shares_of_a_sum_are_those_of_its_terms() -> None:
    """Of x + 2 y, whose variances are 1 to 4; ranks bend it a little."""
    answer = found(lambda rows: rows[:, 0] + 2 * rows[:, 2])
    assert answer.main == pytest.approx((0.2, 0.0, 0.8), abs=0.06)


def test_an_interaction_belongs_to_neither_of_its_parameters() -> None:
    answer = found(lambda rows: (rows[:, 0] - 0.5) * (rows[:, 1] - 0.5), trials=150)
    pairs = {(i, j): share for i, j, share in answer.pairs}
    assert pairs[0, 1] > 0.7 and max(pairs[0, 2], pairs[1, 2]) < 0.1
    assert max(answer.main) < 0.15 and min(answer.total[:2]) > 0.7


def test_parameters_without_order_count() -> None:
    answer = found(lambda rows: np.array([0.3, -1.0, 0.8])[rows[:, 0].astype(int)] + 0.1 * rows[:, 1], sizes=(3, 0, 0))
    assert answer.main[0] > 0.7


def test_a_few_diverged_trainings_do_not_decide() -> None:
    answer = found(lambda rows: np.where(rows[:, 0] > 0.97, 1e30, rows[:, 1]))
    assert answer.main[1] > 0.8


def test_chance_is_not_believed() -> None:
    rng = np.random.Generator(np.random.PCG64(2))
    answer = found(lambda rows: rng.random(len(rows)))
    assert not answer.believable and answer.main == () and answer.r2 < 0.2


def test_repetitions_do_not_make_a_model_believable() -> None:
    """A search that asks a few configurations again and again: they are unseen where they are tested."""
    rng = np.random.Generator(np.random.PCG64(3))
    rows, losses = rng.random((8, 3)), rng.random(8)
    answer = importance(np.tile(rows, (8, 1)), np.tile(losses, 8), (0, 0, 0), lambda settled: settled)
    assert answer is not None and not answer.believable


def test_nothing_is_told_where_nothing_can_be() -> None:
    assert of(lambda rows: rows[:, 0], trials=19) is None
    assert of(lambda rows: np.ones(len(rows))) is None
    assert importance(np.empty((30, 0)), np.arange(30.0), (), lambda settled: settled) is None


def test_many_trials_are_a_sample_and_the_same_one_always() -> None:
    first, again = (found(lambda rows: rows[:, 0] + rows[:, 1] ** 2, trials=2000) for _ in range(2))
    assert first == again and first.trials == 200


def test_what_does_not_exist_has_no_share() -> None:
    """The second parameter exists where the first is above a half; what there is of it elsewhere is not asked for."""

    def settle(rows: Array) -> Array:
        return np.column_stack([rows[:, 0], np.where(rows[:, 0] < 0.5, 0.5, rows[:, 1])])

    rows = settle(np.random.Generator(np.random.PCG64(4)).random((100, 2)))
    answer = importance(rows, rows[:, 0] + 0.2 * rows[:, 1], (0, 0), settle)
    assert answer is not None and answer.main[0] > 0.8 > 0.2 > answer.total[1]
