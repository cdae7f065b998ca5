"""Campaigns over the SDK's real classes: nothing is shared with the endpoint but what tasks carry."""

from __future__ import annotations

import json
import signal
import sys
import time

import pytest

from tests.conftest import eventually, journal, results
from tests.globus.conftest import ENDPOINT, WORKERS, Globus, finish
from tests.globus.service import api_error


def test_a_campaign_end_to_end(stand_in: Globus) -> None:
    stand_in.prepare()
    stand_in.start_endpoint()
    code, output = stand_in.run("--site", stand_in.site(), "--experiment", stand_in.experiment())
    assert code == 0, output
    run, there = stand_in.here / "toy-run", stand_in.remote_run
    assert len(results(run)) == 8 and len((run / "hpo.csv").read_text().splitlines()) == 9
    found = [result for attempts in results(run).values() for result in attempts]
    assert {result["gpu"] for result in found} == {f"gpu-{n}" for n in range(WORKERS)}
    summary = json.loads((run / "summary.json").read_text())
    winner = there / "trials" / f"{summary['best_trial']:04d}" / "attempt-1"
    assert summary["best_directory"] == str(winner) and summary["test_scores"] == {"mse": 0.5}
    assert str(winner) in output
    infer = json.loads((there / "infer" / "attempt-1" / "argv.json").read_text())
    assert infer[infer.index("--model_dir") + 1] == str(winner)
    assert infer[infer.index("--test_ml_data_dir") + 1] == str(there / "preprocess" / "attempt-1")
    assert infer[0] == str(there / "data") and (there / "data").is_dir()
    # What is the endpoint's stays there (the toy model has no log), and nothing there speaks of the controller's paths.
    assert {path.name for path in run.glob("trials/*/attempt-*/*")} == {"result.json"}
    for path in there.rglob("*"):
        assert not path.is_file() or str(stand_in.here) not in path.read_text(errors="replace"), path


def test_submissions_go_in_batches_and_one_function_is_registered(stand_in: Globus) -> None:
    stand_in.prepare()
    stand_in.start_endpoint()
    site = stand_in.site(workers=8)
    code, output = stand_in.run("--site", site, "--experiment", stand_in.experiment(), window=16)
    assert code == 0, output
    rows = [line.split() for line in (stand_in.spool / "submissions").read_text().splitlines()]
    assert sum(int(tasks) for _, tasks, _ in rows) == 10 and len(rows) < 10
    assert {functions for *_, functions in rows} == {"1"}


def test_what_is_lost_never_comes_or_comes_late_runs_again(stand_in: Globus) -> None:
    """Tasks: 0 is preprocess, 1 to 8 are the first attempts of the trials.

    On a busy machine others may wait too long, too: that must not make them fail.
    """
    first = stand_in.remote_run / "trials/0000/attempt-1"
    stand_in.prepare(task_1=str(first / ".workflow-heartbeat"), task_2="never", task_3=60)
    stand_in.start_endpoint()
    site = stand_in.site(queue_timeout=15, workers=4)
    arguments = ("--site", site, "--experiment", stand_in.experiment(sleep=5, timeout=15, max_attempts=20))
    code, output = stand_in.run(*arguments, margin=0.5)
    assert code == 0, output
    lost = {o["trial_id"]: o for o in reversed(outcomes(stand_in)) if o["kind"] == "lost"}
    assert {0, 1, 2} <= lost.keys() and {o["cause"] for o in lost.values()} == {"infrastructure"}
    assert "WorkerLost: Task failure due to loss of worker" in lost[0]["evidence"]
    assert f"endpoint {ENDPOINT}: no answer within queue_timeout (15 s)" in lost[1]["evidence"]
    assert "no answer" in lost[2]["evidence"]
    ok = {o["trial_id"]: o["attempt"] for o in outcomes(stand_in) if o["kind"] == "ok"}
    assert sorted(ok) == list(range(8)) and ok[1] > 1 and ok[2] > 1
    left = json.loads((first / "result.json").read_text())
    assert left["ended_by"].startswith("stopped")  # nothing outlives its worker
    trials = stand_in.here / "toy-run" / "trials"
    assert not list((trials / "0001" / "attempt-1").iterdir()) and not list((trials / "0002" / "attempt-1").iterdir())


def outcomes(stand_in: Globus) -> list[dict[str, object]]:
    return [record["outcome"] for record in journal(stand_in.here / "toy-run") if record["type"] == "outcome"]


def test_the_end_does_not_wait_for_what_cannot_be_stopped(stand_in: Globus) -> None:
    stand_in.prepare()
    stand_in.start_endpoint()
    process = stand_in.controller(
        "--output", stand_in.here / "toy-run", "--site", stand_in.site(), "--experiment", stand_in.experiment(60, 90)
    )
    beats = stand_in.remote_run / "trials" / "0000" / "attempt-1" / ".workflow-heartbeat"
    assert eventually(beats.exists, 60)
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code, output = finish(process)
    assert (code, time.monotonic() - start < 20) == (130, True), output
    assert f"stages may still run or wait on endpoint {ENDPOINT}" in output and "Traceback" not in output
    code, output = finish(stand_in.controller("--resume", stand_in.here / "toy-run", "--dry-run"))
    assert code == 0 and str(stand_in.remote_run) in output and sys.prefix not in output, output


def test_what_ended_while_no_controller_lived_is_adopted(stand_in: Globus) -> None:
    stand_in.prepare()
    stand_in.start_endpoint()
    go = stand_in.spool / "go"
    arguments = ("--site", stand_in.site(), "--experiment", stand_in.experiment(until=go, timeout=90))
    process = stand_in.controller("--output", stand_in.here / "toy-run", *arguments)
    trials = stand_in.remote_run / "trials"
    assert eventually((trials / "0001" / "attempt-1" / ".workflow-heartbeat").exists, 60)
    process.kill()
    process.wait()
    go.touch()
    left = [trials / name / "attempt-1" / "result.json" for name in ("0000", "0001", "0002")]
    assert eventually(lambda: all(path.exists() for path in left), 60)
    assert not results(stand_in.here / "toy-run")
    code, output = finish(stand_in.controller("--resume", stand_in.here / "toy-run"))
    assert code == 0 and "3 trials had finished while no controller lived" in output, output
    assert {o["attempt"] for o in outcomes(stand_in)} == {1} and len(outcomes(stand_in)) == 8


def test_without_a_login_it_neither_asks_nor_waits(stand_in: Globus) -> None:
    stand_in.prepare()
    arguments = ["--site", str(stand_in.site()), "--experiment", str(stand_in.experiment()), "--output", "toy-run"]
    process = stand_in.start([sys.executable, "-m", "workflow.run", *arguments])
    code, output = finish(process)
    assert code == 3 and "nobody is logged in to Globus here" in output and "    -> log in once" in output
    assert "Traceback" not in output


REFUSALS = [
    (404, "no endpoint", "there is no such endpoint"),
    (403, "not yours", "you may not use it"),
    (401, "expired", "refuses the login"),
    (500, "overloaded", "answers with an error"),
]


@pytest.mark.parametrize(("status", "message", "expected"), REFUSALS)
def test_an_endpoint_that_cannot_be_used(stand_in: Globus, status: int, message: str, expected: str) -> None:
    stand_in.prepare()
    arguments = ("--site", stand_in.site(), "--experiment", stand_in.experiment())
    code, output = stand_in.run(*arguments, refusal=[status, message])
    assert code == 3 and expected in output and message in output and "Traceback" not in output, output


def test_an_endpoint_that_is_offline(stand_in: Globus) -> None:
    stand_in.prepare()
    code, output = stand_in.run("--site", stand_in.site(), "--experiment", stand_in.experiment(), status="offline")
    assert code == 3 and "is offline\n    -> start it there" in output and "Traceback" not in output, output


def test_the_check_runs_the_model_there(stand_in: Globus) -> None:
    stand_in.prepare()
    stand_in.start_endpoint()
    arguments = ("--site", stand_in.site(), "--experiment", stand_in.experiment())
    code, output = finish(stand_in.controller(*arguments, check=True))
    assert code == 0 and f"pass  endpoint: image, scripts and data are on endpoint {ENDPOINT}" in output, output
    assert "pass  train" in output and "pass  infer" in output
    assert "WARN  GPU: the training was given GPU gpu-" in output and "used cannot be seen: nvidia-smi" in output


def test_a_login_that_ends_in_the_middle_stops_the_campaign(stand_in: Globus) -> None:
    stand_in.prepare()
    stand_in.start_endpoint()
    arguments = ("--site", stand_in.site(), "--experiment", stand_in.experiment())
    code, output = stand_in.run(*arguments, refusal=[401, "the token has expired"], refuse_after=2)
    assert code == 3 and "Globus Compute takes no more tasks" in output and "expired" in output, output
    assert "Traceback" not in output
    code, output = finish(stand_in.controller("--resume", stand_in.here / "toy-run"))
    assert code == 0 and len(results(stand_in.here / "toy-run")) == 8, output


def test_an_error_of_the_service_is_made_as_the_sdk_makes_it() -> None:
    assert api_error(404, "no endpoint").http_status == 404


def test_another_run_of_the_same_name_is_refused(stand_in: Globus) -> None:
    stand_in.prepare()
    stand_in.start_endpoint()
    stand_in.remote_run.mkdir(parents=True)
    (stand_in.remote_run / ".workflow-run").write_text("somebody else's")
    code, output = stand_in.run("--site", stand_in.site(), "--experiment", stand_in.experiment())
    assert code == 3 and "belongs to another run of this name" in output, output
