"""Crossover and mutation, on cases that can be checked by hand."""

from __future__ import annotations

import math

import pytest

from workflow.search.base import keyed_rng
from workflow.search.variation import Variation
from workflow.space_file import parse_space

GENES = 8
SPACE = parse_space([{"name": f"x{i}", "type": "float", "lower": 0, "upper": 1} for i in range(GENES)], "floats")


def variation(**keys: float) -> Variation:
    return Variation(SPACE, **keys)


FIRST, SECOND = tuple(range(GENES)), tuple(range(100, 100 + GENES))


@pytest.mark.parametrize("seed", range(20))
def test_uniform_crossover_only_swaps_pairs(seed: int) -> None:
    one, other = variation(cx_indpb=0.5).cross(FIRST, SECOND, keyed_rng(seed))
    assert [{a, b} for a, b in zip(one, other, strict=True)] == [{a, b} for a, b in zip(FIRST, SECOND, strict=True)]


@pytest.mark.parametrize(("indpb", "expected"), [(0.0, (FIRST, SECOND)), (1.0, (SECOND, FIRST))])
def test_uniform_crossover_at_its_limits(indpb: float, expected: tuple[tuple[int, ...], ...]) -> None:
    assert variation(cx_indpb=indpb).cross(FIRST, SECOND, keyed_rng(1)) == expected


def test_crossover_swaps_its_share() -> None:
    crossed = [variation(cx_indpb=0.25).cross(FIRST, SECOND, keyed_rng(seed))[0] for seed in range(500)]
    swapped = sum(value >= 100 for genome in crossed for value in genome)
    expected, deviation = 500 * GENES * 0.25, math.sqrt(500 * GENES * 0.25 * 0.75)
    assert abs(swapped - expected) < 4 * deviation


@pytest.mark.parametrize(("indpb", "changed"), [(0.0, 0), (1.0, GENES)])
def test_mutation_at_its_limits(indpb: float, changed: int) -> None:
    genome = (0.5,) * GENES
    mutated = variation(mut_indpb=indpb).mutate(genome, keyed_rng(1))
    assert sum(a != b for a, b in zip(genome, mutated, strict=True)) == changed


def test_mutation_changes_its_share() -> None:
    genome = (0.5,) * GENES
    mutated = [variation(mut_indpb=0.25).mutate(genome, keyed_rng(seed)) for seed in range(500)]
    changed = sum(value != 0.5 for one in mutated for value in one)
    expected, deviation = 500 * GENES * 0.25, math.sqrt(500 * GENES * 0.25 * 0.75)
    assert abs(changed - expected) < 4 * deviation
