"""Runs read back from their files: directories, and tables of other systems."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.recorded import asked, begun, ended, recorded
from workflow import load_run
from workflow.errors import InputError
from workflow.report.page import page
from workflow.trial import Outcome, Trial

REFERENCE = """iteration,sample,batch_size,learning_rate,metric,result,walltime
001,0000,64,0.001,val_loss,0.25,50
001,0001,128,0.1,val_loss,,7
002,0000,64,0.001,val_loss,0.25,51
002,0001,256,1e-05,val_loss,0.125,60
"""


def table(directory: Path, text: str) -> Path:
    path = directory / "hpo.csv"
    path.write_text(text)
    return path


def test_a_table_of_the_reference_is_a_run(tmp_path: Path) -> None:
    run = load_run(table(tmp_path, REFERENCE))
    assert (str(run.objective), run.varying) == ("val_loss min", ("batch_size", "learning_rate"))
    assert [trial.generation for trial in run.trials.values()] == [1, 1, 2, 2]
    assert [trial.config_id for trial in run.trials.values()] == [0, 1, 0, 3]
    assert dict(run.trials[3].params) == {"batch_size": 256, "learning_rate": 1e-05}
    assert [outcome.kind for outcome in run.outcomes.values()] == ["ok", "failed", "ok", "ok"]
    assert [trial.id for trial, _ in run.ended()] == [0, 1, 2, 3]
    assert run.best is not None and (run.best.trial_id, run.best.value, run.best.seconds) == (3, 0.125, 60.0)
    assert run.state.seconds == 168.0 and not run.has_clock and run.files is None


def test_a_table_of_several_objectives_tells_the_front(tmp_path: Path) -> None:
    text = "iteration,sample,x,metric,result,walltime,result_scc,pareto\n1,0,1,mse,1.0,1,0.5,1\n1,1,2,mse,2.0,1,0.4,0\n"
    run = load_run(table(tmp_path, text))
    assert list(map(str, run.objectives)) == ["mse min", "scc max"]
    assert [outcome.trial_id for outcome in run.front] == [0]


def test_a_table_in_its_run_is_read_by_what_the_run_was_searched_for(tmp_path: Path) -> None:
    run = recorded(tmp_path / "run", [], [], objective=["speed max", "r2 min"])
    text = "iteration,sample,x,metric,result,walltime,result_r2,pareto\n1,0,1,speed,1.0,1,5,0\n1,1,2,speed,2.0,1,4,1\n"
    inside, moved = load_run(table(run, text)), load_run(table(tmp_path, text))
    assert [str(objective) for objective in inside.objectives] == ["speed max", "r2 min"]
    assert [outcome.trial_id for outcome in inside.front] == [1] and not inside.is_mode_guessed
    assert [str(objective) for objective in moved.objectives] == ["speed min", "r2 max"]
    assert moved.is_mode_guessed
    assert "nor whether more is better: speed min is taken by its name" in page([moved])
    assert "nor whether" not in page([inside])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has no row"),
        ("a,b\n1,2\n", "header: has no column metric, result, walltime"),
        (REFERENCE.replace("0.125", "low"), "line 5: could not convert string to float: 'low'"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        load_run(table(tmp_path, text))


@pytest.mark.parametrize(("second", "problem"), [("mse", "holds mse, pcc"), ("", "is empty")])
def test_a_table_has_one_metric(tmp_path: Path, second: str, problem: str) -> None:
    first = second and "pcc"
    text = f"iteration,sample,x,metric,result,walltime\n001,0000,1,{first},0.5,1\n001,0001,2,{second},0.9,1\n"
    with pytest.raises(InputError, match=f"column metric: {problem}\n    -> give a table"):
        load_run(table(tmp_path, text))


def test_an_iteration_that_no_integer_holds_is_none(tmp_path: Path) -> None:
    row = f"{9 * 10**25},0000,1,pcc,0.5,1"
    run = load_run(table(tmp_path, f"iteration,sample,x,metric,result,walltime\n{row}\n"))
    assert run.trials[0].generation is None and len(run.frame()) == 1


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run"):
        load_run(tmp_path)
    with pytest.raises(InputError, match="No such file"):
        load_run(tmp_path / "nowhere")


# -- tables whose columns look like something else ---------------------------------------------------------------------


def typed(directory: Path, *cells: str) -> list[object]:
    """The values of a column with these cells."""
    rows = "".join(f"1,0,{cell},val_loss,1,1\n" for cell in cells)
    run = load_run(table(directory, "iteration,sample,x,metric,result,walltime\n" + rows))
    return [trial.params.get("x") for trial in run.trials.values()]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (("16", "032", "-1"), [16, 32, -1]),
        (("1", "1e-05", ""), [1.0, 1e-05, None]),
        (("True", "false"), [True, False]),
        (("1", "Adam"), ["1", "Adam"]),
        (("1", "nan"), ["1", "nan"]),
        (("1_0", "٣"), [10.0, 3.0]),
        (("9" * 30, "1"), [1e30, 1.0]),
    ],
)
def test_the_cells_of_a_column_have_one_type(tmp_path: Path, cells: tuple[str, ...], values: list[object]) -> None:
    assert repr(typed(tmp_path, *cells)) == repr(values)


@pytest.mark.parametrize("seconds", ["nan", "inf", "-5", "1e300"])
def test_a_walltime_that_is_none_is_refused(tmp_path: Path, seconds: str) -> None:
    (tmp_path / "hpo.csv").write_text(f"x,metric,result,walltime\n1,r2,0.5,{seconds}\n")
    with pytest.raises(InputError, match=f"line 2: walltime: {seconds} is no time in seconds"):
        load_run(tmp_path / "hpo.csv")


def test_a_row_that_diverged_is_a_failure(tmp_path: Path) -> None:
    run = load_run(
        table(
            tmp_path,
            REFERENCE.replace("0.125", "nan").replace("001,0000,64,0.001,val_loss,0.25", "1,0,64,0.001,val_loss,-inf"),
        )
    )
    assert [outcome.kind for outcome in run.outcomes.values()] == ["failed", "failed", "ok", "failed"]
    assert run.outcomes[0].evidence == "result: -inf"
    assert run.best is not None and run.best.trial_id == 2


# -- data frames -------------------------------------------------------------------------------------------------------


def test_a_frame_has_a_row_for_each_trial(tmp_path: Path) -> None:
    frame = load_run(table(tmp_path, REFERENCE)).frame()
    assert frame["params_batch_size"].tolist() == [64, 128, 64, 256]
    assert frame["value"].idxmin() == 3 and frame["value"].isna().tolist() == [False, True, False, False]
    assert frame["seconds"].sum() == 168 and frame["started"].isna().all() and frame["gpu_seconds"].isna().all()
    assert {str(frame[name].dtype) for name in ("trial", "params_batch_size", "generation")} == {"Int64"}
    assert str(frame["started"].dtype) == "datetime64[us, UTC]"


def test_frames_of_both_libraries_hold_the_same(tmp_path: Path) -> None:
    run = load_run(table(tmp_path, REFERENCE))
    pandas = run.frame().astype(object)
    assert pandas.where(pandas.notna(), None).to_dict("records") == run.frame("polars").to_dicts()


def test_a_library_that_is_unknown_or_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = load_run(table(tmp_path, REFERENCE))
    with pytest.raises(InputError, match="'panda' is no library of data frames\n    -> did you mean 'pandas'"):
        run.frame("panda")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match=r"pandas: is not installed .*\n    -> pip install pandas"):
        run.frame()


# -- where a run stands ------------------------------------------------------------------------------------------------


def test_what_a_resume_would_do(tmp_path: Path) -> None:
    space = [{"name": "x", "type": "int", "lower": 0, "upper": 9}]
    trials = [Trial(number, number, {"x": number}) for number in range(3)]
    lost = Outcome(1, 1, "lost", cause="infrastructure")
    records = [*map(asked, trials), begun(0), begun(1), ended(Outcome(0, 1, "ok", 0.5)), ended(lost)]
    run = load_run(recorded(tmp_path / "a run", space, records))
    assert not run.complete and [trial.id for trial in run.unfinished] == [1, 2]
    assert run.resume_command == f"python -m workflow.run --resume '{tmp_path}/a run'"
    assert [run.is_under_way(trial) for trial in trials] == [False, False, False]
    again = load_run(recorded(tmp_path / "again", space, [*records, begun(1, 2)]))
    assert [again.is_under_way(trial) for trial in trials] == [False, True, False]


def test_nothing_is_left_to_do_for_a_complete_run_and_a_table(tmp_path: Path) -> None:
    space = [{"name": "x", "type": "logical"}]
    records = [asked(Trial(0, 0, {"x": True})), ended(Outcome(0, 1, "failed")), {"type": "ended", "complete": True}]
    for run in (load_run(recorded(tmp_path / "run", space, records)), load_run(table(tmp_path, REFERENCE))):
        assert run.complete and not run.unfinished and run.resume_command is None
