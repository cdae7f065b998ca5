"""``workflow.status`` and ``workflow.runs`` on runs in every condition, and the live view in a real terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Workflow, eventually, toy_experiment, toy_space
from workflow.init import write_model


def status(workflow: Workflow, *arguments: str | Path) -> str:
    done = workflow.run(*arguments, module="workflow.status")
    assert done.returncode == 0, done.stdout
    return done.stdout


def as_json(workflow: Workflow, run: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(status(workflow, run, "--json"))
    return data


def begin(workflow: Workflow, **options: Any) -> subprocess.Popen[str]:
    experiment = workflow.experiment(
        space=toy_space(sleep=1.0), search={"strategy": "random", "evaluations": 40}, stages={"train": {}}
    )
    site = ("--site", "local-threads", "--set", "site.workers=2")
    return workflow.start(*site, "--experiment", experiment, "--output", "runs/long", **options)


def text_of(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def files(run: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(run.rglob("*"))}


def test_a_run_is_seen_from_its_beginning_to_its_end(workflow: Workflow) -> None:
    run = workflow.directory / "runs/long"
    controller = begin(workflow)
    assert eventually(lambda: '"type":"outcome"' in text_of(run / "journal.jsonl"), 60)
    seen = as_json(workflow, run)
    assert (seen["condition"], seen["resume"], seen["workers"]["total"]) == ("running", None, 2)
    assert seen["trials"]["budget"] == 40 and seen["trials"]["done"] >= 1
    assert eventually(lambda: any(trial["host"] for trial in as_json(workflow, run)["running"]), 20)
    assert f"led by process {controller.pid}" in status(workflow, run)

    controller.kill()
    controller.communicate(timeout=30)
    seen = as_json(workflow, run)
    assert (seen["condition"], seen["running"]) == ("stale", [])
    assert "is gone without a word" in status(workflow, run, "--watch")

    done = workflow.run("--resume", run, "--set", "search.evaluations=3")
    assert done.returncode == 0, done.stdout
    before = files(run)
    shown, seen = status(workflow, run), as_json(workflow, run)
    assert files(run) == before
    assert seen["condition"] == "ended" and seen["trials"]["failed"] == 0
    summary = json.loads((run / "summary.json").read_text())
    assert seen["best"]["value"] == summary["best_value"] and f"trial {summary['best_trial']}" in shown

    shutil.copytree(run, workflow.directory / "runs/torn")
    with (workflow.directory / "runs/torn/journal.jsonl").open("r+b") as file:
        file.write(b"garbage")
        file.seek(0, os.SEEK_END)
        file.write(b'{"type":"torn')
    torn = status(workflow, workflow.directory / "runs/torn")
    assert "1 line of its journal cannot be read and had to be left out" in torn
    listed = workflow.run(module="workflow.runs").stdout
    assert re.search(r"^long +ended +\d+/\d+ +0 +[\d.e-]+ +\d{4}-", listed, flags=re.M), listed
    assert "torn" in listed


def test_a_terminal_shows_the_view_and_what_is_said_on_ctrl_c(workflow: Workflow) -> None:
    leader, follower = pty.openpty()
    env = {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    controller = begin(workflow, stdin=follower, stdout=follower, stderr=follower, env=env)
    os.close(follower)
    shown = read_until(leader, "best  ", 60)
    assert "workers" in shown and "last in the log" in shown
    controller.send_signal(signal.SIGINT)
    shown += read_until(leader, "resume with", 60)
    assert controller.wait(60) == 130
    os.close(leader)
    run = workflow.directory / "runs/long"
    assert f"it was interrupted\nresume with: python -m workflow.run --resume {run}\n" in status(workflow, run)
    assert re.search(r"waiting for the trials that have begun to end \(of [\d, ]+\); Ctrl-C again stops now\n", shown)
    assert re.search(r"\d+/40 trials, \d running, 0 failed \| best [^\n]*\ninterrupted; resume with", shown)


def read_until(terminal: int, text: str, seconds: float) -> str:
    """What a terminal shows, without what moves its cursor, up to a text and the line's end."""
    shown, deadline = "", time.monotonic() + seconds
    while not re.search(rf"{text}.*\n", shown):
        assert time.monotonic() < deadline, shown
        shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", os.read(terminal, 1 << 16).decode(errors="replace"))
    return shown


def command(
    module: str, *arguments: str | Path, cwd: Path | None = None, stdout: Any = subprocess.PIPE, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"workflow.{module}", *map(str, arguments)], stdout=stdout, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "PYTHONPATH": str(ROOT), **variables}, timeout=60, cwd=cwd,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda path: None, "no such directory"),
        (lambda path: path.touch(), "is no directory"),
        (lambda path: path.mkdir(), "holds no run"),
        (write_model, "holds an experiment, but no run of it (neither site.yaml nor journal.jsonl)"),
        (lambda path: (path.mkdir(), (path / "journal.jsonl").write_text("{}\n[]\n")), "holds no valid record"),
        (lambda path: (path.mkdir(), (path / "journal.jsonl").mkdir()), "cannot be read (Is a directory)"),
        (
            lambda path: (path.mkdir(), (path / "journal.jsonl").write_text('{"type": "campaign", "version": 99}\n')),
            "format version 99",
        ),
    ],
)
def test_what_is_no_run_is_bad_input(tmp_path: Path, make: Any, problem: str) -> None:
    make(tmp_path / "run")
    done = command("status", tmp_path / "run")
    assert done.returncode == 2 and done.stdout == ""
    assert problem in done.stderr and "    -> " in done.stderr


def test_a_run_that_nobody_has_begun_is_shown_as_such(tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text(json.dumps(toy_experiment()))
    (tmp_path / "site.yaml").touch()
    told = command("status", tmp_path).stdout
    assert f"no controller has begun it yet\nresume with: python -m workflow.run --resume {tmp_path}\n" in told


def test_runs_lists_what_can_be_read(tmp_path: Path) -> None:
    assert command("runs", tmp_path).stdout == f"no runs in {tmp_path}\n"
    for name, text in (("new", None), ("broken", "[]\n")):
        (tmp_path / name).mkdir()
        for file in ("experiment.yaml", "site.yaml"):
            (tmp_path / name / file).touch()
        if text is not None:
            (tmp_path / name / "journal.jsonl").write_text(text)
    write_model(tmp_path / "model")
    done = command("runs", tmp_path, "--json")
    assert [run["name"] for run in json.loads(done.stdout)] == ["new"]
    assert f"warning: {tmp_path / 'broken/journal.jsonl'}: holds no valid record" in done.stderr
    missing = command("runs", cwd=tmp_path)
    assert missing.returncode == 2 and f"{tmp_path / 'runs'}: cannot be read (No such file" in missing.stderr


@pytest.mark.parametrize("json_too", [(), ("--json",)])
def test_an_output_on_a_full_disk_is_told(tmp_path: Path, json_too: tuple[str, ...]) -> None:
    (tmp_path / "new").mkdir()
    for file in ("experiment.yaml", "site.yaml"):
        (tmp_path / "new" / file).touch()
    for module, path in (("status", tmp_path / "new"), ("runs", tmp_path)):
        with Path("/dev/full").open("w") as full:
            done = command(module, path, *json_too, stdout=full)
        assert done.returncode == 3 and done.stderr.startswith("error: the output cannot be written (No space")


def test_runs_has_a_line_for_each_whatever_its_name_is(tmp_path: Path) -> None:
    names = ("[bold]", "a[red]b", "one\nline", "n" * 200)
    for name in names:
        (tmp_path / name).mkdir()
        for file in ("experiment.yaml", "site.yaml"):
            (tmp_path / name / file).touch()
    first, *lines = command("runs", tmp_path).stdout.splitlines()
    assert first.split() == ["name", "state", "trials", "failed", "best", "started", "last", "record"]
    assert sorted(line.split(" new ")[0].strip() for line in lines) == sorted([*names[:2], "one line", names[3]])
    done = command("runs", tmp_path, COLUMNS="40", FORCE_COLOR="1").stdout
    assert "trials" in done and "started" not in done
    wide = command("runs", tmp_path, COLUMNS="120", FORCE_COLOR="1").stdout
    assert "started" in wide and "last record" in wide, "a long name takes several lines, not their room"
