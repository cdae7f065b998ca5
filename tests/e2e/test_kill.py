"""A controller that is killed at any moment loses nothing: real campaigns, real kill -9."""

from __future__ import annotations

import json
import random
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import FULL, Workflow, eventually, journal, results, toy_space, without_walltime

KILLS = 20
CUTS = 5 if FULL else 2
SEARCH = {"num_iterations": 40, "population_size": 8, "seed": 5}
"""More trials than can end while controllers are killed."""
FASTER = ("--set", "site.workers=4")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("unbroken")
    flow = Workflow(directory, "unbroken")
    experiment = flow.experiment(search=SEARCH)
    done = flow.run("--site", "local-threads", "--experiment", experiment, "--output", "run", *FASTER)
    assert done.returncode == 0, done.stdout
    return directory / "run"


def check_whole(run: Path, unbroken: Path) -> None:
    """Same sequence as the unbroken run, no id missing, no trial finished twice."""
    records = journal(run)
    asked = [r["trial"]["id"] for r in records if r["type"] == "asked"]
    assert sorted(set(asked)) == list(range(len(set(asked))))
    final = Counter(r["outcome"]["trial_id"] for r in records if r["type"] == "outcome")
    assert set(final.values()) == {1}
    assert sorted(final) == sorted(set(asked))
    for trial, attempts in results(run).items():
        assert sum(a["ended_by"] == "exit" and a["exit_code"] == 0 for a in attempts) == 1, (trial, attempts)
    assert hpo(run) == hpo(unbroken)


def hpo(run: Path) -> list[str]:
    return without_walltime((run / "hpo.csv").read_text())


def slow(flow: Workflow) -> str:
    """The toy's space with trials that last: long enough for kills to fall into them."""
    path = flow.directory / "space.json"
    path.write_text(json.dumps(toy_space(sleep=0.4)))
    return f"space={path}"


def kill_after(controller: subprocess.Popen[str], seconds: float) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        controller.communicate(timeout=seconds)
    controller.kill()
    controller.communicate()


def grows_beyond(file: Path, size: int) -> bool:
    return eventually(lambda: file.exists() and file.stat().st_size > size, 60)


def test_controller_killed_at_random_moments_on_htex(workflow: Workflow, unbroken: Path) -> None:
    moments = random.Random(20)
    run = workflow.directory / "run"
    begin = ["--site", "local", "--experiment", workflow.experiment(search=SEARCH), "--output", run]
    for _ in range(KILLS):
        arguments = ["--resume", run] if run.exists() else [*begin, "--set", slow(workflow)]
        kill_after(workflow.start(*arguments), moments.uniform(0.2, 5))
    done = workflow.run("--resume", run, *FASTER)
    assert done.returncode == 0, done.stdout
    check_whole(run, unbroken)
    assert eventually(lambda: not workflow.processes(), 30), workflow.processes()


def test_journal_cut_at_a_random_byte_of_its_last_line(workflow: Workflow, unbroken: Path) -> None:
    moments = random.Random(7)
    run = workflow.directory / "run"
    begin = ["--site", "local-threads", "--experiment", workflow.experiment(search=SEARCH), "--output", run]
    file, data = run / "journal.jsonl", b""
    for _ in range(CUTS):
        controller = workflow.start(*(["--resume", run] if data else [*begin, "--set", slow(workflow)]))
        assert grows_beyond(file, len(data))
        kill_after(controller, moments.uniform(0.1, 2.5))
        data = file.read_bytes()
        last = data.rstrip(b"\n").rfind(b"\n") + 1
        data = data[: moments.randrange(last + 1, len(data.rstrip(b"\n")))]
        file.write_bytes(data)
    done = workflow.run("--resume", run, *FASTER)
    assert done.returncode == 0, done.stdout
    assert "torn" in done.stdout
    check_whole(run, unbroken)
