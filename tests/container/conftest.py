"""Real images, built once without an image hub. A missing Apptainer is a failure, never a skip."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, built_once, eventually


@pytest.fixture(scope="session")
def demo_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example model, by its own def file."""
    return built_once(tmp_path_factory, "demo.sif", ROOT / "workflow" / "model_template")


@pytest.fixture
def nothing_left_mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A container that ends takes its mounts and loop devices along; other tests may have some at the same time."""
    ours = str(tmp_path_factory.getbasetemp())
    before = mounts(ours)
    yield
    assert eventually(lambda: mounts(ours) == before, 20), mounts(ours)


def mounts(place: str) -> list[str]:
    """Mounts and loop devices of what lies below ``place``."""
    loops = subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout.splitlines()
    lines = [*Path("/proc/mounts").read_text().splitlines(), *loops]
    return sorted(line for line in lines if place in line)
