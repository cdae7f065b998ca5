"""The rules of early stopping, by examples that were computed by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pytest

from workflow.errors import Problems
from workflow.stopping import EarlyStopping, StoppingSettings, quantile


def rule(mode: str = "min", **settings: Any) -> EarlyStopping:
    return EarlyStopping(StoppingSettings(**{"grace": 2, "min_trials": 3, **settings}), "loss", mode)


def feed(stopping: EarlyStopping, trial: int, values: Iterable[float], first: int = 1) -> list[str]:
    return [stopping.report(trial, step, value) for step, value in enumerate(values, start=first)]


def three(stopping: EarlyStopping, sign: float = 1.0) -> EarlyStopping:
    """Running averages of 0.7, 0.8, 0.9 at step 2 and 0.6, 0.7, 0.8 at step 3; bests at step 2 of 0.6, 0.7, 0.8."""
    for trial, last in enumerate((0.4, 0.5, 0.6)):
        assert feed(stopping, trial, (sign * (last + 0.4), sign * (last + 0.2), sign * last)) == ["", "", ""]
    return stopping


def test_worse_than_the_median_of_running_averages_is_hopeless() -> None:
    stopping = three(rule())
    assert stopping.report(9, 1, 0.95) == ""
    assert stopping.report(9, 2, 0.81) == "loss 0.81 at best by step 2 is worse than the median 0.8 of 3 trials"


@pytest.mark.parametrize(("value", "hopeless"), [(0.8, False), (0.79, False), (0.801, True)])
def test_as_good_as_the_median_goes_on(value: float, hopeless: bool) -> None:
    stopping = three(rule())
    stopping.report(9, 1, 5.0)
    assert bool(stopping.report(9, 2, value)) is hopeless


def test_the_best_value_so_far_counts_not_the_last() -> None:
    assert feed(three(rule()), 9, (0.1, 2.0, 3.0)) == ["", "", ""]


def test_of_others_the_value_at_that_step_counts_not_the_last() -> None:
    stopping = three(rule())
    assert feed(stopping, 9, (0.9, 0.75, 0.75))[1:] == [
        "", "loss 0.75 at best by step 3 is worse than the median 0.7 of 3 trials"
    ]  # fmt: skip


def test_greater_may_be_better() -> None:
    stopping = three(rule("max"), -1.0)
    assert stopping.report(9, 2, -0.79) == ""
    told = "loss -0.81 at best by step 2 is worse than the median -0.795 of 4 trials"
    assert stopping.report(8, 2, -0.81) == told


def test_the_percentile_rule_compares_best_values() -> None:
    """Bests at step 2 are 0.6, 0.7, 0.8, the lower quarter of which ends at 0.65."""
    assert three(rule(rule="percentile")).report(9, 2, 0.7) == ""
    assert "the 50 % percentile 0.7 of 3 trials" in three(rule(rule="percentile")).report(9, 2, 0.71)
    strict = three(rule(rule="percentile", percentile=25))
    assert "the 25 % percentile 0.65 of 3 trials" in strict.report(9, 2, 0.66)
    assert three(rule(rule="percentile", percentile=25)).report(9, 2, 0.65) == ""


@pytest.mark.parametrize(("share", "expected"), [(0.5, 2.5), (0.25, 1.75), (0.99, 3.97), (0.1, 1.3)])
def test_quantiles_lie_on_the_line_between_values(share: float, expected: float) -> None:
    assert quantile([1, 2, 3, 4], share) == pytest.approx(expected)
    assert quantile([5], share) == 5


def test_the_grace_is_counted_as_the_model_counts() -> None:
    """From 0 or from 1."""
    stopping = rule(grace=1)
    for trial in range(3):
        feed(stopping, trial, (0.5, 0.5), first=0)
    assert stopping.report(9, 0, 7.0) == ""
    assert stopping.report(9, 1, 7.0)


def test_too_few_others_stop_nobody() -> None:
    """Those that have not come so far don't count, neither does the trial itself."""
    stopping = rule()
    for trial in range(2):
        feed(stopping, trial, (0.5, 0.5))
    feed(stopping, 2, (0.5,))
    assert stopping.report(9, 2, 7.0) == ""
    stopping.report(2, 2, 0.5)
    assert stopping.report(9, 2, 7.0)


def test_trials_that_skip_a_step_have_reached_it_by_the_next_one() -> None:
    stopping = rule()
    for trial in range(3):
        for step in (1, 5):
            stopping.report(trial, step, 1.0 if step == 1 else 0.0)
    assert stopping.report(9, 3, 0.9) == "", "the average up to step 3 is 1"
    assert stopping.report(8, 3, 1.1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_trial_without_a_finite_value_is_hopeless_after_its_grace(bad: float) -> None:
    assert feed(three(rule()), 9, (bad, bad)) == [
        "",
        "loss nan at best by step 2 is worse than the median 0.8 of 3 trials",
    ]


def test_values_that_are_not_finite_count_for_nothing_otherwise() -> None:
    stopping = three(rule())
    assert feed(stopping, 9, (0.5, math.nan, math.inf)) == ["", "", ""], "its best value is still that of step 1"
    for trial in range(20, 30):
        feed(stopping, trial, (math.nan,))
    assert "of 3 trials" in stopping.report(8, 2, 7.0), "neither those with nan alone, nor 9, which reached step 1"


def test_a_training_that_begins_anew_is_judged_anew() -> None:
    stopping = three(rule())
    feed(stopping, 9, (0.1, 0.1))
    assert feed(stopping, 9, (0.95, 0.95))[1], "its first attempt was lost, and its values with it"


def test_a_training_that_goes_on_from_a_checkpoint_keeps_what_it_had_before() -> None:
    stopping = three(rule())
    feed(stopping, 9, (0.1, 3.0, 3.0))
    assert feed(stopping, 9, (3.0, 3.0), first=2) == ["", ""]


def test_what_is_known_for_good_takes_the_place_of_reports() -> None:
    """As after a resume."""
    live, resumed = three(rule()), rule()
    for trial, last in enumerate((0.4, 0.5, 0.6)):
        curve = ((1, last + 0.4), (2, last + 0.2), (3, last))
        live.settle(trial, curve)
        resumed.settle(trial, curve)
    reports = [(9, 1, 0.9), (8, 2, 0.75), (9, 2, 0.805), (9, 3, 0.71), (8, 3, 0.9)]
    answers = [live.report(*each) for each in reports]
    assert answers == [resumed.report(*each) for each in reports]
    assert any(answers) and not all(answers)


def test_noted_values_count_as_reported_ones_do() -> None:
    noting, reporting = three(rule()), three(rule())
    for step, value in ((1, 0.9), (2, 0.7), (3, 0.9)):
        noting.note(8, step, value)
        reporting.report(8, step, value)
    assert noting.report(9, 3, 0.76) == reporting.report(9, 3, 0.76) != ""
    assert noting.report(8, 4, 0.9) == reporting.report(8, 4, 0.9)


def test_the_same_reports_get_the_same_answers() -> None:
    reports = [(n * 7 % 13, step, (n * 31 % 17) / (step + 1)) for step in range(1, 12) for n in range(13)]
    first, second = rule(), rule()
    assert [first.report(*each) for each in reports] == [second.report(*each) for each in reports]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"rule": "medium"}, "early_stopping.rule: 'medium' is not a rule\n    -> did you mean 'median'"),
        ({"percentile": 30.0}, "30 means nothing to the rule median\n    -> leave it out"),
        ({"rule": "percentile", "percentile": 100.0}, "percentile: 100 is no share"),
        ({"grace": -1}, "grace: -1 is below 0"),
        ({"min_trials": 0}, "min_trials: 0 is below 1"),
        ({"pattern": "(?P<step>"}, "'(?P<step>' is no regular expression"),
        ({"pattern": r"(?P<step>\d+)"}, "lacks the group (?P<value>...)\n    -> write it as"),
        ({"pattern": "loss"}, "lacks the group (?P<step>...) and (?P<value>...)"),
    ],
)
def test_settings_that_are_wrong_are_told_with_a_remedy(settings: dict[str, Any], told: str) -> None:
    problems = Problems("experiment.yaml")
    StoppingSettings(**settings).check(problems)
    assert told in problems.text()


def test_settings_that_are_right() -> None:
    problems = Problems("experiment.yaml")
    StoppingSettings().check(problems)
    StoppingSettings("percentile", 10, 0, 1, r"e(?P<step>\d+) (?P<value>\S+)").check(problems)
    assert not problems
