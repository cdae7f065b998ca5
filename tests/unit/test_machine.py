"""Which GPUs this machine shows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workflow.machine import visible_gpus


def fake_nvidia_smi(directory: Path, monkeypatch: pytest.MonkeyPatch, count: int, exit_code: int = 0) -> None:
    """A machine with ``count`` GPUs."""
    lines = [f"GPU {n}: NVIDIA H100 (UUID: GPU-{n}{n})\n  MIG 1g.5gb Device 0: (UUID: MIG-{n})" for n in range(count)]
    listing = "\n".join(lines) or "No devices found."
    program = directory / "bin" / "nvidia-smi"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{listing}\nEND\nexit {exit_code}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("mask", "gpus"),
    [
        ("1", ("1",)), ("0,2", ("0", "2")), ("3,1", ("3", "1")), (" 0 , 1 ", ("0", "1")),
        ("GPU-11,GPU-22", ("GPU-11", "GPU-22")), ("MIG-1", ("MIG-1",)),
        ("", ()), ("-1", ()), ("NoDevFiles", ()), (" ", ()),
    ],
)  # fmt: skip
def test_auto_keeps_to_the_mask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mask: str, gpus: tuple[str, ...]
) -> None:
    fake_nvidia_smi(tmp_path, monkeypatch, 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", mask)
    assert visible_gpus() == gpus


@pytest.mark.parametrize(("mask", "gpus"), [("0,1,", ("0", "1")), ("0,-1,1", ("0",)), (",0", ())])
def test_a_mask_ends_at_its_first_invalid_entry_as_cuda_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mask: str, gpus: tuple[str, ...]
) -> None:
    fake_nvidia_smi(tmp_path, monkeypatch, 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", mask)
    assert visible_gpus() == gpus


def test_a_mask_without_gpus_gives_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvidia_smi(tmp_path, monkeypatch, 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert visible_gpus() == ()


def test_a_machine_whose_driver_fails_has_no_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvidia_smi(tmp_path, monkeypatch, 2, exit_code=9)
    assert visible_gpus() == ()


def test_a_machine_without_nvidia_smi_has_no_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert visible_gpus() == ()
