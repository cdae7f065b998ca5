"""Statistical tests of draws and mutations, and their limits for any valid space.

Each statistical check rejects at ALPHA. There are about 120 of them: with fresh seeds one of them would fail in at
most 12 % of all runs of a correct program (Bonferroni). The seeds are fixed, so what passed once passes again.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from workflow.parameters import Choice, Constant, Logical, Number, Parameter
from workflow.space_file import parse_space
from workflow.trial import Value

ALPHA = 1e-3
COUNT = 8000


def one(kind: str, **keys: Any) -> Parameter:
    return parse_space([{"name": "x", "type": kind, **keys}], "space.json").parameters[0]


def draws(parameter: Parameter, seed: int = 1, count: int = COUNT) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [parameter.draw(rng) for _ in range(count)]


def mutations(parameter: Parameter, value: Value, seed: int = 2, count: int = COUNT) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [parameter.mutate(value, rng) for _ in range(count)]


def follows(sample: Sequence[float], cdf: Callable[..., Any]) -> bool:
    """Kolmogorov-Smirnov: whether the sample may come from the distribution."""
    return bool(stats.kstest(sample, cdf).pvalue > ALPHA)


def has_shares(sample: Sequence[Any], expected: dict[Any, float]) -> bool:
    """Chi-square: whether the values occur with the expected probabilities, and no others occur.

    Values that are expected fewer than five times are counted together.
    """
    counts = Counter(sample)
    if not counts.keys() <= expected.keys():
        return False
    groups = [[value] for value, share in expected.items() if share * len(sample) >= 5]
    rare = [value for value, share in expected.items() if share * len(sample) < 5]
    groups += [rare] * (sum(expected[value] for value in rare) > 0)
    seen = [sum(counts[value] for value in group) for group in groups]
    wanted = [sum(expected[value] for value in group) * len(sample) for group in groups]
    return len(groups) == 1 or bool(stats.chisquare(seen, wanted).pvalue > ALPHA)


def occurs(sample: Sequence[bool], share: float) -> bool:
    """Binomial: whether an event of this probability may have happened so often."""
    return bool(stats.binomtest(sum(sample), len(sample), share).pvalue > ALPHA)


def uniform(values: Sequence[Any]) -> dict[Any, float]:
    return {value: 1 / len(values) for value in values}


# -- initial draws ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lower", "upper"), [(0, 1), (-3.5, 12), (1e-6, 1e-4), (-1e300, 1e300), (5e-324, 1e-300)])
def test_float_is_drawn_uniformly(lower: float, upper: float) -> None:
    sample = draws(one("float", lower=lower, upper=upper))
    assert follows([value / upper for value in sample], stats.uniform(lower / upper, 1 - lower / upper).cdf)


@pytest.mark.parametrize(("lower", "upper"), [(1e-6, 1e-4), (0.5, 2), (1, 1e9), (1e-300, 1e300)])
def test_float_with_log_scale_is_drawn_uniformly_on_log10(lower: float, upper: float) -> None:
    sample = draws(one("float", lower=lower, upper=upper, use_log_scale=True))
    low, high = math.log10(lower), math.log10(upper)
    assert follows(np.log10(sample).tolist(), stats.uniform(low, high - low).cdf)


@pytest.mark.parametrize(("lower", "upper"), [(1, 9), (-2, 2), (0, 1), (5, 5), (10**15, 10**15 + 4)])
def test_int_is_drawn_uniformly_bounds_included(lower: int, upper: int) -> None:
    assert has_shares(draws(one("int", lower=lower, upper=upper)), uniform(range(lower, upper + 1)))


@pytest.mark.parametrize(("lower", "upper"), [(1, 10), (1, 100), (7, 7), (100, 130)])
def test_int_with_log_scale_is_the_nearest_of_a_log10_uniform_draw(lower: int, upper: int) -> None:
    def edge(value: float) -> float:
        return math.log10(min(max(value, lower), upper))

    span = math.log10(upper) - math.log10(lower) or 1.0
    shares = {k: (edge(k + 0.5) - edge(k - 0.5)) / span for k in range(lower, upper + 1)}
    expected = shares if lower < upper else {lower: 1.0}
    assert has_shares(draws(one("int", lower=lower, upper=upper, use_log_scale=True)), expected)


def test_logical_is_drawn_true_in_half_the_cases() -> None:
    assert occurs(draws(one("logical")), 0.5)


LISTS: list[tuple[str, list[Any]]] = [
    ("int", [16, 32, 64, 128, 256, 512]),
    ("float", [0.0, 0.1, 0.5]),
    ("string", ["Adam", "SGD", "RMSprop", "1000 500"]),
    ("logical", [True, False]),
    ("string", ["only"]),
]


@pytest.mark.parametrize("kind", ["categorical", "ordered"])
@pytest.mark.parametrize(("element_type", "values"), LISTS)
def test_elements_are_drawn_uniformly(kind: str, element_type: str, values: list[Any]) -> None:
    assert has_shares(draws(one(kind, values=values, element_type=element_type)), uniform(values))


def test_an_element_that_is_listed_twice_is_drawn_twice_as_often() -> None:
    sample = draws(one("categorical", values=["a", "b", "a"], element_type="string"))
    assert has_shares(sample, {"a": 2 / 3, "b": 1 / 3})


def test_constant_is_always_its_value() -> None:
    assert set(draws(one("constant", value=150), count=50)) == {150}


def test_parameters_of_one_configuration_are_independent() -> None:
    entries = [{"name": name, "type": "float", "lower": 0, "upper": 1} for name in "ab"]
    first, second = parse_space(entries, "space.json").parameters
    rng = np.random.default_rng(3)
    pairs = [(first.draw(rng), second.draw(rng)) for _ in range(COUNT)]
    assert stats.pearsonr([a for a, _ in pairs], [b for _, b in pairs]).pvalue > ALPHA


# -- mutations of numbers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("current", "sigma"), [(0.0, 3.0), (-100.0, 0.5), (7.25, "2")])
def test_float_mutates_by_a_gaussian_step_on_its_value(current: float, sigma: float | str) -> None:
    sample = mutations(one("float", lower=-1e6, upper=1e6, sigma=sigma), current)
    assert follows([value - current for value in sample], stats.norm(0, float(sigma)).cdf)


@pytest.mark.parametrize(("current", "sigma"), [(1.0, 0.1), (1e-5, 0.5), (3e4, 2.0)])
def test_float_with_log_scale_mutates_by_a_gaussian_step_on_log10(current: float, sigma: float) -> None:
    sample = mutations(one("float", lower=1e-30, upper=1e30, use_log_scale=True, sigma=sigma), current)
    assert follows((np.log10(sample) - math.log10(current)).tolist(), stats.norm(0, sigma).cdf)


def nearest_int_shares(
    lower: int, upper: int, normal: Any, scale: Callable[[float], float] = float
) -> dict[int, float]:
    """Shares of a normal draw on ``scale``, rounded to the nearest int and clamped."""
    cuts = [-math.inf, *(scale(k + 0.5) for k in range(lower, upper)), math.inf]
    shares = np.diff([normal.cdf(cut) for cut in cuts])
    return dict(zip(range(lower, upper + 1), shares.tolist(), strict=True))


@pytest.mark.parametrize(("current", "sigma"), [(0, 2.5), (10, 0.3), (-95, 4), (100, 1)])
def test_int_mutates_by_a_gaussian_step_rounded_to_the_nearest(current: int, sigma: float) -> None:
    sample = mutations(one("int", lower=-100, upper=100, sigma=sigma), current)
    assert has_shares(sample, nearest_int_shares(-100, 100, stats.norm(current, sigma)))


@pytest.mark.parametrize(("current", "sigma"), [(50, 0.05), (2, 0.2), (100, 0.1)])
def test_int_with_log_scale_mutates_on_log10_and_is_rounded_to_the_nearest(current: int, sigma: float) -> None:
    sample = mutations(one("int", lower=1, upper=100, use_log_scale=True, sigma=sigma), current)
    assert has_shares(sample, nearest_int_shares(1, 100, stats.norm(math.log10(current), sigma), math.log10))


@pytest.mark.parametrize(("current", "sigma"), [(0.0, 1.0), (0.9, 0.5), (-1.0, 0.25), (1.0, 10.0)])
def test_shares_at_the_bounds_are_those_of_the_normal_tails(current: float, sigma: float) -> None:
    sample = mutations(one("float", lower=-1, upper=1, sigma=sigma), current)
    normal = stats.norm(current, sigma)
    assert occurs([value == -1 for value in sample], normal.cdf(-1))
    assert occurs([value == 1 for value in sample], normal.sf(1))
    inside = [value for value in sample if -1 < value < 1]
    cut = stats.truncnorm((-1 - current) / sigma, (1 - current) / sigma, current, sigma)
    assert follows(inside, cut.cdf)


@pytest.mark.parametrize(("current", "sigma"), [(1e-5, 1.0), (1e-6, 0.5), (5e-5, 0.2)])
def test_shares_at_the_bounds_with_log_scale(current: float, sigma: float) -> None:
    sample = mutations(one("float", lower=1e-6, upper=1e-4, use_log_scale=True, sigma=sigma), current)
    normal = stats.norm(math.log10(current), sigma)
    assert occurs([value == 1e-6 for value in sample], normal.cdf(-6))
    assert occurs([value == 1e-4 for value in sample], normal.sf(-4))


@pytest.mark.parametrize(
    ("keys", "sigma"),
    [({"lower": -5e5, "upper": 5e5}, 1e5), ({"lower": 1e-15, "upper": 1e15, "use_log_scale": True}, 3.0)],
)
def test_float_mutates_by_a_tenth_of_its_range_by_default(keys: dict[str, Any], sigma: float) -> None:
    log = "use_log_scale" in keys
    sample = mutations(one("float", **keys), 1.0)
    steps = [math.log10(value) if log else value - 1.0 for value in sample]
    inside = [step for step in steps if abs(step) < 3 * sigma]
    assert follows(inside, stats.truncnorm(-3, 3, 0, sigma).cdf)


def test_int_mutates_by_a_tenth_of_its_range_by_default() -> None:
    sample = mutations(one("int", lower=0, upper=80), 40)
    assert has_shares(sample, nearest_int_shares(0, 80, stats.norm(40, 8)))


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_the_tests_would_see_a_sigma_that_is_a_tenth_off(factor: float) -> None:
    sample = mutations(one("float", lower=-1e6, upper=1e6, sigma=3.0), 0.0, count=3 * COUNT)
    assert not follows(sample, stats.norm(0, 3.0 * factor).cdf)


def test_the_tests_would_see_rounding_towards_zero() -> None:
    sample = [int(value) for value in mutations(one("float", lower=-100, upper=100, sigma=2.5), 0.0)]
    assert not has_shares(sample, nearest_int_shares(-100, 100, stats.norm(0, 2.5)))


# -- mutations of lists ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [True, False])
def test_logical_always_flips(value: bool) -> None:
    assert set(mutations(one("logical"), value, count=50)) == {not value}


@pytest.mark.parametrize(("element_type", "values"), LISTS)
@pytest.mark.parametrize("current", [0, -1])
def test_categorical_mutates_to_any_element_the_current_one_included(
    element_type: str, values: list[Any], current: int
) -> None:
    parameter = one("categorical", values=values, element_type=element_type)
    assert has_shares(mutations(parameter, values[current]), uniform(values))


def ordered_shares(length: int, current: int, largest: int) -> dict[int, float]:
    shares = dict.fromkeys(range(length), 0.0)
    for step in range(1, largest + 1):
        for sign in (-1, 1):
            shares[min(max(current + sign * step, 0), length - 1)] += 0.5 / largest
    return {index: share for index, share in shares.items() if share}


@pytest.mark.parametrize(
    ("sigma", "largest"), [(1, 1), (2, 2), (3, 3), (2.6, 3), (3.4, 3), (0.5, 1), (0.1, 1), (8, 8), ("2", 2)]
)
@pytest.mark.parametrize("current", [10, 0, 19, 20])
def test_ordered_steps_evenly_from_one_to_sigma_to_both_sides(sigma: Any, largest: int, current: int) -> None:
    parameter = one("ordered", values=list(range(21)), element_type="int", sigma=sigma)
    assert has_shares(mutations(parameter, current), ordered_shares(21, current, largest))


@pytest.mark.parametrize(("length", "largest"), [(5, 1), (14, 1), (26, 3), (40, 4)])
def test_ordered_steps_by_a_tenth_of_its_list_by_default(length: int, largest: int) -> None:
    parameter = one("ordered", values=list(range(length)), element_type="int")
    middle = length // 2
    assert has_shares(mutations(parameter, middle), ordered_shares(length, middle, largest))


@pytest.mark.parametrize("sigma", [10, 1e6, 1e30, 1e308])
def test_ordered_with_a_sigma_beyond_its_list_goes_to_its_ends(sigma: float) -> None:
    parameter = one("ordered", values=["a", "b", "c"], element_type="string", sigma=sigma)
    ends = mutations(parameter, "b", count=200)
    assert set(ends) == {"a", "c"}


def test_constant_never_mutates() -> None:
    assert mutations(one("constant", value="x"), "x", count=5) == ["x"] * 5


# -- any valid space -------------------------------------------------------------------------------------------------

FINITE = st.floats(allow_nan=False, allow_infinity=False)
SIGMAS = st.one_of(st.none(), st.floats(0, allow_infinity=False), st.integers(0, 10**20), st.just("0.000495"))
ELEMENTS: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-(2**63), 2**63),
    "float": FINITE | st.integers(-1000, 1000),
    "string": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    "logical": st.booleans(),
}


@st.composite
def bounds(draw: st.DrawFn, integer: bool, log: bool) -> dict[str, float]:
    limit: Any = 2**63 - 1 if integer else 1.7976931348623157e308
    smallest: Any = (1 if integer else 5e-324) if log else (-limit if integer else -8.9e307)
    largest: Any = limit if integer or log else 8.9e307
    numbers = st.integers(smallest, largest) if integer else st.floats(smallest, largest)
    lower, upper = sorted((draw(numbers), draw(numbers)))
    return {"lower": lower, "upper": upper}


@st.composite
def valid_entries(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["constant", "int", "float", "logical", "categorical", "ordered"]))
    entry: dict[str, Any] = {"name": "x", "type": kind}
    if kind == "constant":
        entry["value"] = draw(st.one_of(*ELEMENTS.values()))
    elif kind in ("int", "float"):
        log = draw(st.booleans())
        entry |= {**draw(bounds(kind == "int", log)), "use_log_scale": log, "sigma": draw(SIGMAS)}
    elif kind != "logical":
        element_type = draw(st.sampled_from(sorted(ELEMENTS)))
        values = draw(st.lists(ELEMENTS[element_type], min_size=1, max_size=20))
        entry |= {"element_type": element_type, "values": values, "sigma": draw(SIGMAS)}
    return {key: value for key, value in entry.items() if value is not None}


def is_valid(parameter: Parameter, value: Value) -> bool:
    match parameter:
        case Constant():
            return type(value) is type(parameter.value) and value == parameter.value
        case Number():
            right = type(value) is (int if parameter.integer else float)
            return right and not isinstance(value, str) and parameter.lower <= value <= parameter.upper
        case Logical():
            return type(value) is bool
        case Choice():
            return any(type(value) is type(element) and value == element for element in parameter.elements)
    raise AssertionError(parameter)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(entry=valid_entries(), seed=st.integers(0, 2**32))
def test_draws_and_mutations_of_any_valid_entry_stay_in_bounds_and_type(entry: dict[str, Any], seed: int) -> None:
    parameter = parse_space([entry], "space.json").parameters[0]
    rng = np.random.default_rng(seed)
    value = parameter.draw(rng)
    for _ in range(10):
        assert is_valid(parameter, value), (entry, value)
        value = parameter.mutate(value, rng)
    assert is_valid(parameter, value), (entry, value)


EXTREMES = [
    ("float", 1e-300, 1.7976931348623157e308, True),
    ("float", 5e-324, 1.0, True),
    ("float", 1.0, 1.7976931348623157e308, True),
    ("float", -8.9e307, 8.9e307, False),
    ("int", -(2**63) + 1, 2**63 - 1, False),
    ("int", 1, 2**63 - 1, True),
    ("int", 2**53 + 1, 2**53 + 3, False),
]


@pytest.mark.parametrize("sigma", [None, 1e-300, 1e300])
@pytest.mark.parametrize(("kind", "lower", "upper", "log"), EXTREMES)
def test_the_widest_bounds_are_kept(kind: str, lower: Any, upper: Any, log: bool, sigma: float | None) -> None:
    extra = {} if sigma is None else {"sigma": sigma}
    parameter = one(kind, lower=lower, upper=upper, use_log_scale=log, **extra)
    sample = draws(parameter, count=50)
    for value in (lower, upper):
        sample += mutations(parameter, value, count=50)
    assert all(is_valid(parameter, value) for value in sample)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(lower=st.integers(-(10**6), 10**6), width=st.integers(0, 3), seed=st.integers(0, 2**32))
def test_every_int_of_a_narrow_range_is_drawn(lower: int, width: int, seed: int) -> None:
    sample = draws(one("int", lower=lower, upper=lower + width), seed, count=300)
    assert set(sample) == set(range(lower, lower + width + 1))
