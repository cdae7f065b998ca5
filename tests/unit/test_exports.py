"""A run in the formats of other tools: all of it, with its types, and read back by those tools."""

from __future__ import annotations

import csv
import io
import sys
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from tests.conftest import small_disk
from tests.exported import BEGIN, SPACE, outcome, params
from tests.recorded import asked, ended, recorded
from workflow import load_run
from workflow.errors import EXIT_DONE, InputError, SiteError
from workflow.export import main
from workflow.report.exports import export
from workflow.report.figures import cost
from workflow.trial import Trial


def table_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


# -- tables ----------------------------------------------------------------------------------------------------------


def test_csv_has_every_attempt_that_ended(run_dir: Path) -> None:
    export(load_run(run_dir), "csv")
    rows = table_of((run_dir / "outcomes.csv").read_text())
    assert [(r["trial"], r["attempt"], r["kind"], r["final"]) for r in rows] == [
        ("0", "1", "ok", "true"), ("2", "1", "failed", "false"), ("2", "2", "failed", "true"),
        ("1", "1", "stopped", "true"), ("3", "1", "lost", "false"), ("3", "2", "ok", "true"),
    ]  # fmt: skip
    assert rows[5] == {
        "trial": "3", "attempt": "2", "config_id": "3", "generation": "2", "fidelity": "", "parents": "0 2",
        "params_lr": "0.001", "params_layers": "2", "params_batch": "32", "params_drop": "0.0", "params_kind": "SGD",
        "params_bias": "false", "params_momentum": "0.9", "kind": "ok", "cause": "", "value": "0.25",
        "metrics_mse": "0.25", "metrics_val_loss": "", "started": "2023-11-14T22:13:23+00:00",
        "ended": "2023-11-14T22:13:25.500000+00:00", "seconds": "2.5", "host": "n1", "gpu": "0,1",
        "gpu_seconds": "5.0", "peak_memory": "", "evidence": "",
        "directory": str(run_dir / "trials/0003/attempt-2"), "final": "true",
    }  # fmt: skip
    assert (rows[1]["evidence"], rows[1]["params_momentum"], rows[1]["host"]) == ('exit code 1: "a, b"', "", "")
    assert (rows[4]["started"], rows[4]["seconds"]) == ("", "")


def test_gpu_seconds_are_those_of_all_gpus_and_of_a_shared_one_the_share(run_dir: Path) -> None:
    assert load_run(run_dir).frame()["gpu_seconds"].to_list()[:4] == [5.0, 5.0, 0.0, 5.0]
    (run_dir / "site.yaml").write_text("trials_per_gpu: 2\n")
    run = load_run(run_dir)
    assert run.frame()["gpu_seconds"].to_list()[:4] == [2.5, 2.5, 0.0, 2.5]
    assert sum(cost(run).by_kind.values()) == 2.5 + 2.5 + 2.5 + 2 * 2.5, "two attempts had no GPU"


def test_parquet_has_the_same_with_types(run_dir: Path) -> None:
    for kind in ("csv", "parquet"):
        export(load_run(run_dir), kind)
    found, text = pl.read_parquet(run_dir / "outcomes.parquet"), table_of((run_dir / "outcomes.csv").read_text())
    assert found.columns == list(text[0])
    assert {name: str(kind) for name, kind in found.schema.items() if name.startswith(("params", "sta", "fin"))} == {
        "params_lr": "Float64", "params_layers": "Int64", "params_batch": "Int64", "params_drop": "Float64",
        "params_kind": "String", "params_bias": "Boolean", "params_momentum": "Float64",
        "started": "Datetime(time_unit='us', time_zone='UTC')", "final": "Boolean",
    }  # fmt: skip
    assert found["params_momentum"].to_list() == [None] * 4 + [0.9] * 2
    assert found["started"][0] == datetime.fromtimestamp(BEGIN, UTC)
    assert found["evidence"].to_list() == [row["evidence"] or None for row in text]


def test_what_no_file_can_hold_is_replaced(tmp_path: Path) -> None:
    records = [asked(Trial(0, 0, params())), ended(outcome(0, "failed", evidence="half \ud800 a pair"))]
    run = load_run(recorded(tmp_path / "run", SPACE, records))
    for kind in ("csv", "parquet", "optuna"):
        export(run, kind)
    assert "half ? a pair" in (run.path / "outcomes.csv").read_text()


def test_an_outcome_of_an_unknown_trial_is_kept(tmp_path: Path) -> None:
    """Of one whose record is damaged."""
    run = load_run(recorded(tmp_path / "run", SPACE, [ended(outcome(7, "ok", 0.5))]))
    (row,) = run.attempts_frame("polars").to_dicts()
    assert (row["trial"], row["config_id"], row["params_lr"], row["value"]) == (7, None, None, 0.5)
    assert len(run.frame("polars")) == 0


# -- the command line ------------------------------------------------------------------------------------------------


def test_default_files_are_replaced_and_others_are_not(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main([str(run_dir), "--format", "csv"]) == EXIT_DONE
    assert capsys.readouterr().out.splitlines()[-1] == f"6 attempts of 6 trials in {run_dir}/outcomes.csv"
    other = run_dir.parent / "mine.csv"
    assert main([str(run_dir), "--format", "csv", "--output", str(other)]) == EXIT_DONE
    before = other.read_text()
    assert main([str(run_dir), "--format", "csv", "--output", str(other)]) == InputError.exit_code
    assert "exists already\n    -> remove it" in capsys.readouterr().err
    assert other.read_text() == before == (run_dir / "outcomes.csv").read_text()


def test_a_directory_that_is_not_there(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("csv", "parquet", "optuna", "mlflow"):
        assert main([str(run_dir), "--format", kind, "--output", "/nowhere/x"]) == SiteError.exit_code
        assert "/nowhere/x: cannot be written" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of MLflow's own code
@pytest.mark.parametrize(("kind", "room"), [("csv", 0), ("parquet", 0), ("optuna", 0), ("mlflow", 300_000)])
def test_a_full_disk_is_told_and_leaves_nothing(
    kind: str, room: int, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """MLflow's tables do not fit into its room, though some of them do."""
    disk = run_dir.parent / "disk"
    with small_disk(disk):
        (disk / "filler").write_bytes(bytes(600 * 1024 - room))
        assert main([str(run_dir), "--format", kind, "--output", f"{disk}/x"]) == SiteError.exit_code
        assert [path.name for path in disk.iterdir()] == ["filler"]
    said = capsys.readouterr().err
    assert f"{disk}/x: cannot be written (" in said and "-> make room" in said


@pytest.mark.parametrize(
    ("kind", "package", "remedy"),
    [
        ("parquet", "polars", "pip install polars"),
        ("optuna", "optuna", 'in the clone: pip install ".[optuna]"'),
        ("mlflow", "mlflow", 'in the clone: pip install ".[mlflow]"'),
    ],
)
def test_a_missing_package_is_named_with_what_installs_it(
    kind: str, package: str, remedy: str, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"workflow.report.exports_{kind}", raising=False)
    with pytest.raises(InputError) as caught:
        export(load_run(run_dir), kind)
    assert f"import of {package}" in str(caught.value) and str(caught.value).endswith(f"-> {remedy}")
    assert sorted(run_dir.iterdir()) == sorted(
        run_dir / name for name in ("experiment.yaml", "journal.jsonl", "space.json")
    )
