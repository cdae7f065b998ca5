"""The provider for PBS keeps to what the scheduler said, whatever else its commands do."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from parsl.jobs.states import JobState
from parsl.providers.errors import SubmitException

from tests.conftest import eventually
from tests.fake_pbs import FakePbs
from tests.pbs.conftest import recordings, shell
from workflow.cluster import providers
from workflow.cluster.providers import SteadyPBS
from workflow.site import load_site

SITE = {"scheduler": "pbs", "gpus": 4, "launcher": "mpiexec", "launcher_bind": "--bind-to", "cores_per_node": 8}
AGAIN = "trying again"
"""What is logged of a submission that the scheduler cannot take now."""

LONG = "sleep 300"
WAITS = "while [ ! -e ~/go ]; do sleep 0.05; done"
DOWN = "qsub: cannot connect to server login1 (errno=15010)\n"
FIRST, SECOND = "x3005c0s7b0n0", "x3005c0s7b1n0"

settings = pytest.mark.parametrize
Make = Callable[..., SteadyPBS]


@pytest.fixture
def make(pbs: FakePbs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Providers of a site, for the user whose jobs the fake's are; keywords change the site's keys."""
    monkeypatch.setattr(providers, "user_name", lambda: "hpc")
    monkeypatch.setattr(providers, "_FIRST_WAIT", 0.1)

    def made(prefix: str = "workflow-test", directory: str = "scripts", **changes: Any) -> SteadyPBS:
        (tmp_path / "site.yaml").write_text(yaml.safe_dump(SITE | changes))
        provider = providers.provider(load_site(tmp_path / "site.yaml", {}), prefix)
        assert isinstance(provider, SteadyPBS)
        provider.script_dir = str(tmp_path / directory)
        Path(provider.script_dir).mkdir(exist_ok=True)
        return provider

    return made


@pytest.fixture
def provider(make: Make) -> SteadyPBS:
    return make()


def submit(provider: SteadyPBS, command: str = LONG, block: int = 0) -> str:
    """As Parsl does it."""
    job: str = provider.submit(command, 1, f"parsl.htex.block-{block}")
    return job


def states(provider: SteadyPBS, *jobs: str) -> list[str]:
    return [status.state.name for status in provider.status(list(jobs))]


class TestStatus:
    """A job is over when PBS says so, and at no other time."""

    @settings("pbs", [{"poll": 50}], indirect=True)
    def test_from_the_queue_to_the_end(self, pbs: FakePbs, provider: SteadyPBS) -> None:
        pbs.schedule(False)
        job = submit(provider, WAITS)
        assert states(provider, job) == ["PENDING"]
        pbs.schedule(True)
        pbs.until(job, "R")
        assert states(provider, job) == ["RUNNING"]
        (pbs.home / "go").touch()
        pbs.until(job, "E")
        assert states(provider, job) == ["RUNNING"]
        pbs.until(job, "F")
        assert states(provider, job) == ["COMPLETED"]
        status = provider.status([job])[0]
        assert status.stdout_path is not None
        assert Path(status.stdout_path).exists()

    @settings("pbs", [{"gpu_hook": True}], indirect=True)
    def test_a_block_starts_once_on_each_node(self, pbs: FakePbs, make: Make) -> None:
        """Its select, place and launcher: with its share of cores, and all GPUs of each node."""
        provider = make(nodes_per_block=2, walltime="10m")
        job = submit(provider, r"echo \$(hostname) \$NCPUS \$CUDA_VISIBLE_DEVICES; hostname > ~/ran.\$(hostname)")
        found = pbs.until(job, "F")
        assert found["exec_host"] == f"{FIRST}/0*8+{SECOND}/0*8"
        assert (found["Resource_List"]["walltime"], found["Rerunable"]) == ("00:10:00", "False")
        status = provider.status([job])[0]
        assert status.stdout_path is not None
        said = [line.partition(" ") for line in Path(status.stdout_path).read_text().splitlines()]
        assert sorted(words for name, _, words in said if name in (FIRST, SECOND)) == ["8 0,1,2,3"] * 2

    def test_a_job_that_left_the_history(self, pbs: FakePbs, provider: SteadyPBS) -> None:
        """Among living ones, of which qstat speaks all the same: with Parsl's own, no block was ever replaced."""
        jobs = [submit(provider, command, block) for block, command in enumerate(("true", LONG))]
        pbs.until(jobs[0], "F")
        pbs.forget(jobs[0])
        assert states(provider, *jobs) == ["COMPLETED", "RUNNING"]
        assert provider.status(list(reversed(jobs)))[0].state is JobState.RUNNING

    def test_a_finished_job_among_living_ones(self, pbs: FakePbs, provider: SteadyPBS) -> None:
        jobs = [submit(provider, LONG), submit(provider, "true", 1)]
        pbs.until(jobs[1], "F")
        assert states(provider, *jobs) == ["RUNNING", "COMPLETED"]

    @settings("pbs", [{"history": False}], indirect=True)
    def test_without_a_history(self, pbs: FakePbs, provider: SteadyPBS) -> None:
        """With Parsl's own, living blocks looked ended, and new ones were submitted without end."""
        jobs = [submit(provider, WAITS), submit(provider, LONG, 1)]
        assert states(provider, *jobs) == ["RUNNING", "RUNNING"]
        (pbs.home / "go").touch()
        assert eventually(lambda: jobs[0] not in pbs.jobs(), 60)
        assert states(provider, *jobs) == ["COMPLETED", "RUNNING"]

    def test_the_history_says_nothing_of_a_job(self, pbs: FakePbs, provider: SteadyPBS) -> None:
        """history-off.txt: a living job was answered like this."""
        job = submit(provider)
        said = recordings("history-off")[0].stderr.splitlines()[0].replace("52.login1", job)
        pbs.fail_next("qstat", 1, 0, said, '{"timestamp":1}')
        provider.resources[job]["status"].state = JobState.RUNNING
        assert states(provider, job) == ["RUNNING"]

    def test_names_like_numbers(self, pbs: FakePbs, make: Make) -> None:
        provider = make("1e5", account="12345")
        job = submit(provider)
        other = shell(pbs, "qsub -N 1e5 -A 1.5 -- sleep 300").stdout.strip()
        shown = json.loads(shell(pbs, f"qstat -f -F json {job} {other}").stdout)["Jobs"]
        assert (shown[job]["Account_Name"], shown[other]["Job_Name"]) == (12345, 1e5)
        assert states(provider, job) == ["RUNNING"]
        assert provider.named_jobs() == [job]

    @settings("rc, said", [(162, ""), (255, ""), (1, "{"), (0, ""), (0, "{"), (0, "no")])
    def test_an_answer_that_is_none(self, pbs: FakePbs, provider: SteadyPBS, rc: int, said: str) -> None:
        """What is known of the jobs is kept."""
        jobs = [submit(provider), submit(provider, LONG, 1)]
        assert states(provider, *jobs) == ["RUNNING"] * 2
        pbs.fail_next("qstat", 1, rc, "qstat: cannot connect to server login1 (errno=15010)\n", said)
        assert states(provider, *jobs) == ["RUNNING"] * 2
        shell(pbs, f"qdel -W force {jobs[1]}")
        pbs.until(jobs[1], "F")
        assert states(provider, *jobs) == ["RUNNING", "COMPLETED"]

    @settings("said", ["null", "[]", '{"Jobs":[]}', '{"Jobs":{"0.login1":[]}}', '{"Jobs":{"0.login1":{}}}'])
    def test_json_of_another_kind(self, pbs: FakePbs, provider: SteadyPBS, said: str) -> None:
        job = submit(provider)
        assert states(provider, job) == ["RUNNING"]
        pbs.fail_next("qstat", 2, 0, "", said)
        assert states(provider, job) == ["RUNNING"]
        assert not provider.named_jobs()

    def test_an_answer_that_is_cut_off(self, pbs: FakePbs, provider: SteadyPBS) -> None:
        jobs = [submit(provider), submit(provider, LONG, 1)]
        assert states(provider, *jobs) == ["RUNNING"] * 2
        whole = shell(pbs, f"qstat -f -F json {' '.join(jobs)}").stdout
        for end in ('"1.login1":{\n', '"job_st', '"Resource_List"'):
            pbs.fail_next("qstat", 1, 0, "", whole[: whole.rindex(end) + len(end)])
            pbs.fail_next("qstat", 1, 255)
            assert states(provider, *jobs) == ["RUNNING"] * 2

    def test_a_scheduler_that_hangs_is_not_asked_again(
        self, pbs: FakePbs, provider: SteadyPBS, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not for each job alone: every question may take a minute."""
        jobs = [submit(provider, LONG, block) for block in range(2)]
        monkeypatch.setattr(providers, "_COMMAND_TIMEOUT", 0.4)
        pbs.fail_next("qstat", 3, None)
        asked, run = [], provider._run
        monkeypatch.setattr(provider, "_run", lambda *words: asked.append(words) or run(*words))
        assert states(provider, *jobs) == ["PENDING"] * 2
        assert len(asked) == 1

    def test_no_answer(self, pbs: FakePbs, provider: SteadyPBS, monkeypatch: pytest.MonkeyPatch) -> None:
        job = submit(provider)
        assert states(provider, job) == ["RUNNING"]
        monkeypatch.setattr(providers, "_COMMAND_TIMEOUT", 0.3)
        pbs.fail_next("qstat", 1, None)
        assert states(provider, job) == ["RUNNING"]
        monkeypatch.setenv("PATH", "/nowhere")
        assert states(provider, job) == ["RUNNING"]

    def test_json_that_is_none(self, pbs: FakePbs, provider: SteadyPBS) -> None:
        """An environment with a quote: the states are still there."""
        jobs = [submit(provider), submit(provider, LONG, 1)]
        broken = shell(pbs, f"qstat -f -F json {' '.join(jobs)}").stdout.replace('"/bin/bash"', '""/bin/bash"')
        pbs.fail_next("qstat", 2, 0, "", broken)
        assert states(provider, *jobs) == ["RUNNING"] * 2
        assert provider.named_jobs() == jobs

    @settings("pbs", [{"first_only": True}], indirect=True)
    def test_a_qstat_that_prints_one_job(self, pbs: FakePbs, provider: SteadyPBS) -> None:
        jobs = [submit(provider, LONG, block) for block in range(3)]
        assert states(provider, *jobs) == ["RUNNING", "RUNNING", "PENDING"]
        assert provider.named_jobs() == jobs

    @settings("said", ["0.login1", "0.login1.example.org"])
    def test_the_servers_name_is_longer_or_shorter(self, pbs: FakePbs, provider: SteadyPBS, said: str) -> None:
        first = submit(provider)
        known = provider.resources.pop(first)
        job = {"0.login1": "0.login1.example.org", "0.login1.example.org": "0.login1"}[said]
        provider.resources[job] = known
        pbs.fail_next("qstat", 1, 0, "", json.dumps({"Jobs": {said: {"job_state": "R"}}}))
        assert states(provider, job) == ["RUNNING"]
        pbs.fail_next("qstat", 1, 153, f"qstat: Unknown Job Id {said}\n")
        assert states(provider, job) == ["COMPLETED"]


class TestCancel:
    """qdel answers 35 or 153 for a job that has ended, and has deleted the others all the same."""

    @settings("forgotten", [False, True])
    def test_ended_and_living_jobs(self, pbs: FakePbs, provider: SteadyPBS, forgotten: bool) -> None:
        jobs = [submit(provider, command, block) for block, command in enumerate((LONG, "true", LONG))]
        pbs.schedule(False)
        pbs.until(jobs[1], "F")
        if forgotten:
            pbs.forget(jobs[1])
        assert provider.cancel(jobs) == [True, True, True]
        assert states(provider, *jobs) == ["CANCELLED", "COMPLETED", "CANCELLED"]
        assert pbs.until(jobs[0], "F")["Exit_status"] == "271"
        pbs.until(jobs[2], "F")

    @settings("pbs", [{"poll": 50}], indirect=True)
    def test_a_job_that_is_ending(self, pbs: FakePbs, provider: SteadyPBS) -> None:
        """It is no longer to be cancelled, and still to be asked for."""
        jobs = [submit(provider, "true"), submit(provider, LONG, 1)]
        pbs.until(jobs[0], "E")
        assert provider.cancel(jobs)[1]
        pbs.until(jobs[0], "F")
        assert states(provider, *jobs) == ["COMPLETED", "CANCELLED"]

    def test_a_qdel_that_fails(self, pbs: FakePbs, provider: SteadyPBS) -> None:
        job = submit(provider)
        pbs.fail_next("qdel", 1, 255, "qdel: cannot connect to server login1 (errno=15010)\n")
        assert provider.cancel([job]) == [False]
        assert states(provider, job) == ["RUNNING"]
        assert provider.cancel([job]) == [True]
        assert provider.cancel([job]) == [True]
        pbs.until(job, "F")


class TestSubmit:
    """A scheduler that is away is waited for; what it refuses is not tried again."""

    def test_tried_again(self, pbs: FakePbs, provider: SteadyPBS) -> None:
        pbs.fail_next("qsub", 2, 255, DOWN)
        job = submit(provider)
        assert list(pbs.jobs()) == [job]
        assert pbs.jobs()[job]["Job_Name"].startswith("workflow-test.block-0.")

    def test_patience_ends(self, pbs: FakePbs, provider: SteadyPBS) -> None:
        provider.patience = 0.2
        pbs.fail_next("qsub", 9, 255, DOWN)
        with pytest.raises(SubmitException, match="cannot connect"):
            submit(provider)

    def test_the_end_of_the_campaign_ends_it(self, pbs: FakePbs, provider: SteadyPBS) -> None:
        provider.closing.set()
        pbs.fail_next("qsub", 1, 255, DOWN)
        with pytest.raises(InterruptedError):
            submit(provider)

    @settings(
        "changes, message",
        [
            ({"queue": "nosuch"}, "Unknown queue"),
            ({"queue": "prod"}, "Queue is not enabled"),
            ({"walltime": "2h"}, "Job violates queue and/or server resource limits"),
            ({"select_options": "nosuch=1"}, "Unknown resource: nosuch"),
            ({"directory": "a b"}, "qsub: "),
        ],
    )
    def test_refused(
        self, pbs: FakePbs, make: Make, changes: dict[str, Any], message: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """At once, with what the scheduler said."""
        provider = make(**changes)
        provider.patience = 1
        with pytest.raises(SubmitException, match=message):
            submit(provider)
        assert AGAIN not in caplog.text
        assert not pbs.jobs()
        assert not provider.resources

    def test_names_of_files_are_no_message(self, pbs: FakePbs, make: Make, caplog: pytest.LogCaptureFixture) -> None:
        """They are part of the error that Parsl raises."""
        provider = make("limit", directory="submit_temporarily", queue="nosuch")
        provider.patience = 1
        with pytest.raises(SubmitException, match="Unknown queue"):
            submit(provider)
        assert AGAIN not in caplog.text


class TestNamedJobs:
    """What an earlier controller has left is found again."""

    def test_only_those_of_the_run(self, pbs: FakePbs, make: Make) -> None:
        provider, other = make(), make("workflow-test-2")
        done, mine = submit(provider, "true"), submit(provider, LONG, 1)
        theirs = submit(other)
        shell(pbs, "qsub -N 1e5 -- sleep 300")
        pbs.until(done, "F")
        assert make().named_jobs() == [mine]
        make().clear()
        pbs.until(mine, "F")
        assert pbs.jobs()[theirs]["job_state"] != "F"

    @settings("command", ["qselect", "qstat"])
    def test_no_answer(self, pbs: FakePbs, provider: SteadyPBS, command: str) -> None:
        job = submit(provider)
        for said in ("", "{"):
            pbs.fail_next(command, 1, 255, f"{command}: cannot connect", said)
            assert provider.named_jobs() is None
        pbs.fail_next(command, 1, 255, f"{command}: cannot connect", "")
        provider.clear()
        pbs.until(job, "F")

    def test_a_cancellation_that_is_not_taken(self, pbs: FakePbs, provider: SteadyPBS) -> None:
        job = submit(provider)
        pbs.fail_next("qdel", 1, 255, "qdel: cannot connect", "")
        provider.clear()
        pbs.until(job, "F")

    def test_nothing_to_clear(self, provider: SteadyPBS, monkeypatch: pytest.MonkeyPatch) -> None:
        provider.clear()
        assert provider.status([]) == []
        monkeypatch.setattr(subprocess, "run", pytest.fail)
        assert provider.cancel([]) == []
