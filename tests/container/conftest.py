"""Real images, built once a session without an image hub. A missing Apptainer is a failure, never a skip."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, TOY

BUILD = ROOT / "scripts" / "build_local_image.py"


def build(*arguments: str | Path) -> None:
    assert shutil.which("apptainer"), "no apptainer: run scripts/install_test_parts.sh"
    done = subprocess.run([sys.executable, BUILD, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def toy_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy model of the tests, and Python's standard library."""
    image = tmp_path_factory.mktemp("images") / "toy.sif"
    build("--files", TOY, image)
    return image


@pytest.fixture(scope="session")
def demo_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example model, by its own def file."""
    image = tmp_path_factory.mktemp("images") / "demo.sif"
    build(ROOT / "workflow" / "model_template", image)
    return image


@pytest.fixture
def nothing_left_mounted() -> Iterator[None]:
    """A container that ends takes its mounts and loop devices along."""
    before = mounts()
    yield
    assert mounts() == before


def mounts() -> list[str]:
    loops = subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted([*Path("/proc/mounts").read_text().splitlines(), *loops])
