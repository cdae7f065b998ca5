"""Campaigns over PBS: the provider on a server that answers as a real one was recorded, and runs jobs."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Workflow, eventually, journal, results, toy_space
from tests.fake_pbs import FakePbs

SITE: dict[str, Any] = {
    "name": "fake", "scheduler": "pbs", "gpus": 4, "gpu_vendor": "nvidia", "walltime": "10m", "cores_per_node": 8,
    "launcher_bind": "--bind-to", "max_blocks": 2, "status_interval": 1, "heartbeat_period": 2,
    "heartbeat_threshold": 10, "patience": 10, "grace": 1, "poll": 0.2, "account": "12345",
}  # fmt: skip


def on_pbs(workflow: Workflow, *settings: str, until: Path | str = "") -> list[str]:
    (workflow.directory / "fake.yaml").write_text(yaml.safe_dump(SITE))
    workflow.experiment(space=toy_space(1.0, together=8, until=until), search={"strategy": "random", "evaluations": 24})
    changes = [word for setting in settings for word in ("--set", setting)]
    return ["--site", "fake.yaml", "--experiment", "experiment.yaml", "--output", "run", *changes]


def check_all_done(workflow: Workflow, pbs: FakePbs) -> None:
    final = [r["outcome"] for r in journal(workflow.directory / "run") if r["type"] == "outcome"]
    assert sorted(o["trial_id"] for o in final if o["kind"] == "ok") == list(range(24))
    tried = [attempt for attempts in results(workflow.directory / "run").values() for attempt in attempts]
    assert {a["gpu"] for a in tried} == {"0", "1", "2", "3"} and len({a["host"] for a in tried}) == 2
    assert eventually(lambda: not [job for job in pbs.jobs().values() if job["job_state"] != "F"], 20)
    assert eventually(lambda: not workflow.processes(), 20)


@pytest.mark.parametrize("pbs", [{"resources": ("filesystems",)}], indirect=True)
@pytest.mark.parametrize(
    "settings",
    [
        ("site.scheduler_options=[-l filesystems=home]",),
        ("site.nodes_per_block=2", "site.max_blocks=1"),
    ],
    ids=["two blocks", "a block of two nodes"],
)
def test_a_campaign(workflow: Workflow, pbs: FakePbs, settings: tuple[str, ...]) -> None:
    done = workflow.run(*on_pbs(workflow, *settings))
    assert done.returncode == 0, done.stdout
    check_all_done(workflow, pbs)


def test_a_block_that_is_deleted_is_replaced_while_qstat_fails(workflow: Workflow, pbs: FakePbs) -> None:
    run, go = workflow.directory / "run", workflow.directory / "go"
    controller = workflow.start(*on_pbs(workflow, until=go))
    assert eventually(lambda: len(list(run.glob("trials/*/*/argv.json"))) >= 8, 60)
    pbs.fail_next("qstat", 3, 255, "qstat: cannot connect to server login1 (errno=111)")
    job = next(name for name, about in pbs.jobs().items() if about["job_state"] == "R")
    subprocess.run(["qdel", job], check=True)
    go.touch()
    output, _ = controller.communicate(timeout=120)
    assert controller.returncode == 0, output
    check_all_done(workflow, pbs)
