"""What the README says is true: its examples run, its tables name what there is."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from tests.conftest import ROOT, TOY, Workflow
from tests.exported import RECORDS, SPACE
from tests.recorded import recorded
from workflow import errors, submit
from workflow.cluster.batch import Batch
from workflow.config.initial import read_earlier
from workflow.config.load import load_experiment
from workflow.config.notify import NotifySettings
from workflow.finals import FinalistsSettings
from workflow.report.__main__ import parser as report_parser
from workflow.report.exports import FORMATS, export
from workflow.report.snapshot import Snapshot
from workflow.run import _parser
from workflow.search import SearchSettings
from workflow.site import Site, load_site
from workflow.space_file import TYPES, parse_space
from workflow.stopping import StoppingSettings
from workflow.trial import Objective

README = (ROOT / "README.md").read_text()


def section(title: str) -> str:
    """The text below a heading, up to the next one."""
    return re.split(rf"^#+ {re.escape(title)}$", README, flags=re.M)[1].split("\n#", 1)[0]


def first_column(table: str) -> set[str]:
    """The names in backquotes in the first column of a table's rows."""
    return {name for row in re.findall(r"^\| (`.*?) \|", table, flags=re.M) for name in re.findall(r"`(\w+)`", row)}


def commands() -> list[list[str]]:
    blocks = re.findall(r"```bash\n(.*?)```", README, flags=re.S)
    blocks = [block.replace("\\\n", " ") for block in blocks]
    parts = [part for block in blocks for line in block.splitlines() for part in line.split("&&")]
    return [words for part in parts if (words := shlex.split(part, comments=True))]


def test_the_example_experiment_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = re.findall(r"```yaml\n(.*?)```", README, flags=re.S)[0]
    (tmp_path / "GraphDRP.sif").touch()
    (tmp_path / "spaces").mkdir()
    (tmp_path / "spaces/graphdrp.json").write_text((ROOT / "configs/spaces/improve_sample.json").read_text())
    (tmp_path / "runs/graphdrp-1").mkdir(parents=True)
    (tmp_path / "runs/graphdrp-1/journal.jsonl").touch()
    monkeypatch.setenv("IMAGES", str(tmp_path))
    monkeypatch.setenv("IMPROVE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("HPO_WEBHOOK", "https://hooks.example.org/token")
    (tmp_path / "graphdrp.yaml").write_text(text)
    experiment = load_experiment(tmp_path / "graphdrp.yaml", {})
    assert experiment.model.runtime == "apptainer"
    assert set(experiment.stages) == {"preprocess", "train", "infer"}
    assert experiment.early_stopping == StoppingSettings()
    assert experiment.finalists == FinalistsSettings(seed_argument="rng_seed")
    assert experiment.notify == NotifySettings(webhook="HPO_WEBHOOK")


def test_the_example_space_loads() -> None:
    (text,) = re.findall(r"```json\n(.*?)```", section("Defaults, conditions, constraints"), flags=re.S)
    space = parse_space(json.loads(text), "README.md")
    assert (len(space.defaults), len(space.conditions), len(space.constraints)) == (3, 1, 1)
    assert space.warnings == ()


def test_every_command_is_one_that_the_program_understands() -> None:
    runs = [words[3:] for words in commands() if words[1:3] == ["-m", "workflow.run"]]
    assert len(runs) >= 5
    for arguments in runs:
        _parser().parse_args(arguments)
    submissions = [words[3:] for words in commands() if words[1:3] == ["-m", "workflow.submit"]]
    assert submissions
    for arguments in submissions:
        submit._parser().parse_args(arguments)
    reports = [words[3:] for words in commands() if words[1:3] == ["-m", "workflow.report"]]
    assert reports
    for arguments in reports:
        report_parser().parse_args(arguments)


def test_the_keys_of_status_are_in_its_table() -> None:
    keys = {field.name for field in fields(Snapshot)}
    assert first_column(section("Watching a campaign")) == keys
    assert (ROOT / "docs/live.svg").read_text().startswith("<svg")


def test_the_commands_for_a_model_of_ones_own_run(workflow: Workflow) -> None:
    experiment = workflow.experiment(model={"scripts": str(TOY)}, search={"num_iterations": 1, "population_size": 2})
    experiment.rename(workflow.directory / "graphdrp.yaml")
    own = [words[2:] for words in commands() if "graphdrp" in " ".join(words) and "polaris" not in words]
    for module, *arguments in (words for words in own if "runs/graphdrp-1" not in words):
        done = workflow.run(*arguments, module=module)
        assert done.returncode == 0, done.stdout
    assert (workflow.directory / "runs/graphdrp/summary.json").exists()


def test_the_steps_to_a_model_of_ones_own_work(workflow: Workflow) -> None:
    """``init``, ``check`` and ``run``, as the README has them."""
    for words in commands():
        if "my-model" in " ".join(words) and words[1] == "-m":
            small = ["--set", "search.evaluations=3"] if words[2] == "workflow.run" else []
            done = workflow.run(*words[3:], *small, module=words[2])
            assert done.returncode == 0, done.stdout


def test_the_notebooks_lines_run_and_an_old_study_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(tmp_path / "runs" / "demo", SPACE, RECORDS)
    monkeypatch.chdir(tmp_path)
    own, old = re.findall(r"```python\n(.*?)```", section("Exports and notebooks"), flags=re.S)
    exec(own, names := dict[str, Any]())
    export(names["run"], "optuna")
    journal = JournalStorage(JournalFileBackend("runs/demo/optuna.log"))
    optuna.copy_study(from_study_name="demo", from_storage=journal, to_storage="sqlite:///old.db", to_study_name="old")
    exec(old, {})
    found, warnings = read_earlier([tmp_path / "old.csv"], parse_space(SPACE, ""), Objective())
    trials = names["run"].trials
    assert [(result.params, result.loss) for result in found] == [(trials[0].params, 0.5), (trials[3].params, 0.25)]
    assert warnings == []


SITE_KEYS = {field.name for field in fields(Site)} - {
    "name", "auto", "options", "endpoint", "batch", "allocated_nodes",
} | {"extra_args", "env", "binds"}  # fmt: skip
BATCH_KEYS = {field.name for field in fields(Batch)} | {"partition"}
ENDPOINT_KEYS = {"endpoint", "endpoint_directory", "queue_timeout", "user_endpoint_config"}


def test_how_long_silence_is_borne_by_default(tmp_path: Path) -> None:
    for scheduler, heading in (("local", ""), ("slurm", "jobs of a cluster: ")):
        (tmp_path / "site.yaml").write_text(f"{{scheduler: {scheduler}, gpus: 1}}\n")
        site = load_site(tmp_path / "site.yaml", {})
        for names in (("heartbeat_period", "heartbeat_threshold"), ("poll", "patience")):
            values = ", ".join(f"{getattr(site, name):g}" for name in names)
            (cell,) = re.findall(rf"^\| `{'`, `'.join(names)}` \| (.*?) \|", section("Sites"), flags=re.M)
            assert f"{heading}{values}" in cell.split("; ")


def test_the_tables_name_every_setting() -> None:
    assert first_column(section("The search")) == {field.name for field in fields(SearchSettings)} - {"strategy"}
    finalists = {field.name for field in fields(FinalistsSettings)} - {"seed"}
    assert first_column(section("Finalists")) == finalists
    assert first_column(section("Notifications")) == {field.name for field in fields(NotifySettings)}
    assert first_column(section("Early stopping")) == {field.name for field in fields(StoppingSettings)}
    assert first_column(section("The hyperparameter space")) == set(TYPES)
    assert first_column(section("Sites")) == SITE_KEYS
    assert first_column(section("Jobs of a cluster")) == BATCH_KEYS
    assert first_column(section("Globus Compute")) == ENDPOINT_KEYS
    assert first_column(section("Exports and notebooks")) == set(FORMATS)


def test_the_contributors_commands_are_there_and_ci_has_the_checks() -> None:
    rows = dict(re.findall(r"^\| ([\w' ,]+) \| `(.+)` \|$", section("Contributing"), flags=re.M))
    assert list(rows) == [
        "format", "lint", "types", "tests", "one area's tests", "all checks, as CI does", "benchmarks", "a release"
    ]  # fmt: skip
    checks = (ROOT / rows.pop("all checks, as CI does")).read_text()
    assert all(rows[name] in checks for name in ("lint", "types", "tests")) and "ruff format --check ." in checks
    for command in rows.values():
        done = subprocess.run([*shlex.split(command), "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and "usage" in done.stdout.lower(), command


def test_the_paths_that_contributors_are_sent_to_exist() -> None:
    named = re.findall(r"(?:workflow|tests|scripts|\.ci)/[\w./]*\w", section("Contributing"))
    assert len(named) > 5
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_exit_codes_are_the_programs() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", section("Your model"), flags=re.M)}
    raised = {cls.exit_code for cls in (errors.InputError, errors.SiteError, errors.SetupError, errors.OutOfTime)}
    assert listed == raised | {errors.EXIT_DONE, errors.EXIT_NO_SUCCESS, errors.EXIT_INTERRUPTED}


def test_the_shipped_sites_are_valid_yaml() -> None:
    for path in (ROOT / "sites").glob("*.yaml"):
        assert yaml.safe_load(path.read_text())["name"] == path.stem
