"""The backend by itself, on the stand-in for the service."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from tests.globus.conftest import ENDPOINT
from tests.globus.service import Service, SpoolExecutor, client
from workflow.cluster import kernel
from workflow.errors import SiteError
from workflow.globus import backend as module
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


def answered(*answers: object) -> Iterator[Future[Any]]:
    """What the endpoint makes of one question after the other; an exception is how a task failed."""
    for answer in answers:
        future: Future[Any] = Future()
        future.set_exception(answer) if isinstance(answer, Exception) else future.set_result(answer)
        yield future


@pytest.fixture
def asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GlobusBackend:
    """A backend that asks for one attempt at a time."""
    monkeypatch.setattr(module, "_LOOKS", 1)
    backend = GlobusBackend("far", Endpoint(ENDPOINT, "/scratch"), RunDir(tmp_path / "run"), own_data=False)
    backend._token = "mine"
    return backend


REPLY = {"host": "n1", "result": {"exit_code": 0}, "log": "done\n", "why": "", "trouble": ""}


def test_an_answer_that_is_none_costs_no_other(asking: GlobusBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOKS", 2)
    directories = [asking.run.trial_attempt(number, 1) for number in range(8)]
    found = answered(["what?", REPLY], RuntimeError("lost"), None, [{**REPLY, "result": None}, REPLY])
    asking._app = lambda *question: next(found)
    asking.fetch(directories)
    assert [n for n, each in enumerate(directories) if (each / "result.json").exists()] == [1, 7]


def test_a_disk_here_that_takes_no_result_is_a_site_error(asking: GlobusBackend) -> None:
    """Else what has ended there would run again."""
    directories = [asking.run.trial_attempt(number, 1) for number in range(4)]
    (directories[1] / "model.log").mkdir(parents=True)
    found = answered(*[[REPLY]] * 4)
    asking._app = lambda *question: next(found)
    with pytest.raises(SiteError, match=r"model\.log: cannot be written"):
        asking.fetch(directories)
