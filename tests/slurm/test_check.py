"""The check of a site on a real Slurm: what it says of the site, and the model's stages in a job."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Workflow
from tests.slurm_lab import Job, SlurmLab

SITE = {
    "scheduler": "slurm", "partition": "gpu", "gpus": 2, "cores_per_node": 2, "walltime": "5m", "interface": "lo",
    "status_interval": 1, "heartbeat_period": 2, "heartbeat_threshold": 10, "grace": 1,
}  # fmt: skip


def check(workflow: Workflow, slurm: SlurmLab, *arguments: str, **changes: Any) -> tuple[int, list[dict[str, str]]]:
    """Exit code and findings of the check on the lab's site with ``changes``."""
    site = workflow.directory / "lab.yaml"
    site.write_text(yaml.safe_dump({**SITE, **changes}))
    command = ["--site", site, "--experiment", workflow.experiment(), "--json", *arguments]
    done = workflow.run(*command, module="workflow.check", env=slurm.env, stderr=subprocess.DEVNULL)
    return done.returncode, json.loads(done.stdout)["findings"]


def own_jobs(slurm: SlurmLab, *, ended: bool = False) -> list[Job]:
    return [job for job in slurm.jobs(ended=ended) if job.name.startswith("workflow-")]


def test_a_good_site_passes(workflow: Workflow, slurm: SlurmLab) -> None:
    before = own_jobs(slurm, ended=True)
    code, findings = check(workflow, slurm, "--fast")
    assert code == 0, findings
    passed = {finding["subject"]: finding["text"] for finding in findings if finding["level"] == "pass"}
    assert {"sbatch", "squeue", "scancel", "sinfo", "interface"} <= passed.keys()
    assert passed["partition"] == "gpu: 2 nodes, jobs without limit"
    assert own_jobs(slurm, ended=True) == before


@pytest.mark.parametrize(
    ("changes", "text", "remedy"),
    [
        ({"partition": "gpus"}, "gpus is not known here", "did you mean 'gpu'? known: gpu, short: set site.partition"),
        (
            {"partition": "short"}, "short admits jobs of 00:01:00, and walltime is 00:05:00",
            "set site.walltime to 00:01:00 at most, or use gpu",
        ),
        ({"nodes_per_block": 3}, "gpu has 2 nodes, and nodes_per_block is 3", "set site.nodes_per_block to 2"),
    ],
)  # fmt: skip
def test_what_slurm_would_refuse(
    workflow: Workflow, slurm: SlurmLab, changes: dict[str, Any], text: str, remedy: str
) -> None:
    code, findings = check(workflow, slurm, "--fast", **changes)
    assert code == 1
    (finding,) = [finding for finding in findings if finding["level"] == "fail"]
    assert finding["subject"] == "partition"
    assert finding["text"] == text and remedy in finding["remedy"]


def test_the_stages_run_in_a_job(workflow: Workflow, slurm: SlurmLab, tmp_path: Path) -> None:
    """On a GPU that the scheduler gave: the first two of a node are another job's."""
    for node in slurm.nodes:
        script = tmp_path / f"{node}.sh"
        script.write_text("#!/bin/bash\nsleep 300\n")
        slurm.run("sbatch", "--output=/dev/null", f"--nodelist={node}", "--gpus-per-node=2", str(script))
    before = {job.id for job in own_jobs(slurm, ended=True)}
    code, findings = check(workflow, slurm)
    assert code == 0, findings
    said = {finding["subject"]: finding for finding in findings}
    assert all(said[stage]["level"] == "pass" for stage in ("preprocess", "train", "infer"))
    words = said["GPU"]["text"].split()
    assert words[:5] == ["the", "training", "was", "given", "GPU"]
    assert words[5] in ("2", "3") and words[7].rstrip(";") in slurm.nodes
    (job,) = (job for job in own_jobs(slurm, ended=True) if job.id not in before)
    assert job.state in ("COMPLETING", "CANCELLED")
