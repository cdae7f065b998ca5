"""Results of earlier runs: as files, as a model takes them, and in a search."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from workflow import load_run
from workflow.config.initial import read_earlier, read_initial, searched_by, write_earlier
from workflow.errors import InputError
from workflow.search import STRATEGIES, Earlier, SearchSettings, best_of, make_search
from workflow.search.earlier import beside, in_spreads, typical
from workflow.space_file import load_space, parse_space
from workflow.trial import Objective, Outcome, Params

SPACE = parse_space(
    [
        {"name": "epochs", "type": "constant", "value": 9},
        {"name": "x", "type": "float", "lower": 0, "upper": 1},
        {"name": "y", "type": "float", "lower": 0, "upper": 1},
        {"name": "kind", "type": "categorical", "element_type": "string", "values": ["a", "b"]},
    ],
    "test",
)


def params(x: float, y: float = 0.5, kind: str = "a") -> Params:
    return {"epochs": 9, "x": x, "y": y, "kind": kind}


def results(*losses: float, source: int = 0) -> list[Earlier]:
    return [Earlier(params(index / 100, 0.1 * source), loss, source) for index, loss in enumerate(losses)]


# -- as the search takes them ----------------------------------------------------------------------------------------


def test_the_best_of_each_run_come_in_turn() -> None:
    found = best_of([*results(3, 1, 2), *results(300, 100, source=1)], 4)
    assert found == [params(0.01, 0.0), params(0.01, 0.1), params(0.02, 0.0), params(0.0, 0.1)]


def test_losses_are_told_by_the_spread_of_their_run() -> None:
    small, large = in_spreads(np.array([1.0, 2, 3, 4, 5])), in_spreads(np.array([100.0, 200, 300, 400, math.inf]))
    assert small.tolist() == [-1, -0.5, 0, 0.5, 1]
    assert large[-1] == math.inf
    assert in_spreads(np.array([7.0, 8.0, math.inf])).tolist() == [0, 0, math.inf]
    assert in_spreads(np.full(6, 2.5)).tolist() == [0] * 6


def test_losses_at_the_ends_of_floats_are_told_too() -> None:
    losses = in_spreads(np.array([-1e308, 1e308, 1.0, 2.0, 3.0, math.inf]))
    assert losses[:5].argsort().tolist() == [0, 2, 3, 4, 1]
    assert np.isfinite(losses[:5]).all() and losses[5] == math.inf
    assert in_spreads(np.array([-1e308, -1e308, 1e308, 1e308])).tolist() == [-0.5, -0.5, 0.5, 0.5]


def test_the_best_and_an_even_choice_of_each_run_are_known() -> None:
    found = typical([*results(*range(500)), *results(*range(0, 50_000, 100), source=7)], SPACE)
    assert len(found) == 60
    assert [known.source for known in found].count(1) == 30
    assert [known.loss for known in found] == sorted(known.loss for known in found)
    worst = max(known.loss for known in found if known.source == 1)
    assert (
        worst == pytest.approx(max(known.loss for known in found if known.source == 2)) == pytest.approx(1.0, abs=0.1)
    )


def test_own_losses_are_levelled_by_configurations_that_both_have() -> None:
    known = {("a",): -2.0, ("b",): -1.8}
    own = beside(np.array([10.0, 12, 14, 16, 18]), [("a",), ("b",), ("c",), ("d",), ("e",)], known)
    assert own[0] == pytest.approx(-1.9, abs=0.4)
    assert np.diff(own).tolist() == pytest.approx([0.5] * 4)


def loss_of(point: Params) -> float:
    return abs(float(point["x"]) - 0.7) + abs(float(point["y"]) - 0.2) + 0.3 * (point["kind"] == "a")


def random_results(count: int, scale: float = 1.0) -> list[Earlier]:
    rng = np.random.default_rng(5)
    drawn = [{p.name: p.draw(rng) for p in SPACE.parameters} for _ in range(count)]
    return [Earlier(point, scale * loss_of(point) + 3, 0) for point in drawn]


def best_after(count: int, earlier: list[Earlier], seed: int) -> float:
    search = make_search(SPACE, SearchSettings("async", evaluations=count, seed=seed), earlier=earlier)
    found = []
    while (trial := search.ask()) is not None:
        found.append(loss_of(trial.params))
        search.tell(Outcome(trial.id, 1, "ok", found[-1]))
    return min(found)


def test_an_earlier_run_saves_trials_whatever_its_scale() -> None:
    seeds = range(4)
    cold = sum(best_after(12, [], seed) for seed in seeds)
    assert sum(best_after(12, random_results(40, 50.0), seed) for seed in seeds) < 0.5 * cold


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_tries_the_best_of_earlier_runs_first(strategy: str) -> None:
    earlier = random_results(30)
    search = make_search(SPACE, SearchSettings(strategy), earlier=earlier)
    asked = [trial.params for trial in (search.ask() for _ in range(4)) if trial is not None]
    assert asked == best_of(earlier, 4)


# -- files -----------------------------------------------------------------------------------------------------------

HEADER = "iteration,sample,x,y,kind,metric,result,walltime\n"


def write(path: Path, *rows: str) -> Path:
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows))
    return path


@pytest.mark.parametrize(("mode", "sign"), [("min", 1), ("max", -1)])
def test_results_are_read_and_written(tmp_path: Path, mode: str, sign: int) -> None:
    one = write(tmp_path / "one.csv", "001,0000,0.25,0.5,a,val_loss,3.5,9", "001,0001,0.5,0.5,b,val_loss,,9")
    other = write(tmp_path / "other.csv", "001,0000,0.75,0.5,b,val_loss,0.1,9")
    found, warnings = read_earlier([one, other], SPACE, Objective(mode=mode))
    assert found == [Earlier(params(0.25), sign * 3.5, 0), Earlier(params(0.75, kind="b"), sign * 0.1, 1)]
    assert warnings == []
    write_earlier(tmp_path / "kept.csv", SPACE, mode, found)
    assert read_earlier([tmp_path / "kept.csv"], SPACE, Objective(mode=mode)) == (found, [])


def test_results_of_another_metric_are_ranked_as_theirs(tmp_path: Path) -> None:
    """By the run in which a table lies, or else by the metric's name; a table of one's own metric as oneself."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "experiment.yaml").write_text("objective: {metric: speed, mode: max}\n")
    (run / "journal.jsonl").touch()
    rows = ["1,0,0.25,0.5,a,{0},3,9", "1,1,0.5,0.5,b,{0},2,9"]
    tables = {
        run / "hpo.csv": ("speed", -3.0), tmp_path / "hpo.csv": ("speed", 3.0), tmp_path / "r2.csv": ("r2", -3.0),
    }  # fmt: skip
    for path, (metric, loss) in tables.items():
        write(path, *(row.format(metric) for row in rows))
        found, warnings = read_earlier([path], SPACE, Objective("val_loss", "min"))
        assert (found[0].loss, warnings) == (loss, [])
    assert searched_by(run, Objective()) == searched_by(run / "hpo.csv", Objective()) == Objective("speed", "max")
    assert searched_by(tmp_path / "r2.csv", Objective()) == Objective("r2", "max")
    assert searched_by(tmp_path / "r2.csv", Objective("r2", "min")) == Objective("r2", "min")


def test_results_outside_the_space_are_left_out_and_told(tmp_path: Path) -> None:
    path = write(
        tmp_path / "hpo.csv",
        "001,0000,0.25,0.5,a,loss,3.5,9",
        "001,0001,2,0.5,b,loss,1,9",
        "1,2,0,0,z,l,1,9",
        "1,3,0,0,a,l,nan,9",
    )
    found, (warning,) = read_earlier([path], SPACE, Objective())
    assert [result.params for result in found] == [params(0.25)]
    assert warning == f"search.warm_start: {path}: 2 of 3 results are outside the space"


def test_results_that_are_not_allowed_are_left_out_and_told(tmp_path: Path) -> None:
    entries = [{"name": name, "type": "float", "lower": 0, "upper": 1} for name in "xy"]
    space = parse_space([{**entries[0], "constraint": "x < y"}, entries[1]], "s")
    path = write(tmp_path / "hpo.csv", "1,0,0.25,0.5,a,loss,3.5,9", "1,1,0.75,0.5,a,loss,1,9")
    found, (warning,) = read_earlier([path], space, Objective())
    assert found == [Earlier({"x": 0.25, "y": 0.5}, 3.5, 0)]
    assert warning == f"search.warm_start: {path}: 1 of 2 results are outside the space"


def test_a_run_without_results_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "hpo.csv", "1,0,0.25,0.5,a,loss,,9", "1,1,0.75,0.5,a,loss,nan,9")
    assert read_earlier([path], SPACE, Objective()) == (
        [],
        [f"search.warm_start: {path}: none of 2 trials has a result"],
    )


def test_of_a_run_with_a_fidelity_whole_trainings_are_taken(tmp_path: Path) -> None:
    fidelity = "{parameter: epochs, min: 1, max: 9}"
    experiment = f"objective: {{metric: loss, mode: min}}\nsearch: {{fidelity: {fidelity}}}\n"
    (tmp_path / "experiment.yaml").write_text(experiment)
    rows = ["epochs,x,y,kind,result", "3,0.1,0.5,a,1.0", "9,0.2,0.5,a,2.0", "9,0.3,0.5,b,3.0"]
    (tmp_path / "hpo.csv").write_text("\n".join(rows))
    found, warnings = read_earlier([tmp_path], SPACE, Objective())
    assert ([(each.params["x"], each.loss) for each in found], warnings) == ([(0.2, 2.0), (0.3, 3.0)], [])


def test_a_hyperparameter_may_be_called_source(tmp_path: Path) -> None:
    space = parse_space([{"name": "source", "type": "int", "lower": 0, "upper": 9}], "s")
    path = tmp_path / "hpo.csv"
    path.write_text("source,result\n7,0.5\n3,0.75\n")
    found, _ = read_earlier([path], space, Objective())
    assert found == [Earlier({"source": 7}, 0.5, 0), Earlier({"source": 3}, 0.75, 0)]
    write_earlier(tmp_path / "kept.csv", space, "min", found)
    assert read_earlier([tmp_path / "kept.csv"], space, Objective()) == (found, [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x,y,result\n1,1,1\n", "header: has no column kind"),
        ("x,y,kind\n1,1,a\n", "header: has no column result"),
        (HEADER, "has no row"),
        (HEADER + "001,0000,0.25,0.5,a,val_loss,much,9\n", "line 2: result: 'much' is not a number"),
    ],
)
def test_files_without_results_are_refused(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "hpo.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_earlier([path], SPACE, Objective())
    assert str(caught.value).startswith(f"search.warm_start: {path}: {expected}\n    -> ")


# -- campaigns of the reference system -------------------------------------------------------------------------------

GRAPHDRP, UNO = (ROOT / "tests" / "data" / "halloffame" / f"{name}-ccle-medium.csv" for name in ("graphdrp", "uno"))


@pytest.mark.parametrize(("table", "value"), [(GRAPHDRP, 0.004803418647497892), (UNO, 0.004607167472318877)])
def test_campaigns_of_the_reference_are_earlier_runs(table: Path, value: float) -> None:
    space, run = load_space(table.with_suffix(".space.json")), load_run(table)
    found, warnings = read_earlier([table], space, Objective())
    assert (len(found), warnings, len(run.trials)) == (40, [], 40)
    assert run.best is not None and min(result.loss for result in found) == run.best.value == value
    assert best_of(found, 1) == [space.complete(run.trials[run.best.trial_id].params)]
    assert len(read_initial(table, space, 50)) == len({trial.config_id for trial in run.trials.values()})


def test_of_a_campaign_in_another_space_what_fits_is_taken() -> None:
    space = load_space(UNO.with_suffix(".space.json"))
    found, (warning,) = read_earlier([GRAPHDRP, UNO], space, Objective())
    assert warning.endswith("graphdrp-ccle-medium.csv: 38 of 40 results are outside the space")
    assert [result.source for result in found] == [0] * 2 + [1] * 40
