"""What the runner makes of result files, without a campaign around it."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import subprocess
import threading
import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from parsl.config import Config
from parsl.dataflow.dflow import DataFlowKernel
from parsl.executors import ThreadPoolExecutor
from parsl.jobs.states import JobState

from tests.conftest import RESULT, small_disk, toy_experiment
from workflow import runner as module
from workflow.attempt import log_excerpt, result_of
from workflow.cluster.backend import ClusterBackend
from workflow.cluster.executors import config_of, parsl_config
from workflow.cluster.kernel import Kernel
from workflow.cluster.parsl_log import log_to
from workflow.config.load import load_experiment
from workflow.errors import SiteError
from workflow.lock import RunLock
from workflow.rundir import RunDir
from workflow.runner import Sent, StageRunner
from workflow.site import find_site, load_site
from workflow.state import Inputs
from workflow.stopping import StoppingSettings
from workflow.trial import Outcome
from workflow.worker.contract import HEARTBEAT, STOP
from workflow.worker.processes import identity


@pytest.fixture
def runner(tmp_path: Path) -> StageRunner:
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(toy_experiment()))
    site = load_site(find_site("local-threads"), {})
    return StageRunner(site, load_experiment(path, {}), RunDir(tmp_path), RunLock(tmp_path / "lock"))


def leave_result(runner: StageRunner, trial: int, **changes: Any) -> Path:
    """The result file of a trial's first attempt, as its supervisor writes it."""
    directory = runner.run.trial_attempt(trial, 1)
    directory.mkdir(parents=True)
    (directory / "result.json").write_text(json.dumps({**RESULT, **changes}))
    return directory


def test_what_finished_is_recovered_and_what_was_stopped_is_not(runner: StageRunner) -> None:
    leave_result(runner, 0)
    leave_result(runner, 1, exit_code=3, log_tail="boom")
    leave_result(runner, 2, ended_by="stopped: another controller has taken over", exit_code=None)
    leave_result(runner, 3, exit_code=-9)
    runner.run.trial_attempt(4, 1).mkdir(parents=True)
    assert sorted(runner.attempts("train")) == [(n, 1) for n in range(5)]
    found = {outcome.trial_id: outcome.kind for outcome in runner.recover("train", runner.attempts("train"))}
    assert found == {0: "ok", 1: "failed"}


@pytest.fixture
def watching(runner: StageRunner) -> StageRunner:
    """A runner that looks for intermediate values, as often as it is asked."""
    experiment = replace(runner.experiment, early_stopping=StoppingSettings())
    return StageRunner(replace(runner.site, poll=0.0), experiment, runner.run, runner.lock)


def running_log(runner: StageRunner, trial: int, text: str) -> Path:
    """The log of a trial's first attempt, which runs."""
    path = runner.run.trial_attempt(trial, 1) / "model.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    runner._logs.follow(trial, path)
    return path


def test_intermediate_values_of_running_trials_are_told_once(watching: StageRunner) -> None:
    first = running_log(watching, 0, "epoch 1 val_loss 0.5\nepoch 2 val_lo")
    running_log(watching, 1, "epoch 1 train_loss 0.4\n")
    assert list(watching.intermediate()) == [(0, [(1, 0.5)])]
    with first.open("a") as file:
        file.write("ss 0.25\nepoch 3 val_loss 0.125\n")
    watching._logs._next_look = 0.0  # a first look that took some milliseconds would put it off
    assert list(watching.intermediate()) == [(0, [(2, 0.25), (3, 0.125)])]
    watching._logs._next_look = 0.0
    assert list(watching.intermediate()) == []


def test_logs_are_not_read_more_often_than_supervisors_look(watching: StageRunner) -> None:
    watching = StageRunner(replace(watching.site, poll=100.0), watching.experiment, watching.run, watching.lock)
    running_log(watching, 0, "epoch 1 val_loss 0.5\n")
    assert list(watching.intermediate()) == [(0, [(1, 0.5)])]
    running_log(watching, 1, "epoch 1 val_loss 0.5\n")
    assert list(watching.intermediate()) == []


def test_logs_are_read_the_less_often_the_longer_the_work_on_their_news_takes(watching: StageRunner) -> None:
    running_log(watching, 0, "epoch 1 val_loss 0.5\n")
    for _ in watching.intermediate():
        time.sleep(0.05)
    assert watching._logs._next_look - time.monotonic() > 0.9


def test_hundreds_of_logs_cost_little(watching: StageRunner) -> None:
    lines = "".join(f"epoch {step}/150 train_loss 0.12345 val_loss 0.12345\n" for step in range(10))
    for trial in range(400):
        running_log(watching, trial, lines)
    begun = time.process_time()
    assert sum(len(news) for _, news in watching.intermediate()) == 4000
    assert time.process_time() - begun < 1.0


def test_a_trial_that_is_hopeless_is_asked_to_stop_with_the_reason(watching: StageRunner) -> None:
    directory = running_log(watching, 0, "").parent
    watching.stop_early(0, "too bad")
    assert (directory / STOP).read_text() == "too bad"
    watching.stop_early(0, "still too bad")
    assert (directory / STOP).read_text() == "still too bad"
    watching.stop_early(7, "one that has ended")
    assert {path.name for path in directory.iterdir()} == {"model.log", STOP}


def test_what_was_stopped_early_is_recovered_with_its_curve(watching: StageRunner) -> None:
    directory = leave_result(watching, 0, ended_by="stopped: hopeless: too bad", exit_code=None)
    (directory / "model.log").write_text("epoch 1 val_loss 0.5\nepoch 2 val_loss 0.25")
    leave_result(watching, 1)
    found = watching.recover("train", [(0, 1), (1, 1)])
    assert [(outcome.kind, outcome.curve) for outcome in found] == [("stopped", ((1, 0.5), (2, 0.25))), ("ok", ())]
    assert found[0].metrics == {"val_loss": 0.25}


def test_logs_are_not_read_where_nobody_wants_their_values(runner: StageRunner) -> None:
    (leave_result(runner, 0) / "model.log").write_text("epoch 1 val_loss 0.5\n")
    assert runner.recover("train", [(0, 1)])[0].curve == ()


def test_a_models_own_result_file_is_not_ours(runner: StageRunner) -> None:
    (leave_result(runner, 0) / "result.json").write_text('{"accuracy": 0.9}')
    (leave_result(runner, 1) / "result.json").write_text("[1, 2]")
    (leave_result(runner, 2) / "result.json").write_text("[" * 100_000)
    leave_result(runner, 3, scores=5)
    leave_result(runner, 4, exit_code="0")
    assert runner.recover("train", [(number, 1) for number in range(5)]) == []


def test_a_container_that_cannot_run_is_a_broken_setup(runner: StageRunner) -> None:
    directory = leave_result(runner, 0, exit_code=255, log_tail='FATAL:   "train.sh": executable file not found\n')
    result = result_of(directory)
    assert result is not None
    found = runner._judged(Sent("train", 0, 1, directory), result)
    assert (found.kind, found.cause) == ("lost", "setup")


def test_a_models_own_exit_code_255_is_its_own(runner: StageRunner) -> None:
    """That of sys.exit(-1), beside a logger's level."""
    directory = leave_result(runner, 0, exit_code=255, log_tail="FATAL: loss diverged\n")
    result = result_of(directory)
    assert result is not None
    found = runner._judged(Sent("train", 0, 1, directory), result)
    assert (found.kind, found.cause) == ("failed", "model")


def test_a_lost_attempt_is_taken_once_it_has_ended(runner: StageRunner) -> None:
    """A killed worker's training may take its time to end, and may even end well: its retry has to wait for that."""
    directory = runner.run.trial_attempt(0, 1)
    directory.mkdir(parents=True)
    beat = directory / HEARTBEAT
    beat.touch()
    outcome: Future[Outcome] = Future()
    runner._running[outcome] = Sent("train", 0, 1, directory)
    collecting = threading.Thread(target=runner._collect, args=(outcome, RuntimeError("worker lost")))
    collecting.start()
    for number in range(20):
        time.sleep(0.1)
        os.utime(beat, ns=(number, number))
        assert not outcome.done(), "it still beats"
    result = leave_result(runner, 1) / "result.json"
    result.rename(directory / "result.json")
    assert outcome.result(timeout=20).kind == "ok"
    collecting.join()


def leave_beat(runner: StageRunner, trial: int, **process: Any) -> Path:
    """The sign of life of a trial's first attempt, as its supervisor writes it."""
    directory = runner.run.trial_attempt(trial, 1)
    directory.mkdir(parents=True)
    (directory / HEARTBEAT).write_text(json.dumps({**process, "at": time.time()}))
    return directory


def seconds_of_recovery(runner: StageRunner) -> float:
    begin = time.monotonic()
    assert runner.recover("train", runner.attempts("train")) == []
    return time.monotonic() - begin


def test_a_supervisor_on_this_host_is_waited_for_as_long_as_it_lives(runner: StageRunner) -> None:
    """Also where it is slow to beat, as on a machine that swaps."""
    runner.site = replace(runner.site, patience=0.5)
    process = subprocess.Popen(["sleep", "100"])
    try:
        leave_beat(runner, 0, **identity(process.pid))
        threading.Timer(1.2, process.kill).start()
        seconds_of_recovery(runner)
        assert process.wait(0) == -signal.SIGKILL
    finally:
        process.kill()
        process.wait()
    runner.site = replace(runner.site, patience=60.0)
    assert seconds_of_recovery(runner) < 10.0, "it is known to be dead"


def test_a_supervisor_elsewhere_is_waited_for_while_it_beats(
    runner: StageRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock of its own: it beats for 4 s."""
    runner.site = replace(runner.site, patience=1.0)
    heard: list[str] = []
    runner.say = heard.append
    beat = leave_beat(runner, 0, host="elsewhere", pid=1) / HEARTBEAT
    clock = 0.0

    def sleep(seconds: float) -> None:
        nonlocal clock
        clock += seconds
        if clock < 4.0:
            os.utime(beat, (clock, clock))

    with monkeypatch.context() as context:
        fake = SimpleNamespace(monotonic=lambda: clock, sleep=sleep, time=time.time)
        context.setattr("workflow.attempt.time", fake)
        context.setattr("workflow.runner.time", fake)
        seconds_of_recovery(runner)
    assert 4.5 < clock < 6.0
    assert heard == ["waiting for 1 attempts that may still run to end, or to fall silent"]
    runner.lock.path.touch()
    os.utime(beat, (time.time() - 100,) * 2)
    runner.site = replace(runner.site, patience=60.0)
    assert seconds_of_recovery(runner) < 10.0, "it has been silent for long"


def test_a_failure_on_a_full_disk_is_not_adopted(runner: StageRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "unwritable", lambda directory, blamed: "the disk is full")
    outcome: Future[Outcome] = Future()
    runner._running[outcome] = Sent("train", 0, 1, leave_result(runner, 0, exit_code=1))
    runner._collect(outcome, None)
    assert (outcome.result().kind, outcome.result().cause) == ("lost", "site")
    assert runner.recover("train", [(0, 1)]) == []


@pytest.mark.parametrize(
    ("log", "kind", "cause"),
    [("OSError: [Errno 28] No space left on device\ntidied up\n", "lost", "site"), ("boom\n", "failed", "model")],
)
def test_a_disk_that_has_room_again_once_the_model_has_tidied_up(
    runner: StageRunner, tmp_path: Path, log: str, kind: str, cause: str
) -> None:
    """On a disk of 20 MB, where a small file can be written."""
    with small_disk(tmp_path / "disk", "20m"):
        runner.run = runner.there = RunDir(tmp_path / "disk")
        runner.run.journal.touch()
        outcome: Future[Outcome] = Future()
        runner._running[outcome] = Sent("train", 0, 1, leave_result(runner, 0, exit_code=1, log_tail=log))
        runner._collect(outcome, None)
    assert (outcome.result().kind, outcome.result().cause) == (kind, cause)


def test_a_disk_that_has_become_read_only_stops_the_campaign(runner: StageRunner, tmp_path: Path) -> None:
    """Where the result cannot be removed, either, which is not adopted all the same."""
    disk = tmp_path / "disk"
    with small_disk(disk, "20m"):
        runner.run = runner.there = RunDir(disk)
        runner.run.journal.touch()
        log = "OSError: [Errno 30] Read-only file system: 'model.npz'\n"
        outcome: Future[Outcome] = Future()
        runner._running[outcome] = Sent("train", 0, 1, leave_result(runner, 0, exit_code=1, log_tail=log))
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        runner._collect(outcome, None)
        assert runner.recover("train", [(0, 1)]) == []
    found = outcome.result()
    assert (found.kind, found.cause) == ("lost", "site")
    assert found.evidence == f"{disk}: Read-only file system; check the path and its permissions"


@pytest.mark.parametrize("words", ["[Errno 28] No space left on device", "[Errno 30] Read-only file system"])
def test_a_failure_that_blames_the_disk_runs_again_at_a_resume(runner: StageRunner, words: str) -> None:
    leave_result(runner, 0, exit_code=1, log_tail=f"OSError: {words}: 'model.npz'\n")
    assert runner.recover("train", [(0, 1)]) == []


def test_what_is_bound_decides_about_reuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its contents; the user hears of what is too large for that, where earlier runs are to be reused."""
    more, image, earlier = tmp_path / "more", tmp_path / "model.sif", tmp_path / "earlier"
    for directory in (more, earlier):
        directory.mkdir()
    for file in (image, earlier / "journal.jsonl"):
        file.touch()
    (more / "table.csv").write_text("1,2\n")
    experiment = toy_experiment(
        model={"image": str(image), "binds": [f"{more}:/more"]}, stages={"train": {}}, reuse=[str(earlier)]
    )
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(experiment))

    def look() -> tuple[Inputs, str]:
        site = load_site(find_site("local-threads"), {})
        loaded = load_experiment(tmp_path / "experiment.yaml", {})
        runner = StageRunner(site, loaded, RunDir(tmp_path / "run"), RunLock(tmp_path / "lock"))
        return runner.inputs({"image": {"sha256": "x"}}), "\n".join(runner.notes)

    first, notes = look()
    assert None not in first and look()[0] == first and "bind" not in notes
    (more / "table.csv").write_text("1,3\n")
    assert look()[0].digest != first.digest and look()[0].given != first.given
    monkeypatch.setattr("workflow.reuse.MOST_FILES", 0)
    assert f"bind {more}: cannot be read, or holds more than" in look()[1]


def test_long_lines_of_a_log_are_cut_in_messages(runner: StageRunner) -> None:
    (runner.run.path / "model.log").write_text(f"short\n{'x' * 3000}\n")
    shown = log_excerpt(runner.run.path).splitlines()
    assert shown[1:3] == ["    | short", f"    | {'x' * 297}..."]


def test_a_file_in_the_place_of_parsls_directory_is_a_site_error(runner: StageRunner) -> None:
    runner.run.parsl.touch()
    with pytest.raises(SiteError, match="parsl: cannot be made"), runner:
        pass


def test_a_start_that_fails_half_way_leaves_no_process(runner: StageRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsl's own clean-up ends nothing then: its kernel was never made."""
    started: list[Any] = []

    def fails(kernel: DataFlowKernel, executors: Any) -> None:
        add(kernel, executors)
        started.extend(executors)
        raise RuntimeError("no more")

    add = DataFlowKernel.add_executors
    monkeypatch.setattr(DataFlowKernel, "add_executors", fails)
    site = load_site(find_site("local"), {})
    starting = StageRunner(site, runner.experiment, runner.run, runner.lock)
    with pytest.raises(SiteError, match="Parsl cannot start: no more"), starting:
        pass
    (executor,) = started
    assert executor.interchange_proc.wait(10) is not None
    time.sleep(2)  # Parsl's own thread looks every second whether blocks are to be submitted
    states = [job["status"].state for job in executor.provider.resources.values()]
    assert set(states) <= {JobState.CANCELLED}


def test_other_names_of_a_runs_directory_go_with_the_next_controller(tmp_path: Path) -> None:
    """Parsl's commands carry no blanks; one that is killed leaves its name behind."""
    directory = tmp_path / "a run"

    def began() -> tuple[Kernel, Path]:
        kernel, names = Kernel("here", directory), []

        def configure(name: Path) -> Config:
            names.append(name)
            return config_of(ThreadPoolExecutor(), name)

        kernel.start(configure)
        kernel.clean_up()
        return kernel, names[0]

    (_, left), (hung, second), (kernel, name) = began(), began(), began()
    assert len({left, second, name}) == 3 and left.readlink() == name.readlink() == directory
    hung.close()
    assert [each.parent.exists() for each in (left, second, name)] == [False, False, True], "its successor runs"
    assert (directory / "aliases").read_text() == f"{name.parent}\n"
    kernel.close()
    assert not name.parent.exists() and (directory / "aliases").read_text() == ""


def test_blocks_that_find_no_room_on_the_disk_say_what_helps(runner: StageRunner, tmp_path: Path) -> None:
    site = load_site(find_site("local"), {})
    (executor,) = parsl_config(site, runner.lock, tmp_path).executors
    executor.set_bad_state_and_fail_all(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    backend = ClusterBackend(site, runner.run, runner.lock, None, runner.say)
    backend._kernel.flow, backend._pools.executor = SimpleNamespace(), executor
    assert backend.failure().endswith("No space left on device\n    -> make room")


def test_a_log_that_cannot_be_opened_is_no_error(tmp_path: Path) -> None:
    """Parsl logs in the callback that ends a future: an exception there would let the campaign wait for ever."""
    end = log_to(tmp_path / "no such directory" / "parsl.log")
    try:
        logging.getLogger("parsl").warning("a warning")
    finally:
        end()
