"""Experiment files: what they hold, and what is refused or warned of."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.unit.config.experiments import BOTH, MINIMAL, SPACE, TEMPLATE, fidelity, load, refusal, write
from workflow.config.load import load_experiment
from workflow.errors import InputError
from workflow.finals import FinalistsSettings
from workflow.search import SearchSettings
from workflow.stages import Stage
from workflow.stopping import StoppingSettings
from workflow.trial import Objective

# -- defaults --------------------------------------------------------------------------------------------------------


def test_defaults_of_an_experiment(tmp_path: Path) -> None:
    experiment = load(tmp_path)
    assert experiment.name == "try"
    assert experiment.objective == Objective("val_loss", "min")
    assert experiment.stages == {"train": Stage({}, None, None, False)}
    assert (experiment.model.runtime, experiment.model.contract, experiment.model.data_dir) == ("none", "improve", "")
    assert experiment.search == SearchSettings()
    assert experiment.max_attempts == 3
    assert experiment.initial == ()


def test_shipped_demo_loads() -> None:
    experiment = load_experiment(ROOT / "configs" / "demo.yaml", {})
    assert list(experiment.stages) == ["preprocess", "train", "infer"]
    assert experiment.search == SearchSettings("mu_plus_lambda")
    assert [p.name for p in experiment.space.varying][:2] == ["learning_rate", "num_layers"]


@pytest.mark.parametrize("text", ["1h30m", 5400, "01:30:00"])
def test_budgets_of_the_campaign(tmp_path: Path, text: object) -> None:
    search = load(tmp_path, search={"gpu_hours": 0.5, "wall_time": text, "target": -1}).search
    assert (search.gpu_hours, search.wall_time, search.target) == (0.5, 5400.0, -1.0)
    assert load(tmp_path, "search.target=null", search={"target": -1}).search.target is None


# -- strictness ------------------------------------------------------------------------------------------------------

UNKNOWN = [
    ({"serach": {}}, "serach", "did you mean 'search'?", "name"),
    ({"model": {"scripts": TEMPLATE, "imge": None}}, "model.imge", "did you mean 'image'?", "contract"),
    ({"stages": {"trian": {}}}, "stages.trian", "did you mean 'train'?", "preprocess, train, infer"),
    ({"stages": {"preprocess": {"arg": {}}}}, "stages.preprocess.arg", "did you mean 'args'?", "timeout"),
    ({"stages": {"train": {"gpu_arg": True}}}, "stages.train.gpu_arg", "", "args, timeout, stall_timeout, config_file"),
    ({"stages": {"infer": {"timeuot": 1}}}, "stages.infer.timeuot", "did you mean 'timeout'?", "gpu_arg"),
    ({"objective": {"metrc": "mse"}}, "objective.metrc", "did you mean 'metric'?", "metric, mode"),
    ({"search": {"popsize": 4}}, "search.popsize", "", "population_size"),
    ({"search": {"num_iteration": 4}}, "search.num_iteration", "did you mean 'num_iterations'?", "tournsize"),
    ({"search": {"MUTPB": 0.5}}, "search.MUTPB", "", "mut_prob"),
]


@pytest.mark.parametrize(("changes", "key", "hint", "known"), UNKNOWN)
def test_an_unknown_key_is_an_error_that_lists_the_known(
    tmp_path: Path, changes: dict[str, Any], key: str, hint: str, known: str
) -> None:
    message = refusal(tmp_path, **changes)
    assert message.startswith(f"try.yaml: {key}: is not a known key\n    -> {hint}")
    assert known in message.partition("known: ")[2]


def test_all_problems_of_a_file_are_reported_at_once(tmp_path: Path) -> None:
    message = refusal(
        tmp_path,
        name="a/b",
        model={"scripts": "nowhere", "runtime": "docker"},
        stages={"train": {"timeout": "soon"}, "tset": {}},
        space=[{"name": "x", "type": "flaot"}],
        objective={"mode": "best"},
        search={"seed": -1, "mut_prob": 2},
        max_attempts=0,
        extra=1,
    )
    for place in (
        "name", "model.scripts", "model.runtime", "stages.train.timeout", "stages.tset", "space: entry 1 'x': type",
        "objective.mode", "search.seed", "search.mut_prob", "max_attempts", "extra",
    ):  # fmt: skip
        assert f"try.yaml: {place}: " in message
    assert all(line.startswith(("try.yaml: ", "    -> ")) for line in message.splitlines())


WRONG = [
    ({"objective": {"mode": "minimize"}}, "objective.mode", "'minimize'", "min"),
    ({"objective": {"metric": "a b"}}, "objective.metric", "'a b'", "write the name of a score"),
    ({"search": {"population_size": "many"}}, "search.population_size", "'many'", "write a whole number"),
    ({"search": {"population_size": 2.5}}, "search.population_size", "2.5", "write a whole number"),
    ({"search": {"seed": True}}, "search.seed", "True", "write a whole number"),
    ({"search": {"mut_prob": "x"}}, "search.mut_prob", "'x'", "write a finite number"),
    ({"search": {"reevaluate": "yes please"}}, "search.reevaluate", "'yes please'", "write true or false"),
    (
        {"search": {"strategy": "mu_plus_lambda", "mut_prob": 0.9, "cx_prob": 0.2}},
        "search.mut_prob",
        "1.1",
        "sum to 1 at most",
    ),
    ({"search": {"strategy": "simple", "evaluations": 9}}, "search.evaluations", "simple", "set num_iterations"),
    ({"search": {"gpu_hours": 0}}, "search.gpu_hours", "0", "write hours"),
    ({"search": {"gpu_hours": -3}}, "search.gpu_hours", "-3", "write hours"),
    ({"search": {"gpu_hours": "12h"}}, "search.gpu_hours", "'12h'", "write a finite number"),
    ({"search": {"wall_time": "soon"}}, "search.wall_time", "'soon'", "write a time such as 90s"),
    ({"search": {"wall_time": 0}}, "search.wall_time", "0", "write a time such as 90s"),
    ({"search": {"target": float("inf")}}, "search.target", "inf", "write a finite number"),
    (
        {"search": {"cost_aware": True, "strategy": "random"}},
        "search.cost_aware",
        "random",
        "set search.strategy to async",
    ),
    ({"search": fidelity(parameter=None)}, "search.fidelity.parameter", "is missing", "name a constant"),
    ({"search": fidelity(parameter="x")}, "search.fidelity.parameter", "'x'", "write it there as one"),
    ({"search": fidelity(min=200)}, "search.fidelity", "from 200 to 150", "write 0 < min < max"),
    ({"search": fidelity(max=None)}, "search.fidelity", "nan", "write 0 < min < max"),
    ({"search": fidelity(eta=1)}, "search.fidelity.eta", "1", "write a number such as 3"),
    ({"search": fidelity(min=100)}, "search.fidelity", "between 100 and 150 / 3", "lower min or eta"),
    ({"search": fidelity(min=1e-300, max=1e300)}, "search.fidelity", "1258 sizes", "raise min or eta"),
    ({"search": fidelity(eta=1.01)}, "search.fidelity", "273 sizes", "raise min or eta"),
    ({"search": {**fidelity(), "strategy": "random"}}, "search.fidelity", "random", "set search.strategy to async"),
    ({"search": {"sampler_options": [1]}}, "search.sampler_options", "[1]", "with keys below it"),
    ({"search": {"strategy": "simpel"}}, "search.strategy", "'simpel'", "did you mean 'simple'?"),
    ({"model": {}}, "model.scripts", "is missing", "train.sh, or an image"),
    ({"model": {"runtime": "apptainer"}}, "model.image", "is missing", ".sif"),
    ({"model": {"image": "no.sif"}}, "model.image", "no.sif", "no such file"),
    ({"model": {"scripts": "nowhere"}}, "model.scripts", "nowhere", "no such directory"),
    ({"model": {"scripts": TEMPLATE, "data_dir": "none"}}, "model.data_dir", "none", "no such directory"),
    ({"model": {"scripts": TEMPLATE, "contract": "candel"}}, "model.contract", "'candel'", "did you mean 'candle'?"),
    ({"stages": {"train": {"args": {"--x": 1}}}}, "stages.train.args.--x", "cannot be an option's", "leading '--'"),
    ({"stages": {"train": {"args": {"x": None}}}}, "stages.train.args.x", "None", "write a string, a number"),
    ({"stages": {"train": {"args": {"x": "{nope}"}}}}, "stages.train.args.x", "{nope}", "mend the placeholder"),
    ({"stages": {"train": {"args": [1]}}}, "stages.train.args", "[1]", "not a section"),
    ({"space": None}, "space", "is missing", "write the path"),
    ({"max_attempts": 0}, "max_attempts", "0", "write at least 1"),
]


@pytest.mark.parametrize(("changes", "key", "value", "remedy"), WRONG)
def test_refusal_names_file_key_value_and_remedy(
    tmp_path: Path, changes: dict[str, Any], key: str, value: str, remedy: str
) -> None:
    message = refusal(tmp_path, **changes)
    assert message.startswith(f"try.yaml: {key}: ")
    assert value in message.removeprefix(f"try.yaml: {key}: ")
    assert remedy in message
    assert "\n    -> " in message


def test_known_keys_are_listed_once(tmp_path: Path) -> None:
    known = refusal(tmp_path, spce=1).partition("known: ")[2].split(", ")
    assert "space" in known and len(known) == len(set(known))


def test_space_in_a_file_is_relative_to_the_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub", json.dumps(SPACE), "space.json")
    path = write(tmp_path / "sub", {**MINIMAL, "space": "space.json"})
    monkeypatch.chdir(tmp_path)
    assert load_experiment(path.relative_to(tmp_path), {}).space.parameters == load(tmp_path).space.parameters


def test_problems_of_a_space_file_name_that_file(tmp_path: Path) -> None:
    write(tmp_path, '[{"name": "x", "type": "int", "lower": 1}]', "space.json")
    assert refusal(tmp_path, space="space.json").startswith("space.json: entry 1 'x': upper: is missing")


def test_an_initial_population_of_another_objective_is_warned_of(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "experiment.yaml").write_text("objective: {metric: pcc, mode: max}\n")
    (run / "hpo.csv").write_text("x,n,result\n0.5,3,0.9\n")
    experiment = load(tmp_path, search={"initial_population": "run"})
    assert "searched pcc (max), this experiment val_loss (min)" in experiment.warnings[-1]
    (run / "experiment.yaml").write_text("objective: {metric: val_loss, mode: min}\n")
    assert load(tmp_path, search={"initial_population": "run"}).warnings == ()


# -- several objectives ----------------------------------------------------------------------------------------------


def test_several_objectives(tmp_path: Path) -> None:
    experiment = load(tmp_path, objectives=["pcc max", "walltime min"])
    assert experiment.objective == Objective("pcc", "max")
    assert experiment.objectives == (experiment.objective, Objective("walltime", "min"))
    assert experiment.warnings == ()
    assert experiment.make_search().objectives == experiment.objectives


def test_one_objective_of_a_list_equals_objective(tmp_path: Path) -> None:
    listed, single = load(tmp_path, objectives=["pcc max"]), load(tmp_path, objective={"metric": "pcc", "mode": "max"})
    assert listed == single
    assert listed.fingerprint() == single.fingerprint()


@pytest.mark.parametrize(
    ("objectives", "words"),
    [
        ([], ["[] is not allowed", "a list of 1 to 4, such as [val_loss min, walltime min]"]),
        (["a min", "b min", "c min", "d min", "e min"], ["a list of 1 to 4"]),
        ("val_loss min", ["'val_loss min' is not allowed", "a list of 1 to 4"]),
        (["val_loss"], ["'val_loss' is not allowed", "the name of a score and min or max, such as val_loss min"]),
        (["val_loss minimize"], ["'val_loss minimize' is not allowed", "min or max"]),
        (["val loss min"], ["'val loss min' is not allowed"]),
        ([{"metric": "val_loss"}], ["{'metric': 'val_loss'} is not allowed"]),
        (["a min", "b min", "a max"], ["names a more than once", "keep one of each"]),
    ],
)
def test_objectives_that_are_none_are_refused(tmp_path: Path, objectives: Any, words: list[str]) -> None:
    message = refusal(tmp_path, objectives=objectives)
    assert message.startswith("try.yaml: objectives: ")
    assert all(word in message for word in words)


def test_both_keys_are_refused_together(tmp_path: Path) -> None:
    message = refusal(tmp_path, objectives=BOTH, objective={"metric": "mse"})
    assert "try.yaml: objectives: is given beside objective\n    -> keep one of the two" in message


def test_a_wrong_mode_of_a_further_objective_is_warned_of(tmp_path: Path) -> None:
    (warning,) = load(tmp_path, objectives=["val_loss min", "pcc min"]).warnings
    assert warning == "objective: pcc is minimised; set its mode to max if greater is better"


def test_a_run_of_several_objectives_gives_its_best_by_the_first(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "experiment.yaml").write_text("objectives: [pcc max, walltime min]\n")
    (run / "hpo.csv").write_text("x,n,result\n0.5,3,0.9\n0.25,4,0.95\n")
    experiment = load(tmp_path, search={"initial_population": "run"})
    assert [params["x"] for params in experiment.initial] == [0.25, 0.5]
    assert "searched pcc (max), this experiment val_loss (min)" in experiment.warnings[-1]


# -- warnings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "mode", "warned"), [("pcc", "min", True), ("pcc", "max", False), ("mse", "min", False)]
)
def test_a_correlation_that_is_minimised_is_warned_of(tmp_path: Path, metric: str, mode: str, warned: bool) -> None:
    warnings = load(tmp_path, objective={"metric": metric, "mode": mode}).warnings
    assert any(metric in warning and "max" in warning for warning in warnings) is warned


def test_values_that_published_scripts_would_change_are_warned_of(tmp_path: Path) -> None:
    space = [*SPACE, {"name": "opt", "type": "categorical", "element_type": "string", "values": ["a", "two words"]}]
    warnings = load(tmp_path, space=space, stages={"train": {"args": {"files": "*.csv"}}}).warnings
    assert [("opt" in w, "files" in w) for w in warnings] == [(True, False), (False, True)]


def test_settings_that_a_strategy_makes_no_use_of_are_warned_of(tmp_path: Path) -> None:
    changed = {"mut_prob": 0.7, "tournsize": 2, "population_size": 8}
    told = [f"search.{key}: async makes no use of it" for key in ("mut_prob", "tournsize")]
    assert [w for w in load(tmp_path, search={"strategy": "async", **changed}).warnings if "no use" in w] == told
    assert load(tmp_path, search={"strategy": "simple", **changed}).warnings == ()


def test_values_of_numeric_words_are_not_warned_of(tmp_path: Path) -> None:
    space = [*SPACE, {"name": "dense", "type": "constant", "value": "1000 500 100"}]
    assert load(tmp_path, space=space).warnings == ()


# -- finalists and early stopping ------------------------------------------------------------------------------------


def with_constants(**values: Any) -> list[dict[str, Any]]:
    constants = [{"name": name, "type": "constant", "value": value} for name, value in values.items()]
    return [{"name": "x", "type": "float", "lower": 0, "upper": 1}, *constants]


def test_without_a_known_seed_nothing_is_trained_again(tmp_path: Path) -> None:
    experiment = load(tmp_path)
    assert experiment.finalists.size == 0
    (tmp_path / "resumed.yaml").write_text(experiment.to_yaml())
    (tmp_path / "space.json").write_text(json.dumps(experiment.space.entries))
    assert load_experiment(tmp_path / "resumed.yaml", {}).finalists == experiment.finalists
    assert "finalists: null" in experiment.to_yaml()


@pytest.mark.parametrize(
    ("changes", "argument", "seed"),
    [
        ({"space": with_constants(rng_seed=42, seed=3)}, "rng_seed", 42),
        ({"space": with_constants(random_seed="7 8")}, "random_seed", 1000),
        ({"stages": {"train": {"args": {"seed": 0}}}}, "seed", 0),
        ({"stages": {"train": {"args": {"seed": 5}}}, "space": with_constants(seed=6)}, "seed", 6),
        ({"stages": {"train": {"args": {"seed": True}}}}, "seed", 1000),
        ({"finalists": {"seed_argument": "s"}, "space": with_constants(seed=6)}, "s", 1000),
    ],
)
def test_a_seed_that_trainings_get_is_known_to_be_taken(
    tmp_path: Path, changes: dict[str, Any], argument: str, seed: int
) -> None:
    experiment = load(tmp_path, **changes)
    assert experiment.finalists == FinalistsSettings(3, 3, argument, seed)
    assert experiment.finalists.size == 9
    (tmp_path / "resumed.yaml").write_text(experiment.to_yaml())
    (tmp_path / "space.json").write_text(json.dumps(experiment.space.entries))
    assert load_experiment(tmp_path / "resumed.yaml", {}).finalists == experiment.finalists
    off = load_experiment(tmp_path / "resumed.yaml", {"finalists.count": 0})
    assert off.finalists.size == 0
    (tmp_path / "resumed.yaml").write_text(off.to_yaml())
    assert load_experiment(tmp_path / "resumed.yaml", {}).finalists.size == 0


def test_a_searched_seed_is_none_that_is_known(tmp_path: Path) -> None:
    space = [{"name": "seed", "type": "int", "lower": 0, "upper": 9}]
    assert load(tmp_path, space=space, stages={"train": {"args": {"seed": 1}}}).finalists.size == 0


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"count": 2}, "finalists.seed_argument: is missing\n    -> name the option of train.sh that takes a seed"),
        ({"seed_argument": 7}, "finalists.seed_argument: '7' is not allowed"),
        ({"seed_argument": "--seed"}, "finalists.seed_argument: '--seed' is not allowed"),
        ({"seed_argument": "x"}, "finalists.seed_argument: 'x' is searched"),
        ({"seed_argument": "seed", "repeats": 0}, "finalists.repeats: 0 is not allowed\n    -> write at least 1"),
        ({"seed_argument": "seed", "count": -1}, "finalists.count: -1 is not allowed"),
        ({"seed": 1, "count": 0}, "finalists.seed: is not a known key\n    -> known: count, repeats, seed_argument"),
        (3, "finalists: is 3, not a section"),
    ],
)
def test_bad_finalists_are_refused(tmp_path: Path, given: Any, told: str) -> None:
    assert f"try.yaml: {told}" in refusal(tmp_path, space=with_constants(), finalists=given)


def test_early_stopping_is_off_unless_given(tmp_path: Path) -> None:
    assert load(tmp_path).early_stopping is None
    assert load(tmp_path, early_stopping=None).early_stopping is None
    assert load(tmp_path).early_stopping_rule() is None


def test_an_empty_section_switches_early_stopping_on(tmp_path: Path) -> None:
    expected = StoppingSettings("median", 50.0, 5, 5, None)
    assert load(tmp_path, early_stopping={}).early_stopping == expected
    assert load(tmp_path, "early_stopping={}").early_stopping == expected


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (True, "early_stopping: is True, not a section"),
        ({"rule": "best"}, "early_stopping.rule: 'best' is not a rule\n    -> known: median, percentile"),
        ({"grace": 2.5}, "early_stopping.grace: 2.5 is not allowed\n    -> write a whole number"),
        ({"patience": 3}, "early_stopping.patience: is not a known key\n    -> did you mean 'pattern'? known: rule"),
        ({"pattern": "epoch (\\d+)"}, "early_stopping.pattern: 'epoch (\\\\d+)' lacks the group (?P<step>...)"),
        ({"pattern": "*"}, "early_stopping.pattern: '*' is no regular expression (nothing to repeat at position 0)"),
    ],
)
def test_bad_early_stopping_is_refused(tmp_path: Path, given: Any, told: str) -> None:
    assert f"try.yaml: {told}" in refusal(tmp_path, early_stopping=given)
    assert "\n    -> " in refusal(tmp_path, early_stopping=given)


def test_early_stopping_cannot_look_behind_an_endpoint(tmp_path: Path) -> None:
    there = {"model": {"scripts": "/there"}, "stages": {"train": {"timeout": "1h"}}}
    path = write(tmp_path, {**MINIMAL, **there})
    assert load_experiment(path, {}, remote=True).early_stopping is None
    with pytest.raises(
        InputError, match=r"--set early_stopping: needs the logs of running trials.*\n    -> leave it out"
    ):
        load_experiment(path, {"early_stopping": {}}, remote=True)


# -- trainings and jobs ----------------------------------------------------------------------------------------------


def test_a_training_that_may_outlast_a_job_is_told(tmp_path: Path) -> None:
    stages: dict[str, Any] = {"train": {"timeout": "2h"}}
    experiment = load(tmp_path, stages=stages)
    assert experiment.too_long_for(7200) == ""
    assert experiment.too_long_for(3600) == "the time-out of train is 2:00:00, and the walltime of a job 1:00:00"
    stages["train"]["args"] = {"ckpt": "{checkpoint_dir}"}
    assert load(tmp_path, stages=stages).too_long_for(3600) == ""


@pytest.mark.parametrize("command", ["run", "submit"])
def test_it_is_told_before_anything_is_submitted(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    site = write(tmp_path, {"scheduler": "slurm", "gpus": 1}, "here.yaml")
    path = write(tmp_path, {**MINIMAL, "stages": {"train": {"timeout": "2h"}}})
    main = importlib.import_module(f"workflow.{command}").main
    assert main(["--site", str(site), "--experiment", str(path), "--dry-run", "--output", "/runs/plain"]) == 0
    assert "warning: the time-out of train is 2:00:00" in capsys.readouterr().err
