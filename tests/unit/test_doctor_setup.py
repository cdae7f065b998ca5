"""What the check finds without running the model."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import toy_experiment, toy_space
from workflow.config.load import load_experiment
from workflow.doctor import setup as doctor
from workflow.doctor.findings import Finding
from workflow.run import main
from workflow.site import find_site, load_site


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
    ("text", "detail"),
    [
        ("#!/bin/bash\n\n# a comment\nexit 0\n", ""),
        ("#!/bin/bash\r\nexit 0\r\n", " has Windows line ends"),
        ("#!/bin/bash\n\nexit 0\r\n", " (line 3) has Windows line ends"),
        ("#!/usr/bin/env bash\nexit 0\r", " (line 2) has Windows line ends"),
        ("#!/usr/bin/env python3\npass\r\n", ""),
    ],
)
def test_line_ends(tmp_path: Path, text: str, detail: str) -> None:
    """In any line of a shell's script; Python reads both kinds."""
    (tmp_path / "train.sh").write_bytes(text.encode())
    (tmp_path / "train.sh").chmod(0o755)
    found = findings(tmp_path, model={"scripts": str(tmp_path)}, stages={"train": {}})
    said = next(finding for finding in found if finding.subject == "train.sh")
    assert said.level == ("fail" if detail else "pass") and f"train.sh{detail}" in said.text


@pytest.mark.parametrize(
    ("command", "why"),
    [("no-such-program", "not on the PATH"), ("/no/apptainer", "no such file"), ("/dev/null", "is not executable")],
)
def test_a_container_command_that_cannot_be_found(tmp_path: Path, command: str, why: str) -> None:
    (tmp_path / "site.yaml").write_text(yaml.safe_dump({"scheduler": "threads", "container_command": command}))
    (found,) = doctor._runtime(load_site(tmp_path / "site.yaml", {}))
    assert (found.level, found.text) == ("fail", f"{command}: {why}")


@pytest.mark.parametrize(("name", "expected"), [("there.txt", []), ("other.txt", ["fail"])])
def test_a_config_file_that_is_not_in_the_data(tmp_path: Path, name: str, expected: list[str]) -> None:
    (tmp_path / "there.txt").touch()
    model = {**toy_experiment()["model"], "data_dir": str(tmp_path)}
    found = findings(tmp_path, model=model, stages={"train": {"config_file": name}})
    assert [finding.level for finding in found if finding.subject == "config file"] == expected


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


def test_read_only_data_that_trainings_read_what_preprocess_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that has to go for the directories of the run to take their place."""
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: not (Path(path) == data and mode == os.W_OK))
    constants = {"train_ml_data_dir": "/IMPROVE_DATA_DIR/ml_data", "input_dir": "{data_dir}/raw"}
    found = findings(
        tmp_path,
        model={**toy_experiment()["model"], "data_dir": str(data)},
        stages={
            "preprocess": {"args": {"ml_data_outdir": "{data_dir}/ml_data"}},
            "train": {"args": {"val_ml_data_dir": "{data_dir}/ml_data/"}},
        },
        space=[*toy_space(), *({"name": name, "type": "constant", "value": v} for name, v in constants.items())],
    )
    remedy = next(finding.remedy for finding in found if finding.subject == "data")
    assert "leave out ml_data_outdir, val_ml_data_dir, train_ml_data_dir: they then" in remedy


@pytest.mark.parametrize(
    ("gpus", "answer", "expected"),
    [
        (["0"], "echo 'GPU 0: NVIDIA A100 (UUID: GPU-a)'", "pass"),
        (["GPU-a"], "echo 'GPU 0: NVIDIA A100 (UUID: GPU-a)'", "pass"),
        (["0", "1"], "echo 'GPU 0: NVIDIA A100 (UUID: GPU-a)'", "fail"),
        (["1"], "echo 'no driver'; exit 9", "pass"),
    ],
)
def test_gpus_that_the_machine_has_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: list[str], answer: str, expected: str
) -> None:
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/bash\n{answer}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (tmp_path / "site.yaml").write_text(yaml.safe_dump({"scheduler": "threads", "gpus": gpus}))
    found = next(f for f in doctor._machine(load_site(tmp_path / "site.yaml", {})) if f.subject == "GPUs")
    assert found.level == expected
    assert expected == "pass" or found.text == "1: not on this machine, whose GPUs are 0 (nvidia-smi -L)"


def test_a_sandbox_has_no_size(tmp_path: Path) -> None:
    (tmp_path / "model" / ".singularity.d").mkdir(parents=True)
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(toy_experiment(model={"image": str(tmp_path / "model")})))
    found = next(doctor._image(load_experiment(tmp_path / "e.yaml", {}), load_site(find_site("local-threads"), {})))
    assert found.text == f"{tmp_path / 'model'}: sandbox, architecture unknown"
