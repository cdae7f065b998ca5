"""Who is trained again, with what, and who wins by it."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from workflow.finals import Finalist, FinalistsSettings, Finals, doubt, optimism, rank, reruns_of
from workflow.trial import FIRST_RERUN, Outcome, Trial

SETTINGS = FinalistsSettings(count=2, repeats=2, seed_argument="seed", seed=7)
BEST = [Trial(4, 1, {"x": 0.5, "seed": 7}), Trial(9, 9, {"x": 0.25, "seed": 7}, fidelity=3.0), Trial(2, 2, {"x": 1.0})]


def finalist(trial_id: int, value: float, *reruns: float | None, cause: Any = "model") -> Finalist:
    """With a failed re-run for each None."""
    ids = count(FIRST_RERUN)
    outcomes = [
        Outcome(next(ids), 1, "ok", rerun) if rerun is not None else Outcome(next(ids), 1, "failed", cause=cause)
        for rerun in reruns
    ]
    return Finalist(Outcome(trial_id, 1, "ok", value), [({"seed": n}, outcome) for n, outcome in enumerate(outcomes)])


def test_a_rerun_has_all_of_its_finalist_but_the_seed_and_the_checkpoints() -> None:
    found = reruns_of(BEST, SETTINGS, ())
    ids = list(range(FIRST_RERUN, FIRST_RERUN + 4))
    assert [(trial.id, trial.config_id) for trial in found] == [(number, number) for number in ids]
    assert [trial.params["seed"] for trial in found] == [8, 9, 8, 9]
    assert [trial.params["x"] for trial in found] == [0.5, 0.5, 0.25, 0.25]
    assert [trial.fidelity for trial in found] == [None, None, 3.0, 3.0]
    assert [trial.parents for trial in found] == [(4,), (4,), (9,), (9,)]
    assert all(trial.generation is None for trial in found)


def test_what_is_known_keeps_its_id_and_others_get_new_ones() -> None:
    before = reruns_of(BEST[1:], SETTINGS, ())
    found = reruns_of(BEST, FinalistsSettings(2, 3, "seed", 7), before)
    numbers = [trial.id - FIRST_RERUN for trial in found]
    assert numbers == [4, 5, 6, 0, 1, 7]
    assert found[3:5] == before[:2]


def test_another_seed_argument_asks_for_other_trainings() -> None:
    before = reruns_of(BEST, SETTINGS, ())
    found = reruns_of(BEST, FinalistsSettings(2, 2, "rng_seed"), before)
    assert {trial.id for trial in found}.isdisjoint(trial.id for trial in before)
    assert [trial.params["rng_seed"] for trial in found] == [1001, 1002] * 2


def test_without_a_seed_nothing_is_trained_again() -> None:
    assert reruns_of(BEST, FinalistsSettings(), ()) == []
    assert FinalistsSettings().size == 0 and SETTINGS.size == 4


def test_all_are_asked_for_at_once() -> None:
    trials = reruns_of(BEST, SETTINGS, ())
    finals = Finals(trials)
    assert not finals.done
    assert [finals.ask() for _ in range(4)] == trials
    assert finals.done and finals.ask() is None


@pytest.mark.parametrize(("mode", "winner"), [("min", 2), ("max", 3)])
def test_the_mean_of_the_reruns_decides(mode: str, winner: int) -> None:
    ranked = rank([finalist(1, 0.1, 0.4, 0.6), finalist(2, 0.2, 0.2, 0.4), finalist(3, 0.3, 0.8, 0.8)], mode)
    assert ranked[0].outcome.trial_id == winner
    assert ranked[1].outcome.trial_id == 1


def test_equals_keep_the_order_of_the_search() -> None:
    ranked = rank([finalist(5, 0.1, 0.5, 0.5), finalist(2, 0.2, 0.5, 0.5)], "min")
    assert [each.outcome.trial_id for each in ranked] == [5, 2]


def test_a_failed_rerun_ranks_behind_those_without() -> None:
    one, two, none = finalist(1, 0.1, 0.1, None), finalist(2, 0.2, 0.9, 0.9), finalist(3, 0.3, None, None)
    assert [each.outcome.trial_id for each in rank([none, one, two], "min")] == [2, 1, 3]


def test_what_the_infrastructure_lost_tells_nothing() -> None:
    lost, whole = finalist(1, 0.1, 0.4, None, cause="infrastructure"), finalist(2, 0.2, 0.5, 0.5)
    assert [each.outcome.trial_id for each in rank([whole, lost], "min")] == [1, 2]
    assert lost.failed == 0
    all_lost = finalist(3, 0.3, None, None, cause="infrastructure")
    assert [each.outcome.trial_id for each in rank([all_lost, whole], "min")] == [2, 3]


def test_numbers_of_a_finalist() -> None:
    found = finalist(1, 0.1, 0.4, 0.6, None)
    assert (found.mean, found.failed) == (0.5, 1)
    assert found.std == pytest.approx(0.02**0.5)
    assert (finalist(1, 0.1, 0.4).std, finalist(1, 0.1, None).mean) == (None, None)


@pytest.mark.parametrize(("mode", "gap"), [("min", 0.3), ("max", -0.3)])
def test_optimism_is_what_the_search_promised_too_much(mode: str, gap: float) -> None:
    assert optimism([finalist(1, 0.25, 0.4, 0.6)], 0.2, mode) == pytest.approx(gap)
    assert optimism([finalist(1, 0.25, None)], 0.2, mode) is None
    assert optimism([], 0.2, mode) is None


def test_reruns_that_tell_nothing() -> None:
    assert "no re-run succeeded" in doubt([finalist(1, 0.1, None, None), finalist(2, 0.2, None, None)])
    assert "no use of the seed" in doubt([finalist(1, 0.1, 0.1, 0.1), finalist(2, 0.2, 0.2, 0.2)])
    assert doubt([finalist(1, 0.1, 0.1, 0.1), finalist(2, 0.2, 0.2, 0.3)]) == ""
    assert doubt([finalist(1, 0.1, 0.1, None), finalist(2, 0.2, None, None)]) == ""
    assert doubt([]) == ""
