"""Experiment files: defaults, strictness, settings from the command line, and the copy that a resume reads."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow.config.experiment import Experiment
from workflow.config.load import load_experiment
from workflow.config.strict import HOME, apply_overrides, parse_overrides
from workflow.errors import InputError
from workflow.finals import FinalistsSettings
from workflow.journal import differences
from workflow.run import main
from workflow.search import SearchSettings
from workflow.search.halving import Fidelity
from workflow.stages import Stage
from workflow.stopping import StoppingSettings
from workflow.trial import Objective

ROOT = Path(__file__).parents[2]
TEMPLATE = "$WORKFLOW_HOME/model_template"
SPACE = [{"name": "x", "type": "float", "lower": 0, "upper": 1}, {"name": "n", "type": "int", "lower": 1, "upper": 9}]
MINIMAL: dict[str, Any] = {"model": {"scripts": TEMPLATE}, "space": SPACE}


def write(directory: Path, data: object, name: str = "try.yaml") -> Path:
    path = directory / name
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return path


def load(directory: Path, *overrides: str, **changes: Any) -> Experiment:
    """The minimal experiment with ``changes`` to its top-level keys."""
    return load_experiment(write(directory, {**MINIMAL, **changes}), parse_overrides(overrides))


def refusal(directory: Path, *overrides: str, **changes: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(directory, *overrides, **changes)
    return str(caught.value).replace(f"{directory}/", "")


def refusal_of_text(directory: Path, text: str) -> str:
    with pytest.raises(InputError) as caught:
        load_experiment(write(directory, text), {})
    return str(caught.value).replace(f"{directory}/", "")


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


REFERENCE_DEFAULTS = {
    "NUM_ITERATIONS": 5,
    "POPULATION_SIZE": 16,
    "GA_STRATEGY": "mu_plus_lambda",
    "OFFSPRING_PROPORTION": 0.5,
    "MUT_PROB": 0.8,
    "CX_PROB": 0.2,
    "MUT_INDPB": 0.5,
    "CX_INDPB": 0.5,
    "TOURNSIZE": 4,
    "SEED": 1,
}
OTHER_VALUES = {
    "NUM_ITERATIONS": 7,
    "POPULATION_SIZE": 12,
    "GA_STRATEGY": "simple",
    "OFFSPRING_PROPORTION": 0.25,
    "MUT_PROB": 0.6,
    "CX_PROB": 0.1,
    "MUT_INDPB": 0.4,
    "CX_INDPB": 0.3,
    "TOURNSIZE": 2,
    "SEED": 99,
}


def readable(name: str) -> str:
    return "strategy" if name == "GA_STRATEGY" else name.lower()


@pytest.mark.parametrize(("name", "value"), REFERENCE_DEFAULTS.items())
def test_search_has_the_defaults_of_the_reference(name: str, value: object) -> None:
    expected = "async" if name == "GA_STRATEGY" else value
    assert getattr(SearchSettings(), readable(name)) == expected


@pytest.mark.parametrize(("name", "value"), OTHER_VALUES.items())
def test_names_of_the_reference_are_aliases(tmp_path: Path, name: str, value: object) -> None:
    search = load(tmp_path, search={name: value}).search
    assert search == replace(SearchSettings(), **{readable(name): value})
    assert search == load(tmp_path, search={readable(name): value}).search


def test_all_names_of_the_reference_at_once(tmp_path: Path) -> None:
    search = load(tmp_path, search=OTHER_VALUES).search
    assert {name: getattr(search, readable(name)) for name in OTHER_VALUES} == OTHER_VALUES


@pytest.mark.parametrize("name", OTHER_VALUES)
def test_an_alias_beside_its_name_is_refused(tmp_path: Path, name: str) -> None:
    value = REFERENCE_DEFAULTS[name]
    message = refusal(tmp_path, search={name: value, readable(name): value})
    assert f"try.yaml: search.{name}: is given beside {readable(name)}\n    -> keep one" in message


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


def fidelity(**changes: Any) -> dict[str, Any]:
    return {"strategy": "async", "fidelity": {"parameter": "epochs", "min": 10, "max": 150, **changes}}


def test_a_fidelity_takes_the_place_of_a_constant(tmp_path: Path) -> None:
    constants = [{"name": "epochs", "type": "constant", "value": 150}, {"name": "dir", "type": "constant", "value": ""}]
    experiment = load(tmp_path, space=[*SPACE, *constants], search=fidelity())
    assert experiment.search.fidelity == Fidelity("epochs", 10, 150, 3)
    assert experiment.varying == ("x", "n", "epochs")
    trial = experiment.make_search().ask()
    assert trial is not None
    assert trial.params["epochs"] == trial.fidelity == 17
    assert load(tmp_path, space=[*SPACE, *constants]).fingerprint() != experiment.fingerprint()
    constants[1]["value"] = "{checkpoint_dir}/m"
    resumed = load(tmp_path, space=[*SPACE, *constants], search=fidelity(eta=2)).search.fidelity
    assert resumed == Fidelity("epochs", 10, 150, 2, resumes=True)


EPOCHS = {"name": "epochs", "type": "constant", "value": 150}


@pytest.mark.parametrize(
    ("constant", "changes", "place", "what"),
    [
        ({"value": True}, {}, ".parameter", "holds a number"),
        ({"condition": {"n": 1}}, {}, ".parameter", "'epochs' does not exist in all configurations"),
        ({}, {"min": 0.5}, "", "a training of 0.5 epochs is none, since the space has a whole number of them"),
    ],
)
def test_a_constant_that_a_fidelity_cannot_take_the_place_of(
    tmp_path: Path, constant: dict[str, Any], changes: dict[str, Any], place: str, what: str
) -> None:
    message = refusal(tmp_path, space=[*SPACE, {**EPOCHS, **constant}], search=fidelity(**changes))
    assert message.startswith(f"try.yaml: search.fidelity{place}: ")
    assert what in message
    assert message.count("-> ") == 1


def test_what_is_decided_by_the_constant_and_not_by_the_fidelity_is_warned_of(tmp_path: Path) -> None:
    space = [{**SPACE[0], "constraint": "10 * x < epochs"}, SPACE[1], {**EPOCHS, "value": 100}]
    other, constraint = load(tmp_path, space=space, search=fidelity()).warnings
    assert other == "search.fidelity: whole trainings have max, 150 epochs, and not the 100 of the space"
    assert constraint == "search.fidelity: '10 * x < epochs' is checked with 100 epochs, however many a trial has"
    assert load(tmp_path, space=[*SPACE, EPOCHS], search=fidelity()).warnings == ()


def test_hours_lift_the_default_number_of_evaluations(tmp_path: Path) -> None:
    assert load(tmp_path, search={"strategy": "async"}).search.trials_without_generations == 48
    assert load(tmp_path, search={"strategy": "async", "gpu_hours": 5}).search.trials_without_generations > 10_000
    both = {"strategy": "async", "wall_time": "5h", "evaluations": 9}
    assert load(tmp_path, search=both).search.trials_without_generations == 9


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


def test_scripts_of_all_stages_must_be_there_and_executable(tmp_path: Path) -> None:
    (tmp_path / "train.sh").touch(0o644)
    (tmp_path / "preprocess.sh").touch(0o755)
    stages: dict[str, Any] = {"preprocess": {}, "train": {}, "infer": {}}
    message = refusal(tmp_path, model={"scripts": "."}, stages=stages)
    assert "it has no infer.sh" in message
    assert "train.sh" in message.partition("not executable: chmod +x ")[2]
    assert "preprocess.sh" not in message


def test_the_data_directory_has_its_place_for_itself(tmp_path: Path) -> None:
    (tmp_path / "train.sh").touch(0o755)
    message = refusal(tmp_path, model={"scripts": ".", "binds": ["/tmp:/IMPROVE_DATA_DIR"]})
    assert message.startswith("try.yaml: model.binds: '/tmp:/IMPROVE_DATA_DIR' is not allowed\n    -> ")
    assert "model.data_dir" in message
    other = {"scripts": ".", "binds": ["/tmp:/candle_data_dir", "/tmp:/IMPROVE_DATA_DIR/more"]}
    assert load(tmp_path, model=other).model.options.binds


def test_known_keys_are_listed_once(tmp_path: Path) -> None:
    known = refusal(tmp_path, spce=1).partition("known: ")[2].split(", ")
    assert "space" in known and len(known) == len(set(known))


def test_only_the_stages_of_the_experiment_need_a_script(tmp_path: Path) -> None:
    (tmp_path / "train.sh").touch(0o755)
    assert load(tmp_path, model={"scripts": "."}).model.scripts == str(tmp_path)


def test_path_that_was_left_as_in_the_sample_needs_preprocess(tmp_path: Path) -> None:
    space = [*SPACE, {"name": "train_ml_data_dir", "type": "constant", "value": "<train_data_dir>"}]
    message = refusal(tmp_path, space=space)
    assert "try.yaml: space: train_ml_data_dir: '<train_data_dir>' is not filled in" in message
    assert "preprocess" in message
    assert load(tmp_path, space=space, stages={"preprocess": {}}).stages.keys() == {"preprocess", "train"}


def test_output_directory_as_in_the_sample_needs_nothing(tmp_path: Path) -> None:
    load(tmp_path, space=[*SPACE, {"name": "model_outdir", "type": "constant", "value": "<desired_outdir>"}])


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("name: a\nname: b\n", "line 2 column 1", "the key 'name' is given twice"),
        ("search:\n  seed: 1\n  seed: 2\n", "line 3 column 3", "the key 'seed' is given twice"),
        ("space: [{name: x, name: y}]\n", "line 1 column 19", "the key 'name' is given twice"),
        ("name: a\n1: b\n", "line 2 column 1", "the key 1 is not a string"),
        ("name: [a\nmodel: b\n", "line 2 column", "is not valid YAML"),
        ("name: a\n\tmodel: b\n", "line 2 column 1", "is not valid YAML"),
        ("max_attempts: !!int ''\n", "line 1 column 15", "is not valid YAML"),
        ("name: a\nmax_attempts: !!bool maybe\n", "line 2 column 15", "is not valid YAML"),
        ("name: a\nsearch: !!map [1]\n", "line 2 column 9", "is not valid YAML"),
        (f"name: a\nmax_attempts: {'9' * 5000}\n", "line 2 column 15", "is not valid YAML"),
        (f"name: a\nmax_attempts: 0x{'f' * 5000}\n", "line 2 column 15", "is not valid YAML"),
    ],
)
def test_broken_yaml_gives_line_and_column(tmp_path: Path, text: str, place: str, what: str) -> None:
    message = refusal_of_text(tmp_path, text)
    assert message.startswith(f"try.yaml: {place}")
    assert what in message


def test_a_merged_key_may_be_overwritten(tmp_path: Path) -> None:
    text = (
        yaml.safe_dump(MINIMAL) + "stages:\n  train: &t {timeout: 60, args: {a: 1}}\n  infer: {<<: *t, timeout: 30}\n"
    )
    infer = load_experiment(write(tmp_path, text), {}).stages["infer"]
    assert infer == Stage({"a": 1}, 30.0)


def test_a_date_stays_text(tmp_path: Path) -> None:
    args = (
        load_experiment(write(tmp_path, yaml.safe_dump(MINIMAL) + "stages: {train: {args: {day: 2024-01-31}}}\n"), {})
        .stages["train"]
        .args
    )
    assert args == {"day": "2024-01-31"}


@pytest.mark.parametrize(
    ("text", "what"),
    [("", "None, not a dictionary"), ("[1]", "[1], not a dictionary"), ("text", "'text', not a dictionary")],
)
def test_a_file_that_is_no_dictionary(tmp_path: Path, text: str, what: str) -> None:
    assert refusal_of_text(tmp_path, text).startswith(f"try.yaml: holds {what}\n    -> write the experiment as")


def test_space_in_a_file_is_relative_to_the_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub", json.dumps(SPACE), "space.json")
    path = write(tmp_path / "sub", {**MINIMAL, "space": "space.json"})
    monkeypatch.chdir(tmp_path)
    assert load_experiment(path.relative_to(tmp_path), {}).space.parameters == load(tmp_path).space.parameters


def test_problems_of_a_space_file_name_that_file(tmp_path: Path) -> None:
    write(tmp_path, '[{"name": "x", "type": "int", "lower": 1}]', "space.json")
    assert refusal(tmp_path, space="space.json").startswith("space.json: entry 1 'x': upper: is missing")


# -- durations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (90, 90.0), (0.5, 0.5), ("90", 90.0), ("90s", 90.0), ("30m", 1800.0), ("2h", 7200.0), ("1d", 86400.0),
        ("1h30m", 5400.0), ("1.5h", 5400.0), ("1d2h3m4s", 93784.0), (None, None),
    ],
)  # fmt: skip
def test_durations(tmp_path: Path, text: object, seconds: float | None) -> None:
    assert load(tmp_path, stages={"train": {"timeout": text}}).stages["train"].timeout == seconds


@pytest.mark.parametrize(
    "text", ["", "soon", "-5m", "5 m", "1h 30m", "5min", "1y", 0, -1, True, [5], "0s", "m", "1.h", 1e300, "9999999d"]
)
def test_what_is_no_duration(tmp_path: Path, text: object) -> None:
    message = refusal(tmp_path, stages={"infer": {"timeout": text}})
    assert message.startswith(
        f"try.yaml: stages.infer.timeout: {text!r} is not allowed\n    -> write a time such as 90s"
    )


# -- environment variables and paths ---------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["$MODEL_DIR", "${MODEL_DIR}", "$MODEL_DIR/", "$BASE/model", "${BASE}/x/../model"])
def test_environment_variables_in_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "train.sh").touch(0o755)
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "model"))
    monkeypatch.setenv("BASE", str(tmp_path))
    assert load(tmp_path, model={"scripts": text}).model.scripts == str(tmp_path / "model")


def test_home_directory_in_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    model = {"scripts": TEMPLATE, "data_dir": "~/data"}
    assert load(tmp_path, model=model).model.data_dir == str(tmp_path / "data")


def test_home_directory_of_nobody(tmp_path: Path) -> None:
    message = refusal(tmp_path, model={"scripts": TEMPLATE, "data_dir": "~no-such-user/data"})
    assert message.startswith("try.yaml: model.data_dir: ")
    assert "~no-such-user" in message


def test_the_packages_own_directory_in_paths(tmp_path: Path) -> None:
    assert load(tmp_path).model.scripts == str(HOME / "model_template")


def test_missing_variables_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOT_SET_A", "NOT_SET_B"):
        monkeypatch.delenv(name, raising=False)
    message = refusal(tmp_path, model={"scripts": TEMPLATE, "data_dir": "$NOT_SET_A/${NOT_SET_B}"})
    for name in ("NOT_SET_A", "NOT_SET_B"):
        assert f"needs the environment variable {name}, which is not set\n    -> export {name}=" in message
    assert message.startswith("try.yaml: model.data_dir: '$NOT_SET_A/${NOT_SET_B}'")


@pytest.mark.parametrize("path", ["n" * 300, "n/" * 3000])
@pytest.mark.parametrize("key", ["scripts", "image", "data_dir"])
def test_a_path_too_long_for_the_system(tmp_path: Path, key: str, path: str) -> None:
    assert f"try.yaml: model.{key}: " in refusal(tmp_path, model={"scripts": TEMPLATE, key: path})


# -- settings from the command line ----------------------------------------------------------------------------------


def test_settings_are_yaml() -> None:
    pairs = ["a=5", "b=1.5", "c=true", "d=null", "e=[1, x]", "f={g: 2}", "h=text", "i='5'", "j=null", "k=a=b", "l=1e-3"]
    assert parse_overrides(pairs) == {
        "a": 5, "b": 1.5, "c": True, "d": None, "e": [1, "x"], "f": {"g": 2}, "h": "text", "i": "5", "j": None,
        "k": "a=b", "l": 0.001,
    }  # fmt: skip


def test_settings_change_any_key(tmp_path: Path) -> None:
    experiment = load(
        tmp_path, "search.population_size=8", "search.mut_prob=5e-1", "objective.metric=pcc", "objective.mode=max",
        "stages.train.timeout=1h", "stages.train.args.layers=[64, 32]", "stages.infer.gpu_arg=true", "max_attempts=1",
        "name=other",
    )  # fmt: skip
    assert (experiment.search.population_size, experiment.search.mut_prob) == (8, 0.5)
    assert experiment.objective == Objective("pcc", "max")
    assert experiment.stages["train"] == Stage({"layers": (64, 32)}, 3600.0)
    assert experiment.stages["infer"].gpu_arg
    assert (experiment.max_attempts, experiment.name) == (1, "other")


def test_a_setting_replaces_what_the_file_says(tmp_path: Path) -> None:
    stages = {"train": {"args": {"a": 1, "b": 2}, "timeout": 5}}
    train = load(tmp_path, "stages.train.args.a=9", stages=stages).stages["train"]
    assert train == Stage({"a": 9, "b": 2}, 5.0)


@pytest.mark.parametrize("text", ["1e-5", "-1E+3", "2.e5", ".5e-1", "+1e5"])
def test_numbers_with_an_exponent_are_numbers(tmp_path: Path, text: str) -> None:
    entries = [{"name": "lr", "type": "float", "lower": "LOWER", "upper": 1e6}]
    yaml_text = yaml.safe_dump({**MINIMAL, "space": entries}).replace("LOWER", text)
    assert load_experiment(write(tmp_path, yaml_text), {}).space.parameters[0].lower == float(text)


@pytest.mark.parametrize("text", ["1e-5", "-1E+3", "1.0e+5", "5e", "e5", "1_000", "0x10"])
def test_texts_that_look_like_numbers_stay_texts_in_the_copy(tmp_path: Path, text: str) -> None:
    quoted = json.dumps({**MINIMAL, "stages": {"train": {"args": {"a": text}}}})
    experiment = load_experiment(write(tmp_path, quoted), {})
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "space.json").write_text(json.dumps(experiment.space.entries))
    again = load_experiment(write(copy, experiment.to_yaml()), {})
    assert again.stages["train"].args == experiment.stages["train"].args == {"a": text}


def test_a_setting_replaces_its_alias_in_the_file(tmp_path: Path) -> None:
    search = load(tmp_path, "search.strategy=simple", search={"GA_STRATEGY": "mu_plus_lambda"}).search
    assert search.strategy == "simple"
    search = load(tmp_path, "search.POPULATION_SIZE=7", search={"population_size": 4}).search
    assert search.population_size == 7


@pytest.mark.parametrize(
    ("setting", "place"),
    [
        ("search.population_size=x", "--set search.population_size: 'x'"),
        ("search.POPULATION_SIZE=x", "--set search.population_size: 'x'"),
        ("stages={train: {timeout: -1}}", "--set stages.train.timeout: -1"),
        ("space=[{name: a, type: flot}]", "--set space: entry 1 'a': type"),
        ("search.tournsize=0", "--set search.tournsize: 0"),
    ],
)
def test_a_wrong_setting_is_named_as_such(tmp_path: Path, setting: str, place: str) -> None:
    assert refusal(tmp_path, setting).startswith(place)


def test_an_initial_population_of_another_objective_is_warned_of(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "experiment.yaml").write_text("objective: {metric: pcc, mode: max}\n")
    (run / "hpo.csv").write_text("x,n,result\n0.5,3,0.9\n")
    experiment = load(tmp_path, search={"initial_population": "run"})
    assert "searched pcc (max), this experiment val_loss (min)" in experiment.warnings[-1]
    (run / "experiment.yaml").write_text("objective: {metric: val_loss, mode: min}\n")
    assert load(tmp_path, search={"initial_population": "run"}).warnings == ()


def test_the_last_of_equal_settings_counts() -> None:
    assert parse_overrides(["a=1", "a=2"]) == {"a": 2}


def test_null_takes_a_stage_out(tmp_path: Path) -> None:
    assert list(load(tmp_path, "stages.infer=null", stages={"infer": {}, "train": {}}).stages) == ["train"]


def test_a_setting_of_an_aliased_section_changes_that_one_alone(tmp_path: Path) -> None:
    text = yaml.safe_dump(MINIMAL) + "stages:\n  train: &t {timeout: 60, args: {a: 1}}\n  infer: *t\n"
    overrides = {"stages.train.timeout": 5, "stages.train.args.a": 2}
    stages = load_experiment(write(tmp_path, text), overrides).stages
    assert (stages["train"], stages["infer"]) == (Stage({"a": 2}, 5.0), Stage({"a": 1}, 60.0))


def test_relative_paths_of_settings_start_at_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("file", "shell"):
        (tmp_path / folder / "data").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "shell")
    path = write(tmp_path / "file", {**MINIMAL, "model": {"scripts": TEMPLATE, "data_dir": "data"}})
    assert load_experiment(path, {}).model.data_dir == str(tmp_path / "file" / "data")
    overrides = parse_overrides(["model.data_dir=data"])
    assert load_experiment(path, overrides).model.data_dir == str(tmp_path / "shell" / "data")


def test_lists_of_paths_of_settings_start_there_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here = str(tmp_path)
    found = parse_overrides(["reuse=[runs/a, /runs/b]", "model.binds=['ref:/ref:ro']", "site.binds=[$PLACE/x]"])
    assert found == {
        "reuse": [f"{here}/runs/a", "/runs/b"], "model.binds": [f"{here}/ref:/ref:ro"], "site.binds": ["$PLACE/x"],
    }  # fmt: skip


def test_an_image_whose_variable_is_not_set_is_the_only_problem(tmp_path: Path) -> None:
    said = refusal(tmp_path, model={"image": "$NO_SUCH_PLACE/x.sif"})
    assert "NO_SUCH_PLACE" in said and "model.scripts" not in said


@pytest.mark.parametrize("text", ["sub/$PART", "sub/${PART}", "${PART}/../sub/$PART"])
def test_variables_within_a_relative_path_of_a_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "sub" / "data").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PART", "data")
    assert load(tmp_path, f"model.data_dir={text}").model.data_dir == str(tmp_path / "sub" / "data")


def test_the_working_directory_of_a_setting_is_no_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "we$ird" / "data"
    directory.mkdir(parents=True)
    monkeypatch.chdir(directory.parent)
    assert load(tmp_path, "model.data_dir=data").model.data_dir == str(directory)


@pytest.mark.parametrize("value", ["$DATA", "~/data", "/abs"])
def test_settings_with_a_start_of_their_own_are_kept(value: str) -> None:
    assert parse_overrides([f"model.data_dir={value}"]) == {"model.data_dir": value}


@pytest.mark.parametrize("setting", ["x", "", "=1", "a b=1", ".a=1", "a.=1", "a..b=1", "a/b=1", "ä ö=1"])
def test_a_setting_that_is_no_pair(setting: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_overrides([setting])
    assert str(caught.value).startswith(f"--set: {setting!r}: is not key=value\n    -> write --set search.")


@pytest.mark.parametrize("value", ["[", "{", "'", "*x", "!!int ''", "!!bool x", "!!map [1]", "a: b: c", "[" * 2000])
def test_a_setting_that_is_no_yaml(value: str) -> None:
    with pytest.raises(InputError, match="is not valid YAML") as caught:
        parse_overrides([f"search.seed={value}"])
    assert str(caught.value).startswith("--set: ")
    assert "search.seed=" in str(caught.value)


def test_a_setting_below_a_value() -> None:
    with pytest.raises(InputError, match=r"--set: a\.b\.c: 'b' is 5, not a section"):
        apply_overrides({"a": {"b": 5}}, {"a.b.c": 1})


def test_settings_of_the_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {"scheduler": "threads", "gpus": 0, "workers": 2}, "site.yaml")
    path = write(tmp_path, MINIMAL)
    settings_ = ["--set", "site.workers=5", "--set", "search.population_size=6", "--set", "search.num_iterations=1"]
    assert main(["--site", "site.yaml", "--experiment", str(path), "--dry-run", *settings_]) == 0
    assert "trial 0 of at most 6, 5 at a time" in capsys.readouterr().out


def test_an_address_of_a_hub_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a file is needed: apptainer pull model.sif docker://pytorch/pytorch"):
        load(tmp_path, model={"image": "docker://pytorch/pytorch"})


# -- several objectives ----------------------------------------------------------------------------------------------

BOTH = ["val_loss min", "walltime min"]


def test_several_objectives(tmp_path: Path) -> None:
    experiment = load(tmp_path, objectives=["pcc max", "walltime min"])
    assert experiment.objective == Objective("pcc", "max")
    assert experiment.objectives == (experiment.objective, Objective("walltime", "min"))
    assert experiment.warnings == ()
    assert experiment.make_search().further == experiment.further


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


# -- the copy that a resume reads ------------------------------------------------------------------------------------

FULL: dict[str, Any] = {
    "name": "full",
    "model": {"scripts": TEMPLATE, "contract": "candle", "data_dir": "."},
    "stages": {
        "preprocess": {"args": {"ml_data_outdir": "{data_dir}/ml", "split": 0}, "timeout": "30m"},
        "train": {"args": {"layers": [64, 0.5, "x y", True], "lr": 1e-5, "big": 1e16}, "config_file": "conf.txt"},
        "infer": {"gpu_arg": True, "args": {"text": "{{literal}} 'quoted' \"ä\"\n", "empty": "", "none": []}},
    },
    "space": [
        {"name": "lr", "type": "float", "lower": 1e-6, "upper": 1e-2, "use_log_scale": True, "comment": [None, 1.5]},
        {"name": "n", "type": "int", "lower": 1, "upper": 9, "sigma": "2"},
        {"name": "flag", "type": "logical"},
        {"name": "opt", "type": "categorical", "element_type": "string", "values": ["a,b", 'say "x"', "", "ä\n2"]},
        {"name": "size", "type": "ordered", "element_type": "float", "values": [1, 0.1, 1e-7], "sigma": 0.5},
        {"name": "epochs", "type": "constant", "value": 150},
    ],
    "objective": {"metric": "pcc", "mode": "max"},
    "search": {
        "strategy": "simple",
        "NUM_ITERATIONS": 7,
        "seed": 5,
        "reevaluate": True,
        "gpu_hours": 0.1,
        "wall_time": "1h30m",
        "target": 0,
    },
    "max_attempts": 5,
}
INITIAL = 'lr,n,flag,opt,size\n0.001,3,true,"a,b",0.1\n1e-05,9,False,"",1e-7\n'


@pytest.fixture
def controlled(monkeypatch: pytest.MonkeyPatch) -> list[Experiment]:
    """The experiments that campaigns would have been run for."""
    seen: list[Experiment] = []

    def control(experiment: Experiment, *_: object, **__: object) -> int:
        seen.append(experiment)
        return 0

    monkeypatch.setattr("workflow.controller.control", control)
    return seen


def run_and_resume(directory: Path, experiment: Path, controlled: list[Experiment]) -> tuple[Experiment, Experiment]:
    """The experiment as it starts, and as a resume reads it from the run's directory."""
    site = write(directory, {"scheduler": "threads", "gpus": 0}, "site.yaml")
    run = directory / "run"
    assert main(["--site", str(site), "--experiment", str(experiment), "--output", str(run)]) == 0
    assert main(["--resume", str(run)]) == 0
    first, second = controlled
    return first, second


def comparable(experiment: Experiment) -> Experiment:
    """Without what names files."""
    return replace(experiment, search=replace(experiment.search, initial_population=None), warnings=())


RELATED = [
    {**SPACE[0], "default": 0.5, "condition": {"n": [1, 2, 3]}, "constraint": ["x < n", "x != 0.25"]},
    {**SPACE[1], "default": 2},
]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        FULL,
        {"space": RELATED},
        {"objectives": BOTH},
        {"search": {"strategy": "random", "evaluations": 9}},
        {"space": FULL["space"], "search": fidelity()},
    ],
)
@pytest.mark.parametrize("folder", ["plain", "a b", "quo'te\"", "100%", "we$ird", "${x}", "ä\N{LINE SEPARATOR}", "~"])
def test_a_resume_reads_the_same_experiment(
    tmp_path: Path, changes: dict[str, Any], folder: str, controlled: list[Experiment]
) -> None:
    directory = tmp_path / folder
    (directory / "model").mkdir(parents=True)
    for stage in ("preprocess", "train", "infer"):
        (directory / "model" / f"{stage}.sh").touch(0o755)
    data = {**MINIMAL, **changes}
    data["model"] = {**data["model"], "scripts": "model"}
    if changes is FULL:
        write(directory, INITIAL, "initial.csv")
        (directory / "conf.txt").touch()
        data["search"] = {**data["search"], "initial_population": "initial.csv"}
    first, second = run_and_resume(directory, write(directory, data), controlled)
    assert comparable(second) == comparable(first)
    assert second.fingerprint() == first.fingerprint()
    assert len(first.initial) == (2 if changes is FULL else 0)


@pytest.mark.parametrize("key", ["comment", "sigma", "values"])
@pytest.mark.parametrize("value", ["!!binary aGVsbG8=", "!!set {a, b}", "2024-01-31", ".nan", "!!pairs [a: b]"])
def test_an_ignored_key_of_any_kind_in_a_space_in_place_is_no_harm(
    tmp_path: Path, key: str, value: str, controlled: list[Experiment]
) -> None:
    text = f"model: {{scripts: {TEMPLATE}}}\nspace: [{{name: x, type: logical, {key}: {value}}}]\n"
    first, second = run_and_resume(tmp_path, write(tmp_path, text), controlled)
    assert second.fingerprint() == first.fingerprint()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Experiment]:
    directory = tmp_path_factory.mktemp("prepared")
    write(directory, json.dumps(SPACE), "space.json")
    return directory, load_experiment(write(directory, MINIMAL), {})


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0{}"))
NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(args=st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_.\-]{0,8}", fullmatch=True), TEXTS | NUMBERS, max_size=5))
def test_a_resume_reads_the_same_arguments_whatever_they_are(
    args: Mapping[str, Any], prepared: tuple[Path, Experiment]
) -> None:
    directory, experiment = prepared
    stages = {"train": Stage(args)}
    path = write(directory, replace(experiment, stages=stages).to_yaml(), "resumed.yaml")
    assert repr(load_experiment(path, {}).stages["train"].args) == repr(args)


@pytest.mark.parametrize(
    "text", ["a\x85b", "a\N{LINE SEPARATOR}b", "a\r\nb", " a\n\n b ", "\ufeff", "<<", "=", "~", "1e3"]
)
def test_a_resume_reads_the_same_odd_text(prepared: tuple[Path, Experiment], text: str) -> None:
    directory, experiment = prepared
    path = write(directory, replace(experiment, stages={"train": Stage({"x": text})}).to_yaml(), "resumed.yaml")
    assert load_experiment(path, {}).stages["train"].args == {"x": text}


# -- early stopping --------------------------------------------------------------------------------------------------


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


def test_early_stopping_is_read_back_by_a_resume(tmp_path: Path) -> None:
    pattern = r"^e: (?P<step>\d+) 'v': (?P<value>\S+)$"
    given = {"rule": "percentile", "percentile": 25, "grace": 0, "min_trials": 9, "pattern": pattern}
    experiment = load(tmp_path, early_stopping=given)
    assert experiment.early_stopping == StoppingSettings("percentile", 25.0, 0, 9, pattern)
    write(tmp_path, json.dumps(SPACE), "space.json")
    again = load_experiment(write(tmp_path, experiment.to_yaml(), "resumed.yaml"), {})
    assert again.early_stopping == experiment.early_stopping
    assert load_experiment(tmp_path / "resumed.yaml", {"early_stopping": None}).early_stopping is None


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


# -- the fingerprint -------------------------------------------------------------------------------------------------


def test_fingerprint_survives_the_journal(tmp_path: Path) -> None:
    write(tmp_path, INITIAL, "initial.csv")
    changes = {**FULL, "search": {**FULL["search"], "initial_population": "initial.csv"}}
    fingerprint = load(tmp_path, **changes).fingerprint()
    assert json.loads(json.dumps(fingerprint)) == fingerprint


SAME = [
    {"search": {"num_iterations": 50}},
    {"search": {"gpu_hours": 5, "wall_time": "2h", "target": 0.1}},
    {"name": "other"},
    {"max_attempts": 9},
    {"early_stopping": {}},
    {"finalists": {"count": 2, "seed_argument": "s"}},
    {"notify": {"command": ["true"]}},
    {"stages": {"train": {"timeout": "9h"}}},
    {"space": [{**SPACE[0], "comment": "new", "lower": 0.0, "sigma": 0.1}, SPACE[1]]},
]
DIFFERENT = [
    *({"search": {name: value}} for name, value in OTHER_VALUES.items() if name != "NUM_ITERATIONS"),
    {"search": {"reevaluate": True}},
    {"search": {"strategy": "optuna"}},
    {"objective": {"metric": "mse"}},
    {"objective": {"mode": "max"}},
    {"objectives": BOTH},
    {"space": SPACE[:1]},
    {"space": [{**SPACE[0], "upper": 2}, SPACE[1]]},
    {"space": [{**SPACE[0], "name": "z"}, SPACE[1]]},
    {"space": [{**SPACE[0], "sigma": 0.5}, SPACE[1]]},
    {"space": [*SPACE, {"name": "epochs", "type": "constant", "value": 5}]},
    {"space": [{**SPACE[0], "default": 0.5}, SPACE[1]]},
    {"space": [{**SPACE[0], "condition": {"n": 3}}, SPACE[1]]},
    {"space": [{**SPACE[0], "constraint": "x < n"}, SPACE[1]]},
]


@pytest.mark.parametrize("changes", SAME)
def test_fingerprint_ignores_budgets_and_what_does_not_change_the_search(tmp_path: Path, changes: Any) -> None:
    assert load(tmp_path, **changes).fingerprint() == load(tmp_path).fingerprint()


def test_fingerprint_ignores_the_budget_of_a_random_search(tmp_path: Path) -> None:
    fingerprints = [load(tmp_path, search={"strategy": "random", "evaluations": n}).fingerprint() for n in (5, 50)]
    assert fingerprints[0] == fingerprints[1]


def test_settings_of_newer_strategies_leave_older_runs_resumable(tmp_path: Path) -> None:
    fingerprint = load(tmp_path).fingerprint()
    older = {
        **fingerprint,
        "search": {k: v for k, v in fingerprint["search"].items() if "sampler" not in k and k != "fidelity"},
    }
    assert not list(differences(older, fingerprint))


def test_the_fingerprint_of_default_settings_is_that_of_the_journals_of_older_runs(tmp_path: Path) -> None:
    """A setting that is new and at its default must not be in it: those runs could not be resumed."""
    assert load(tmp_path, search={"strategy": "async"}).fingerprint()["search"] == {
        "strategy": "async", "population_size": 16, "offspring_proportion": 0.5, "mut_prob": 0.8, "cx_prob": 0.2,
        "mut_indpb": 0.5, "cx_indpb": 0.5, "tournsize": 4, "seed": 1, "reevaluate": False, "sampler": None,
        "sampler_options": None, "fidelity": None, "cost_aware": False,
    }  # fmt: skip


@pytest.mark.parametrize("changes", DIFFERENT)
def test_fingerprint_tells_other_searches_apart(tmp_path: Path, changes: Any) -> None:
    assert load(tmp_path, **changes).fingerprint() != load(tmp_path).fingerprint()


def test_fingerprint_of_each_kind_is_that_of_the_journals_of_older_runs(tmp_path: Path) -> None:
    """They could not be resumed otherwise."""
    space = [
        {"name": "c", "type": "constant", "value": 1},
        {"name": "i", "type": "int", "lower": 1, "upper": 3},
        {"name": "f", "type": "float", "lower": 1, "upper": 2.0, "use_log_scale": True, "sigma": 0.5},
        {"name": "l", "type": "logical"},
        {"name": "k", "type": "categorical", "element_type": "int", "values": [1, 2]},
        {"name": "o", "type": "ordered", "element_type": "string", "values": ["a", "b"]},
    ]
    assert load(tmp_path, space=space).fingerprint()["space"] == {
        "c": {"type": "Constant", "value": 1, "size": 1, "is_categorical": True},
        "i": {"type": "Number", "lower": 1, "upper": 3, "sigma": 0.2, "log": False, "integer": True},
        "f": {"type": "Number", "lower": 1.0, "upper": 2.0, "sigma": 0.5, "log": True, "integer": False},
        "l": {"type": "Logical", "size": 2, "is_categorical": True},
        "k": {"type": "Choice", "elements": [1, 2], "element_type": "int", "max_step": None},
        "o": {"type": "Choice", "elements": ["a", "b"], "element_type": "string", "max_step": 1},
    }


def test_fingerprint_of_a_space_without_relations_is_that_of_journals_which_know_none(tmp_path: Path) -> None:
    fingerprint = load(tmp_path).fingerprint()
    assert set(fingerprint) == {"space", "objective", "search", "initial"}
    assert set(fingerprint["space"]["x"]) == {"type", "lower", "upper", "sigma", "log", "integer"}


def test_fingerprint_covers_the_initial_population(tmp_path: Path) -> None:
    write(tmp_path, "x,n\n0.5,3\n", "initial.csv")
    with_initial = load(tmp_path, search={"initial_population": "initial.csv"})
    assert with_initial.fingerprint() != load(tmp_path).fingerprint()


def test_every_search_setting_is_a_key_of_the_file(tmp_path: Path) -> None:
    message = refusal(tmp_path, search={"zzz": 1})
    assert all(setting.name in message for setting in fields(SearchSettings))


@pytest.mark.parametrize("key", ["tournsize", "population_size", "num_iterations"])
def test_a_search_too_large_to_compute_is_refused(tmp_path: Path, key: str) -> None:
    assert f"search.{key}: {10**12} is above 1000000" in refusal(tmp_path, search={key: 10**12})


def test_aliases_in_a_whole_section_on_the_command_line(tmp_path: Path) -> None:
    assert load(tmp_path, "search={POPULATION_SIZE: 4}").search.population_size == 4


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


def test_a_warm_start_is_kept_for_resumes(tmp_path: Path, controlled: list[Experiment]) -> None:
    write(tmp_path, "x,n,result\n0.5,3,0.25\n0.1,9,0.75\n", "hpo.csv")
    changes = {"search": {"warm_start": "hpo.csv"}}
    experiment = load(tmp_path, **changes)
    assert [(result.params["x"], result.loss) for result in experiment.earlier] == [(0.5, 0.25), (0.1, 0.75)]
    started, resumed = run_and_resume(tmp_path, write(tmp_path, {**MINIMAL, **changes}), controlled)
    assert started.earlier == resumed.earlier == experiment.earlier
    assert started.fingerprint() == resumed.fingerprint() != load(tmp_path).fingerprint()


def test_a_warm_start_knows_one_objective_only(tmp_path: Path) -> None:
    write(tmp_path, "x,n,result\n0.5,3,0.25\n", "hpo.csv")
    message = refusal(tmp_path, objectives=["val_loss min", "walltime min"], search={"warm_start": ["hpo.csv"]})
    assert message.startswith("try.yaml: search.warm_start: does not go with several objectives\n    -> ")
