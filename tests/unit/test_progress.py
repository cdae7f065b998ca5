"""The line of a running campaign."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from tests.conftest import toy_experiment
from workflow.budgets import Budgets
from workflow.config import load_experiment
from workflow.journal import State
from workflow.report.progress import Progress
from workflow.trial import FIRST_RERUN, Outcome, Trial


@pytest.mark.parametrize("done", [False, True])
def test_what_still_runs_belongs_to_the_trials(tmp_path: Path, done: bool) -> None:
    """Also once the search has asked for all of them."""
    data = toy_experiment(search={"strategy": "random", "evaluations": 16})
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(data))
    state = State()
    state.trials = {number: Trial(number, number, {}) for number in range(16)}
    state.outcomes = {number: Outcome(number, 1, "ok", 1.0) for number in range(14)}
    search, plan = SimpleNamespace(done=done, budget=16), SimpleNamespace(budgets=Budgets())
    campaign: Any = SimpleNamespace(state=state, search=search, plan=plan, running={14: None, 15: None})
    progress = Progress(4, load_experiment(tmp_path / "e.yaml", {}))
    assert progress._line(campaign).startswith("14/16 trials, 2 running, 0 failed")


def test_reruns_are_counted_beside_the_trials(tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(toy_experiment()))
    state = State(finals=[FIRST_RERUN, FIRST_RERUN + 1])
    state.trials, state.outcomes = {0: Trial(0, 0, {})}, {0: Outcome(0, 1, "ok", 1.0)}
    state.rerun_outcomes = {FIRST_RERUN + 1: Outcome(FIRST_RERUN + 1, 1, "ok", 2.0)}
    search, plan = SimpleNamespace(done=True, budget=1), SimpleNamespace(budgets=Budgets())
    campaign: Any = SimpleNamespace(state=state, search=search, plan=plan, running={FIRST_RERUN: None})
    line = Progress(4, load_experiment(tmp_path / "e.yaml", {}))._line(campaign)
    assert line == "gen 0/3 | 1/1 trials, 1 running, 0 failed | 1/2 re-runs | best 1 (#0)"
