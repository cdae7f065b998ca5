"""hpo.csv, best.json and summary.json, by hand."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from workflow.budgets import Budgets
from workflow.config.initial import read_initial
from workflow.errors import SiteError
from workflow.report.tables import (
    Table,
    counts,
    finals_lines,
    front_lines,
    hpo_csv,
    lines,
    summary,
    write_tables,
    write_text,
)
from workflow.rundir import RunDir
from workflow.search import GenerationStatistics
from workflow.space_file import parse_space
from workflow.state import State
from workflow.trial import FIRST_RERUN, Objective, Outcome, Trial

TABLE = Table(("rate", "optimizer", "warmup"), [Objective()], population_size=3, workers=2)
RUN = RunDir(Path("/run"))


class Search:
    """The two things that a table reads from a search."""

    def __init__(self, message: str = "", *statistics: GenerationStatistics) -> None:
        self.message = message
        self.statistics = statistics


def state(*records: Trial | Outcome | dict[str, Any]) -> State:
    folded = State()
    for at, record in enumerate(records):
        if isinstance(record, Trial):
            record = {"type": "asked", "trial": record.to_json()}
        elif isinstance(record, Outcome):
            record = {"type": "outcome", "outcome": record.to_json()}
        folded.apply({"at": float(at), **record})
    return folded


def trial(number: int, generation: int | None = 1, **params: Any) -> Trial:
    return Trial(number, number, {"epochs": 3, "rate": 0.5, "optimizer": "Adam", "warmup": True, **params}, generation)


def ok(number: int, value: float, seconds: float = 12.0, **keys: Any) -> Outcome:
    return Outcome(number, 1, "ok", value, started=100.0, ended=100.0 + seconds, **keys)


def rows(table: Table, folded: State) -> list[dict[str, str]]:
    text = hpo_csv(table, folded)
    return list(csv.DictReader(text.splitlines(keepends=True)))


# -- hpo.csv ---------------------------------------------------------------------------------------------------------


def test_the_cell_of_what_does_not_exist_is_empty() -> None:
    folded = state(Trial(0, 0, {"epochs": 3, "optimizer": "Adam"}, 1), ok(0, 1.0))
    assert [(row["rate"], row["optimizer"], row["warmup"]) for row in rows(TABLE, folded)] == [("", "Adam", "")]


def test_table_is_that_of_the_reference() -> None:
    folded = state(
        trial(0, rate=0.001),
        trial(1, rate=1e-05, optimizer="SGD", warmup=False),
        trial(2, 2, rate=0.1),
        trial(3, 2),
        trial(4, 10, rate=3),
        ok(1, 0.25, 61.7),
        ok(0, 1.2e-05, 12.4),
        Outcome(2, 1, "failed", started=100.0, ended=103.0),
        ok(4, -3.0, 0.2),
    )
    assert hpo_csv(TABLE, folded) == (
        "iteration,sample,rate,optimizer,warmup,metric,result,walltime\n"
        "001,0000,0.001,Adam,true,val_loss,1.2e-05,12\n"
        "001,0001,1e-05,SGD,false,val_loss,0.25,62\n"
        "002,0000,0.1,Adam,true,val_loss,,3\n"
        "010,0000,3,Adam,true,val_loss,-3.0,0\n"
    )


def test_table_without_trials_is_its_header() -> None:
    assert hpo_csv(TABLE, state()) == "iteration,sample,rate,optimizer,warmup,metric,result,walltime\n"


def test_samples_count_within_their_iteration_by_id() -> None:
    trials = [trial(number, 1 + number // 4) for number in (3, 1, 0, 2, 5, 4)]
    table = rows(TABLE, state(*trials, *(ok(number, 1.0) for number in range(6))))
    numbers = [(row["iteration"], row["sample"]) for row in table]
    assert numbers == [("001", f"000{i}") for i in range(4)] + [("002", "0000"), ("002", "0001")]


def test_running_trials_keep_their_sample_number() -> None:
    table = rows(TABLE, state(trial(0), trial(1), trial(2), ok(0, 1.0), ok(2, 1.0)))
    assert [row["sample"] for row in table] == ["0000", "0002"]


def test_without_generations_the_iteration_counts_populations() -> None:
    table = rows(TABLE, state(*(trial(n, None) for n in range(7)), *(ok(n, 1.0) for n in range(7))))
    assert [row["iteration"] for row in table] == ["001"] * 3 + ["002"] * 3 + ["003"]
    assert [row["sample"] for row in table] == ["0000", "0001", "0002"] * 2 + ["0000"]


@pytest.mark.parametrize("kind", ["failed", "stopped"])
def test_result_of_a_trial_without_success_is_empty(kind: str) -> None:
    (row,) = rows(TABLE, state(trial(0), Outcome(0, 1, kind)))
    assert (row["result"], row["walltime"]) == ("", "0")


def test_order_of_outcomes_does_not_matter() -> None:
    trials = [trial(number) for number in range(3)]
    outcomes = [ok(number, number / 3) for number in range(3)]
    assert hpo_csv(TABLE, state(*trials, *outcomes)) == hpo_csv(TABLE, state(*trials, *reversed(outcomes)))


NASTY = [
    "a,b",
    'say "hi"',
    "two\nlines",
    "carriage\rreturn",
    "both\r\nof them",
    " spaces ",
    "",
    "'single'",
    "ünï ✓",
    "1000 500 100",
    "=1+1",
    "#x",
]


@pytest.mark.parametrize("value", NASTY)
def test_values_survive_the_file(tmp_path: Path, value: str) -> None:
    folded = state(trial(0, optimizer=value), trial(1), ok(0, 1.0), ok(1, 2.0))
    write_tables(RunDir(tmp_path), TABLE, folded, Search())
    with (tmp_path / "hpo.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["optimizer"] for row in table] == [value, "Adam"]
    assert json.loads((tmp_path / "best.json").read_text())["optimizer"] == value


@pytest.mark.parametrize("value", [0.1 + 0.2, 1e-300, 5e-324, 1.7976931348623157e308, 1e22, -0.0, 123456789.123456789])
def test_numbers_survive_the_file(value: float) -> None:
    (row,) = rows(TABLE, state(trial(0, rate=value), ok(0, value)))
    assert float(row["rate"]) == float(row["result"]) == value


def test_table_is_an_initial_population(tmp_path: Path) -> None:
    """Every value is read back from a run's directory, best first."""
    entries: list[dict[str, Any]] = [
        {"name": "epochs", "type": "constant", "value": 3},
        {"name": "rate", "type": "float", "lower": 0, "upper": 1},
        {"name": "optimizer", "type": "categorical", "element_type": "string", "values": NASTY},
        {"name": "warmup", "type": "logical"},
    ]
    trials = [trial(n, rate=n / 32, optimizer=value, warmup=n % 2 == 0) for n, value in enumerate(NASTY)]
    outcomes = [ok(one.id, -float(one.id)) for one in trials]
    write_tables(RunDir(tmp_path), TABLE, state(*trials, *outcomes), Search())
    (tmp_path / "experiment.yaml").write_text("objective: {metric: val_loss, mode: min}\n")
    initial = read_initial(tmp_path, parse_space(entries, "test"), len(NASTY))
    assert initial == [one.params for one in reversed(trials)]


# -- the finals ------------------------------------------------------------------------------------------------------


def finals(*parents: int) -> dict[str, Any]:
    """The record by which each parent is trained again once, with another rate for a seed."""
    trials = [
        Trial(FIRST_RERUN + n, FIRST_RERUN + n, {**trial(0).params, "rate": 9.0 + n}, parents=(parent,))
        for n, parent in enumerate(parents)
    ]
    return {"type": "finals", "reruns": [one.to_json() for one in trials]}


def test_the_winner_is_that_of_the_finals(tmp_path: Path) -> None:
    reruns = [ok(FIRST_RERUN, 0.9), ok(FIRST_RERUN + 1, 0.6)]
    folded = state(trial(0, rate=0.1), trial(1, rate=0.2), ok(0, 0.5), ok(1, 0.55), finals(0, 1), *reruns)
    write_tables(RunDir(tmp_path), TABLE, folded, Search())
    found = json.loads((tmp_path / "summary.json").read_text())
    assert (found["best_trial"], found["best_value"]) == (1, 0.55)
    assert (found["search_best_trial"], found["search_best_value"]) == (0, 0.5)
    assert found["optimism"] == pytest.approx(0.1)
    assert found["best_directory"] == str(tmp_path / "trials/0001/attempt-1")
    assert [entry["trial"] for entry in found["finalists"]] == [1, 0]
    assert found["finalists"][1] == {
        "trial": 0, "value": 0.5, "mean": 0.9, "std": None, "failed": 0,
        "reruns": [{"rate": 9.0, "kind": "ok", "value": 0.9, "directory": str(tmp_path / "reruns/0000/attempt-1")}],
    }  # fmt: skip
    assert (found["trials"]["asked"], found["gpu_seconds"], found["busy_seconds"]) == (2, 0.0, 48.0)
    assert json.loads((tmp_path / "best.json").read_text())["rate"] == 0.2
    assert len((tmp_path / "hpo.csv").read_text().splitlines()) == 3
    lines = finals_lines(TABLE, folded)
    assert [line.split()[0] for line in lines] == ["finalist", "1", "0", "optimism:"]


def test_the_numbers_of_finalists_stand_apart_however_long_they_are() -> None:
    long = -0.000123456789
    folded = state(trial(12345678), ok(12345678, long), finals(12345678), ok(FIRST_RERUN, long))
    assert finals_lines(TABLE, folded)[1].split() == ["12345678", "-0.000123457", "-0.000123457", "-", "0"]


@pytest.mark.parametrize("missing", [1, 2])
def test_before_the_finals_are_over_the_search_has_the_winner(missing: int) -> None:
    reruns = [ok(FIRST_RERUN, 0.9), ok(FIRST_RERUN + 1, 0.6)][missing:]
    folded = state(trial(0), trial(1), ok(0, 0.5), ok(1, 0.55), finals(0, 1), *reruns)
    found = summary(TABLE, folded, Search(), RUN)
    assert found["best_trial"] == 0 and "finalists" not in found
    assert finals_lines(TABLE, folded) == []


# -- best.json -------------------------------------------------------------------------------------------------------

FOUR = [trial(n, rate=n / 8) for n in range(4)]


@pytest.mark.parametrize(("mode", "best"), [("min", 2), ("max", 0)])
def test_best_holds_all_hyperparameters_of_the_best_trial(tmp_path: Path, mode: str, best: int) -> None:
    folded = state(*FOUR, ok(0, 0.9), ok(1, 0.5), ok(2, -0.5), Outcome(3, 1, "failed"))
    table = Table(TABLE.varying, [Objective("pcc", mode)], 3, 2)
    write_tables(RunDir(tmp_path), table, folded, Search())
    assert json.loads((tmp_path / "best.json").read_text()) == dict(FOUR[best].params)
    found = json.loads((tmp_path / "summary.json").read_text())
    assert (found["best_trial"], found["metric"], found["mode"]) == (best, "pcc", mode)


def test_best_is_what_the_training_got(tmp_path: Path) -> None:
    """Placeholders filled in, and the output directory in which its model lies."""
    table = replace(
        TABLE, arguments=lambda trial, outcome: {**trial.params, "model_outdir": f"/run/attempt-{outcome.attempt}"}
    )
    write_tables(RunDir(tmp_path), table, state(*FOUR, ok(1, 0.5)), Search())
    expected = {**FOUR[1].params, "model_outdir": "/run/attempt-1"}
    assert json.loads((tmp_path / "best.json").read_text()) == expected
    assert json.loads((tmp_path / "summary.json").read_text())["hall_of_fame"][0]["params"] == expected


def test_earliest_of_equals_is_the_best(tmp_path: Path) -> None:
    write_tables(RunDir(tmp_path), TABLE, state(*FOUR, ok(3, 0.5), ok(1, 0.5), ok(2, 0.5)), Search())
    assert json.loads((tmp_path / "best.json").read_text()) == dict(FOUR[1].params)


def test_without_a_success_there_is_no_best(tmp_path: Path) -> None:
    write_tables(RunDir(tmp_path), TABLE, state(*FOUR, Outcome(0, 1, "failed")), Search())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hpo.csv", "summary.json"]
    assert json.loads((tmp_path / "summary.json").read_text())["best_trial"] is None


def test_outcome_of_a_trial_whose_asked_record_was_lost_is_left_out(tmp_path: Path) -> None:
    """Between the repair of a journal and the trial's being asked for again."""
    write_tables(RunDir(tmp_path), TABLE, state(FOUR[0], FOUR[2], ok(0, 3.0), ok(1, 0.1), ok(2, 2.0)), Search())
    assert json.loads((tmp_path / "best.json").read_text()) == dict(FOUR[2].params)


# -- summary.json ----------------------------------------------------------------------------------------------------


def campaign() -> State:
    """Two controllers, 2 workers: spans of 20 and 10 s, in which trials ran for 12 + 18 + 3 + 9 = 42 s."""
    return state(
        {"type": "campaign"},
        *FOUR,
        Outcome(0, 1, "ok", 0.5, {"mse": 0.5}, 100.0, 112.0, 12.0),
        Outcome(1, 1, "lost", None, {}, 101.0, 119.0, cause="infrastructure"),
        Outcome(2, 1, "failed", None, {}, 117.0, 120.0, 3.0),
        {"type": "resumed"},
        Outcome(1, 2, "ok", 0.25, {"mse": 0.25, "pcc": 0.9}, 501.0, 510.0, 9.0),
        Outcome(3, 1, "stopped", None, {}, 500.0, 500.0),
        {"type": "stage", "stage": "infer", "outcome": Outcome(1, 1, "ok", None, {"mse": 0.3}).to_json()},
        {"type": "ended", "complete": True},
    )


@pytest.mark.parametrize(
    ("gpu", "trials_per_gpu", "seconds"), [("0", 1, 42.0), ("0,1", 1, 84.0), ("0", 2, 21.0), (None, 2, 0.0)]
)
def test_gpu_seconds_are_those_of_gpu_hours(gpu: str | None, trials_per_gpu: int, seconds: float) -> None:
    """Of all attempts; ``status`` counts them by the same budget."""
    budgets = Budgets(gpus=gpu is not None, trials_per_gpu=trials_per_gpu)
    folded = state(*FOUR, ok(0, 0.5, 30.0, gpu=gpu), replace(ok(1, 0.5, gpu=gpu), kind="lost", value=None))
    assert summary(replace(TABLE, budgets=budgets), folded, Search(), RUN)["gpu_seconds"] == seconds
    assert gpu is None or budgets.hours(folded) * 3600 == pytest.approx(seconds)


def test_summary_by_hand() -> None:
    row = GenerationStatistics(1, 4, 0.375, 0.125, 0.25, 0.5)
    assert summary(TABLE, campaign(), Search("why", row), RUN) == {
        "metric": "val_loss",
        "mode": "min",
        "best_value": 0.25,
        "best_trial": 1,
        "best_directory": "/run/trials/0001/attempt-2",
        "best_metrics": {"mse": 0.25, "pcc": 0.9},
        "test_scores": {"mse": 0.3},
        "hall_of_fame": [
            {"trial": 1, "value": 0.25, "params": dict(FOUR[1].params)},
            {"trial": 0, "value": 0.5, "params": dict(FOUR[0].params)},
        ],
        "trials": {"asked": 4, "ok": 2, "failed": 1, "stopped": 1, "reused": 0, "unfinished": 0, "lost_attempts": 1},
        "shunned_nodes": {},
        "wall_seconds": 11.0,
        "busy_seconds": 42.0,
        "gpu_seconds": 0.0,
        "workers": 2,
        "utilization": 0.7,
        "generations": [
            {"generation": 1, "nevals": 4, "avg": 0.375, "std": 0.125, "min": 0.25, "max": 0.5},
        ],
        "complete": True,
        "message": "why",
    }


def test_hall_of_fame_holds_the_best_of_each_configuration() -> None:
    again = Trial(4, 1, FOUR[1].params, 2)
    values = {0: 0.4, 1: 0.3, 2: 0.1, 3: 0.2, 4: 0.15}
    folded = state(*FOUR, again, *(ok(number, value) for number, value in values.items()))
    for mode, expected in (("min", [2, 4, 3, 0]), ("max", [0, 1, 3, 2])):
        table = Table(TABLE.varying, [Objective("mse", mode)], 3, 2)
        assert [row["trial"] for row in summary(table, folded, Search(), RUN)["hall_of_fame"]] == expected


def test_hall_of_fame_is_limited() -> None:
    folded = state(*(trial(n) for n in range(30)), *(ok(n, float(n)) for n in range(30)))
    assert [row["trial"] for row in summary(TABLE, folded, Search(), RUN)["hall_of_fame"]] == list(range(10))


def test_utilization_is_busy_time_by_workers_and_spans() -> None:
    found = summary(TABLE, campaign(), Search(), RUN)
    assert found["utilization"] == 42 / (2 * (20 + 10))


def test_utilization_of_nothing_is_unknown() -> None:
    assert summary(TABLE, state(), Search(), RUN)["utilization"] is None
    assert summary(TABLE, state(FOUR[0], Outcome(0, 1, "failed")), Search(), RUN)["utilization"] is None


def test_test_scores_are_those_of_the_winner_alone() -> None:
    infer = {"type": "stage", "stage": "infer"}
    scored = {**infer, "outcome": Outcome(0, 1, "ok", None, {"mse": 1.0}).to_json()}
    failed = {**infer, "outcome": Outcome(1, 1, "failed").to_json()}
    trials = [*FOUR, ok(0, 0.5), ok(1, 0.25)]
    assert summary(TABLE, state(*trials, scored), Search(), RUN)["test_scores"] is None
    assert summary(TABLE, state(*trials, failed), Search(), RUN)["test_scores"] is None


def test_counts_by_state() -> None:
    folded = state(*FOUR, ok(0, 1.0), Outcome(1, 1, "failed"), Outcome(2, 1, "lost", cause="infrastructure"))
    expected = {"asked": 4, "ok": 1, "failed": 1, "stopped": 0, "reused": 0, "unfinished": 2, "lost_attempts": 1}
    assert counts(folded) == expected


def no_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def test_summary_is_strict_json_even_with_nan(tmp_path: Path) -> None:
    """A generation of failures has no average, and scores beside the metric may be nan (pcc of a constant)."""
    nan = GenerationStatistics(1, 4, math.nan, math.nan, math.nan, math.nan)
    folded = state(FOUR[0], ok(0, 1.0, metrics={"pcc": math.nan, "r2": -math.inf}))
    write_tables(RunDir(tmp_path), TABLE, folded, Search("", nan))
    json.loads((tmp_path / "summary.json").read_text(), parse_constant=no_constant)


# -- several objectives ----------------------------------------------------------------------------------------------

SEVERAL = replace(TABLE, objectives=[Objective(), Objective("size", "max")])


def conflicting() -> State:
    """By hand: trials 1 and 2 are the front, 1 dominates 0, 3 failed, 4 lacks a size."""
    found = {0: (0.5, 3.0), 1: (0.25, 4.0), 2: (0.75, 9.0)}
    told = [ok(number, value, metrics={"size": size}) for number, (value, size) in found.items()]
    return state(*FOUR, trial(4, 2), *told, Outcome(3, 1, "failed"), ok(4, 0.0))


def test_further_objectives_are_the_last_columns() -> None:
    text = hpo_csv(SEVERAL, conflicting())
    assert text.splitlines()[0] == ("iteration,sample,rate,optimizer,warmup,metric,result,walltime,result_size,pareto")
    assert [line.rpartition(",12,")[2] for line in text.splitlines()[1:4]] == ["3.0,0", "4.0,1", "9.0,1"]
    last = [(row["result"], row["result_size"], row["pareto"]) for row in rows(SEVERAL, conflicting())[3:]]
    assert last == [("", "", "0"), ("0.0", "", "0")]


def test_the_front_is_in_the_summary_the_best_by_the_first_objective_first() -> None:
    assert summary(SEVERAL, conflicting(), Search(), RUN)["pareto_front"] == [
        {"trial": 1, "values": {"val_loss": 0.25, "size": 4.0}, "params": dict(FOUR[1].params)},
        {"trial": 2, "values": {"val_loss": 0.75, "size": 9.0}, "params": dict(FOUR[2].params)},
    ]


def test_the_front_of_nothing_is_empty() -> None:
    assert summary(SEVERAL, state(), Search(), RUN)["pareto_front"] == []
    assert front_lines(SEVERAL, state()) == []
    assert summary(SEVERAL, state(*FOUR, ok(0, 1.0)), Search(), RUN)["pareto_front"] == []


def test_the_terminal_shows_the_ends_of_the_front() -> None:
    assert front_lines(SEVERAL, conflicting()) == [
        "Pareto front: 2 of 4 trials",
        "    least val_loss: val_loss=0.25, size=4 (trial 1)",
        "    most size: val_loss=0.75, size=9 (trial 2)",
    ]


def test_one_objective_has_no_front() -> None:
    assert "pareto_front" not in summary(TABLE, conflicting(), Search(), RUN)
    assert front_lines(TABLE, conflicting()) == []


# -- writing ---------------------------------------------------------------------------------------------------------


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "hpo.csv"
    write_text(path, "first")
    with path.open() as reader:
        write_text(path, "second")
        assert reader.read() == "first"
    assert path.read_text() == "second"
    assert [entry.name for entry in tmp_path.iterdir()] == ["hpo.csv"]


def test_file_that_cannot_be_written_is_a_site_error(tmp_path: Path) -> None:
    path = tmp_path / "taken"
    path.mkdir()
    with pytest.raises(SiteError, match="taken: cannot be written"):
        write_text(path, "text")
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


def test_lines_show_the_named_hyperparameters() -> None:
    assert lines(trial(0).params, TABLE.varying) == "rate=0.5, optimizer=Adam, warmup=true"
    assert lines({"rate": 0.5, "warmup": True}, TABLE.varying) == "rate=0.5, warmup=true"
