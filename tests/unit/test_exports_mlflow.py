"""A run as an experiment of MLflow's."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.conftest import small_disk
from tests.exported import FAILED, RECORDS, SPACE, outcome
from tests.recorded import ended, recorded, retracted
from workflow import load_run
from workflow.errors import InputError, SiteError
from workflow.report.exports import export


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that need not be made again by each test, which takes MLflow a second."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of MLflow's own code
        MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


def mlflow_runs(uri: str, name: str) -> dict[int, Any]:
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(name)
    assert found is not None
    return {int(run.data.tags["trial"]): run for run in client.search_runs([found.experiment_id])}


def test_mlflow_gets_the_trials_that_ended_and_later_those_that_it_lacks(run_dir: Path, empty_store: Path) -> None:
    shutil.copy(empty_store, run_dir / "mlflow.db")
    uri = f"sqlite:///{run_dir}/mlflow.db"
    assert uri in export(load_run(run_dir), "mlflow")
    first = mlflow_runs(uri, "study")
    assert {n: r.info.status for n, r in first.items()} == {0: "FINISHED", 1: "KILLED", 2: "FAILED", 3: "FINISHED"}
    assert first[3].data.params["kind"] == "SGD" and first[3].data.params["bias"] == "false"
    assert (first[3].data.metrics["val_loss"], first[3].data.metrics["mse"]) == (0.25, 0.25)
    assert first[3].info.end_time - first[3].info.start_time == 2500
    assert first[2].data.tags["evidence"] == FAILED.evidence and first[0].data.tags["host"] == "n1"
    history = MlflowClient(uri).get_metric_history(first[0].info.run_id, "val_loss")
    assert sorted((metric.step, metric.value) for metric in history) == [(1, 0.9), (2, 0.5), (2, 0.7)]
    assert first[0].data.metrics["val_loss"] == 0.5

    path = recorded(run_dir.parent / "later", SPACE, [*RECORDS, ended(outcome(4, "ok", 0.1)), retracted(2),
                                                     ended(replace(FAILED, attempt=3))])  # fmt: skip
    (path / "journal.jsonl").replace(run_dir / "journal.jsonl")
    export(load_run(run_dir), "mlflow")
    second = mlflow_runs(uri, "study")
    assert sorted(second) == [0, 1, 2, 3, 4]
    assert [n for n in first if first[n].info.run_id == second[n].info.run_id] == [n for n in first if n != 2]
    assert second[2].data.tags["attempt"] == "3"

    namesake = replace(load_run(run_dir), path=run_dir.parent / "elsewhere" / "study")
    with pytest.raises(InputError, match="holds an experiment 'study' that is not this run's"):
        export(namesake, "mlflow", uri)


def test_what_an_interrupt_has_cut_off_is_mended_by_the_next_export(
    run_dir: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(empty_store, run_dir / "mlflow.db")
    uri = f"sqlite:///{run_dir}/mlflow.db"
    log_batch = MlflowClient.log_batch

    def interrupted(client: MlflowClient, run: str, metrics: Any, params: Any) -> None:
        if client.get_run(run).data.tags["trial"] == "2":
            raise KeyboardInterrupt
        log_batch(client, run, metrics, params)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MlflowClient, "log_batch", interrupted)
        export(load_run(run_dir), "mlflow")
    first = mlflow_runs(uri, "study")
    assert first[2].info.status == "RUNNING" and not first[2].data.params
    export(load_run(run_dir), "mlflow")
    second = mlflow_runs(uri, "study")
    assert {n: r.info.status for n, r in second.items()} == {0: "FINISHED", 1: "KILLED", 2: "FAILED", 3: "FINISHED"}
    assert second[2].data.params["kind"] == "Adam"
    assert [n for n in first if first[n].info.run_id == second[n].info.run_id] == [n for n in first if n != 2]


def test_mlflow_gets_a_table_with_the_times_that_trainings_took(tmp_path: Path, empty_store: Path) -> None:
    shutil.copy(empty_store, tmp_path / "hpo-mlflow.db")
    table = tmp_path / "hpo.csv"
    table.write_text("iteration,sample,x y,metric,result,walltime\n1,0,a%b,val_loss,0.5,7\n1,1,c,val_loss,,9\n")
    export(load_run(table), "mlflow")
    first, second = mlflow_runs(f"sqlite:///{tmp_path}/hpo-mlflow.db", "hpo").values()
    assert sorted(run.info.end_time - run.info.start_time for run in (first, second)) == [7000, 9000]
    assert {run.info.status for run in (first, second)} == {"FINISHED", "FAILED"}


def test_a_disk_that_fills_up_on_the_way_is_told(run_dir: Path, empty_store: Path) -> None:
    """What is half-written then, the next export mends."""
    disk = run_dir.parent / "disk"
    with small_disk(disk, "1200k"):
        shutil.copy(empty_store, disk / "x")
        filler, room = disk / "filler", shutil.disk_usage(disk).free
        filler.write_bytes(bytes(room))
        for place in (f"{disk}/x", f"sqlite:///{disk}/x"):
            with pytest.raises(SiteError, match=r"x: cannot be written \(.*\)\n    -> make room"):
                export(load_run(run_dir), "mlflow", place)
        filler.unlink()
        export(load_run(run_dir), "mlflow", f"{disk}/x")
        assert sorted(mlflow_runs(f"sqlite:///{disk}/x", "study")) == [0, 1, 2, 3]


def test_an_mlflow_store_that_cannot_be_used(run_dir: Path) -> None:
    (run_dir / "text").write_text("no database")
    with pytest.raises(InputError, match=r"file is not a database.*\n(.*\n)*    -> check the store"):
        export(load_run(run_dir), "mlflow", f"{run_dir}/text")
    with pytest.raises(InputError, match=r"gopher://x: .*\n    -> check the store"):
        export(load_run(run_dir), "mlflow", "gopher://x")
