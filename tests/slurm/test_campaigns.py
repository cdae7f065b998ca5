"""Campaigns through a real Slurm of two nodes with four GPUs each, whatever happens to jobs, nodes and controller."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import FULL, ROOT, Workflow, eventually, journal, results, toy_space
from tests.slurm_lab import SlurmLab

SITE: dict[str, Any] = {
    "name": "lab", "scheduler": "slurm", "gpus": 4, "gpu_vendor": "nvidia", "walltime": "10m", "cores_per_node": 4,
    "max_blocks": 2, "status_interval": 1, "heartbeat_period": 2, "heartbeat_threshold": 10, "patience": 10, "grace": 1,
    "poll": 0.2,
}  # fmt: skip
ALL_GPUS = {(node, str(gpu)) for node in ("n1", "n2") for gpu in range(4)}


@pytest.fixture
def on_slurm(workflow: Workflow, slurm: SlurmLab, monkeypatch: pytest.MonkeyPatch) -> Workflow:
    """A workflow whose commands talk to the lab, with its site in ``lab.yaml``."""
    for name, value in slurm.env.items():
        monkeypatch.setenv(name, value)
    (workflow.directory / "lab.yaml").write_text(yaml.safe_dump(SITE))
    return workflow


def campaign(
    workflow: Workflow, image: Path | None = None, trials: int = 24, sleep: float = 1.0, together: int = 1
) -> list[str]:
    """The options of a campaign of ``trials`` random trials, of which the first ``together`` run at the same time."""
    model = {"model": {"image": str(image)}} if image else {}
    workflow.experiment(space=toy_space(sleep, together), search={"strategy": "random", "evaluations": trials}, **model)
    return ["--site", "lab.yaml", "--experiment", "experiment.yaml", "--output", "run"]


def attempts(workflow: Workflow) -> list[dict[str, Any]]:
    return [result for tried in results(workflow.directory / "run").values() for result in tried]


def check_all_done(workflow: Workflow, trials: int = 24) -> None:
    """Every trial has one final outcome, none ended well twice, and no GPU had two trials at a time.

    What a node that hung finishes once it is back was lost and has run again: that alone may have ended twice.
    """
    final = defaultdict(list)
    lost = set()
    for record in journal(workflow.directory / "run"):
        if record["type"] == "outcome":
            outcome = record["outcome"]
            if outcome["kind"] in ("ok", "failed", "stopped"):
                final[outcome["trial_id"]].append(outcome["kind"])
            elif outcome["kind"] == "lost":
                lost.add((outcome["trial_id"], outcome["attempt"]))
    assert dict(final) == {trial: ["ok"] for trial in range(trials)}
    for tried in results(workflow.directory / "run").values():
        kept = [result for result in tried if (result["trial"], result["attempt"]) not in lost]
        assert [result["exit_code"] for result in kept].count(0) == 1
    check_gpus_are_not_shared(attempts(workflow))


def check_gpus_are_not_shared(found: list[dict[str, Any]]) -> None:
    """By the start and end of every stage that ran."""
    ran = [result for result in found if not result["ended_by"].startswith("stopped before it started")]
    ran.sort(key=lambda result: (result["host"], result["gpu"], result["started"]))
    for _, group in itertools.groupby(ran, key=lambda result: (result["host"], result["gpu"])):
        for first, second in itertools.pairwise(group):
            assert first["ended"] <= second["started"] + 0.05, (first, second)


def check_nothing_left(workflow: Workflow, slurm: SlurmLab) -> None:
    slurm.wait_idle(30)
    assert eventually(lambda: not workflow.processes(), 20), workflow.processes()


def test_trials_have_a_gpu_each_through_slurm(on_slurm: Workflow, slurm: SlurmLab, toy_image: Path) -> None:
    done = on_slurm.run(*campaign(on_slurm, toy_image, together=8))
    assert done.returncode == 0, done.stdout
    check_all_done(on_slurm)
    assert {(result["host"], result["gpu"]) for result in attempts(on_slurm)} == ALL_GPUS
    check_nothing_left(on_slurm, slurm)


def test_trials_through_torques_commands(on_slurm: Workflow, slurm: SlurmLab) -> None:
    """qsub, qstat and qdel, which Debian has on top of Slurm."""
    site = {key: value for key, value in SITE.items() if key != "scheduler"}
    torque = {**site, "scheduler": "torque", "launcher": "srun", "walltime": "5m"}
    (on_slurm.directory / "lab.yaml").write_text(yaml.safe_dump(torque))
    done = on_slurm.run(*campaign(on_slurm, together=8))
    assert done.returncode == 0, done.stdout
    check_all_done(on_slurm)
    assert {(result["host"], result["gpu"]) for result in attempts(on_slurm)} == ALL_GPUS
    check_nothing_left(on_slurm, slurm)


def test_a_campaign_inside_one_job(on_slurm: Workflow, slurm: SlurmLab, toy_image: Path) -> None:
    """The controller runs on the job's first node, the trials on both."""
    options = campaign(on_slurm, toy_image, together=8)
    done = on_slurm.run(*options, "--nodes", "2", "--walltime", "5m", module="workflow.submit")
    assert done.returncode == 0 and "Submitted batch job" in done.stdout, done.stdout
    slurm.wait_idle(60)
    (output,) = (on_slurm.directory / "run").glob("job-*.out")
    assert "24 trials succeeded" in output.read_text(), output.read_text()
    check_all_done(on_slurm)
    assert {(result["host"], result["gpu"]) for result in attempts(on_slurm)} == ALL_GPUS
    check_nothing_left(on_slurm, slurm)


def test_gpus_of_others_are_left_alone(on_slurm: Workflow, slurm: SlurmLab) -> None:
    """On n1 a job holds GPUs 0 and 1; a block there gets the other two, which is fewer than the site says."""
    slurm.run("sbatch", "--nodelist=n1", "--gpus-per-node=2", "--output=/dev/null", "--wrap=sleep 300")
    assert eventually(lambda: [job.state for job in slurm.jobs()] == ["RUNNING"], 20)
    trials = campaign(on_slurm, trials=16, together=6)
    done = on_slurm.run(*trials, "--set", "site.gpus=2", "--set", "site.max_blocks=3")
    assert done.returncode == 0, done.stdout
    check_all_done(on_slurm, 16)
    used = {(result["host"], result["gpu"]) for result in attempts(on_slurm)}
    assert used == ALL_GPUS - {("n1", "0"), ("n1", "1")}, "two blocks share n2"
    slurm.run("scancel", "--user=root")
    check_nothing_left(on_slurm, slurm)


def test_a_job_with_fewer_gpus_than_the_site_says(on_slurm: Workflow, slurm: SlurmLab) -> None:
    settings = ("--set", "site.gres=gpu:3", "--set", "site.max_blocks=1")
    done = on_slurm.run(*campaign(on_slurm, trials=6, sleep=0.5), *settings)
    assert done.returncode == 0, done.stdout
    assert "has 3 of the site's 4 GPUs (0, 1, 2), and runs fewer trials" in done.stdout
    check_gpus_are_not_shared(attempts(on_slurm))
    check_nothing_left(on_slurm, slurm)


def test_a_block_that_cannot_start_ends_the_campaign_with_its_errors(on_slurm: Workflow, slurm: SlurmLab) -> None:
    broken = "echo no such module: cuda/13 >&2; exit 1"
    done = on_slurm.run(*campaign(on_slurm), "--set", f'site.worker_init="{broken}"')
    assert done.returncode == 3, done.stdout
    assert "blocks of workers ended before they registered" in done.stdout and "no such module: cuda/13" in done.stdout
    check_nothing_left(on_slurm, slurm)
    done = on_slurm.run("--resume", "run", "--set", 'site.worker_init=""')
    assert done.returncode == 0, done.stdout
    check_all_done(on_slurm)


def test_a_users_own_variables_change_nothing(on_slurm: Workflow, slurm: SlurmLab) -> None:
    """Filters of squeue, another name than the user's, no environment for jobs, another partition."""
    env = {"SQUEUE_PARTITION": "short", "LOGNAME": "nobody", "SBATCH_EXPORT": "NONE", "SBATCH_PARTITION": "nowhere"}
    options = (*campaign(on_slurm, trials=4, sleep=0.2), "--set", "site.partition=gpu", "--set", "site.max_blocks=1")
    done = on_slurm.run(*options, env=env)
    assert done.returncode == 0, done.stdout
    check_all_done(on_slurm, 4)
    check_nothing_left(on_slurm, slurm)


def test_a_refused_job_is_told_with_the_schedulers_words(on_slurm: Workflow) -> None:
    done = on_slurm.run(*campaign(on_slurm), "--set", "site.partition=nowhere")
    assert done.returncode == 3, done.stdout
    assert "invalid partition specified: nowhere" in done.stdout and "Traceback" not in done.stdout


def test_no_job_goes_to_a_node_on_which_everything_fails(on_slurm: Workflow, slurm: SlurmLab) -> None:
    """Its block ends by itself, well before the campaign, and one that takes its place would start elsewhere.

    It ends once the last trial has been handed back, which then runs for as long as a block needs to end.
    """
    model = on_slurm.directory / "model"
    model.mkdir()
    succeed = "sleep 5; echo IMPROVE_RESULT val_loss: 1"
    (model / "train.sh").write_text(f"#!/bin/bash\n[ $(hostname) = n1 ] && echo no GPU && exit 1\n{succeed}\n")
    (model / "train.sh").chmod(0o755)
    options = campaign(on_slurm, trials=28)
    on_slurm.experiment(
        model={"scripts": str(model)}, stages={"train": {}}, search={"strategy": "random", "evaluations": 28}
    )
    done = on_slurm.run(*options)
    assert done.returncode == 0, done.stdout
    summary = json.loads((on_slurm.directory / "run/summary.json").read_text())
    assert (summary["trials"]["ok"], list(summary["shunned_nodes"])) == (28, ["n1"]), done.stdout
    slurm.wait_idle(60)
    latest = sorted(slurm.jobs(ended=True), key=lambda job: -int(job.id))
    assert next(job.state for job in latest if job.nodes == "n1") == "COMPLETED", latest
    check_nothing_left(on_slurm, slurm)


def blocks(slurm: SlurmLab) -> list[str]:
    return [job.id for job in slurm.jobs() if job.state == "RUNNING"]


def ended_well(workflow: Workflow) -> int:
    return sum(result["ended_by"] == "exit" for result in attempts(workflow))


def after(workflow: Workflow, more: int, controller: subprocess.Popen[str]) -> None:
    """Wait until so many more trials have ended."""
    wanted = ended_well(workflow) + more
    assert eventually(lambda: ended_well(workflow) >= wanted or controller.poll() is not None, 90)
    assert controller.poll() is None, controller.communicate()[0]


def test_nothing_is_lost_on_a_bad_day(on_slurm: Workflow, slurm: SlurmLab) -> None:
    """Blocks of a minute; one is cancelled, a node hangs, the other crashes, slurmctld is down, the controller killed.

    Trials of 4 s leave none running at a block's end but those that began with half a minute left.
    """
    trials = 160 if FULL else 136
    options = [*campaign(on_slurm, trials=trials, sleep=4.0), "--set", "site.walltime=1m"]
    controller = on_slurm.start(*options)
    after(on_slurm, 4, controller)
    slurm.run("scancel", blocks(slurm)[0])
    after(on_slurm, 8, controller)
    slurm.freeze("n2")
    time.sleep(15)
    slurm.thaw("n2")
    after(on_slurm, 4, controller)
    slurm.stop_controller()
    time.sleep(30)
    slurm.start_controller()
    after(on_slurm, 4, controller)
    slurm.crash("n1", noticed=True)
    slurm.restart("n1")
    after(on_slurm, 4, controller)
    controller.send_signal(signal.SIGTERM)
    output, _ = controller.communicate(timeout=60)
    assert controller.returncode == 130, output
    controller = on_slurm.start("--resume", "run")
    after(on_slurm, 4, controller)
    controller.kill()
    controller.communicate()
    done = on_slurm.run("--resume", "run", timeout=240)
    assert done.returncode == 0, done.stdout
    check_all_done(on_slurm, trials)
    check_nothing_left(on_slurm, slurm)
    overdue = [job for job in slurm.jobs(ended=True) if job.state == "TIMEOUT"]
    assert len(overdue) <= 2, "blocks end before Slurm has to end them, but for one a node that ended without slurmctld"


def test_a_chain_of_jobs_takes_a_campaign_to_its_end(on_slurm: Workflow, slurm: SlurmLab) -> None:
    """Jobs of a minute, each of which stops early and is followed by the next; checkpoints carry trials on."""
    model = on_slurm.directory / "model"
    model.mkdir()
    (model / "train.sh").write_text(SLOW_MODEL)
    (model / "train.sh").chmod(0o755)
    args = {"checkpoint": "{checkpoint_dir}"}
    on_slurm.experiment(
        model={"scripts": str(model)}, stages={"train": {"args": args}}, space=toy_space()[:2],
        search={"strategy": "random", "evaluations": 8},
    )  # fmt: skip
    options = ["--site", "lab.yaml", "--experiment", "experiment.yaml", "--output", "run", "--walltime", "1m"]
    done = on_slurm.run(*options, "--chain", "3", module="workflow.submit")
    assert done.returncode == 0, done.stdout
    outputs = on_slurm.directory / "run"
    finished = eventually(lambda: any("8 trials succeeded" in p.read_text() for p in outputs.glob("job-*.out")), 200)
    told = "\n".join(path.read_text() for path in sorted(outputs.glob("job-*.out")))
    assert finished and len(list(outputs.glob("job-*.out"))) > 1, told
    check_all_done(on_slurm, 8)
    check_nothing_left(on_slurm, slurm)
    summary = json.loads((outputs / "summary.json").read_text())
    assert summary["trials"]["ok"] == 8


SLOW_MODEL = """#!/bin/bash
# Trains for 18 s in all, from where its checkpoint is.
while [ $# -gt 0 ]; do [ "$1" = --checkpoint ] && cd "$2"; shift; done
for second in $(seq $(cat step 2>/dev/null || echo 1) 18); do echo $second > step; sleep 1; done
echo IMPROVE_RESULT val_loss: 0.5
"""


def test_scripts_for_hand_made_jobs_run(on_slurm: Workflow, slurm: SlurmLab) -> None:
    options = campaign(on_slurm, trials=4, sleep=0.1)
    job = [
        "sbatch",
        "--time=3",
        "--output=job.out",
        f"--export=ALL,PYTHONPATH={ROOT},PATH={Path(sys.executable).parent}:/usr/bin:/bin",
    ]
    slurm.run(*job, str(ROOT / "scripts" / "submit.sbatch"), *options, cwd=on_slurm.directory)
    slurm.wait_idle(60)
    assert "4 trials succeeded" in (on_slurm.directory / "job.out").read_text()
