"""Hyperparameter values and paths reach the model's argv unchanged, and nothing of them is executed."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.conftest import Workflow, toy_space

HOSTILE = {
    "blank": "two words",
    "quotes": 'it\'s "quoted"',
    "semicolon": "a; touch pwned",
    "dollar": "$(touch pwned) ${HOME} $HOME",
    "backtick": "`touch pwned`",
    "newline": "first\nsecond\r\nthird",
    "dash": "-rf",
    "dashes": "--model_outdir2",
    "unicode": "température é 漢字 \U0001f600",
    "glob": "* ? [a-z] ~ {1,2}",
    "redirect": "a > pwned < b | c & d",
    "backslash": "a\\b\\\\n",
    "empty": "",
    "percent": "%s %d %%",
    "bang": "!! #comment",
    "tab": "a\tb",
}
STRANGE_DIRECTORY = "run $(touch pwned) 'a' \"b\" ;`touch pwned` {x} é*\n-end"


@pytest.mark.parametrize("site", ["local", "local-threads"])
def test_values_and_paths_reach_argv_unchanged(workflow: Workflow, site: str) -> None:
    space = toy_space()
    space += [{"name": n, "type": "categorical", "element_type": "string", "values": [v]} for n, v in HOSTILE.items()]
    space += [{"name": "several", "type": "constant", "value": "1000 5e2 -1.5"}]
    space += [{"name": "flag", "type": "logical"}]
    home = workflow.directory / STRANGE_DIRECTORY
    home.mkdir()
    experiment = workflow.experiment(space=space, search={"num_iterations": 1, "population_size": 2})
    run = home / "run"
    done = workflow.run("--site", site, "--experiment", experiment, "--output", run)
    assert done.returncode == 0, done.stdout
    for attempt in sorted((run / "trials").glob("*/attempt-1")):
        check_argv(attempt)
    assert not list(workflow.directory.rglob("pwned"))


RELATED = [
    {
        "name": "optimizer",
        "type": "categorical",
        "element_type": "string",
        "values": ["Adam", "SGD"],
        "default": "Adam",
    },
    {"name": "x", "type": "float", "lower": 0, "upper": 1, "default": 0.5, "condition": {"optimizer": "SGD"}},
    {"name": "y", "type": "int", "lower": 1, "upper": 9, "default": 1, "constraint": "y < 5 or optimizer == 'Adam'"},
    {"name": "restart", "type": "constant", "value": "{checkpoint_dir}/last", "condition": {"optimizer": "SGD"}},
    {"name": "model_outdir", "type": "constant", "value": "/nowhere"},
]


def test_what_does_not_exist_in_a_configuration_reaches_no_argument_and_no_table(workflow: Workflow) -> None:
    experiment = workflow.experiment(space=RELATED, search={"num_iterations": 2, "population_size": 8})
    done = workflow.run("--site", "local-threads", "--experiment", experiment, "--output", "run")
    assert done.returncode == 0, done.stdout
    run = workflow.directory / "run"
    rows = list(csv.DictReader((run / "hpo.csv").open(newline="")))
    assert (rows[0]["optimizer"], rows[0]["x"], rows[0]["y"]) == ("Adam", "", "1")
    assert {row["optimizer"] for row in rows} == {"Adam", "SGD"}
    for number, row in enumerate(rows):
        argv = json.loads((run / f"trials/{number:04d}/attempt-1/argv.json").read_text())
        assert bool(row["x"]) == ("--x" in argv) == ("--restart" in argv) == (row["optimizer"] == "SGD")
        if "--restart" in argv:
            assert argv[argv.index("--restart") + 1].startswith(f"{run}/")
            assert int(row["y"]) < 5
    best = json.loads((run / "best.json").read_text())
    assert ("x" in best) == ("restart" in best) == (best["optimizer"] == "SGD")
    search = {"num_iterations": 1, "population_size": 5, "initial_population": "run"}
    again = workflow.experiment(space=RELATED, search=search)
    done = workflow.run("--site", "local-threads", "--experiment", again, "--output", "again")
    assert done.returncode == 0, done.stdout
    first = list(csv.DictReader((workflow.directory / "again/hpo.csv").open(newline="")))
    assert [first[0][name] for name in ("optimizer", "x", "y")] == ["Adam", "", "1"]
    assert {row["result"] for row in first} >= set(sorted((row["result"] for row in rows), key=float)[:4])


def check_argv(attempt: Path) -> None:
    argv = json.loads((attempt / "argv.json").read_text())
    for name, value in HOSTILE.items():
        assert argv[argv.index(f"--{name}") + 1] == value
    assert argv[argv.index("--several") + 1 :][:4] == ["1000", "5e2", "-1.5", "--flag"]
    assert argv[argv.index("--flag") + 1] in ("true", "false")
    assert argv[argv.index("--model_outdir") + 1] == str(attempt)


def test_trials_at_the_same_time_never_share_a_directory(workflow: Workflow) -> None:
    """The space names one model_outdir for all, as the page asks curators to."""
    experiment = workflow.experiment(space=toy_space(sleep=0.2), search={"num_iterations": 2, "population_size": 8})
    done = workflow.run("--site", "local", "--experiment", experiment, "--output", "run", "--set", "site.workers=4")
    assert done.returncode == 0, done.stdout
    outputs = [json.loads(path.read_text()) for path in (workflow.directory / "run/trials").rglob("argv.json")]
    directories = [argv[argv.index("--model_outdir") + 1] for argv in outputs]
    assert len(set(directories)) == len(directories) >= 8
    assert not Path("/nowhere").exists()
