"""The backend by itself, on the stand-in for the service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.globus.conftest import ENDPOINT
from tests.globus.service import Service, SpoolExecutor, client
from workflow.cluster import kernel
from workflow.errors import SiteError
from workflow.globus import service
from workflow.globus.backend import GlobusBackend
from workflow.globus.endpoint import Endpoint
from workflow.rundir import RunDir


def test_a_start_that_fails_half_way_ends_the_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsl, which would end it, was never there."""
    (tmp_path / "run").mkdir()

    def fails(config: Any) -> None:
        raise RuntimeError("no more")

    monkeypatch.setattr(kernel, "DataFlowKernel", fails)
    monkeypatch.setattr(service, "make_client", lambda: client(Service(tmp_path)))
    monkeypatch.setattr(service, "Executor", SpoolExecutor)
    backend = GlobusBackend("far", Endpoint(ENDPOINT, "/scratch"), RunDir(tmp_path / "run"), own_data=False)
    with pytest.raises(SiteError, match="site far: Parsl cannot start: no more"):
        backend.open()
    assert backend._executor is not None and not backend._executor._stopped
    backend.close(wait=lambda: False)
    assert backend._executor._stopped
