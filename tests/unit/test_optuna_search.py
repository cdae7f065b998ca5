"""The strategy ``optuna``: what its study is told, and which samplers are refused."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from tests.contract.test_search import ENTRIES, SIX, SPACE, drive, from_disk, genome, make, number, outcome_of
from workflow.config.load import load_experiment
from workflow.errors import InputError, Problems, SetupError
from workflow.search import SearchSettings
from workflow.search.optuna_search import OptunaSearch, distribution
from workflow.space_file import parse_space
from workflow.trial import Objective, Outcome, Trial

MODEL = {"scripts": "$WORKFLOW_HOME/model_template"}


def made(space: Any = SPACE, **keys: Any) -> OptunaSearch:
    search = make("optuna", space, **keys)
    assert isinstance(search, OptunaSearch)
    return search


def table(search: OptunaSearch) -> list[tuple[TrialState, float | None]]:
    return [(trial.state, trial.value) for trial in search._study.get_trials()]


# -- what is asked for -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("sampler", ["TPESampler", "CmaEsSampler", "NSGAIISampler"])
def test_asks_are_those_of_the_sampler_alone(sampler: str, mode: str) -> None:
    ours = drive(made(sampler=sampler, mode=mode, evaluations=30, reevaluate=True), pending=1)
    kind = getattr(optuna.samplers, sampler)
    study = optuna.create_study(sampler=kind(seed=1), direction=f"{mode}imize")
    for trial in ours:
        plain = study.ask({p.name: distribution(p) for p in SPACE.varying})
        expected = {**plain.params, "batch": [16, 32, 64, 128][plain.params["batch"]], "epochs": 20}
        assert trial.params == expected
        study.tell(plain, number(trial))


@pytest.mark.parametrize("sampler", ["TPESampler", "NSGAIISampler"])
def test_asks_by_several_objectives_are_those_of_the_sampler_alone(sampler: str) -> None:
    settings = SearchSettings("optuna", sampler=sampler, evaluations=30, reevaluate=True)
    search = OptunaSearch(SPACE, settings, [Objective(), Objective("size", "max")])
    study = optuna.create_study(sampler=getattr(optuna.samplers, sampler)(seed=1), directions=["minimize", "maximize"])
    for trial in drive(search, pending=1):
        plain = study.ask({p.name: distribution(p) for p in SPACE.varying})
        expected = {**plain.params, "batch": [16, 32, 64, 128][plain.params["batch"]], "epochs": 20}
        assert trial.params == expected
        told = outcome_of(trial, number)
        study.tell(plain, [told.value, told.metrics["size"]])


def test_a_sampler_of_one_objective_is_refused_for_several(tmp_path: Path) -> None:
    path = written(tmp_path, ENTRIES, sampler="CmaEsSampler")
    objectives = ["val_loss min", "size max"]
    with pytest.raises(InputError, match=r"search.sampler: CmaEsSampler cannot go on: .*multi-objective"):
        load_experiment(path, {"objectives": objectives})
    several = load_experiment(path, {"objectives": objectives, "search.sampler": "TPESampler"})
    assert several.objectives == (Objective("val_loss"), Objective("size", "max"))


def test_distributions_keep_scale_order_and_kind() -> None:
    found = {p.name: distribution(p) for p in SPACE.varying}
    assert found == {
        "rate": optuna.distributions.FloatDistribution(1e-5, 0.1, log=True),
        "layers": optuna.distributions.IntDistribution(1, 9),
        "batch": optuna.distributions.IntDistribution(0, 3),
        "optimizer": optuna.distributions.CategoricalDistribution(["Adam", "SGD", "RMSprop"]),
        "warmup": optuna.distributions.CategoricalDistribution([False, True]),
    }


def test_options_reach_the_sampler() -> None:
    late = drive(made(sampler_options={"n_startup_trials": 30}, evaluations=30))
    assert late != drive(made(evaluations=30))
    assert late == drive(made(sampler_options={"n_startup_trials": 40}, evaluations=30))


def test_samplers_that_would_stop_a_study_leave_that_to_the_budget() -> None:
    assert len(drive(made(SIX, sampler="BruteForceSampler", num_iterations=50))) == 6


def test_nothing_is_said() -> None:
    optuna.logging.set_verbosity(optuna.logging.INFO)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for sampler in ("CmaEsSampler", "QMCSampler", "NSGAIISampler"):
            drive(made(sampler=sampler))
    assert not caught
    assert optuna.logging.get_verbosity() == optuna.logging.ERROR


# -- what the study is told ------------------------------------------------------------------------------------------


def test_failures_are_told_as_such() -> None:
    search = made(evaluations=4)
    drive(search, lambda trial: None if trial.id % 2 else float(trial.id))
    failed = (TrialState.FAIL, None)
    assert table(search) == [(TrialState.COMPLETE, 0.0), failed, (TrialState.COMPLETE, 2.0), failed]


def test_a_repeat_is_not_run_and_told_as_it_was_known() -> None:
    search = made(SIX, num_iterations=50)
    trials = {genome(trial, SIX): number(trial) for trial in drive(search, pending=1)}
    told = [((t.params["a"], t.params["b"]), t.value) for t in search._study.get_trials() if t.value is not None]
    assert len(told) > len(trials) == 6
    assert all(value == trials[each] for each, value in told)


def test_a_repeat_of_what_still_runs_is_told_with_it() -> None:
    search = made(SIX, num_iterations=50)
    trials = [search.ask() for _ in range(6)]
    assert len(table(search)) > 6
    assert {state for state, _ in table(search)} == {TrialState.RUNNING}
    for trial in trials:
        assert trial is not None
        search.tell(outcome_of(trial, number))
    assert {state for state, _ in table(search)} == {TrialState.COMPLETE}


# -- resuming --------------------------------------------------------------------------------------------------------


def resumed(trials: list[Trial], outcomes: dict[int, Outcome], **keys: Any) -> OptunaSearch:
    search = made(**keys)
    for trial in trials:
        search.restore(from_disk(trial), outcomes.get(trial.id))
    return search


def test_a_resumed_study_holds_what_ended_what_failed_and_what_runs() -> None:
    first = made()
    trials = drive(first)[:4]
    outcomes = {0: outcome_of(trials[0], number), 1: Outcome(1, 1, "failed")}
    search = resumed(trials, outcomes)
    states = [TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING, TrialState.RUNNING]
    assert table(search) == list(zip(states, [number(trials[0]), None, None, None], strict=True))
    restored = [trial.params for trial in search._study.get_trials()]
    assert restored == [trial.params for trial in first._study.get_trials()[:4]]
    search.tell(outcome_of(trials[2], number))
    assert table(search)[2] == (TrialState.COMPLETE, number(trials[2]))


def test_a_resumed_sampler_does_not_draw_the_same_again() -> None:
    keys = {"sampler": "RandomSampler", "reevaluate": True, "evaluations": 20}
    trials = drive(made(**keys))[:10]
    search = resumed(trials, {trial.id: outcome_of(trial, number) for trial in trials}, **keys)
    assert not {genome(trial) for trial in drive(search)} & {genome(trial) for trial in trials}


# -- refusals --------------------------------------------------------------------------------------------------------


def refusal(**keys: Any) -> str:
    problems = Problems("file")
    SearchSettings(**{"strategy": "optuna", **keys}).check(problems)
    return problems.text()


@pytest.mark.parametrize(
    ("keys", "what", "remedy"),
    [
        ({"sampler": "TPE"}, "search.sampler: 'TPE' is no sampler", "TPESampler"),
        ({"sampler": "BaseSampler"}, "search.sampler: 'BaseSampler' is no sampler", "known: BruteForceSampler, CmaEs"),
        ({"sampler": "GridSampler"}, "search.sampler: 'GridSampler' is no sampler", "RandomSampler"),
        ({"sampler_options": {"gama": 1}}, "search.sampler_options: TPESampler cannot be made", "n_startup_trials"),
        ({"sampler_options": {"seed": 1}}, "search.sampler_options.seed: ", "set search.seed"),
        ({"sampler_options": {"gamma": b"x"}}, "holds values that cannot be written down", "write strings"),
        ({"strategy": "async", "sampler": "TPESampler"}, "search.sampler: is a setting of strategy optuna", "leave it"),
        ({"strategy": "random", "sampler_options": {"a": 1}}, "search.sampler_options: is a setting", "leave it out"),
    ],
)
def test_what_is_no_sampler(keys: dict[str, Any], what: str, remedy: str) -> None:
    text = refusal(**keys)
    assert what in text
    assert remedy in text.partition("\n    -> ")[2]
    assert text.count("->") == 1


def test_without_optuna_its_installation_is_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "workflow.search.optuna_search")
    text = refusal()
    assert text.startswith("file: search.strategy: 'optuna' needs the package of that name")
    assert text.endswith('-> in the clone: pip install ".[optuna]"')
    assert refusal(strategy="async") == ""


def written(directory: Path, space: object, **search: Any) -> Path:
    path = directory / "try.yaml"
    path.write_text(json.dumps({"model": MODEL, "space": space, "search": {"strategy": "optuna", **search}}))
    return path


@pytest.mark.parametrize("overrides", [{}, {"search.sampler": "BruteForceSampler"}])
def test_a_sampler_that_cannot_search_the_space_is_refused_before_anything_is_made(
    tmp_path: Path, overrides: dict[str, str]
) -> None:
    path = written(tmp_path, ENTRIES, sampler="BruteForceSampler")
    place = "--set search.sampler" if overrides else f"{path}: search.sampler"
    with pytest.raises(InputError) as caught:
        load_experiment(path, overrides)
    assert str(caught.value).startswith(f"{place}: BruteForceSampler cannot go on: FloatDistribution")
    with pytest.raises(InputError, match=r"cannot go on: .*\n    -> mend sampler_options, or choose another"):
        load_experiment(written(tmp_path, ENTRIES, sampler_options={"gamma": 3}), {})
    finite = written(tmp_path, ENTRIES[2:], sampler="BruteForceSampler")
    assert load_experiment(finite, overrides).search.sampler == "BruteForceSampler"


def test_a_sampler_that_fails_amid_a_campaign_is_no_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials have run by then, and the run can be resumed."""
    search = made(evaluations=30)
    trial = search.ask()
    assert trial is not None
    monkeypatch.setattr(search._study, "ask", lambda distributions: 1 / 0)
    with pytest.raises(SetupError, match=r"search.sampler: TPESampler cannot go on: division by zero\n    -> choose"):
        search.ask()


def test_sampler_and_options_survive_the_copy_that_a_resume_reads(tmp_path: Path) -> None:
    path = written(tmp_path, ENTRIES[2:], sampler_options={"n_startup_trials": 3, "multivariate": True})
    first = load_experiment(path, {"search.sampler": "TPESampler"})
    (tmp_path / "space.json").write_text(json.dumps(ENTRIES[2:]))
    path.write_text(first.to_yaml())
    options = {"n_startup_trials": 3, "multivariate": True}
    assert first.search == SearchSettings(strategy="optuna", sampler="TPESampler", sampler_options=options)
    assert load_experiment(path, {}).search == first.search
    again = load_experiment(path, {"search.sampler_options.multivariate": False})
    assert again.search.sampler_options == {**options, "multivariate": False}


def test_extreme_bounds_stay_in_the_space() -> None:
    space = parse_space(
        [
            {"name": "big", "type": "int", "lower": -(2**53), "upper": 2**53},
            {"name": "log", "type": "int", "lower": 1, "upper": 2**40, "use_log_scale": True},
            {"name": "tiny", "type": "float", "lower": 1e-300, "upper": 1e-3, "use_log_scale": True},
        ],
        "test",
    )
    for trial in drive(made(space, evaluations=40)):
        assert -(2**53) <= trial.params["big"] <= 2**53
        assert 1 <= trial.params["log"] <= 2**40
        assert 1e-300 <= trial.params["tiny"] <= 1e-3
