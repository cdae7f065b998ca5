"""The keys of a site file that describe jobs, and the limits of queues."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from workflow.cluster.batch import clock
from workflow.cluster.executors import block_end
from workflow.cluster.providers import block_script
from workflow.errors import InputError, OutOfTime
from workflow.rundir import RunDir
from workflow.site import Site, load_site
from workflow.submit import job_script

SLURM: dict[str, Any] = {"scheduler": "slurm", "gpus": 4, "gpu_vendor": "nvidia"}


def load(directory: Path, **changes: Any) -> Site:
    path = directory / "here.yaml"
    path.write_text(yaml.safe_dump({**SLURM, **changes}))
    return load_site(path, {})


def refusal(directory: Path, **changes: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(directory, **changes)
    return str(caught.value)


FULL: dict[str, Any] = {
    "scheduler": "pbs", "gpus": 4, "account": "$MINE", "queue": "debug", "nodes_per_block": 2, "min_blocks": 1,
    "max_blocks": 3, "walltime": "01:30:00", "cores_per_node": 32, "launcher_options": "--ppn 1", "modules": ["x"],
    "worker_init": "ulimit -c 0", "proxy": "http://proxy:3128", "scheduler_options": ["-l filesystems=home"],
    "select_options": "ngpus=4", "interface": "hsn0", "status_interval": 5, "scratch": "/tmp/$USER",
    "gpus_per_trial": 2, "queues": {"debug": {"max_nodes": 2, "walltime": "2h", "verified": "no"}},
}  # fmt: skip


def test_a_site_is_written_as_it_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "a$b")
    site = load(tmp_path, **FULL)
    assert site.batch is not None and site.batch.account == "a$b" and site.batch.walltime == 5400
    monkeypatch.delenv("MINE")
    again = tmp_path / "again.yaml"
    again.write_text(site.to_yaml())
    assert load_site(again, {}) == site


def test_capacity_is_that_of_all_blocks(tmp_path: Path) -> None:
    site = load(tmp_path, nodes_per_block=2, max_blocks=3)
    assert (site.node_count, site.workers, site.capacity) == (6, 4, 24)
    assert load(tmp_path, gpus_per_trial=2).workers == 2
    assert load(tmp_path, trials_per_gpu=3).workers == 12


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"account": "${NO_SUCH}"}, "account: '${NO_SUCH}' needs the environment variable NO_SUCH, which is not set"),
        ({"gpus": None}, "gpus: is missing"),
        ({"gpus": "auto"}, "gpus: 'auto' cannot be found out before a job runs"),
        ({"walltime": "30s"}, "walltime: '30s' is not allowed\n    -> write at least 1m"),
        ({"walltime": "soon"}, "walltime: 'soon' is not allowed"),
        ({"min_blocks": 2}, "min_blocks: 2 is not allowed\n    -> write at most max_blocks, 1"),
        (
            {"launcher": "single", "nodes_per_block": 2},
            "launcher: 'single' is not allowed\n    -> write srun or mpiexec",
        ),
        ({"launcher": "srum"}, "did you mean 'srun'?"),
        ({"gpus_per_trial": 3}, "gpus_per_trial: 3 is not allowed\n    -> write a divisor of the number of GPUs, 4"),
        ({"gpus_per_trial": 2, "trials_per_gpu": 2}, "leave gpus_per_trial or trials_per_gpu at 1"),
        ({"partition": "a", "queue": "b"}, "write partition or queue, not both"),
        ({"scheduler_options": ["mail-type=END"]}, "write one option of sbatch or qsub each"),
        ({"queues": {"debug": {"max_node": 3}}}, "queues.debug.max_node: is not a known key\n    -> did you mean"),
        ({"walltime": 1e300}, "walltime: 1e+300 is not allowed\n    -> write a time such as"),
        ({"walltime": 3.2e7}, "walltime: 32000000.0 is not allowed\n    -> write at most 366d"),
        (
            {"scheduler_options": ["--mail-type=END\nrm -rf x"]},
            "'--mail-type=END\\nrm -rf x' is not allowed",
        ),
        ({"partition": "a\nb"}, "partition: 'a\\nb' is not allowed\n    -> write one line"),
        ({"modules": ["cuda\r"]}, "modules: 'cuda\\r' is not allowed\n    -> write one line"),
        ({"gpu_mask": "A B"}, "gpu_mask: 'A B' is not allowed\n    -> write the name of an environment variable"),
        ({"gpu_unset": ["1A"]}, "gpu_unset: '1A' is not allowed"),
        ({"gpus": ["0,1", "2,3"]}, "gpus: '0,1' is not allowed\n    -> write each name by itself"),
        (
            {"queues": {"q": {"min_nodes": 4, "max_nodes": 1}}},
            "queues.q.max_nodes: 1 is not allowed",
        ),
        ({"walltme": "1h"}, "walltme: is not a known key\n    -> did you mean 'walltime'?"),
    ],
)
def test_what_is_wrong_is_named_with_the_remedy(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    assert said in refusal(tmp_path, **changes)


def test_a_personal_value_that_is_empty_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "")
    said = "account: '$MINE' needs the environment variable MINE, which is empty\n    -> export MINE="
    assert said in refusal(tmp_path, account="$MINE")


QUEUES = {
    "debug": {"max_nodes": 2, "walltime": "1h", "verified": "2026-11"},
    "prod": {"min_nodes": 10, "max_nodes": 24, "walltime": "3h"},
    "preemptable": {"max_nodes": 10, "walltime": "72h", "max_jobs": 20},
}


@pytest.mark.parametrize(
    ("changes", "objection"),
    [
        ({"walltime": "2h"}, "walltime 02:00:00 is above its 01:00:00"),
        ({"nodes_per_block": 4}, "nodes_per_block 4 is above its 2 nodes"),
        ({"queue": "prod"}, "nodes_per_block 1 is below its 10 nodes"),
    ],
)
def test_a_request_outside_a_queues_limits_is_refused_with_a_better_one(
    tmp_path: Path, changes: dict[str, Any], objection: str
) -> None:
    message = refusal(tmp_path, **{"queue": "debug", "queues": QUEUES, **changes})
    assert objection in message
    assert "use " in message and "preemptable" in message.partition("->")[2]


def test_too_many_jobs_at_a_time_are_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, queue="preemptable", queues=QUEUES, max_blocks=21)
    assert "max_blocks 21 is above the 20 jobs that it runs for one user" in message


def test_a_request_that_no_queue_admits_lists_all(tmp_path: Path) -> None:
    message = refusal(tmp_path, queue="debug", queues=QUEUES, walltime="100h")
    assert "known queues: debug (1 to 2 nodes for at most 01:00:00 (verified: 2026-11)); preemptable" in message


@pytest.mark.parametrize(("seconds", "text"), [(60, "00:01:00"), (5439, "01:30:00"), (72 * 3600, "72:00:00")])
def test_times_are_in_whole_minutes(seconds: float, text: str) -> None:
    """Parsl cuts seconds off for Slurm; a time of 0 would be no limit at all."""
    assert clock(seconds) == text


def said_by_a_block(site: Site, command: str, **env: str) -> str:
    """What a block's script prints where its node runs ``command``."""
    script = block_script(site, command)
    return subprocess.run(["bash", "-c", script], env={**os.environ, **env}, capture_output=True, text=True).stdout


def test_a_block_ends_a_walltime_after_its_scripts_first_line(tmp_path: Path) -> None:
    """Whatever modules and worker_init take; the clock of this one stands still at 0."""
    site = load(tmp_path, scheduler="torque", walltime="2h", worker_init="date() { echo 0; }")
    before = int(time.time())
    end = int(re.findall(r"END (\d+)", said_by_a_block(site, f"echo END {block_end(site, None)}"))[0])
    assert before + 7200 <= end <= time.time() + 7200


def test_slurm_knows_best_when_a_block_ends(tmp_path: Path) -> None:
    site = load(tmp_path, scheduler="torque")
    assert "END 77\n" in said_by_a_block(site, f"echo END {block_end(site, None)}", SLURM_JOB_END_TIME="77")


@pytest.mark.parametrize(
    ("module", "goes_on"),
    [
        ("module() { return 0; }", True),
        ("module() { echo unknown module >&2; return 1; }", False),
        ("module() { LOADEDMODULES=gcc/12:cuda/12.1; return 1; }", True),
        (":", False),
    ],
    ids=["loaded", "refused", "loaded with a bad exit code", "no module command"],
)
def test_a_block_ends_where_its_modules_cannot_be_loaded(tmp_path: Path, module: str, goes_on: bool) -> None:
    site = load(tmp_path, modules=["use /opt/modules", "cuda"], proxy="http://a b")
    assert site.batch is not None
    done = subprocess.run(
        ["bash", "-c", f"{module}\n{site.batch.beginning}\necho $http_proxy"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == ((0, "http://a b\n") if goes_on else (1, ""))
    assert goes_on or done.stderr.endswith("module load cuda failed\n")


def test_tiles_are_asked_for_as_gpus(tmp_path: Path) -> None:
    site = load(tmp_path, gpu_vendor="intel", gpus=["0.0", "0.1", "1.0", "1.1"])
    assert site.workers == 4
    assert "#SBATCH --gpus-per-node=2\n" in job_script(site, RunDir(Path("/runs/mine")))
    assert "#SBATCH --gpus-per-node=2\n" in block_script(site, "true")


def test_the_job_of_a_whole_campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "project")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir("/")
    script = job_script(load(tmp_path, **FULL), RunDir(Path("/runs/mine")))
    assert script.splitlines()[:14] == [
        "#!/bin/bash",
        "#PBS -N workflow-mine",
        "#PBS -o /runs/mine/",
        "#PBS -j oe",
        "#PBS -k doe",
        "#PBS -r n",
        "#PBS -q debug",
        "#PBS -A project",
        "#PBS -l select=2:ncpus=32:ngpus=4",
        "#PBS -l walltime=01:30:00",
        "#PBS -l place=scatter",
        "#PBS -l filesystems=home",
        "",
        "module load x || [[ \":${LOADEDMODULES:-}:\" == *:x[:/]* ]] || { echo 'module load x failed' >&2; exit 1; }",
    ]
    assert "qsub -v WORKFLOW_CHAIN=$((WORKFLOW_CHAIN - 1)) /runs/mine/job.sh" in script
    assert " -m workflow.run --resume /runs/mine --in-allocation || code=$?\n" in script


@pytest.mark.parametrize("worker_init", ["", "set -eu -o pipefail"])
def test_a_chain_goes_on_whatever_worker_init_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worker_init: str
) -> None:
    """Programs that note how they were called stand for the interpreter, out of time, and for sbatch."""
    for name, code in (("python", OutOfTime.exit_code), ("sbatch", 0)):
        (tmp_path / name).write_text(f'#!/bin/bash\necho {name} "$@"\nexit {code}\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    script = job_script(load(tmp_path, worker_init=worker_init), RunDir(Path("/runs/mine")))
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "WORKFLOW_CHAIN": "2"}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True)
    assert done.returncode == OutOfTime.exit_code, done.stderr
    assert "sbatch --export=ALL,WORKFLOW_CHAIN=1 /runs/mine/job.sh" in done.stdout
