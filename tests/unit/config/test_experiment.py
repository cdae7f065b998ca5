"""An experiment's copy, which a resume reads, and its fingerprint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.config.experiments import BOTH, MINIMAL, OTHER_VALUES, SPACE, TEMPLATE, fidelity, load, write
from workflow.config.experiment import Experiment
from workflow.config.load import load_experiment
from workflow.journal import differences
from workflow.run import main
from workflow.stages import Stage
from workflow.stopping import StoppingSettings

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


def test_early_stopping_is_read_back_by_a_resume(tmp_path: Path) -> None:
    pattern = r"^e: (?P<step>\d+) 'v': (?P<value>\S+)$"
    given = {"rule": "percentile", "percentile": 25, "grace": 0, "min_trials": 9, "pattern": pattern}
    experiment = load(tmp_path, early_stopping=given)
    assert experiment.early_stopping == StoppingSettings("percentile", 25.0, 0, 9, pattern)
    write(tmp_path, json.dumps(SPACE), "space.json")
    again = load_experiment(write(tmp_path, experiment.to_yaml(), "resumed.yaml"), {})
    assert again.early_stopping == experiment.early_stopping
    assert load_experiment(tmp_path / "resumed.yaml", {"early_stopping": None}).early_stopping is None


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


def test_a_warm_start_is_kept_for_resumes(tmp_path: Path, controlled: list[Experiment]) -> None:
    write(tmp_path, "x,n,result\n0.5,3,0.25\n0.1,9,0.75\n", "hpo.csv")
    changes = {"search": {"warm_start": "hpo.csv"}}
    experiment = load(tmp_path, **changes)
    assert [(result.params["x"], result.loss) for result in experiment.earlier] == [(0.5, 0.25), (0.1, 0.75)]
    started, resumed = run_and_resume(tmp_path, write(tmp_path, {**MINIMAL, **changes}), controlled)
    assert started.earlier == resumed.earlier == experiment.earlier
    assert started.fingerprint() == resumed.fingerprint() != load(tmp_path).fingerprint()
