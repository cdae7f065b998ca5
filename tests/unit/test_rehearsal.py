"""What the check tells of a training's end and of its GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from workflow.doctor import rehearsal as module
from workflow.doctor.rehearsal import _early_stopping, _gpu, _remedy
from workflow.site import load_site
from workflow.trial import Outcome


def runner(directory: Path, vendor: str, runtime: str) -> Any:
    """As much of a runner as a remedy looks at."""
    (directory / "here.yaml").write_text(f"scheduler: local\ngpus: 0\ngpu_vendor: {vendor}\n")
    model = SimpleNamespace(runtime=runtime)
    return SimpleNamespace(site=load_site(directory / "here.yaml", {}), experiment=SimpleNamespace(model=model))


@pytest.mark.parametrize(
    ("evidence", "remedy"),
    [
        ("timeout after 1800 s; last line: epoch 3", "half an hour at most"),
        ("timeout after 5 s; last line: epoch 3", "raise the stage's timeout"),
        ("exit code 1; last line: requests.exceptions.ConnectTimeout: timeout", "network cannot be reached"),
        ("exit code 1; last line: ImportError: libcudart.so.12: No such file or directory", "from a CUDA image"),
        ("exit code 1; last line: ImportError: libc.so.6: version `GLIBC_2.38' not found", "older base"),
        ("exit code 1; last line: OSError: [Errno 28] No space left on device: 'x'", "make room"),
        ("exit code 1; last line: error: no config file /data/x.txt", "config_file"),
        (
            "exit code 1; last line: RuntimeError: Found no NVIDIA driver on your system.",
            "on a node with an NVIDIA driver",
        ),
        (
            "exit code 126: a command is not executable; last line: sh: Input/output error",
            "pull or build the image again",
        ),
        ("exit code 126: a command is not executable; last line: x: Permission denied", "chmod a+x it"),
        ("cannot start 'apptainer': No such file or directory: it is not on the worker's PATH", "container_command"),
        ("cannot start 'apptainer': scratch /x: No space left on device", "let site.scratch name"),
    ],
)
def test_the_remedy_fits_the_evidence(tmp_path: Path, evidence: str, remedy: str) -> None:
    assert remedy in _remedy(evidence, runner(tmp_path, "none", "none"))


@pytest.mark.parametrize(
    ("vendor", "runtime", "device", "remedy"),
    [
        ("nvidia", "apptainer", True, "let no LD_LIBRARY_PATH of the image hide /.singularity.d/libs"),
        ("nvidia", "apptainer", False, "run on a node with an NVIDIA driver"),
        ("nvidia", "none", True, "run on a node with an NVIDIA driver"),
        ("none", "apptainer", True, "with gpu_vendor: nvidia (--nv)"),
    ],
)
def test_a_driver_that_is_there_is_the_images_trouble(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, vendor: str, runtime: str, device: bool, remedy: str
) -> None:
    monkeypatch.setattr(module, "_has_device", lambda vendor: device)
    evidence = (
        "exit code 1; last line: OSError: libcuda.so.1: cannot open shared object file: No such file or directory"
    )
    assert remedy in _remedy(evidence, runner(tmp_path, vendor, runtime))


TRAINED = Outcome(0, 1, "ok", 0.5, host="node7", gpu="1")
ZERO = {"index": "0", "uuid": "GPU-a", "name": "NVIDIA A100"}
ONE = {"index": "1", "uuid": "GPU-b", "name": "NVIDIA A100"}


def seen(*gpus: dict[str, str], looks: int = 9, error: str = "") -> dict[str, Any]:
    return {"gpus": list(gpus), "looks": looks, "error": error}


@pytest.mark.parametrize(
    ("gpu", "used", "level", "text"),
    [
        ("1", seen(ONE), "pass", "given GPU 1 of node7, and used 1 (NVIDIA A100, GPU-b)"),
        ("0,1", seen(ZERO, ONE), "pass", "used 0 (NVIDIA A100, GPU-a), 1 (NVIDIA A100, GPU-b)"),
        ("MIG-7", seen(ONE), "pass", "given GPU MIG-7 of node7, and used 1 (NVIDIA A100, GPU-b)"),
        ("1", seen(ZERO), "fail", "given GPU 1 of node7, and used 0 (NVIDIA A100, GPU-a)"),
        ("1", seen(ZERO, ONE), "fail", "given GPU 1 of node7, and used 0"),
        ("1", seen(), "warn", "given GPU 1 of node7, and used no GPU in 9 looks"),
        ("1", seen(error="nvidia-smi: no such file"), "warn", "cannot be seen: nvidia-smi: no such file"),
        ("1", None, "pass", "given GPU 1 of node7"),
        (None, None, "fail", "the training got none"),
    ],
)
def test_the_gpu_that_the_training_saw(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gpu: str | None, used: dict[str, Any] | None, level: str, text: str
) -> None:
    monkeypatch.setattr(module, "_has_device", lambda vendor: True)
    (tmp_path / "here.yaml").write_text("scheduler: local\ngpus: ['0', '1']\ngpu_vendor: nvidia\n")
    site = load_site(tmp_path / "here.yaml", {})
    found = _gpu(site, replace(TRAINED, gpu=gpu), used)
    assert found.level == level
    assert text in found.text
    assert found.remedy or level == "pass"


def test_a_gpu_without_a_device_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "_has_device", lambda vendor: False)
    (tmp_path / "here.yaml").write_text("scheduler: local\ngpus: ['0', '1']\ngpu_vendor: nvidia\n")
    found = _gpu(load_site(tmp_path / "here.yaml", {}), TRAINED, seen(error="nvidia-smi: no such file"))
    assert (found.level, found.text) == ("warn", "the training was given GPU 1 of node7, which has no device of nvidia")


def test_a_training_that_early_stopping_could_not_go_by_is_told() -> None:
    told = _early_stopping("r2", Outcome(0, 1, "ok", 0.5, curve=((1, 0.25), (2, 0.5))))
    assert (told.level, told.text) == ("pass", "the log tells r2 by steps, the last time 0.5 at 2")
    silent = _early_stopping("r2", Outcome(0, 1, "ok", 0.5))
    assert silent.level == "warn" and "'epoch 7 r2: 0.5'" in silent.remedy
