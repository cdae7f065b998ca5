"""Variables that people set for themselves change nothing about what schedulers are asked and told."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest
import yaml
from parsl.jobs.states import JobState, JobStatus

from workflow.cluster.allocation import find_allocation
from workflow.cluster.batch import Batch
from workflow.cluster.commands import overriding, plain_environ, user_name
from workflow.cluster.providers import SteadySlurm, provider
from workflow.site import load_site

MINE = {"SQUEUE_PARTITION": "short", "SCANCEL_STATE": "PENDING", "SLURM_TIME_FORMAT": "relative", "SACCT_LOCAL": "1"}
KEPT = {"SLURM_CONF": "/etc/slurm.conf", "SLURM_CLUSTERS": "a", "PBS_DEFAULT": "server", "PATH": "/usr/bin"}


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with the environment that the last command of Slurm was called with."""
    said = tmp_path / "environment"
    for name in ("squeue", "sbatch"):
        script = f'echo "$0 $@" > {said}; env >> {said}; echo Submitted batch job 7'
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return said


@pytest.fixture
def slurm(tmp_path: Path, shown: Path, monkeypatch: pytest.MonkeyPatch) -> SteadySlurm:
    for name, value in {**MINE, "SBATCH_TIMELIMIT": "1", "SBATCH_PARTITION": "short", "LOGNAME": "nobody"}.items():
        monkeypatch.setenv(name, value)
    site = {"scheduler": "slurm", "gpus": 1, "partition": "gpu"}
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(site))
    made = provider(load_site(tmp_path / "site.yaml", {}), "workflow-test")
    assert isinstance(made, SteadySlurm)
    made.script_dir = str(tmp_path)
    return made


def test_only_what_changes_the_meaning_is_left_out() -> None:
    assert plain_environ({**MINE, **KEPT}) == KEPT


def test_squeue_hears_of_no_filter_and_of_the_real_user(
    slurm: SteadySlurm, shown: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert slurm.named_jobs() == []
    text = shown.read_text()
    assert "--user=4711" in text and "SQUEUE_PARTITION" not in text and "SLURM_TIME_FORMAT" not in text


def test_sbatch_hears_nothing_that_wins_over_the_script(slurm: SteadySlurm, shown: Path) -> None:
    assert slurm.submit("true", 1) == "7"
    assert "SBATCH_" not in shown.read_text()


def test_what_neither_site_nor_script_say_is_the_users() -> None:
    environ = {"SBATCH_ACCOUNT": "mine", "SBATCH_QOS": "high", "SBATCH_WAIT": "1", "SBATCH_EXPORT": "NONE", "HOME": "/"}
    assert overriding(Batch(qos="low"), environ) == ["SBATCH_QOS", "SBATCH_WAIT"]


def test_the_user_is_the_process_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "nobody")
    monkeypatch.setenv("USER", "nobody")
    assert user_name() == pwd.getpwuid(os.getuid()).pw_name


def test_the_end_of_an_allocation_is_asked_for_in_the_usual_format(
    shown: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_TIME_FORMAT", "relative")
    find_allocation({"SLURM_JOB_ID": "7"})
    assert "SLURM_TIME_FORMAT" not in shown.read_text()


def test_a_scheduler_that_does_not_answer_is_told_once(
    slurm: SteadySlurm, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Until it says something else, or has answered in between."""
    slurm.resources["7"] = {"status": JobStatus(JobState.RUNNING)}
    for said in ("down", "down", "refused", "", "refused"):
        script = f"[ -z '{said}' ] && exit; printf 'squeue: {said}\\n\\n' >&2; exit 1"
        (tmp_path / "squeue").write_text(f"#!/bin/bash\n{script}\n")
        slurm._ask(["7"])
    told = [record.getMessage() for record in caplog.records]
    assert told == [f"squeue: exit code 1: squeue: {said}" for said in ("down", "refused", "refused")]
