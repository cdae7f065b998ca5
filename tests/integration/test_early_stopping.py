"""A campaign over a model that prints its loss while it trains: hopeless trainings are stopped, and it ends."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.conftest import Workflow, journal, results

TRAIN = """#!/usr/bin/env -S python3 -S
import sys, time

number = int(sys.argv[sys.argv.index("--number") + 1])
hopeless = number % 4 == 3
for epoch in range(40):
    print(f"Epoch {epoch}/40 - loss: 0.1 - val_loss: {2.0 if hopeless else 0.5 + 0.1 / (epoch + 1):.5f}")
    time.sleep(1 if hopeless else 0.01)
print(f"IMPROVE_RESULT val_loss: {0.5 + 1 / (number + 41)}")
"""
"""Every fourth trial is hopeless, and so slow that others have been everywhere before it, also on a busy machine.

The others tell the same values at the same steps: none is worse than their mean, however late it begins.
"""


def outcomes(run: Path) -> dict[int, dict[str, Any]]:
    return {r["outcome"]["trial_id"]: r["outcome"] for r in journal(run) if r["type"] == "outcome"}


def test_hopeless_trainings_are_stopped_and_stay_so_at_a_resume(workflow: Workflow) -> None:
    script = workflow.directory / "train.sh"
    script.write_text(TRAIN)
    script.chmod(0o755)
    experiment = workflow.experiment(
        model={"scripts": str(workflow.directory)},
        stages={"train": {"args": {"number": "{trial}"}}},
        search={"strategy": "random", "evaluations": 10},
        early_stopping={"grace": 1, "min_trials": 3},
    )
    options = ("--set", "site.poll=0.1", "--set", "site.grace=0.5", "--set", "site.workers_without_gpu=4")
    done = workflow.run("--site", "local-threads", "--experiment", experiment, "--output", "run", *options)
    assert done.returncode == 0, done.stdout
    assert "8 trials succeeded, 2 stopped early, 0 failed" in done.stdout
    assert "10/10 trials, 0 running, 0 failed, 2 stopped early | best" in done.stdout
    run = workflow.directory / "run"
    kinds = {number: outcome["kind"] for number, outcome in outcomes(run).items()}
    assert kinds == {number: "stopped" if number % 4 == 3 else "ok" for number in range(10)}
    third = outcomes(run)[3]
    assert re.fullmatch(
        r"stopped early: val_loss 2 at best by step \d+ is worse than the median 0\.\d+ of \d trials", third["evidence"]
    )
    assert third["metrics"] == {"val_loss": 2.0} and third["curve"][0] == [0, 2.0]
    assert len(outcomes(run)[0]["curve"]) == 40
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["trials"]["stopped"], summary["best_trial"]) == (2, 9)

    done = workflow.run("--resume", "run", "--set", "search.evaluations=12", "--set", "early_stopping.min_trials=8")
    assert done.returncode == 0, done.stdout
    assert outcomes(run)[11]["kind"] == "stopped", "by what the trials before the resume have told"
    assert {name: len(attempts) for name, attempts in results(run).items()} == {f"{n:04d}": 1 for n in range(12)}
