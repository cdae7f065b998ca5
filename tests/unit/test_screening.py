"""The model that screens children: what failures tell it, and which children it takes."""

from __future__ import annotations

import numpy as np
import pytest

from workflow.search.cube import Cube, Rows
from workflow.search.screening import _FITTED, Observations, Screen, _chosen, smallest
from workflow.space_file import parse_space

SPACE = parse_space([{"name": name, "type": "float", "lower": 0, "upper": 1} for name in "xy"], "test")
GRID = np.array([(x, y) for x in np.linspace(0, 1, 6) for y in np.linspace(0, 1, 6)])


def learned(failed: np.ndarray, pending: Rows = GRID[:0]) -> Screen:
    """A model of losses that fall with x."""
    losses = np.where(failed, np.inf, 1 - GRID[:, 0])
    screen = Screen(Cube(SPACE))
    nothing = np.zeros((len(GRID) + len(pending), 0))
    assert screen.learn(Observations(np.vstack([GRID, pending]), nothing, losses, np.zeros(len(GRID))))
    return screen


def test_a_failure_among_successes_tells_nothing_and_a_region_of_failures_does() -> None:
    nothing_failed = learned(np.zeros(len(GRID), dtype=bool))
    stray = learned((GRID == (0.8, 0.4)).all(axis=1))
    region = learned(GRID[:, 0] > 0.7)
    there = np.array([(0.8, 0.4), (1.0, 0.6)])
    assert np.allclose(stray.means(there), nothing_failed.means(there), atol=0.1)
    assert (region.means(there) > region.means(np.array([(0.6, 0.5)])) + 0.3).all()


def test_children_are_taken_in_the_order_of_what_is_expected_of_them() -> None:
    screen = learned(np.zeros(len(GRID), dtype=bool))
    elite = GRID[GRID[:, 0] < 0.5][::-1]
    taken = np.array([screen.children(np.random.default_rng(seed), elite)[0] for seed in range(20)])
    bred = screen.bred(np.random.default_rng(0), elite)
    assert np.median(taken[:, 0]) > np.quantile(bred[:, 0], 0.75)


@pytest.mark.parametrize("count", [1, 5, 40, 100])
def test_the_smallest_are_all_that_a_stable_sort_may_put_first(count: int) -> None:
    values = np.random.default_rng(count).integers(0, 12, 60).astype(float)
    values[::7] = np.inf
    found = smallest(values, count)
    first = np.argsort(values, kind="stable")[:count]
    assert set(first) <= set(found) and list(found) == sorted(found)
    assert values[found].max() == values[first].max()
    assert found[np.argsort(values[found], kind="stable")][:count].tolist() == first.tolist()


def test_the_model_sees_the_best_and_the_last() -> None:
    losses = np.random.default_rng(1).integers(0, 50, 1000).astype(float)
    best = np.argsort(losses, kind="stable")[: _FITTED // 2]
    others = np.setdiff1d(np.arange(1000), best)[-(_FITTED - len(best)) :]
    assert _chosen(losses).tolist() == sorted([*best, *others])
