"""The lab itself: what the other tests take from a Slurm is so in this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests import slurm_lab
from tests.conftest import ROOT, eventually
from tests.slurm_lab import Job, LabError, SlurmLab


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A short one: a lab's sockets lie below its directory."""
    with tempfile.TemporaryDirectory(prefix="lab") as directory:
        yield Path(directory)


GPUS = 'echo "$(hostname) job=$SLURM_JOB_GPUS step=$SLURM_STEP_GPUS cuda=$CUDA_VISIBLE_DEVICES"'


class Batch:
    """A batch job of these lines, in a directory of its own."""

    def __init__(self, lab: SlurmLab, directory: Path, lines: str, *options: str) -> None:
        script, self.output = directory / "job.sh", directory / "output"
        script.write_text(f"#!/bin/bash\n{lines}\n")
        self.lab = lab
        self.id = lab.run("sbatch", "--parsable", f"--output={self.output}", *options, str(script)).strip()

    def job(self) -> Job:
        return next(job for job in self.lab.jobs(ended=True) if job.id == self.id)

    def comes_to(self, state: str) -> bool:
        return eventually(lambda: self.job().state == state, 60)

    def lines(self) -> list[str]:
        return self.output.read_text().splitlines() if self.output.exists() else []


def names(pids: list[int]) -> list[str]:
    return [process.name() for process in psutil.process_iter() if process.pid in pids]


def sleeper(lab: SlurmLab, directory: Path, *options: str) -> Batch:
    batch = Batch(lab, directory, "sleep 300", *options)
    assert batch.comes_to("RUNNING")
    return batch


def test_two_nodes_of_four_gpus_are_idle(slurm: SlurmLab) -> None:
    nodes = slurm.run("sinfo", "--noheader", "--Node", "--partition=gpu", "--format=%N %T %c %G").splitlines()
    assert nodes == ["n1 idle 16 gpu:fake:4", "n2 idle 16 gpu:fake:4"]
    assert slurm.jobs() == []


def test_a_job_and_its_steps_see_the_nodes_own_gpu_numbers(slurm: SlurmLab, tmp_path: Path) -> None:
    sleeper(slurm, tmp_path, "--nodelist=n1", "--gpus-per-node=2")
    two = Batch(slurm, tmp_path, f"{GPUS}\nsrun --label bash -c '{GPUS}'", "--nodes=2", "--gres=gpu:2")
    assert two.comes_to("COMPLETED")
    script, *steps = two.lines()
    assert script == "n1 job=2,3 step= cuda=2,3"
    assert sorted(steps) == ["0: n1 job=2,3 step=2,3 cuda=2,3", "1: n2 job=2,3 step=0,1 cuda=0,1"]


def test_a_job_without_gpus_sees_none_and_waits_where_all_are_taken(slurm: SlurmLab, tmp_path: Path) -> None:
    sleeper(slurm, tmp_path, "--nodes=2", "--gpus-per-node=4")
    waiting = Batch(slurm, tmp_path, "true", "--gpus-per-node=1")
    without = Batch(slurm, tmp_path, GPUS, "--nodelist=n2")
    assert without.comes_to("COMPLETED")
    assert without.lines() == ["n2 job= step= cuda="]
    assert waiting.job().state == "PENDING"


def test_interactive_steps_reach_both_nodes(slurm: SlurmLab) -> None:
    assert sorted(slurm.run("srun", "--nodes=2", "hostname").split()) == ["n1", "n2"]


def test_torque_commands_talk_to_the_lab(slurm: SlurmLab, tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/bash\nsleep 300\n")
    slurm.run("qsub", "-N", "torque", str(script), cwd=tmp_path)
    assert [job.name for job in slurm.jobs()] == ["torque"]
    assert "torque" in slurm.run("qstat")


def test_a_crash_ends_all_that_runs_on_the_node(slurm: SlurmLab, tmp_path: Path) -> None:
    lost = sleeper(slurm, tmp_path, "--nodelist=n1", "--no-requeue")
    kept = sleeper(slurm, tmp_path, "--nodelist=n2")
    assert eventually(lambda: "sleep" in names(slurm.node_pids("n1")), 20), "its job runs before its script does"
    pids = slurm.node_pids("n1")
    slurm.crash("n1", noticed=True)
    assert not [pid for pid in pids if psutil.pid_exists(pid)] and slurm.node_pids("n1") == []
    assert lost.comes_to("NODE_FAIL") and kept.job().state == "RUNNING"

    slurm.restart("n1")
    assert slurm.run("srun", "--nodelist=n1", "hostname") == "n1\n"


def test_a_frozen_node_does_nothing_until_it_thaws(slurm: SlurmLab, tmp_path: Path) -> None:
    beats = Batch(slurm, tmp_path, "while sleep 0.1; do echo beat; done", "--nodelist=n2")
    assert eventually(lambda: len(beats.lines()) > 2, 20)
    slurm.freeze("n2")
    states = {psutil.Process(pid).status() for pid in slurm.node_pids("n2")}
    assert psutil.STATUS_STOPPED in states <= {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}
    before = len(beats.lines())
    assert not eventually(lambda: len(beats.lines()) > before, 1)
    slurm.thaw("n2")
    assert eventually(lambda: len(beats.lines()) > before + 2, 20)


def test_jobs_outlive_the_controller(slurm: SlurmLab, tmp_path: Path) -> None:
    survivor = Batch(slurm, tmp_path, f"while [ ! -e {tmp_path}/end ]; do sleep 0.1; echo beat; done")
    assert eventually(lambda: len(survivor.lines()) > 0, 20)
    slurm.stop_controller()
    with pytest.raises(LabError, match="ctl is DOWN"):
        slurm.run("scontrol", "ping")
    before = len(survivor.lines())
    assert eventually(lambda: len(survivor.lines()) > before + 2, 20)
    slurm.start_controller()
    assert survivor.job().state == "RUNNING"
    (tmp_path / "end").touch()
    assert survivor.comes_to("COMPLETED")


def test_two_labs_do_not_meet_and_nothing_outlives_stop(slurm: SlurmLab, tmp_path: Path) -> None:
    with SlurmLab(tmp_path / "lab", nodes=1) as other:
        sleeper(other, tmp_path)
        assert slurm.jobs() == []
        other.freeze("n1")
        pids = other.all_pids()
    assert len(pids) > 10
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    assert slurm.run("sinfo", "--noheader", "--partition=gpu", "--format=%D %T") == "2 idle\n"


def test_nothing_outlives_a_killed_test_process(tmp_path: Path) -> None:
    program = f"""
import json, time
from pathlib import Path
from tests.slurm_lab import SlurmLab
lab = SlurmLab(Path({str(tmp_path / "lab")!r}))
lab.start()
orphan = "setsid sh -c 'touch begun; exec sleep 300' <>/dev/null >&0 2>&0 & until [ -e begun ]; do sleep 0.1; done"
lab.run("srun", "bash", "-c", orphan, cwd=lab.directory)  # it leaves its group
print(json.dumps(lab.all_pids()), flush=True)
time.sleep(300)
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout
        pids = json.loads(process.stdout.readline())
        orphans = [pid for pid in pids if psutil.Process(pid).name() == "sleep"]
        process.kill()
    assert len(pids) > 10 and len(orphans) == 1
    assert eventually(lambda: not [pid for pid in pids if psutil.pid_exists(pid)], 20)


def test_a_missing_slurm_is_told_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_lab, "_PATH", "/nowhere")
    with pytest.raises(LabError, match=r"no munged, slurmctld, .* here: run scripts/install_test_parts.sh slurm"):
        SlurmLab(tmp_path / "lab").start()
    assert not (tmp_path / "lab").exists()


def test_a_daemon_that_does_not_start_is_told_with_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_lab, "_CONF", slurm_lab._CONF + "NoSuchKey=1\n")
    with pytest.raises(LabError, match=r"(?s)ctl has ended; the end of .*/log/ctl.log:.*NoSuchKey"):
        SlurmLab(tmp_path / "lab").start()


@pytest.mark.parametrize("name", ["a" * 80, "with blank", "n[1]"])
def test_directories_that_slurm_cannot_use(name: str) -> None:
    with pytest.raises(ValueError, match="directory of the lab"):
        SlurmLab(Path("/tmp") / name)
