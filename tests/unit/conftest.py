"""A machine without a mask of GPUs and without sites of its own; a run to be exported."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.exported import RECORDS, SPACE
from tests.recorded import recorded


@pytest.fixture(autouse=True)
def no_gpu_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("WORKFLOW_SITES", raising=False)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run that goes on: its controller writes a line just now."""
    path = recorded(tmp_path / "study", SPACE, RECORDS)
    with (path / "journal.jsonl").open("a") as journal:
        journal.write('{"type":"outcome","at":17')
    return path
