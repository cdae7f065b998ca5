"""One real Slurm a session, whole and empty before every test. A missing Slurm is a failure, never a skip."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.slurm_lab import SlurmLab


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmLab]:
    """Two nodes of four GPUs, and a partition ``short`` of one minute."""
    with SlurmLab(tmp_path_factory.mktemp("slurm"), short_minutes=1) as lab:
        yield lab


@pytest.fixture(autouse=True)
def recovered(slurm: SlurmLab) -> None:
    """What a failed test leaves is not the next one's."""
    slurm.recover()
