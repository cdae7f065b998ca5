"""What the check finds without running the model."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import toy_experiment
from workflow import doctor
from workflow.config import load_experiment
from workflow.findings import Finding
from workflow.run import main
from workflow.site import load_site


def findings(directory: Path, on: dict[str, Any] | None = None, **experiment: Any) -> list[Finding]:
    (directory / "site.yaml").write_text(yaml.safe_dump(on or {"scheduler": "threads", "gpus": 0}))
    (directory / "e.yaml").write_text(yaml.safe_dump(toy_experiment(**experiment)))
    site = load_site(directory / "site.yaml", {})
    loaded = load_experiment(directory / "e.yaml", {}, remote=site.endpoint is not None)
    return list(doctor.examine(loaded, site, directory / "runs"))


def test_a_training_that_may_outlast_a_job_is_a_warning(tmp_path: Path) -> None:
    """Of a walltime that is an hour unless the site says otherwise."""
    stages = {"train": {"timeout": "2h"}}
    found = findings(tmp_path, {"scheduler": "slurm", "gpus": 1}, stages=stages)
    assert level(found, "walltime") == "warn"
    found = findings(tmp_path, {"scheduler": "slurm", "gpus": 1, "walltime": "2h"}, stages=stages)
    assert "walltime" not in [finding.subject for finding in found]


def test_an_address_of_another_machine_fails(tmp_path: Path) -> None:
    site = {"scheduler": "local", "gpus": 0}
    assert level(findings(tmp_path, {**site, "address": "203.0.113.9"}), "address") == "fail"
    assert "address" not in [finding.subject for finding in findings(tmp_path, site)]


GLOBUS = {
    "scheduler": "globus_compute", "endpoint": "00000000-0000-0000-0000-000000000000", "endpoint_directory": "/scratch",
}  # fmt: skip
ALL_TIMED = {stage: {"timeout": "1h"} for stage in ("preprocess", "train", "infer")}


@pytest.fixture
def no_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GLOBUS_COMPUTE_CLIENT_ID", "GLOBUS_COMPUTE_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.usefixtures("no_login")
def test_what_an_endpoint_lacks_is_found_without_asking_for_it(tmp_path: Path) -> None:
    found = {each.subject: each for each in findings(tmp_path, GLOBUS, model={"scripts": "/toy"}, stages=ALL_TIMED)}
    assert (found["endpoint"].level, found["login"].level) == ("fail", "fail")
    assert "is the shipped file's placeholder" in found["endpoint"].text
    assert found["login"].remedy.startswith("log in once on this machine")


@pytest.mark.usefixtures("no_login")
def test_without_the_sdk_the_check_and_the_run_say_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "globus_compute_sdk", None)  # its import then fails
    found = findings(tmp_path, GLOBUS, model={"scripts": "/toy"}, stages=ALL_TIMED)
    assert level(found, "SDK") == "fail" and "login" not in [each.subject for each in found]
    options = ["--site", str(tmp_path / "site.yaml"), "--experiment", str(tmp_path / "e.yaml")]
    assert main([*options, "--output", str(tmp_path / "run")]) == 2
    assert "-> pip install 'globus-compute-sdk" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def level(found: list[Finding], subject: str) -> str:
    return next(finding.level for finding in found if finding.subject == subject)


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ("#!/bin/bash", "pass"),
        ("#!/usr/bin/env bash", "pass"),
        ("#!/usr/bin/env -S bash -e", "pass"),
        ("#!/usr/bin/env -S FOO=1 bash -e", "pass"),
        ("#!/usr/bin/env -S -i bash -e", "pass"),
        ("#!/usr/bin/env -S FOO=1 nosuchshell", "fail"),
        ("#!/usr/bin/env nosuchshell", "fail"),
        ("#!/usr/bin/env -S nosuchshell -e", "fail"),
    ],
)
def test_interpreters(tmp_path: Path, first: str, expected: str) -> None:
    (tmp_path / "train.sh").write_text(f"{first}\necho\n")
    (tmp_path / "train.sh").chmod(0o755)
    found = findings(tmp_path, model={"scripts": str(tmp_path)}, stages={"train": {}})
    assert level(found, "train.sh") == expected


@pytest.mark.parametrize(
    ("output", "expected"),
    [("{data_dir}/ml_data", "fail"), ("/scratch/elsewhere", "pass"), (None, "pass")],
)
def test_read_only_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str | None, expected: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: not (Path(path) == data and mode == os.W_OK))
    model = {**toy_experiment()["model"], "data_dir": str(data)}
    stages = {"preprocess": {"args": {"ml_data_outdir": output} if output else {}}, "train": {}}
    assert level(findings(tmp_path, model=model, stages=stages), "data") == expected
