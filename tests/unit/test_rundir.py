"""Where the files of a run lie."""

from __future__ import annotations

from pathlib import Path

from workflow.rundir import RunDir
from workflow.trial import FIRST_RERUN


def test_attempts_are_found_where_they_are_made(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    attempts = [(0, 1), (42, 2), (12345, 1), (FIRST_RERUN, 1), (FIRST_RERUN + 3, 12)]
    for attempt in attempts:
        run.trial_attempt(*attempt).mkdir(parents=True)
    for other in ("trials/x/attempt-1", "reruns/0001/attempt-x", "trials/0001/data", "preprocess/attempt-1"):
        (tmp_path / other).mkdir(parents=True)
    assert sorted(run.trial_attempts()) == attempts
    assert run.trial_attempt(FIRST_RERUN + 3, 12) == tmp_path / "reruns/0003/attempt-12"


def test_a_rerun_has_checkpoints_of_its_own(tmp_path: Path) -> None:
    """It would go on where the search's training ended."""
    run = RunDir(tmp_path)
    assert run.checkpoints(FIRST_RERUN) != run.checkpoints(0)
