"""Blocks on PBS: the provider against a server that answers as a real one was recorded, and campaigns over it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from parsl.jobs.states import JobState
from parsl.providers.errors import SubmitException

from tests.conftest import Workflow, eventually, journal, results, toy_space
from tests.fake_pbs import FakePbs
from workflow.providers import SteadyPBS, provider
from workflow.site import load_site

SITE: dict[str, Any] = {
    "name": "fake", "scheduler": "pbs", "gpus": 4, "gpu_vendor": "nvidia", "walltime": "10m", "cores_per_node": 8,
    "launcher_bind": "--bind-to", "max_blocks": 2, "status_interval": 1, "heartbeat_period": 2,
    "heartbeat_threshold": 10, "patience": 10, "grace": 1, "poll": 0.2, "account": "12345",
}  # fmt: skip


@pytest.fixture
def blocks(pbs: FakePbs, tmp_path: Path) -> SteadyPBS:
    (tmp_path / "fake.yaml").write_text(yaml.safe_dump(SITE))
    made = provider(load_site(tmp_path / "fake.yaml", {}), "workflow-test")
    assert isinstance(made, SteadyPBS)
    made.script_dir = str(tmp_path)
    return made


def state(blocks: SteadyPBS, *jobs: str) -> list[JobState]:
    return [status.state for status in blocks.status(list(jobs))]


def becomes(blocks: SteadyPBS, job: str, wanted: JobState) -> bool:
    return eventually(lambda: state(blocks, job) == [wanted], 20)


def test_a_block_through_its_states(blocks: SteadyPBS, pbs: FakePbs) -> None:
    pbs.schedule(False)
    job = blocks.submit("sleep 2", 1, "block-0")
    assert state(blocks, job) == [JobState.PENDING]
    pbs.schedule(True)
    assert becomes(blocks, job, JobState.RUNNING)
    assert becomes(blocks, job, JobState.COMPLETED)


@pytest.mark.parametrize("pbs", [{}, {"history": False}], indirect=True, ids=["history", "no history"])
def test_living_and_ended_blocks_are_told_apart(blocks: SteadyPBS, pbs: FakePbs) -> None:
    """Parsl's own provider asks with -x, to which a server without history says nothing of living jobs either."""
    living, ended = blocks.submit("sleep 60", 1, "block-0"), blocks.submit("true", 1, "block-1")
    assert becomes(blocks, ended, JobState.COMPLETED)
    assert state(blocks, living, ended) == [JobState.RUNNING, JobState.COMPLETED]


def test_ids_that_left_the_history_don_t_hide_the_others(blocks: SteadyPBS, pbs: FakePbs) -> None:
    living, gone = blocks.submit("sleep 60", 1, "block-0"), blocks.submit("true", 1, "block-1")
    pbs.until(gone, "F")
    pbs.forget(gone)
    assert state(blocks, living, gone) == [JobState.RUNNING, JobState.COMPLETED]


@pytest.mark.parametrize(
    ("rc", "error"), [(255, "qstat: cannot connect to server login1 (errno=111)"), (1, ""), (0, "")]
)
def test_a_server_that_gives_no_answer_changes_nothing(blocks: SteadyPBS, pbs: FakePbs, rc: int, error: str) -> None:
    job = blocks.submit("sleep 60", 1, "block-0")
    assert becomes(blocks, job, JobState.RUNNING)
    pbs.fail_next("qstat", 3, rc, error)
    assert [state(blocks, job) for _ in range(5)] == [[JobState.RUNNING]] * 5


BROKEN = """{
    "Jobs":{
        "21.login1":{
            "Job_Name":"x",
            "job_state":"R",
            "Variable_List":{"WEIRD":"a\x01"b"}
        },
        "22.login1":{
            "job_state":"Q",
"""


def test_json_that_is_none_is_read_all_the_same(blocks: SteadyPBS) -> None:
    assert blocks._read(BROKEN) == {"21.login1": JobState.RUNNING, "22.login1": JobState.PENDING}


def test_of_blocks_that_are_cancelled_some_may_have_ended(blocks: SteadyPBS, pbs: FakePbs) -> None:
    living, ended = blocks.submit("sleep 60", 1, "block-0"), blocks.submit("true", 1, "block-1")
    pbs.until(ended, "F")
    blocks.cancel([living, ended])
    assert pbs.until(living, "F")["Exit_status"] in ("271", "265")


def test_a_refused_block_is_told_with_the_servers_words(blocks: SteadyPBS) -> None:
    blocks.queue = "nosuch"
    start = time.monotonic()
    with pytest.raises(SubmitException) as caught:
        blocks.submit("true", 1, "block-0")
    assert "qsub: Unknown queue" in f"{caught.value} {caught.value.stderr}"
    assert time.monotonic() - start < 2


def test_a_block_that_cannot_be_submitted_now_is_submitted_later(blocks: SteadyPBS, pbs: FakePbs) -> None:
    pbs.fail_next("qsub", 1, 255, "qsub: cannot connect to server login1 (errno=111)")
    job = blocks.submit("sleep 60", 1, "block-0")
    assert becomes(blocks, job, JobState.RUNNING)


def test_the_end_of_the_campaign_ends_the_wait(blocks: SteadyPBS, pbs: FakePbs) -> None:
    pbs.fail_next("qsub", 9, 255, "qsub: cannot connect to server login1 (errno=111)")
    blocks.closing.set()
    with pytest.raises(InterruptedError):
        blocks.submit("true", 1, "block-0")


def test_jobs_of_an_earlier_controller_are_found_and_cleared(blocks: SteadyPBS, pbs: FakePbs) -> None:
    job = blocks.submit("sleep 60", 1, "block-0")
    blocks.prefix = "workflow-tes"
    assert blocks.named_jobs() == []
    blocks.prefix = "workflow-test"
    assert blocks.named_jobs() == [job]
    blocks.clear()
    pbs.until(job, "F")


def on_pbs(workflow: Workflow, *settings: str) -> list[str]:
    (workflow.directory / "fake.yaml").write_text(yaml.safe_dump(SITE))
    workflow.experiment(space=toy_space(1.0), search={"strategy": "random", "evaluations": 24})
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


def disturbed(workflow: Workflow, pbs: FakePbs, disturb: Callable[[], None]) -> None:
    controller = workflow.start(*on_pbs(workflow))
    run = workflow.directory / "run"
    assert eventually(lambda: run.exists() and len(results(run)) >= 8, 60)
    disturb()
    output, _ = controller.communicate(timeout=120)
    assert controller.returncode == 0, output
    check_all_done(workflow, pbs)


def test_a_block_that_is_deleted_is_replaced_while_qstat_fails(workflow: Workflow, pbs: FakePbs) -> None:
    def disturb() -> None:
        pbs.fail_next("qstat", 3, 255, "qstat: cannot connect to server login1 (errno=111)")
        job = next(name for name, about in pbs.jobs().items() if about["job_state"] == "R")
        subprocess.run(["qdel", job], check=True)

    disturbed(workflow, pbs, disturb)
