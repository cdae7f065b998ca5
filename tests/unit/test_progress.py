"""The line of a running campaign."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from workflow.journal import State
from workflow.report.progress import Progress
from workflow.trial import Outcome, Trial


@pytest.mark.parametrize("done", [False, True])
def test_what_still_runs_belongs_to_the_trials(done: bool) -> None:
    """Also once the search has asked for all of them."""
    state = State()
    state.trials = {number: Trial(number, number, {}) for number in range(16)}
    state.outcomes = {number: Outcome(number, 1, "ok", 1.0) for number in range(14)}
    campaign: Any = SimpleNamespace(
        state=state, search=SimpleNamespace(done=done, budget=16), running={14: None, 15: None}
    )
    experiment: Any = SimpleNamespace(objective=SimpleNamespace(mode="min"), search=SimpleNamespace(strategy="random"))
    assert Progress(4, experiment)._line(campaign).startswith("14/16 trials, 2 running, 0 failed")
