"""What the controller does by itself; campaigns as whole processes are in tests/integration."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from workflow.controller import _TableWriter
from workflow.errors import SiteError
from workflow.report.tables import Table
from workflow.rundir import RunDir
from workflow.trial import Objective


def test_tables_of_a_run_that_is_gone_say_so(tmp_path: Path) -> None:
    """Whoever notices it first."""
    table = Table(("x",), [Objective("val_loss")], population_size=4, workers=2)
    with pytest.raises(SiteError, match="is gone: it was deleted or moved"):
        _TableWriter(RunDir(tmp_path / "moved"), table, lambda: "").write(cast(Any, None))


def test_tables_of_a_run_that_is_another_controllers_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").touch()
    table = Table(("x",), [Objective("val_loss")], population_size=4, workers=2)
    with pytest.raises(SiteError, match="another one took it over"):
        _TableWriter(RunDir(tmp_path), table, lambda: "another one took it over").write(cast(Any, None))
    assert [path.name for path in tmp_path.iterdir()] == ["journal.jsonl"]
