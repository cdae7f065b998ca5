"""A run as a study of Optuna's."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState

from tests.exported import BEGIN, CURVE, FAILED, SPACE, outcome, params
from tests.recorded import asked, ended, finals, recorded
from workflow import load_run
from workflow.report.exports import export
from workflow.trial import FIRST_RERUN, Trial


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
