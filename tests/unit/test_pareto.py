"""Several objectives in one order, by hand and against their definitions."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow.search.pareto import LossTable, crowding, fronts, is_non_dominated, ranks, tchebycheff

INF = math.inf
FAILED = (INF, INF)

STAIRS = [(1.0, 5.0), (2.0, 3.0), (4.0, 1.0), (2.0, 4.0), (5.0, 5.0), (3.0, 3.0), (5.0, 6.0)]
"""By hand: (2, 4) and (3, 3) are dominated by (2, 3) alone, (5, 5) by those, and (5, 6) by (5, 5)."""


def test_fronts_by_hand() -> None:
    assert fronts(STAIRS).tolist() == [0, 0, 0, 1, 2, 1, 3]
    assert is_non_dominated(STAIRS).tolist() == [True, True, True, False, False, False, False]


def test_crowding_distances_by_hand() -> None:
    front = [(0.0, 10.0), (1.0, 6.0), (4.0, 5.0), (10.0, 0.0)]
    assert crowding(front).tolist() == [INF, 4 / 10 + 5 / 10, 9 / 10 + 6 / 10, INF]


def test_equal_rows_share_the_distance_of_one() -> None:
    assert crowding([(0, 2), (1, 1), (1, 1), (2, 0)]).tolist() == [INF, 2.0, 2.0, INF]


def test_a_column_without_a_range_adds_no_distance() -> None:
    assert crowding([(0, 2, 7), (1, 1, 7), (2, 0, 7)]).tolist() == [INF, 2.0, INF]


def test_ranks_by_hand() -> None:
    front = [(0.0, 10.0), (1.0, 6.0), (4.0, 5.0), (10.0, 0.0)]
    dominated = [(1.0, 11.0), (11.0, 1.0)]
    assert ranks([*dominated, FAILED, *front]).tolist() == [3, 3, 4, 0, 2, 1, 0]


def test_copies_stand_behind_the_rest_of_their_front() -> None:
    assert ranks([(0, 2), (0, 2), (1, 1), (0, 2), (2, 0), (3, 3)]).tolist() == [0, 2, 1, 3, 0, 4]


@pytest.mark.parametrize("order", [ranks, fronts, is_non_dominated, crowding])
def test_of_nothing_there_is_no_order(order: Callable[[LossTable], Sequence[object]]) -> None:
    assert len(order([])) == 0


def test_losses_as_large_as_numbers_get() -> None:
    losses = np.array([(1.7e308, -1.7e308), (0.0, 0.0), (-1.7e308, 1.7e308)])
    assert crowding(losses).tolist() == [INF, 2.0, INF]
    assert np.isfinite(tchebycheff(losses, np.array([0.5, 0.5]))).all()


def test_tchebycheff_by_hand() -> None:
    losses = np.array([(0.0, 300.0), (1.0, 200.0), (2.0, 100.0), FAILED])
    # Quantiles of 0.75: 1.5 and 250, so that the rows are (0, 4/3), (2/3, 2/3), (4/3, 0).
    low, high = 0.25 * 4 / 3, 0.75 * 4 / 3
    middle = 0.75 * 2 / 3 + 0.05 * 2 / 3
    expected = [high + 0.05 * high, middle, low + 0.05 * low, INF]
    assert tchebycheff(losses, np.array([0.25, 0.75])).tolist() == pytest.approx(expected)


def test_an_objective_in_which_all_are_equal_decides_nothing() -> None:
    losses = np.array([(1.0, 1e9), (2.0, 1e9), (3.0, 1e9)])
    assert np.diff(tchebycheff(losses, np.array([0.1, 0.9]))).min() > 0


def test_an_objective_in_which_most_are_equal_has_the_range_of_the_others() -> None:
    losses = np.array([(1.0, 0.0), (2.0, 0.0), (3.0, 0.0), (4.0, 0.0), (0.0, 1e9)])
    assert tchebycheff(losses, np.array([0.5, 0.5])).max() < 1


def test_a_diverged_training_leaves_the_others_apart() -> None:
    losses = np.array([*((0.1 * i, 9.0 - i) for i in range(9)), (1e30, 0.0)])
    assert len(set(np.round(tchebycheff(losses, np.array([0.9, 0.1]))[:9], 6))) == 9


# -- against the definitions -----------------------------------------------------------------------------------------

few = st.sampled_from([-0.0, 0.0, 1.0, 2.0, 3.0])
numbers = st.one_of(few, st.floats(-1e6, 1e6))
quick = settings(max_examples=100, deadline=None, derandomize=True, database=None)


def tables(least: int = 1) -> st.SearchStrategy[list[tuple[float, ...]]]:
    def rows(width: int) -> st.SearchStrategy[list[tuple[float, ...]]]:
        row = st.one_of(st.tuples(*[numbers] * width), st.just((INF,) * width))
        return st.lists(row, min_size=1, max_size=25)

    return st.integers(least, 4).flatmap(rows)


def dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and one != other


@quick
@given(losses=tables())
def test_fronts_are_those_of_the_definition(losses: list[tuple[float, ...]]) -> None:
    found = fronts(losses)
    for number, row in zip(found, losses, strict=True):
        above = [front for front, other in zip(found, losses, strict=True) if dominates(other, row)]
        assert number == max(above, default=-1) + 1
    assert is_non_dominated(losses).tolist() == (found == 0).tolist()


@quick
@given(losses=tables())
def test_ranks_keep_to_the_fronts_and_failed_ones_are_last(losses: list[tuple[float, ...]]) -> None:
    found, order = fronts(losses), ranks(losses)
    assert set(order) == set(range(max(order) + 1))
    for one, first in zip(found, order, strict=True):
        assert all(first < second for other, second in zip(found, order, strict=True) if one < other)
    failed = [math.isinf(row[0]) for row in losses]
    worst = max((rank for rank, lost in zip(order, failed, strict=True) if not lost), default=-1)
    assert all(rank > worst for rank, lost in zip(order, failed, strict=True) if lost)


@quick
@given(losses=tables(), seed=st.randoms(use_true_random=False))
def test_ranks_do_not_depend_on_the_order_of_the_rows(losses: list[tuple[float, ...]], seed: random.Random) -> None:
    mixed = list(losses)
    seed.shuffle(mixed)
    places = zip(mixed, ranks(mixed), strict=True)
    assert sorted(places) == sorted(zip(losses, ranks(losses), strict=True))


@quick
@given(losses=st.lists(st.tuples(numbers), min_size=1, max_size=30))
def test_one_objective_is_ranked_by_its_losses(losses: list[tuple[float]]) -> None:
    places = sorted({loss + 0.0 for (loss,) in losses})
    assert ranks(losses).tolist() == [places.index(loss) for (loss,) in losses]


@quick
@given(losses=tables(least=2), seed=st.integers(0, 9))
def test_what_is_dominated_has_the_larger_scalar_loss(losses: list[tuple[float, ...]], seed: int) -> None:
    weights = np.random.default_rng(seed).dirichlet(np.ones(len(losses[0])))
    scalar = tchebycheff(np.array(losses), weights)
    for i, one in enumerate(losses):
        assert math.isinf(scalar[i]) == math.isinf(one[0])
        assert all(scalar[i] <= scalar[j] for j, other in enumerate(losses) if dominates(one, other))
