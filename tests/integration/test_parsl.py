"""The traps that Parsl sets, each caused for real: kills, Ctrl-C, a dead interchange, workers without this package."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from parsl.jobs.states import JobState, JobStatus
from parsl.serialize import serialize

from tests.conftest import MARKER, ROOT, Workflow, eventually, journal, results, toy_space, without_walltime
from workflow.cluster.apps import _by_value, check_length
from workflow.cluster.executors import (
    _WITHOUT_LOGGING_ERRORS,
    SubmissionGate,
    WatchedProvider,
    parsl_config,
    plain_alias,
    stop_at_unregistered_blocks,
)
from workflow.errors import InputError
from workflow.lock import RunLock
from workflow.site import load_site

LONG = {"num_iterations": 1, "population_size": 4}
QUICK = ["--set", "site.heartbeat_period=1", "--set", "site.heartbeat_threshold=4"]


Begun = tuple[Path, subprocess.Popen[str]]


def go_on(workflow: Workflow) -> None:
    (workflow.directory / "go").touch()


def begin(workflow: Workflow, site: str = "local", **options: object) -> Begun:
    """A campaign whose trials last, and its run directory, once a trial runs on each of its two workers."""
    run = workflow.directory / "run"
    experiment = workflow.experiment(
        space=toy_space(until=workflow.directory / "go"), search=LONG, stages={"train": {}}
    )
    quick = QUICK if site == "local" else []
    controller = workflow.start("--site", site, "--experiment", experiment, "--output", run, *quick, **options)
    assert eventually(lambda: len(list((run / "trials").glob("*/attempt-1/argv.json"))) >= 2, 60)
    return run, controller


@pytest.fixture
def tmpdir_of_its_own() -> Iterator[Path]:
    """A directory for temporary files in which nothing may be left. Its path is short enough for sockets in it."""
    with tempfile.TemporaryDirectory(prefix="wf-") as directory:
        yield Path(directory)


def finish(controller: subprocess.Popen[str], code: int = 0) -> str:
    output, _ = controller.communicate(timeout=120)
    assert controller.returncode == code, output
    return output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminated_controller_cleans_up_and_is_resumable(
    workflow: Workflow, number: signal.Signals, tmpdir_of_its_own: Path
) -> None:
    run, controller = begin(workflow, env={"TMPDIR": str(tmpdir_of_its_own)})
    controller.send_signal(number)
    start = time.monotonic()
    assert "resume with" in finish(controller, 130)
    assert time.monotonic() - start < 20
    assert eventually(lambda: not workflow.processes(), 10), workflow.processes()
    assert not list(tmpdir_of_its_own.iterdir())
    go_on(workflow)
    done = workflow.run("--resume", run)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("site", ["local", "local-threads"])
def test_ctrl_c_once_drains(workflow: Workflow, site: str, tmpdir_of_its_own: Path) -> None:
    """The whole foreground process group gets SIGINT, as from a terminal."""
    run, controller = begin(workflow, site=site, start_new_session=True, env={"TMPDIR": str(tmpdir_of_its_own)})
    os.killpg(controller.pid, signal.SIGINT)
    assert eventually(lambda: any(run.glob("trials/*/attempt-1/.workflow-stop")), 60), "it drains"
    go_on(workflow)
    output = finish(controller, 130)
    assert "waiting for" in output and "Ctrl-C again" in output
    ok = [r for r in journal(run) if r["type"] == "outcome" and r["outcome"]["kind"] == "ok"]
    assert ok, "the running trials were waited for"
    assert not [r for r in journal(run) if r["type"] == "outcome" and r["outcome"]["kind"] == "lost"]
    assert eventually(lambda: not workflow.processes(), 20), workflow.processes()
    assert not list(tmpdir_of_its_own.iterdir())


@pytest.mark.parametrize("site", ["local", "local-threads"])
def test_ctrl_c_keeps_a_trial_at_the_workers_door_from_starting(workflow: Workflow, site: str) -> None:
    run, controller = begin(workflow, site=site, start_new_session=True)
    os.killpg(controller.pid, signal.SIGINT)
    assert eventually(lambda: any(run.glob("trials/*/attempt-1/.workflow-stop")), 60), "it drains"
    go_on(workflow)
    finish(controller, 130)
    outcomes = [r["outcome"] for r in journal(run) if r["type"] == "outcome"]
    assert sorted(o["kind"] for o in outcomes) == ["deferred", "ok", "ok"]
    assert len(list((run / "trials").glob("*/attempt-1/argv.json"))) == 2
    done = workflow.run("--resume", run)
    assert done.returncode == 0 and "0 attempts were lost" in done.stdout, done.stdout


def test_ctrl_c_names_the_stage_that_it_waits_for(workflow: Workflow) -> None:
    """Inference that ends under it ends the campaign."""
    experiment = workflow.experiment(
        space=toy_space(),
        search={"num_iterations": 1, "population_size": 2},
        stages={"train": {}, "infer": {"args": {"until": str(workflow.directory / "go")}}},
    )
    run, said = workflow.directory / "run", workflow.directory / "said"
    arguments = ("--site", "local-threads", "--experiment", experiment, "--output", run)
    with said.open("w") as file:
        controller = workflow.start(*arguments, start_new_session=True, stdout=file)
    assert eventually(lambda: (run / "infer/attempt-1/argv.json").exists(), 60)
    os.killpg(controller.pid, signal.SIGINT)
    assert eventually(lambda: "waiting for infer to end; Ctrl-C again" in said.read_text(), 60)
    go_on(workflow)
    finish(controller, 0)


@pytest.mark.parametrize("site", ["local", "local-threads"])
@pytest.mark.parametrize("moved", [True, False], ids=["moved", "deleted"])
def test_a_run_that_is_gone_ends_its_controller(workflow: Workflow, site: str, moved: bool) -> None:
    """Nothing appears in its place, no process stays, and a moved run is resumed where it is."""
    run, controller = begin(workflow, site=site)
    elsewhere = workflow.directory / "elsewhere"
    run.rename(elsewhere) if moved else shutil.rmtree(run)
    output = finish(controller, 3)
    assert "is gone" in output and "Traceback" not in output, output
    assert eventually(lambda: not workflow.processes(), 20), workflow.processes()
    assert not run.exists(), list(run.rglob("*"))
    if moved:
        assert "--resume NEW_PLACE" in output
        go_on(workflow)
        done = workflow.run("--resume", elsewhere)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("site", ["local", "local-threads"])
def test_a_lock_file_that_is_removed_costs_no_trial_an_attempt(workflow: Workflow, site: str) -> None:
    """Trials stop at once, without a living controller in sight, and sooner than this one looks for its file."""
    run, controller = begin(workflow, site=site)
    (run / "controller.lock").unlink()
    assert "controller.lock is gone" in finish(controller, 3)
    assert not [r for r in journal(run) if r["type"] == "outcome" and r["outcome"]["kind"] != "ok"]
    go_on(workflow)
    done = workflow.run("--resume", run)
    assert done.returncode == 0 and "0 failed" in done.stdout, done.stdout


def test_a_controller_that_was_thought_dead_leaves_the_run_to_the_next_one(workflow: Workflow) -> None:
    """It was silent for long enough. Nothing that the other one has written is added to or replaced."""
    run, controller = begin(workflow, site="local-threads")
    controller.send_signal(signal.SIGSTOP)
    lock = json.loads((run / "controller.lock").read_text())
    (run / "controller.lock").write_text(json.dumps({**lock, "nonce": "another", "host": "elsewhere"}))
    for name in ("hpo.csv", "best.json", "summary.json"):
        (run / name).write_text("the other one's")
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    go_on(workflow)
    time.sleep(1)  # trials end
    controller.send_signal(signal.SIGCONT)
    assert f"process {lock['pid']} on elsewhere took the run over" in finish(controller, 3)
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("site", ["local", "local-threads"])
def test_every_trial_at_a_time_has_a_gpu_of_its_own(workflow: Workflow, site: str) -> None:
    run = workflow.directory / "run"
    experiment = workflow.experiment(
        space=toy_space(0.5, together=2), search={"num_iterations": 1, "population_size": 6}
    )
    gpus = ("--set", "site.gpus=[GPU-a, '7']", "--set", "site.workers=2")
    done = workflow.run("--site", site, "--experiment", experiment, "--output", run, *gpus)
    assert done.returncode == 0, done.stdout
    found = [attempt for attempts in results(run).values() for attempt in attempts]
    assert {attempt["gpu"] for attempt in found} == {"GPU-a", "7"}
    for gpu in ("GPU-a", "7"):
        spans = sorted((a["started"], a["ended"]) for a in found if a["gpu"] == gpu)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    argv = json.loads((run / "trials/0000/attempt-1/argv.json").read_text())
    assert argv[0] == results(run)["0000"][0]["gpu"]


@pytest.mark.parametrize("site", ["local", "local-threads"])
def test_ctrl_c_twice_stops_now(workflow: Workflow, site: str) -> None:
    said = workflow.directory / "said"
    with said.open("w") as file:
        run, controller = begin(workflow, site=site, start_new_session=True, stdout=file)
    os.killpg(controller.pid, signal.SIGINT)
    assert eventually(lambda: "Ctrl-C again" in said.read_text(), 60), "two at once would be one"
    os.killpg(controller.pid, signal.SIGINT)
    start = time.monotonic()
    finish(controller, 130)
    assert time.monotonic() - start < 20
    assert eventually(lambda: not workflow.processes(), 10), workflow.processes()
    assert (run / "summary.json").exists()


def test_a_dead_interchange_ends_the_campaign_resumably(workflow: Workflow) -> None:
    run, controller = begin(workflow)
    (interchange,) = workflow.interchanges()
    interchange.kill()
    start = time.monotonic()
    output = finish(controller, 3)
    assert time.monotonic() - start < 40
    assert "interchange" in output and "resume with" in output
    assert eventually(lambda: not workflow.processes(), 20), workflow.processes()
    go_on(workflow)
    done = workflow.run("--resume", run)
    assert done.returncode == 0, done.stdout


def test_a_killed_worker_takes_its_training_along_and_the_trial_runs_again(workflow: Workflow) -> None:
    run, controller = begin(workflow)
    training = workflow.named("toy.py")[0]
    pool = {worker.pid for worker in workflow.workers()}
    victim = next(p for p in training.parents() if p.pid in pool)
    victim.kill()
    assert eventually(lambda: not training.is_running() or training.status() == psutil.STATUS_ZOMBIE, 10)
    go_on(workflow)
    output = finish(controller)
    assert "runs again" in output
    attempts = [len(list(trial.glob("attempt-*"))) for trial in (run / "trials").iterdir()]
    assert sorted(attempts)[-1] == 2
    check_single_success(run)


def test_a_killed_manager_is_replaced(workflow: Workflow) -> None:
    run, controller = begin(workflow)
    workflow.managers()[0].kill()
    assert eventually(lambda: any(run.glob("trials/*/attempt-2")), 60)
    go_on(workflow)
    assert "runs again" in finish(controller)
    check_single_success(run)


def test_a_pool_whose_tasks_nobody_hands_on_is_replaced(workflow: Workflow) -> None:
    """Parsl's pool outlives the process through which it shares tasks with its workers, and keeps them for ever."""
    run, controller = begin(workflow)
    min(workflow.workers(), key=lambda process: process.create_time()).kill()  # the first that the pool has started
    go_on(workflow)
    finish(controller)
    check_single_success(run)


def check_single_success(run: Path) -> None:
    for trial, attempts in results(run).items():
        assert sum(a["exit_code"] == 0 for a in attempts) == 1, trial


def test_a_timeout_frees_the_worker_and_kills_the_tree(workflow: Workflow) -> None:
    run = workflow.directory / "run"
    experiment = workflow.experiment(
        space=toy_space(sleep=60),
        search={"num_iterations": 1, "population_size": 2},
        stages={"train": {"timeout": "1s"}},
    )
    start = time.monotonic()
    done = workflow.run("--site", "local", "--experiment", experiment, "--output", run)
    assert done.returncode == 4, done.stdout
    assert "timeout after 1 s" in done.stdout
    assert time.monotonic() - start < 40
    assert eventually(lambda: not workflow.processes(), 20), workflow.processes()


STUBBORN = """#!/bin/bash
trap '' TERM INT HUP
setsid bash -c "trap '' TERM; sleep 600; sleep 600" &
(trap '' TERM; while :; do sleep 1; done) &
while :; do sleep 1; done
"""


@pytest.mark.parametrize("site", ["local", "local-threads"])
def test_a_timeout_frees_the_worker_of_a_stubborn_tree(workflow: Workflow, site: str) -> None:
    """It ignores TERM, forks, and has a child in a session of its own: gone within time-out and grace."""
    model = workflow.directory / "model"
    model.mkdir()
    (model / "train.sh").write_text(STUBBORN)
    (model / "train.sh").chmod(0o755)
    experiment = workflow.experiment(
        model={"scripts": str(model)},
        stages={"train": {"timeout": "2s"}},
        search={"num_iterations": 1, "population_size": 2},
    )
    grace = ("--set", "site.grace=1.5")
    done = workflow.run("--site", site, "--experiment", experiment, "--output", "run", *grace)
    assert done.returncode == 4, done.stdout
    for (attempt,) in results(workflow.directory / "run").values():
        assert attempt["ended_by"] == "timeout after 2 s"
        assert 3.5 <= attempt["ended"] - attempt["started"] < 20
    assert eventually(lambda: not workflow.processes(), 20), workflow.processes()


def test_workers_need_parsl_but_not_this_package(tmp_path: Path) -> None:
    """The app travels by value: a worker that cannot import ``workflow`` runs it."""
    (tmp_path / "app").write_bytes(serialize(_by_value()))
    code = (
        "import sys; from parsl.serialize import deserialize\n"
        "app = deserialize(open('app', 'rb').read())\n"
        "assert app('a command') == 'a command' and 'workflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, check=True)


def test_addresses_are_numbers(tmp_path: Path) -> None:
    """A name would make Parsl wait two minutes, no address make it ask the outside."""
    site = load_site(ROOT / "sites" / "local.yaml", {})
    executor = parsl_config(site, RunLock(Path("lock")), tmp_path).executors[0]
    assert executor.address == "127.0.0.1"
    assert executor.all_addresses == {"127.0.0.1"}


def test_every_worker_gets_a_gpu_of_its_own_and_none_is_lost_to_few_cores(tmp_path: Path) -> None:
    site = load_site(ROOT / "sites" / "local.yaml", {"gpus": ["2", "3", "5", "7"]})
    executor = parsl_config(site, RunLock(Path("lock")), tmp_path).executors[0]
    assert json.loads((tmp_path / "pool.json").read_text())["gpus"] == ["2", "3", "5", "7"]
    assert executor.max_workers_per_node == executor.workers_per_node == 4
    assert (os.cpu_count() or 1) / executor.cores_per_worker >= 4


def test_blocks_that_never_register_end_the_site_but_crashed_ones_do_not() -> None:
    found: list[Exception] = []
    executor = SimpleNamespace(set_bad_state_and_fail_all=found.append)
    crashed = {str(n): JobStatus(JobState.FAILED) for n in range(5)}
    stop_at_unregistered_blocks(executor, crashed)
    two_missing = {str(n): JobStatus(JobState.MISSING) for n in (5, 6)}
    stop_at_unregistered_blocks(executor, {**crashed, **two_missing})
    assert not found
    missing = {str(n): JobStatus(JobState.MISSING, message="no python") for n in range(5, 8)}
    stop_at_unregistered_blocks(executor, {**crashed, **missing})
    assert "no python" in str(found[0])


def test_a_command_line_is_limited_in_bytes() -> None:
    check_length("train", "a" * 120_000)
    with pytest.raises(InputError, match="its command line has 130000 bytes"):
        check_length("train", "é" * 65_000)


TWO_NODES = """
import itertools, shlex, sys
from parsl.launchers import SingleNodeLauncher
from workflow import runner, site, triage
from workflow.cluster import executors
from workflow.run import main

names = itertools.cycle(["good", "hole"])

class Named(SingleNodeLauncher):
    def __call__(self, *arguments):
        command = super().__call__(*arguments)
        return f"unshare --uts bash -c {shlex.quote(f'hostname {next(names)}; {command}')}"

Provider = executors.WatchedProvider
executors.WatchedProvider = lambda **options: Provider(init_blocks=2, min_blocks=2, max_blocks=2, launcher=Named())
site.Site.node_count = 2
runner._AVOID_DELAY = 2.0
triage.Nodes._is_quick = lambda self, outcome: True  # whatever the machine is busy with
sys.exit(main(sys.argv[1:]))
"""


def test_a_node_on_which_everything_fails_is_shunned(workflow: Workflow) -> None:
    """Two pools of workers on this machine, each with a host name of its own; on one of them no training works."""
    model = workflow.directory / "model"
    model.mkdir()
    scores = "echo '{\"mse\": 1}' > val_scores.json"
    (model / "train.sh").write_text(
        f"#!/bin/bash\n[ $(hostname) = hole ] && echo >> {model}/failed && echo no GPU && exit 1\n"
        f"while [ $(cat {model}/failed 2>/dev/null | wc -l) -lt 3 ]; do sleep 0.1; done\nsleep 1\n{scores}\n"
    )
    (model / "train.sh").chmod(0o755)
    experiment = workflow.experiment(
        model={"scripts": str(model)}, stages={"train": {}}, search={"strategy": "random", "evaluations": 16}
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), MARKER: workflow.marker}
    arguments = ["--site", "local", "--experiment", experiment, "--output", "run", *QUICK]
    done = subprocess.run(
        [sys.executable, "-c", TWO_NODES, *arguments],
        cwd=workflow.directory, env=env, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((workflow.directory / "run/summary.json").read_text())
    assert list(summary["shunned_nodes"]) == ["hole"], done.stdout
    assert "failed quickly on hole and succeeded elsewhere: exit code 1; last line: no GPU" in done.stdout
    assert (summary["trials"]["ok"], summary["trials"]["failed"]) == (16, 0)
    tried = [a["host"] for attempts in results(workflow.directory / "run").values() for a in attempts]
    assert tried.count("hole") < 16
    assert eventually(lambda: not workflow.processes(), 20), workflow.processes()


def test_a_silent_block_is_cancelled_again_where_the_scheduler_did_not_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("workflow.cluster.executors.time", SimpleNamespace(monotonic=lambda: clock[0]))
    site = load_site(ROOT / "sites" / "local.yaml", {})
    said: list[str] = []
    executor = parsl_config(site, RunLock(Path("lock")), tmp_path, say=said.append).executors[0]
    cancelled: list[list[str]] = []
    executor._provider = SimpleNamespace(cancel=cancelled.append)
    executor.connected_blocks = list
    executor.blocks_to_job_id = {"0": "17"}
    for seconds in (0.0, 121.0, 122.0, 901.0, 902.0, 1700.0, 1802.0):
        clock[0] = seconds
        executor._look_for_silent_blocks({"0": JobStatus(JobState.RUNNING)})
    assert cancelled == [["17"], ["17"]]
    assert len(said) == 1 and "job 17 has run for 121 s" in said[0]


def test_submissions_are_capped_in_every_minute() -> None:
    now = 0.0
    gate = SubmissionGate(3, lambda: now)
    assert [gate.admit(n) for n in (2, 2, 1)] == [2, 1, 0]
    now = 59.0
    assert gate.admit(5) == 0
    now = 60.0
    assert [gate.admit(n) for n in (1, 5)] == [1, 2]


def with_pool(workflow: Workflow, pool: str, *settings: str) -> subprocess.CompletedProcess[str]:
    """A campaign whose pools of workers are this program, with attributes of ``workflow.cluster.executors`` set."""
    (workflow.directory / "pool.py").write_text(pool)
    code = (
        "import sys\n"
        "from workflow.cluster import executors\n"
        "from workflow.run import main\n"
        "original = executors.script\n"
        "executors.script = lambda name: POOL if name == 'process_worker_pool.py' else original(name)\n"
        + "".join(f"executors.{setting}\n" for setting in settings)
        + "sys.exit(main(sys.argv[1:]))"
    ).replace("POOL", repr(str(workflow.directory / "pool.py")))
    experiment = workflow.experiment(search=LONG)
    env = {**os.environ, "PYTHONPATH": str(ROOT), MARKER: workflow.marker}
    return subprocess.run(
        [sys.executable, "-c", code, "--site", "local", "--experiment", experiment, "--output", "run"],
        cwd=workflow.directory, env=env, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_blocks_that_die_at_once_show_why_and_end_the_site(workflow: Workflow) -> None:
    """A real pool of workers that cannot start, as with a broken module on the compute nodes."""
    done = with_pool(workflow, "import sys; sys.exit('libcudart.so.12: cannot open shared object')")
    assert done.returncode == 3, done.stderr
    assert "blocks of workers ended before they registered" in done.stderr
    assert "libcudart.so.12: cannot open shared object" in done.stderr
    assert eventually(lambda: not workflow.processes(), 20), workflow.processes()
    assert workflow.run("--resume", "run").returncode == 0


def test_blocks_that_run_and_never_register_are_told_and_ended(workflow: Workflow) -> None:
    """As on nodes that cannot reach the controller: they would cost their whole walltime, in silence."""
    waits = "import sys, time; print('no route to the controller', file=sys.stderr, flush=True); time.sleep(600)"
    done = with_pool(workflow, waits, "REGISTRATION_WARNING = 1.0", "REGISTRATION_PATIENCE = 3.0")
    assert done.returncode == 3, done.stderr
    assert "and no worker has registered" in done.stdout, done.stdout
    assert "reaches this host at 127.0.0.1" in done.stdout
    assert "blocks of workers ended before they registered: no route to the controller" in done.stderr
    assert eventually(lambda: not workflow.processes(), 20), workflow.processes()


@pytest.mark.parametrize("place", ["plain", "t mp"])
def test_parsls_unquoted_commands_get_a_plain_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Also where the directory for temporary files has a blank itself."""
    for name in (place, "a run"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / place))
    alias, holder = plain_alias(tmp_path / "a run")
    assert holder is not None and " " not in str(alias) and alias.resolve() == tmp_path / "a run"
    shutil.rmtree(holder)


def test_a_block_whose_files_are_gone_is_as_alive_as_its_process() -> None:
    provider = WatchedProvider(init_blocks=0, max_blocks=1)
    job = {"status": JobStatus(JobState.RUNNING), "script_path": "/nowhere/at/all.sh"}
    provider.resources = {"1": {**job, "remote_pid": os.getpid()}, "2": {**job, "remote_pid": 2**22 + 1}}
    assert [status.state for status in provider.status(["1", "2"])] == [JobState.RUNNING, JobState.FAILED]


def test_a_full_disk_under_parsls_log_puts_no_traceback_on_the_terminal(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import logging\nlogging.basicConfig(filename='/dev/full')\nlogging.error('lost')\nprint('on')\n"
    )
    command = [sys.executable, "-c", _WITHOUT_LOGGING_ERRORS, program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("on\n", "")


def test_one_task_for_each_stage_and_no_other(workflow: Workflow) -> None:
    """Asking an AppFuture for an attribute would submit a task more."""
    code = (
        "import sys\n"
        "from workflow.cluster.kernel import Kernel\n"
        "from workflow.run import main\n"
        "end = Kernel.clean_up\n"
        "def count(self):\n"
        "    print('tasks', self.flow.task_count)\n"
        "    end(self)\n"
        "Kernel.clean_up = count\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    experiment = workflow.experiment(search={"num_iterations": 1, "population_size": 3})
    done = subprocess.run(
        [sys.executable, "-c", code, "--site", "local-threads", "--experiment", experiment, "--output", "run"],
        cwd=workflow.directory, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "tasks 5" in done.stdout


def test_two_campaigns_in_one_process(workflow: Workflow) -> None:
    code = (
        "from workflow.run import main\n"
        "for output in 'ab':\n"
        "    assert main(['--site', 'local', '--experiment', 'experiment.yaml', '--output', output]) == 0"
    )
    workflow.experiment(search={"num_iterations": 1, "population_size": 2})
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=workflow.directory, env=env, check=True, timeout=120)
    first, second = ((workflow.directory / name / "hpo.csv").read_text() for name in "ab")
    assert without_walltime(first) == without_walltime(second)


def test_an_unexpected_error_leaves_no_process(workflow: Workflow) -> None:
    code = (
        "import sys\n"
        "from workflow.campaign import Campaign\n"
        "from workflow.run import main\n"
        "def fail(self, trial, outcome):\n"
        "    raise RuntimeError('a bug of ours')\n"
        "Campaign._take = fail\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    experiment = workflow.experiment(search=LONG)
    env = {**os.environ, "PYTHONPATH": str(ROOT), MARKER: workflow.marker}
    done = subprocess.run(
        [sys.executable, "-c", code, "--site", "local", "--experiment", experiment, "--output", "run"],
        cwd=workflow.directory, env=env, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1 and "a bug of ours" in done.stderr
    assert eventually(lambda: not workflow.processes(), 20), workflow.processes()
    resumed = workflow.run("--resume", "run")
    assert resumed.returncode == 0, resumed.stdout
