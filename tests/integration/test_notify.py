"""Campaigns that tell the user's command of their first success and of their end."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.conftest import Workflow
from tests.integration.test_run import model

SMALL = {"num_iterations": 1, "population_size": 4}
TELL = ["sh", "-c", 'cat > "$TOLD/$WORKFLOW_EVENT"']
"""In files of their own: each is told by a process of its own."""


def run(workflow: Workflow, *arguments: str | Path, **changes: Any) -> subprocess.CompletedProcess[str]:
    experiment = workflow.experiment(**{"search": SMALL, "notify": {"command": TELL}, **changes})
    settings = ("--site", "local-threads", "--experiment", experiment, "--output", "run")
    (workflow.directory / "told").mkdir(exist_ok=True)
    return workflow.run(*settings, *arguments, env={"TOLD": str(workflow.directory / "told")})


def told(workflow: Workflow) -> dict[str, dict[str, Any]]:
    return {path.name: json.loads(path.read_text()) for path in (workflow.directory / "told").iterdir()}


def test_the_first_success_and_the_end_are_told_once(workflow: Workflow) -> None:
    done = run(workflow)
    assert done.returncode == 0 and "warning" not in done.stdout, done.stdout
    assert told(workflow).keys() == {"first_success", "end"}
    first, end = told(workflow)["first_success"], told(workflow)["end"]
    summary = json.loads((workflow.directory / "run/summary.json").read_text())
    assert first["text"].startswith(f"run: trial {first['trial']} is the first to succeed, val_loss ")
    assert (end["best_trial"], end["test_scores"]) == (summary["best_trial"], {"mse": 0.5})
    assert end["directory"] == str(workflow.directory / "run") and end["trials"]["ok"] == 4


def test_a_failure_is_told_with_its_reason(workflow: Workflow) -> None:
    done = run(workflow, model=model(workflow, preprocess="echo no data >&2; exit 1"))
    assert done.returncode == 5
    (failure,) = told(workflow).values()
    assert failure["event"] == "failure" and failure["reason"].startswith("preprocess failed")
    assert "no data" in failure["text"] and "\n" not in failure["text"]


def test_what_would_be_told_is_in_the_dry_run_and_bad_settings_start_nothing(workflow: Workflow) -> None:
    done = run(workflow, "--dry-run")
    assert "# notify on end, failure, first_success: JSON on standard input of /" in done.stdout
    done = run(workflow, notify={"command": ["no-such-program"]})
    assert done.returncode == 2 and "no-such-program" in done.stdout
    assert not (workflow.directory / "run").exists() and not told(workflow)
