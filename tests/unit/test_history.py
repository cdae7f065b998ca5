"""Runs read back from their files: directories, and tables of other systems."""

from __future__ import annotations

from pathlib import Path

import pytest

from workflow import load_run
from workflow.errors import InputError

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
    assert run.best is not None and (run.best.trial_id, run.best.value, run.best.seconds) == (3, 0.125, 60.0)
    assert run.state.seconds == 168.0 and not run.has_clock and run.files is None


def test_a_table_of_several_objectives_tells_the_front(tmp_path: Path) -> None:
    text = "iteration,sample,x,metric,result,walltime,result_scc,pareto\n1,0,1,mse,1.0,1,0.5,1\n1,1,2,mse,2.0,1,0.4,0\n"
    run = load_run(table(tmp_path, text))
    assert list(map(str, run.objectives)) == ["mse min", "scc max"]
    assert [outcome.trial_id for outcome in run.front] == [0]


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


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"experiment\.yaml"):
        load_run(tmp_path)
    with pytest.raises(InputError, match="No such file"):
        load_run(tmp_path / "nowhere")
