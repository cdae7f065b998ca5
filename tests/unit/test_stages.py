"""Commands of the stages: the page's contract word for word, the wiring of directories, and values that stay whole."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow.arguments import Argument
from workflow.parameters import Constant
from workflow.runtimes import Bind, Container, Model, Options
from workflow.space_file import load_space
from workflow.stages import Command, Pipeline, Place, Stage

DATA = Path(__file__).parent.parent / "data"

SINGULARITY = Container(programs=("singularity",), gpu_flag="--nv")
IMAGE = Model("apptainer", "improve", "/data", image="/images/model.sif")
ON_HOST = Model("none", "improve", "/data", scripts="/scripts")
PREPROCESS = Place("/runs/demo/preprocess/attempt-1", "demo")
TRIAL = Place("/runs/demo/trials/0007/attempt-2", "demo", 7)
INFER = Place("/runs/demo/infer/attempt-1", "demo")


def pipeline(
    *,
    preprocess: Mapping[str, Argument] | None = None,
    train: Mapping[str, Argument] | None = None,
    infer: Mapping[str, Argument] | None = None,
    constants: frozenset[str] = frozenset(),
    model: Model = IMAGE,
) -> Pipeline:
    """Stages with these arguments; train is always there, the others where they are given."""
    given = {"preprocess": preprocess, "train": train or {}, "infer": infer}
    stages: Any = {name: Stage(args) for name, args in given.items() if args is not None}
    return Pipeline(model, stages, constants, SINGULARITY)


def trained(stages: Pipeline, params: Mapping[str, Any] | None = None, data: Place | None = None) -> Command:
    return stages.train(TRIAL, params or {}, data)


def options(command: Command) -> dict[str, list[str]]:
    """The flags of the interface script, each with its words."""
    script = next(i for i, word in enumerate(command.argv) if word.endswith(".sh"))
    found: dict[str, list[str]] = {}
    flag = ""
    for word in command.argv[script + 1 :]:
        if word.startswith("--"):
            flag = word.removeprefix("--")
            found[flag] = []
        elif flag:
            found[flag].append(word)
    return found


def option(command: Command, name: str) -> str:
    (value,) = options(command)[name]
    return value


def bound(command: Command) -> list[str]:
    return [value for flag, value in zip(command.argv, command.argv[1:], strict=False) if flag == "--bind"]


# -- the two commands of the page ------------------------------------------------------------------------------------

PAGE_PREPROCESS = r"""
singularity exec --bind $IMPROVE_DATA_DIR:/IMPROVE_DATA_DIR <path_to_sif_file>.sif preprocess.sh /IMPROVE_DATA_DIR \
--train_split_file <dataset>_split_0_train.txt --val_split_file <dataset>_split_0_val.txt \
--ml_data_outdir /IMPROVE_DATA_DIR/<desired_outdir>
"""

PAGE_TRAIN = r"""
singularity exec --nv --bind $IMPROVE_DATA_DIR:/IMPROVE_DATA_DIR <path_to_sif_file>.sif train.sh <gpu_num> /IMPROVE_DATA_DIR \
--train_ml_data_dir <path> --val_ml_data_dir <dir> --model_outdir <path> --test_ml_data_dir <path>
"""  # noqa: E501 the page's own line

PAGE_MODEL = Model("apptainer", "improve", "$IMPROVE_DATA_DIR", image="<path_to_sif_file>.sif")
PAGE_PREPROCESS_ARGS = {
    "train_split_file": "<dataset>_split_0_train.txt",
    "val_split_file": "<dataset>_split_0_val.txt",
    "ml_data_outdir": "/IMPROVE_DATA_DIR/<desired_outdir>",
}
PAGE_TRAIN_ARGS = {
    "train_ml_data_dir": "<path>",
    "val_ml_data_dir": "<dir>",
    "model_outdir": "<path>",
    "test_ml_data_dir": "<path>",
}


def page_words(text: str) -> list[str]:
    return text.replace("\\\n", " ").split()


def test_preprocess_is_the_command_of_the_page_word_for_word() -> None:
    command = pipeline(preprocess=PAGE_PREPROCESS_ARGS, model=PAGE_MODEL).preprocess(PREPROCESS)
    assert list(command.argv) == page_words(PAGE_PREPROCESS)
    assert command.gpu_index is None
    assert command.env == {"PYTHONNOUSERSITE": "1"}


@pytest.mark.parametrize("in_space", [True, False])
def test_train_is_the_command_of_the_page_word_for_word(in_space: bool) -> None:
    """One addition: the attempt's own directory is bound, because model_outdir becomes that directory."""
    stages = pipeline(train={} if in_space else PAGE_TRAIN_ARGS, model=PAGE_MODEL, constants=frozenset(PAGE_TRAIN_ARGS))
    command = trained(stages, PAGE_TRAIN_ARGS if in_space else {})
    expected = page_words(PAGE_TRAIN)
    expected[expected.index("--model_outdir") + 1] = TRIAL.directory
    image = expected.index(str(PAGE_MODEL.image))
    expected[image:image] = ["--bind", f"{TRIAL.directory}:{TRIAL.directory}"]
    argv = list(command.argv)
    assert command.gpu_index is not None
    argv[command.gpu_index] = "<gpu_num>"
    assert argv == expected
    assert command.env == {"PYTHONNOUSERSITE": "1"}


# -- what the site and the stage add ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("flag", "words_"), [("--nv", ["--nv"]), ("--rocm", ["--rocm"]), ("", [])])
def test_gpu_flag_of_the_site(flag: str, words_: list[str]) -> None:
    stages = replace(pipeline(preprocess={}, infer={}), container=Container(("apptainer",), flag))
    train = trained(stages)
    for command in (train, stages.infer(INFER, train, None)):
        assert list(command.argv[: 2 + len(words_)]) == ["apptainer", "exec", *words_]
        assert sum(word in ("--nv", "--rocm") for word in command.argv) == len(words_)
    assert not {"--nv", "--rocm"} & set(stages.preprocess(PREPROCESS).argv)


def test_container_programs_are_left_to_the_worker() -> None:
    stages = replace(pipeline(), container=Container(gpu_flag="--nv"))
    assert trained(stages).programs == ("apptainer", "singularity")
    assert trained(replace(stages, model=ON_HOST)).programs == ()


def after_script(command: Command, count: int) -> list[str]:
    script = next(i for i, word in enumerate(command.argv) if word.endswith(".sh"))
    return list(command.argv[script : script + count])


@pytest.mark.parametrize(
    ("model", "folder", "data"), [(IMAGE, "", "/IMPROVE_DATA_DIR"), (ON_HOST, "/scripts/", "/data")]
)
@pytest.mark.parametrize("gpu_arg", [False, True])
def test_who_takes_a_gpu_number(model: Model, folder: str, data: str, gpu_arg: bool) -> None:
    stages = pipeline(preprocess={}, model=model)
    stages = replace(stages, stages={**stages.stages, "infer": Stage(gpu_arg=gpu_arg)})
    train = trained(stages)
    infer = stages.infer(INFER, train, None)
    assert after_script(stages.preprocess(PREPROCESS), 2) == [f"{folder}preprocess.sh", data]
    assert after_script(train, 3) == [f"{folder}train.sh", "0", data]
    assert after_script(infer, 2 + gpu_arg) == [f"{folder}infer.sh", *["0"] * gpu_arg, data]
    assert stages.preprocess(PREPROCESS).gpu_index is None
    assert train.gpu_index == train.argv.index(f"{folder}train.sh") + 1
    assert infer.gpu_index == (infer.argv.index(f"{folder}infer.sh") + 1 if gpu_arg else None)


@pytest.mark.parametrize("model", [IMAGE, ON_HOST])
def test_config_file_stands_between_data_directory_and_flags(model: Model) -> None:
    stages = replace(pipeline(model=model), stages={"train": Stage({"a": 1}, config_file="conf/my.txt")})
    train = trained(stages, {"epochs": 5})
    data = "/IMPROVE_DATA_DIR" if model is IMAGE else "/data"
    assert after_script(train, 6)[1:] == ["0", data, "conf/my.txt", "--a", "1"]
    assert option(train, "epochs") == "5"


def test_timeout_and_directory_go_with_the_command() -> None:
    command = trained(replace(pipeline(), stages={"train": Stage(timeout=90.0)}))
    assert (command.stage, command.timeout, command.directory) == ("train", 90.0, TRIAL.directory)


def test_scripts_on_the_host_get_the_data_directory_in_their_environment() -> None:
    assert trained(pipeline(model=ON_HOST)).env == {"IMPROVE_DATA_DIR": "/data"}
    assert trained(pipeline(model=replace(ON_HOST, contract="candle"))).env == {"CANDLE_DATA_DIR": "/data"}
    assert trained(pipeline(model=ON_HOST)).binds == ()


def test_candle_contract() -> None:
    stages = pipeline(train={"model_outdir": "/x"}, model=replace(IMAGE, contract="candle"))
    assert list(trained(stages, {"epochs": 5}).argv) == [
        "singularity", "exec", "--nv", "--bind", "/data:/candle_data_dir",
        "--bind", f"{TRIAL.directory}:{TRIAL.directory}", "--env", "CANDLE_DATA_DIR=/candle_data_dir",
        "/images/model.sif", "train.sh", "0", "/candle_data_dir",
        "--model_outdir", TRIAL.directory, "--epochs", "5", "--experiment_id", "demo", "--run_id", "0007",
    ]  # fmt: skip


def test_candle_ids_go_to_every_stage() -> None:
    stages = pipeline(preprocess={}, infer={}, model=replace(ON_HOST, contract="candle"))
    train = trained(stages)
    commands = [stages.preprocess(PREPROCESS), train, stages.infer(INFER, train, None)]
    assert [option(command, "experiment_id") for command in commands] == ["demo"] * 3
    assert len({option(command, "run_id") for command in commands}) == 3


def test_improve_images_get_no_candle_ids() -> None:
    assert not {"experiment_id", "run_id"} & options(trained(pipeline())).keys()


# -- output directories ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model_outdir", "output_dir", "infer_outdir"])
@pytest.mark.parametrize("in_space", [True, False])
@pytest.mark.parametrize("model", [IMAGE, ON_HOST, replace(IMAGE, contract="candle")])
def test_output_directory_becomes_the_attempts_own(name: str, in_space: bool, model: Model) -> None:
    shared = {name: "/shared/by/all"}
    stages = pipeline(
        train={} if in_space else shared, constants=frozenset(shared) if in_space else frozenset(), model=model
    )
    assert option(trained(stages, shared if in_space else {}), name) == TRIAL.directory


def test_two_trials_never_share_an_output_directory() -> None:
    stages = pipeline(constants=frozenset({"model_outdir"}))
    other = replace(TRIAL, directory="/runs/demo/trials/0008/attempt-1", trial=8)
    directories = {
        option(stages.train(place, {"model_outdir": "/x"}, None), "model_outdir") for place in (TRIAL, other)
    }
    assert directories == {TRIAL.directory, other.directory}


@pytest.mark.parametrize("stage", ["train", "infer"])
def test_own_directory_is_bound_at_the_same_path(stage: str) -> None:
    stages = pipeline(infer={})
    command = trained(stages)
    place = TRIAL
    if stage == "infer":
        command, place = stages.infer(INFER, command, None), INFER
    assert f"{place.directory}:{place.directory}" in bound(command)
    assert bound(command)[0] == "/data:/IMPROVE_DATA_DIR"


def test_preprocess_without_an_output_directory_writes_to_its_own_which_is_bound() -> None:
    command = pipeline(preprocess={}).preprocess(PREPROCESS)
    assert option(command, "ml_data_outdir") == PREPROCESS.directory
    assert bound(command) == ["/data:/IMPROVE_DATA_DIR", f"{PREPROCESS.directory}:{PREPROCESS.directory}"]


# -- wiring ----------------------------------------------------------------------------------------------------------


def inputs(command: Command) -> dict[str, list[str]]:
    """The options that name directories."""
    return {name: value for name, value in options(command).items() if "dir" in name}


@pytest.mark.parametrize("output", ["/IMPROVE_DATA_DIR/ml_data", None])
def test_wiring_under_the_old_names(output: str | None) -> None:
    stages = pipeline(preprocess={} if output is None else {"ml_data_outdir": output}, infer={})
    data = [output or PREPROCESS.directory]
    assert inputs(stages.preprocess(PREPROCESS)) == {"ml_data_outdir": data}
    train = trained(stages, data=PREPROCESS)
    assert inputs(train) == {"train_ml_data_dir": data, "val_ml_data_dir": data, "model_outdir": [TRIAL.directory]}
    infer = stages.infer(INFER, train, PREPROCESS)
    assert inputs(infer) == {
        "test_ml_data_dir": data, "model_dir": [TRIAL.directory], "infer_outdir": [INFER.directory],
    }  # fmt: skip


NEW_TRAIN = [{"output_dir": "x"}, {"input_dir": "<data>"}, {"input_dir": "<data>", "output_dir": "<out>"}]


@pytest.mark.parametrize("given", NEW_TRAIN)
@pytest.mark.parametrize("in_space", [True, False])
def test_wiring_under_the_new_names(given: dict[str, str], in_space: bool) -> None:
    stages = pipeline(
        preprocess={"output_dir": "x"}, train={} if in_space else given, infer={}, constants=frozenset(given)
    )
    data = [PREPROCESS.directory]
    assert inputs(stages.preprocess(PREPROCESS)) == {"output_dir": data}
    train = trained(stages, given if in_space else {}, PREPROCESS)
    assert inputs(train) == {"input_dir": data, "output_dir": [TRIAL.directory]}
    infer = stages.infer(INFER, train, PREPROCESS)
    assert inputs(infer) == {
        "input_data_dir": data, "input_model_dir": [TRIAL.directory], "output_dir": [INFER.directory],
    }  # fmt: skip


def test_new_names_in_one_stage_mean_a_model_of_new_names() -> None:
    stages = pipeline(preprocess={"input_dir": "{data_dir}/raw", "output_dir": "x"}, infer={})
    train = trained(stages, data=PREPROCESS)
    assert inputs(train) == {"input_dir": [PREPROCESS.directory], "output_dir": [TRIAL.directory]}
    assert "input_model_dir" in options(stages.infer(INFER, train, PREPROCESS))


@pytest.mark.parametrize("names", ["old", "new"])
def test_directories_that_a_stage_reads_are_bound_into_its_container(names: str) -> None:
    new = {"output_dir": "x"} if names == "new" else {}
    stages = pipeline(preprocess=new, train=new, infer=new)
    train = trained(stages, data=PREPROCESS)
    infer = stages.infer(INFER, train, PREPROCESS)
    own = [f"{place.directory}:{place.directory}" for place in (PREPROCESS, TRIAL, INFER)]
    assert set(own[:2]) <= set(bound(train))
    assert set(own) <= set(bound(infer))


def test_a_directory_that_is_given_is_not_rewired() -> None:
    given = {"train_ml_data_dir": "/IMPROVE_DATA_DIR/a", "val_ml_data_dir": "/IMPROVE_DATA_DIR/b"}
    stages = pipeline(preprocess={}, constants=frozenset(given))
    assert inputs(trained(stages, given, PREPROCESS)).items() >= {k: [v] for k, v in given.items()}.items()


def test_infer_reads_the_test_data_that_training_was_told_of() -> None:
    stages = pipeline(preprocess={}, infer={}, constants=frozenset({"test_ml_data_dir"}))
    train = trained(stages, {"test_ml_data_dir": "/IMPROVE_DATA_DIR/test"}, PREPROCESS)
    assert option(stages.infer(INFER, train, PREPROCESS), "test_ml_data_dir") == "/IMPROVE_DATA_DIR/test"


def test_infer_keeps_its_own_arguments() -> None:
    stages = pipeline(infer={"test_ml_data_dir": "/IMPROVE_DATA_DIR/other", "y_col": "auc"})
    infer = stages.infer(INFER, trained(stages, {"test_ml_data_dir": "/x"}), None)
    assert option(infer, "test_ml_data_dir") == "/IMPROVE_DATA_DIR/other"
    assert option(infer, "y_col") == "auc"


def test_infer_always_reads_the_winners_model() -> None:
    stages = pipeline(infer={"model_dir": "/old/model"})
    assert option(stages.infer(INFER, trained(stages), None), "model_dir") == TRIAL.directory


def test_without_preprocess_nothing_is_wired_into_train() -> None:
    assert inputs(trained(pipeline())) == {"model_outdir": [TRIAL.directory]}


def test_the_sample_file_as_it_is_gets_the_output_of_preprocess() -> None:
    space = load_space(DATA / "improve_sample.json")
    rng = np.random.default_rng(1)
    params = {p.name: p.draw(rng) for p in space.parameters}
    constants = frozenset(p.name for p in space.parameters if isinstance(p, Constant))
    train = trained(pipeline(preprocess={}, constants=constants), params, PREPROCESS)
    assert inputs(train) == {
        "train_ml_data_dir": [PREPROCESS.directory],
        "val_ml_data_dir": [PREPROCESS.directory],
        "model_outdir": [TRIAL.directory],
    }
    assert list(options(train)) == [p.name for p in space.parameters]
    assert "<" not in " ".join(train.argv)


# -- precedence ------------------------------------------------------------------------------------------------------


def test_wired_directories_go_before_the_space_before_the_arguments() -> None:
    args = {"model_outdir": "/args", "epochs": 1, "lr": 0.1}
    train = trained(pipeline(train=args), {"model_outdir": "/space", "epochs": 5})
    assert options(train) == {"model_outdir": [TRIAL.directory], "epochs": ["5"], "lr": ["0.1"]}


def test_what_nobody_sets_is_left_to_the_model() -> None:
    assert options(trained(pipeline())) == {"model_outdir": [TRIAL.directory]}


def test_each_option_is_given_once() -> None:
    argv = trained(pipeline(preprocess={}, train={"epochs": 1}), {"epochs": 2, "model_outdir": "x"}, PREPROCESS).argv
    flags = [word for word in argv if word.startswith("--") and word != "--bind"]
    assert len(flags) == len(set(flags))


# -- placeholders ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [IMAGE, ON_HOST])
@pytest.mark.parametrize("in_space", [True, False])
def test_placeholders_in_constants_and_arguments(model: Model, in_space: bool) -> None:
    given = {"a": "{trial}", "b": "x/{run}/{trial}", "c": "{data_dir}/d", "d": "{{{trial}}} {{run}}"}
    stages = pipeline(
        train={} if in_space else given, constants=frozenset(given) if in_space else frozenset(), model=model
    )
    train = trained(stages, given if in_space else {})
    data = "/IMPROVE_DATA_DIR" if model is IMAGE else "/data"
    assert [option(train, name) for name in "abcd"] == ["0007", "x/demo/0007", f"{data}/d", "{0007} {run}"]


def test_a_drawn_value_is_no_template() -> None:
    assert option(trained(pipeline(), {"form": "{trial}{{"}), "form") == "{trial}{{"


def test_a_drawn_value_that_replaces_an_argument_is_no_template() -> None:
    assert option(trained(pipeline(train={"form": "{run}"}), {"form": "{nope}"}), "form") == "{nope}"


# -- values ----------------------------------------------------------------------------------------------------------


def test_logical_values_reach_the_command_line_in_lower_case() -> None:
    train = trained(pipeline(train={"early_stop": True}), {"bias": False})
    assert (option(train, "early_stop"), option(train, "bias")) == ("true", "false")


def mounted(command: Command) -> list[str]:
    return [value for word, value in itertools.pairwise(command.argv) if word == "--mount"]


def test_paths_that_bind_cannot_carry_are_mounted() -> None:
    """Apptainer 1.4 takes no backslash in --bind, no escape in a destination, and splits several commas wrongly."""
    place = replace(TRIAL, directory=r"/runs/a:b/c,d\e")
    command = pipeline(model=replace(IMAGE, data_dir='/data/x,"y"')).train(place, {}, None)
    own = place.directory
    assert mounted(command) == [
        'type=bind,"source=/data/x,""y""","destination=/IMPROVE_DATA_DIR"',
        f'type=bind,"source={own}","destination={own}"',
    ]
    assert command.binds == (Bind('/data/x,"y"', "/IMPROVE_DATA_DIR"), Bind(own, own))
    assert option(command, "model_outdir") == own


def test_binds_that_are_read_only() -> None:
    options = Options(binds=(Bind("/ref", "/ref", read_only=True), Bind("/a,b", "/ab", read_only=True)))
    command = pipeline(model=replace(IMAGE, options=options)).train(TRIAL, {}, None)
    assert "/ref:/ref:ro" in command.argv
    assert 'type=bind,"source=/a,b","destination=/ab",ro' in mounted(command)


HOSTILE = [
    "two words", " lead", "trail ", "'", '"', "''", "it's \"both\"", ";", "a; touch pwned", "$(touch pwned)", "${HOME}",
    "$HOME", "`touch pwned`", "a\nb", "\n", "\t", "\r", "-x", "--", "--epochs=3", "-", "ä 日本 🎉", "*", "?", "[a-z]*",
    "~", "~root", "!!", "#x", "\\", "a\\", "\\n", "|", "&", "&& touch pwned", "> pwned", "<pwned", "(", ")", "a=b",
    "%s", "{x}", "", "\x01\x7f", "\N{NO-BREAK SPACE}", "\N{LINE SEPARATOR}", "1 2 three", "e\u0301",
]  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("model", [IMAGE, ON_HOST])
def test_a_hostile_value_is_one_word(value: str, model: Model) -> None:
    argv = trained(pipeline(model=model), {"x": value, "end": "here"}).argv
    assert argv[-6:-2] == ("--x", value, "--end", "here")
    assert argv[-2:] == ("--model_outdir", TRIAL.directory)


# -- a shell gives the words back ------------------------------------------------------------------------------------


def through_bash(command: Command, directory: Path, env: Mapping[str, str] | None = None, **shell: str) -> list[str]:
    """The environment's data directory and the words that arrive when bash runs the command in ``directory``."""
    path = f"{directory}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command.shell(**shell)], cwd=directory, env={"PATH": path, **(env or {})}, capture_output=True,
        check=True, timeout=30,
    )  # fmt: skip
    return done.stdout.decode().split("\0")[:-1]


def write_echo(path: Path) -> None:
    """A program that prints IMPROVE_DATA_DIR and its arguments, each ended by a NUL."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('#!/bin/bash\nprintf "%s\\0" "${IMPROVE_DATA_DIR-}" "$@"\n')
    path.chmod(0o755)


HOSTILE_DIRECTORY = "a b'c\"d;$(touch pwned)`touch pwned`*?\n&ä"


def test_hostile_values_and_paths_pass_through_bash_unchanged(tmp_path: Path) -> None:
    scripts = tmp_path / HOSTILE_DIRECTORY
    write_echo(scripts / "train.sh")
    data = str(tmp_path / "data;$(touch pwned) *")
    stages = pipeline(model=replace(ON_HOST, scripts=str(scripts), data_dir=data))
    command = trained(stages, {f"v{i}": value for i, value in enumerate(HOSTILE)})
    assert through_bash(command, tmp_path) == [data, *command.argv[1:]]
    assert not list(tmp_path.rglob("pwned"))


def test_hostile_paths_of_a_container_pass_through_bash_unchanged(tmp_path: Path) -> None:
    write_echo(tmp_path / "singularity")
    model = replace(IMAGE, image=f"/images/{HOSTILE_DIRECTORY}.sif", data_dir=f"/data/{HOSTILE_DIRECTORY}")
    command = trained(pipeline(model=model), {"x": "$(touch pwned)"})
    assert through_bash(command, tmp_path)[1:] == list(command.argv[1:])
    assert not (tmp_path / "pwned").exists()


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(values=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), max_size=8))
def test_any_value_passes_through_bash_unchanged(values: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.getbasetemp()
    write_echo(directory / "train.sh")
    stages = pipeline(model=replace(ON_HOST, scripts=str(directory)))
    command = trained(stages, {f"v{i}": value for i, value in enumerate(values)})
    assert through_bash(command, directory)[1:] == list(command.argv[1:])


@pytest.mark.parametrize(
    ("shell", "env", "gpu"),
    [
        ({}, {}, "0"),
        ({}, {"CUDA_VISIBLE_DEVICES": "3"}, "3"),
        ({}, {"CUDA_VISIBLE_DEVICES": "GPU-1;2 x"}, "GPU-1;2 x"),
        ({"gpu": "5"}, {"CUDA_VISIBLE_DEVICES": "3"}, "5"),
    ],
)
def test_the_shell_line_takes_the_gpu_of_where_it_is_pasted(
    tmp_path: Path, shell: dict[str, str], env: dict[str, str], gpu: str
) -> None:
    write_echo(tmp_path / "train.sh")
    command = trained(pipeline(model=replace(ON_HOST, scripts=str(tmp_path))))
    assert through_bash(command, tmp_path, env, **shell)[1:3] == [gpu, "/data"]


# -- what sites and models add ---------------------------------------------------------------------------------------


def test_options_of_site_and_model_in_this_order() -> None:
    site = Options(("--no-home",), {"A": "1", "B": "site"}, (Bind("/a:b", "/in,side"),))
    model = replace(PAGE_MODEL, options=Options(("--writable-tmpfs",), {"B": "x,y $(z)"}, (Bind("/c", "/c"),)))
    container = Container(gpu_flag="--nv", own_pids=True, fakeroot=True, options=site)
    command = trained(replace(pipeline(model=model), container=container))
    words = list(command.argv)
    assert words[:7] == ["apptainer", "exec", "--nv", "--fakeroot", "--pid", "--no-home", "--writable-tmpfs"]
    assert bound(command)[-1] == "/c:/c"
    assert 'type=bind,"source=/a:b","destination=/in,side"' in words
    for program in ("APPTAINER", "SINGULARITY"):
        assert command.env[f"{program}ENV_A"] == "1" and command.env[f"{program}ENV_B"] == r"x,y \$(z)"
    assert "PYTHONPATH" in command.unset


def test_options_without_a_container_are_variables() -> None:
    model = Model("none", "improve", "/data", scripts="/model", options=Options(env={"A": "1"}))
    command = trained(pipeline(model=model))
    assert command.env == {"A": "1", "IMPROVE_DATA_DIR": "/data"}
    assert command.unset == ()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/IMPROVE_DATA_DIR/ml", "/data/ml"),
        ("/more/ml", "/host/more/ml"),
        ("/more", "/host/more"),
        ("/more/inner/ml", "/host/inner/ml"),
        ("/more_of_it/ml", "/more_of_it/ml"),
        ("/IMPROVE_DATA_DIR/extra/ml", "/host/extra/ml"),
    ],
)
def test_what_is_bound_is_found_on_the_host(path: str, expected: str) -> None:
    """The innermost bind counts, as in the container."""
    binds = (
        Bind("/host/more", "/more"), Bind("/host/inner", "/more/inner/"), Bind("/host/extra", "/IMPROVE_DATA_DIR/extra")
    )  # fmt: skip
    stages = pipeline(model=replace(IMAGE, options=Options(binds=binds)))
    assert stages.inputs({"train_ml_data_dir": path}, TRIAL, None) == ([expected], [])
    on_host = pipeline(model=replace(ON_HOST, options=Options(binds=binds)))
    assert on_host.inputs({"train_ml_data_dir": path}, TRIAL, None) == ([path], [])


@pytest.mark.parametrize(
    ("name", "output", "expected"),
    [
        ("conf.txt", None, "/data/conf.txt"),
        ("/IMPROVE_DATA_DIR/conf.txt", None, "/data/conf.txt"),
        ("bound/conf.txt", None, "/host/bound/conf.txt"),
        ("/opt/model/conf.txt", None, None),
        ("ml/conf.txt", "{data_dir}/ml", None),
        ("conf.txt", "{data_dir}/ml", "/data/conf.txt"),
    ],
)
def test_where_the_config_file_is_on_the_host(name: str, output: str | None, expected: str | None) -> None:
    """That of an image or of preprocess cannot be seen."""
    model = replace(IMAGE, options=Options(binds=(Bind("/host/bound", "/IMPROVE_DATA_DIR/bound"),)))
    stages = pipeline(preprocess={"ml_data_outdir": output} if output else None, model=model)
    assert replace(stages, stages={**stages.stages, "train": Stage(config_file=name)}).config_file == expected
