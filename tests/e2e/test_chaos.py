"""A campaign of a model that does what it can to fail, on workers that are killed all the time, loses nothing.

``WORKFLOW_FULL=1 python -m pytest tests/e2e/test_chaos.py`` causes 200 faults.
"""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from tests.conftest import FULL, ROOT, Workflow, command_line, eventually, journal, results

FAULTS = 200 if FULL else 16
SITE = {"heartbeat_period": 1, "heartbeat_threshold": 4, "patience": 6, "poll": 0.2, "grace": 0.5, "workers": 3}
SPACE = [
    {"name": "x", "type": "float", "lower": 0, "upper": 1},
    {"name": "model_outdir", "type": "constant", "value": "/nowhere/shared"},
]


class Chaos:
    """Kills what belongs to a campaign at random, and leads it on by ``--resume`` whenever its controller has ended."""

    def __init__(self, flow: Workflow, seed: int) -> None:
        self.flow = flow
        self.rng = random.Random(seed)
        self.run = flow.directory / "run"
        self.controller: subprocess.Popen[str] | None = None
        self.faults: Counter[str] = Counter()
        self.output: list[str] = []

    def lead(self) -> subprocess.Popen[str]:
        """The living controller; a new one if it has ended."""
        if self.controller is None or self.controller.poll() is not None:
            self._collect()
            begun = (self.run / "journal.jsonl").exists()
            arguments = ["--resume", self.run] if begun else self._begin()
            self.controller = self.flow.start(*arguments)
        return self.controller

    def _begin(self) -> list[str | Path]:
        experiment = self.flow.experiment(
            model={"scripts": str(ROOT / "tests" / "models" / "chaos")},
            stages={"train": {"timeout": "3s"}},
            space=SPACE,
            search={"num_iterations": 6 + FAULTS // 3, "population_size": 16, "seed": 3},
            max_attempts=1000, same_failures=0,
        )  # fmt: skip
        settings = [word for key, value in SITE.items() for word in ("--set", f"site.{key}={value}")]
        return ["--site", "local", "--experiment", experiment, "--output", self.run, *settings]

    def _collect(self) -> None:
        if self.controller is not None:
            output, _ = self.controller.communicate()
            own = output.partition("ended before they registered: ")[0]  # then comes what Parsl's killed pool wrote
            assert "Traceback" not in own, output
            assert self.controller.returncode in (0, 3, -9), output
            self.output.append(output)

    def fault(self) -> None:
        """Wait a moment, then kill -9 one process of a kind drawn at random."""
        controller = self.lead()
        time.sleep(self.rng.uniform(0.2, 2.5))
        kind = self.rng.choices(["worker", "manager", "interchange", "controller"], [4, 2, 1, 2])[0]
        victims = {
            "worker": self.flow.workers,
            "manager": self.flow.managers,
            "interchange": self.flow.interchanges,
            "controller": lambda: [psutil.Process(controller.pid)] if controller.poll() is None else [],
        }[kind]()
        if victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                self.rng.choice(victims).kill()
                self.faults[kind] += 1

    def finish(self) -> None:
        """Lead the campaign to its end, with faults no more."""
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline:
            code = self.lead().wait(600)
            if code == 0:
                return self._collect()
        raise AssertionError("the campaign does not end")


@pytest.mark.parametrize("seed", [1])
def test_chaos(workflow: Workflow, seed: int) -> None:
    chaos = Chaos(workflow, seed)
    while sum(chaos.faults.values()) < FAULTS:
        chaos.fault()
    chaos.finish()
    print(dict(chaos.faults), len(results(chaos.run)), "trials", len(chaos.output), "controllers")
    assert eventually(lambda: not workflow.processes(), 30), list(map(command_line, workflow.processes()))
    check_ids_and_outcomes(chaos.run)
    check_no_finished_trial_ran_twice(chaos.run)
    check_best(chaos.run)


def check_ids_and_outcomes(run: Path) -> None:
    """Every trial has exactly one final outcome, and says why."""
    records = journal(run)
    asked = [r["trial"]["id"] for r in records if r["type"] == "asked"]
    assert sorted(asked) == list(range(len(asked)))
    final = [r["outcome"] for r in records if r["type"] == "outcome" and r["outcome"]["kind"] in ("ok", "failed")]
    assert sorted(outcome["trial_id"] for outcome in final) == sorted(asked)
    assert all(outcome["evidence"] for outcome in final if outcome["kind"] == "failed")


def check_no_finished_trial_ran_twice(run: Path) -> None:
    for trial, attempts in results(run).items():
        ends = [(attempt["ended_by"], attempt["exit_code"]) for attempt in attempts]
        finished = [end for end in ends if end in (("exit", 0), ("exit", 1), ("timeout after 3 s", None))]
        assert len(finished) == 1 and finished[0] == ends[-1], (trial, ends)


def check_best(run: Path) -> None:
    """The best value is the best of all that any trial has left."""
    found = []
    for path in (run / "trials").glob("*/attempt-*/result.json"):
        result = json.loads(path.read_text())
        with contextlib.suppress(ValueError, KeyError):
            if result["exit_code"] == 0:
                found.append(json.loads(result["scores"]["val_scores.json"])["mse"])
    assert json.loads((run / "summary.json").read_text())["best_value"] == min(found)
