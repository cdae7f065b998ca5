"""YAML read strictly: broken files, durations, variables and paths, settings from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.unit.config.experiments import MINIMAL, TEMPLATE, load, refusal, refusal_of_text, write
from workflow.config.load import load_experiment
from workflow.config.strict import HOME, apply_overrides, parse_overrides
from workflow.errors import InputError
from workflow.run import main
from workflow.stages import Stage
from workflow.trial import Objective


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
    [
        ("", "is empty"),
        ("# a comment", "is empty"),
        ("[1]", "holds [1], not a dictionary"),
        ("text", "holds 'text', not a dictionary"),
    ],
)
def test_a_file_that_is_no_dictionary(tmp_path: Path, text: str, what: str) -> None:
    assert refusal_of_text(tmp_path, text).startswith(f"try.yaml: {what}\n    -> write the experiment as")


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


@pytest.mark.parametrize("key", ["search", "search.fidelity", "stages.train.args"])
def test_a_setting_that_is_no_section_is_mended_by_one(tmp_path: Path, key: str) -> None:
    assert f"--set {key}: is 3, not a section\n    -> write --set {key}.KEY=VALUE" in refusal(tmp_path, f"{key}=3")
    said = refusal(tmp_path, finalists=3)
    assert said.startswith("try.yaml: finalists: is 3, not a section\n    -> write 'finalists:' with keys below it")


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
