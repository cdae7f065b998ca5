"""The section ``search``: names and defaults of the reference, fidelities, sizes."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.config.experiments import (
    OTHER_VALUES,
    REFERENCE_DEFAULTS,
    SPACE,
    fidelity,
    load,
    readable,
    refusal,
    write,
)
from workflow.search import SearchSettings
from workflow.search.halving import Fidelity


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


def test_every_search_setting_is_a_key_of_the_file(tmp_path: Path) -> None:
    message = refusal(tmp_path, search={"zzz": 1})
    assert all(setting.name in message for setting in fields(SearchSettings))


@pytest.mark.parametrize("key", ["tournsize", "population_size", "num_iterations"])
def test_a_search_too_large_to_compute_is_refused(tmp_path: Path, key: str) -> None:
    assert f"search.{key}: {10**12} is above 1000000" in refusal(tmp_path, search={key: 10**12})


def test_aliases_in_a_whole_section_on_the_command_line(tmp_path: Path) -> None:
    assert load(tmp_path, "search={POPULATION_SIZE: 4}").search.population_size == 4


def test_a_warm_start_knows_one_objective_only(tmp_path: Path) -> None:
    write(tmp_path, "x,n,result\n0.5,3,0.25\n", "hpo.csv")
    message = refusal(tmp_path, objectives=["val_loss min", "walltime min"], search={"warm_start": ["hpo.csv"]})
    assert message.startswith("try.yaml: search.warm_start: does not go with several objectives\n    -> ")
