"""The best are trained again with other seeds: real campaigns, killed in between, of a model that uses its seed."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TOY, Workflow, eventually, journal

LUCK = """
import json, os, sys, time
from pathlib import Path
options = dict(zip(sys.argv[3::2], sys.argv[4::2]))
time.sleep(float(options["--sleep"]))
if os.environ.get("REFUSES") and "--seed" in options:
    sys.exit("unrecognized arguments: --seed")
luck = int(options.get("--seed", 0)) * 7919 % 11 / 100
Path(options["--model_outdir"], "val_scores.json").write_text(json.dumps({"mse": float(options["--x"]) ** 2 + luck}))
"""


def begin(workflow: Workflow, sleep: float, **finalists: Any) -> list[str | Path]:
    """The arguments of a run of 8 trials, whose values depend on the seed by up to 0.1."""
    model = workflow.directory / "model"
    model.mkdir()
    for name in ("preprocess.sh", "infer.sh", "toy.py"):
        (model / name).symlink_to(TOY / name)
    (model / "luck.py").write_text(LUCK)
    (model / "train.sh").write_text('#!/bin/bash\nexec python3 -S "$(dirname "$0")/luck.py" "$@"\n')
    (model / "train.sh").chmod(0o755)
    space = [
        {"name": "x", "type": "float", "lower": 0, "upper": 1},
        {"name": "sleep", "type": "constant", "value": sleep},
        {"name": "model_outdir", "type": "constant", "value": "/nowhere"},
    ]
    search = {"strategy": "random", "evaluations": 8}
    experiment = workflow.experiment(
        model={"scripts": str(model)}, space=space, search=search, finalists={"seed_argument": "seed", **finalists}
    )
    return ["--site", "local-threads", "--experiment", experiment, "--output", "run", "--set", "site.workers=4"]


def summary(workflow: Workflow) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((workflow.directory / "run/summary.json").read_text())
    return found


def test_a_controller_killed_in_the_finals_trains_nothing_twice(workflow: Workflow) -> None:
    """Nor does one that is asked for fewer finalists afterwards."""
    run = workflow.directory / "run"
    controller = workflow.start(*begin(workflow, 0.3))
    assert eventually(lambda: len(list(run.glob("reruns/*/attempt-*/result.json"))) >= 2, 60)
    controller.kill()
    controller.communicate()
    done = workflow.run("--resume", "run")
    assert done.returncode == 0, done.stdout
    (finals,) = [record for record in journal(run) if record["type"] == "finals"]
    ended = Counter(record["outcome"]["trial_id"] for record in journal(run) if record["type"] == "outcome")
    assert set(ended.values()) == {1} and {rerun["id"] for rerun in finals["reruns"]} < ended.keys()
    succeeded = [json.loads(path.read_text())["exit_code"] == 0 for path in run.glob("reruns/*/*/result.json")]
    assert sum(succeeded) == 9 == len(list(run.glob("reruns/*")))
    check_summary(done, summary(workflow))
    directories = sorted(run.glob("*/*/attempt-*"))
    assert workflow.run("--resume", "run", "--set", "finalists.count=2").returncode == 0
    assert len(summary(workflow)["finalists"]) == 2
    assert sorted(path for path in run.glob("*/*/attempt-*") if path.parts[-3] != "infer") == directories


def check_summary(done: subprocess.CompletedProcess[str], found: dict[str, Any]) -> None:
    finalists = found["finalists"]
    assert [finalist["mean"] for finalist in finalists] == sorted(finalist["mean"] for finalist in finalists)
    winner = finalists[0]
    assert (winner["trial"], winner["value"]) == (found["best_trial"], found["best_value"])
    assert [rerun["seed"] for rerun in winner["reruns"]] == [1001, 1002, 1003]
    assert found["optimism"] == pytest.approx(winner["mean"] - found["search_best_value"])
    assert found["trials"]["asked"] == 8 and found["test_scores"] == {"mse": 0.5}
    assert "optimism: the search's best" in done.stdout


def test_a_seed_that_the_model_refuses_costs_no_winner_and_is_told(workflow: Workflow) -> None:
    done = workflow.run(*begin(workflow, 0, count=2, repeats=1), env={"REFUSES": "1"})
    assert done.returncode == 0, done.stdout
    assert "no re-run succeeded" in done.stdout and "unrecognized arguments: --seed" in done.stdout
    found = summary(workflow)
    assert found["best_trial"] == found["search_best_trial"] and found["optimism"] is None
