"""The journal of a campaign, and the table of one that nothing disturbed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.campaign.leading import Site, lead, table
from workflow import campaign as module


@pytest.fixture(autouse=True)
def short_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TICK", 0.01)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[list[str]], int]:
    """hpo.csv of a campaign that nothing disturbed, and its number of events."""
    site = Site(tmp_path_factory.mktemp("unbroken") / "journal.jsonl")
    return table(lead(site)[0]), site.events
