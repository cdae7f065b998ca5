"""What the check finds without running the model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import toy_experiment
from workflow import doctor
from workflow.config import load_experiment
from workflow.findings import Finding
from workflow.site import load_site


def findings(directory: Path, on: dict[str, Any] | None = None, **experiment: Any) -> list[Finding]:
    (directory / "site.yaml").write_text(yaml.safe_dump(on or {"scheduler": "threads", "gpus": 0}))
    (directory / "e.yaml").write_text(yaml.safe_dump(toy_experiment(**experiment)))
    site, loaded = load_site(directory / "site.yaml", {}), load_experiment(directory / "e.yaml", {})
    return list(doctor.examine(loaded, site, directory / "runs"))


def test_a_training_that_may_outlast_a_job_is_a_warning(tmp_path: Path) -> None:
    """Of a walltime that is an hour unless the site says otherwise."""
    stages = {"train": {"timeout": "2h"}}
    found = findings(tmp_path, {"scheduler": "slurm", "gpus": 1}, stages=stages)
    assert level(found, "walltime") == "warn"
    found = findings(tmp_path, {"scheduler": "slurm", "gpus": 1, "walltime": "2h"}, stages=stages)
    assert "walltime" not in [finding.subject for finding in found]


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
