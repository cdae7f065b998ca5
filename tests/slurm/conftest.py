"""One real Slurm a session, whole and empty before every test. A missing Slurm is a failure, never a skip."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm_lab import SlurmLab


@pytest.fixture(scope="session")
def slurm() -> Iterator[SlurmLab]:
    """Two nodes of four GPUs, and a partition ``short`` of one minute."""
    with tempfile.TemporaryDirectory(prefix="slurm") as directory, SlurmLab(Path(directory), short_minutes=1) as lab:
        yield lab


@pytest.fixture(autouse=True)
def recovered(slurm: SlurmLab) -> None:
    """What a failed test leaves is not the next one's."""
    slurm.recover()
