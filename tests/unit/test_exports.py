"""A run in the formats of other tools: all of it, with its types, and read back by those tools."""

from __future__ import annotations

import csv
import io
import shutil
import sys
import warnings
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
import polars as pl
import pytest
from mlflow import MlflowClient
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState

from tests.recorded import asked, begun, ended, finals, recorded, retracted
from workflow import load_run
from workflow.errors import EXIT_DONE, InputError, SiteError
from workflow.export import main
from workflow.report.exports import export
from workflow.trial import FIRST_RERUN, Outcome, Params, Trial

SPACE = [
    {"name": "lr", "type": "float", "lower": 1e-6, "upper": 0.1, "use_log_scale": True},
    {"name": "layers", "type": "int", "lower": 1, "upper": 9},
    {"name": "batch", "type": "ordered", "element_type": "int", "values": [16, 32, 64]},
    {"name": "drop", "type": "categorical", "element_type": "float", "values": [0, 0.5]},
    {"name": "kind", "type": "categorical", "element_type": "string", "values": ["SGD", "Adam", ""]},
    {"name": "bias", "type": "logical"},
    {"name": "momentum", "type": "float", "lower": 0, "upper": 1, "condition": {"kind": ["SGD"]}},
    {"name": "epochs", "type": "constant", "value": 7},
]
BEGIN = 1_700_000_000.0


def params(**changes: Any) -> Params:
    return {"lr": 0.001, "layers": 2, "batch": 32, "drop": 0, "kind": "Adam", "bias": True, "epochs": 7, **changes}


def outcome(trial_id: int, kind: Any = "ok", value: float | None = None, **keys: Any) -> Outcome:
    place = {"started": BEGIN + trial_id, "ended": BEGIN + trial_id + 2.5, "host": "n1", "gpu": "0,1"}
    metrics = {} if value is None else {"mse": value}
    return Outcome(trial_id, **{"attempt": 1, "kind": kind, "value": value, "metrics": metrics, **place, **keys})


CURVE = ((1, 0.9), (2, 0.7))
STOPPED = outcome(1, "stopped", metrics={"val_loss": 0.8}, curve=CURVE, evidence="stopped early")
FAILED = outcome(2, "failed", cause="model", evidence='exit code 1: "a, b"', host="", gpu=None)
LOST = outcome(3, "lost", cause="infrastructure", evidence="worker lost", started=None, ended=None)
RECORDS = [
    *(asked(Trial(number, number, params(layers=1 + number), 1)) for number in range(3)),
    asked(Trial(3, 3, params(kind="SGD", momentum=0.9, bias=False), 2, parents=(0, 2))),
    asked(Trial(4, 4, params(), 2)),
    asked(Trial(5, 5, params(), 2)),
    *(begun(number) for number in range(4)),
    ended(outcome(0, "ok", 0.5, curve=CURVE, peak_memory=2**30, gpu_seconds=5.0)),
    ended(FAILED),
    retracted(2),
    begun(2, 2),
    ended(replace(FAILED, attempt=2)),
    ended(STOPPED),
    ended(LOST),
    begun(3, 2),
    ended(outcome(3, "ok", 0.25, attempt=2)),
    begun(4),
]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run that goes on: its controller writes a line just now."""
    path = recorded(tmp_path / "study", SPACE, RECORDS)
    with (path / "journal.jsonl").open("a") as journal:
        journal.write('{"type":"outcome","at":17')
    return path


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
        "gpu_seconds": "0.0", "peak_memory": "", "evidence": "",
        "directory": str(run_dir / "trials/0003/attempt-2"), "final": "true",
    }  # fmt: skip
    assert (rows[1]["evidence"], rows[1]["params_momentum"], rows[1]["host"]) == ('exit code 1: "a, b"', "", "")
    assert (rows[4]["started"], rows[4]["seconds"]) == ("", "")


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


def test_reruns_are_attempts_and_choose_the_winner_of_a_study(tmp_path: Path) -> None:
    found = [(Trial(number, number, params()), outcome(number, "ok", 0.1 + number)) for number in range(2)]
    again = [Trial(FIRST_RERUN + n, FIRST_RERUN + n, params(layers=9), parents=(n,)) for n in range(2)]
    ends = [ended(outcome(FIRST_RERUN + n, "ok", 2.0 - n, started=BEGIN, ended=BEGIN + 1)) for n in range(2)]
    records = [*(r for t, o in found for r in (asked(t), ended(o))), finals(*again), *ends]
    run = load_run(recorded(tmp_path / "final", SPACE, records))
    last = run.attempts_frame("polars").to_dicts()[-1]
    assert (last["trial"], last["parents"], last["params_layers"], last["final"]) == (FIRST_RERUN + 1, "1", 9, True)
    assert last["directory"] == f"{run.path}/reruns/0001/attempt-1" and len(run.frame("polars")) == 2
    export(run, "optuna")
    study = study_of(run.path / "optuna.log", "final")
    assert (study.best_trial.number, study.user_attrs["winner"]) == (0, 1)


# -- Optuna ----------------------------------------------------------------------------------------------------------


def study_of(path: Path, name: str) -> optuna.Study:
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    return optuna.load_study(study_name=name, storage=optuna.storages.JournalStorage(backend))


def test_a_study_has_all_trials(run_dir: Path) -> None:
    assert "optuna-dashboard" in export(load_run(run_dir), "optuna")
    study = study_of(run_dir / "optuna.log", "study")
    assert [trial.state for trial in study.trials] == [
        TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.COMPLETE, TrialState.RUNNING,
        TrialState.WAITING,
    ]  # fmt: skip
    assert (study.best_trial.number, study.best_value, study.direction) == (3, 0.25, StudyDirection.MINIMIZE)
    assert study.metric_names == ["val_loss"]
    assert study.user_attrs["constants"] == {"epochs": 7} and study.user_attrs["complete"] is False
    assert (study.trials[1].value, dict(study.trials[1].intermediate_values)) == (0.8, dict(CURVE))
    assert study.trials[0].datetime_start == datetime.fromtimestamp(BEGIN)
    assert study.trials[0].duration is not None and study.trials[0].duration.total_seconds() == 2.5
    assert study.trials[2].user_attrs == {
        "trial": 2, "config_id": 2, "generation": 1, "attempt": 2, "cause": "model", "evidence": FAILED.evidence,
        "gpu_seconds": 0.0, "peak_memory": 0, "directory": str(run_dir / "trials/0002/attempt-2"),
    }  # fmt: skip
    assert study.trials[3].user_attrs["metrics_mse"] == 0.25


def test_a_study_has_the_space(run_dir: Path) -> None:
    export(load_run(run_dir), "optuna")
    trial = study_of(run_dir / "optuna.log", "study").trials[3]
    assert trial.params == {name: value for name, value in params(kind="SGD", momentum=0.9, bias=False).items()
                            if name != "epochs"}  # fmt: skip
    assert trial.distributions == {
        "lr": FloatDistribution(1e-6, 0.1, log=True), "layers": IntDistribution(1, 9),
        "batch": CategoricalDistribution([16, 32, 64]), "drop": CategoricalDistribution([0, 0.5]),
        "kind": CategoricalDistribution(["SGD", "Adam", ""]), "bias": CategoricalDistribution([False, True]),
        "momentum": FloatDistribution(0, 1),
    }  # fmt: skip


def test_a_study_of_several_objectives(tmp_path: Path) -> None:
    both = [outcome(number, "ok", 0.5, metrics={"scc": 0.1 * number}) for number in range(2)]
    records = [asked(Trial(number, number, params())) for number in range(3)] + [ended(each) for each in both]
    records.append(ended(outcome(2, "ok", 0.1)))  # of another version of the objectives: lacks one
    path = recorded(tmp_path / "several", SPACE, records, objective=["val_loss min", "scc max"])
    export(load_run(path), "optuna")
    study = study_of(path / "optuna.log", "several")
    assert study.directions == [StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE]
    assert [trial.values for trial in study.trials] == [[0.5, 0.0], [0.5, 0.1], None]
    assert [trial.number for trial in study.best_trials] == [1]


def test_a_study_with_a_fidelity_has_its_parameter(tmp_path: Path) -> None:
    rungs = [Trial(number, 0, params(epochs=epochs), fidelity=epochs) for number, epochs in enumerate((3.0, 9.0))]
    records = [*map(asked, rungs), ended(outcome(0, "ok", 0.5))]
    fidelity = {"parameter": "epochs", "min": 3, "max": 9, "eta": 3}
    path = recorded(tmp_path / "rungs", SPACE, records, search={"fidelity": fidelity})
    export(load_run(path), "optuna")
    first, second = study_of(path / "optuna.log", "rungs").trials
    assert first.distributions["epochs"] == FloatDistribution(3, 9)
    assert (second.params["epochs"], second.user_attrs["fidelity"], second.user_attrs["config_id"]) == (9, 9, 0)


def test_a_study_of_a_table_has_distributions_by_its_values(tmp_path: Path) -> None:
    header = "iteration,sample,lr,units,kind,bias,metric,result,walltime\n"
    rows = "1,0,1e-05,8,Adam,true,val_loss,0.5,7\n1,1,1,64,3,false,val_loss,,9\n1,2,0.1,16,x,,val_loss,0.7,9\n"
    table = tmp_path / "hpo.csv"
    table.write_text(header + rows)
    export(load_run(table), "optuna")
    study = study_of(tmp_path / "hpo-optuna.log", "hpo")
    assert study.trials[1].params == {"lr": 1.0, "units": 64, "kind": "3", "bias": False}
    assert study.trials[0].distributions == {
        "lr": FloatDistribution(1e-5, 1, log=True), "units": IntDistribution(8, 64),
        "kind": CategoricalDistribution(["Adam", "3", "x"]), "bias": CategoricalDistribution([True, False]),
    }  # fmt: skip
    assert "bias" not in study.trials[2].params
    assert study.trials[1].state == TrialState.FAIL and study.best_value == 0.5


def test_whole_numbers_that_optuna_cannot_hold_are_floats_there(tmp_path: Path) -> None:
    space = [{"name": "big", "type": "int", "lower": 0, "upper": 2**63 - 1}]
    run = load_run(recorded(tmp_path / "big", space, [asked(Trial(0, 0, {"big": 2**63 - 1}))]))
    export(run, "optuna")
    assert study_of(run.path / "optuna.log", "big").trials[0].params == {"big": float(2**63)}
    assert run.frame("polars")["params_big"][0] == 2**63 - 1


# -- MLflow ----------------------------------------------------------------------------------------------------------


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


def test_mlflow_gets_a_table_with_the_times_that_trainings_took(tmp_path: Path, empty_store: Path) -> None:
    shutil.copy(empty_store, tmp_path / "hpo-mlflow.db")
    table = tmp_path / "hpo.csv"
    table.write_text("iteration,sample,x y,metric,result,walltime\n1,0,a%b,val_loss,0.5,7\n1,1,c,val_loss,,9\n")
    export(load_run(table), "mlflow")
    first, second = mlflow_runs(f"sqlite:///{tmp_path}/hpo-mlflow.db", "hpo").values()
    assert sorted(run.info.end_time - run.info.start_time for run in (first, second)) == [7000, 9000]
    assert {run.info.status for run in (first, second)} == {"FINISHED", "FAILED"}


def test_an_mlflow_store_that_cannot_be_used(run_dir: Path) -> None:
    with pytest.raises(InputError, match=r"gopher://x: .*\n    -> check the store"):
        export(load_run(run_dir), "mlflow", "gopher://x")


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
