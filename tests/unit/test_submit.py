"""Which run a command line means on a site with a scheduler, and what is submitted for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.conftest import toy_experiment
from workflow import submit
from workflow.errors import InputError
from workflow.lock import RunLock
from workflow.request import Request, checked_request, create, parser

SLURM = {"scheduler": "slurm", "gpus": 1}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with an experiment and a site of a cluster."""
    directory = tmp_path / "here"
    directory.mkdir()
    monkeypatch.chdir(directory)
    Path("site.yaml").write_text(yaml.safe_dump(SLURM))
    Path("e.yaml").write_text(yaml.safe_dump(toy_experiment()))
    return directory


def request(output: str, *options: str) -> Request:
    given = ["--site", "site.yaml", "--experiment", "e.yaml", "--output", output, *options]
    return checked_request(parser("test", "", "").parse_args(given))


def refusal(output: str, *options: str) -> str:
    with pytest.raises(InputError) as caught:
        request(output, *options)
    return str(caught.value)


@pytest.mark.parametrize("output", ["run%j", "a run"])
def test_a_directory_whose_name_means_something_to_schedulers_is_refused(output: str) -> None:
    assert refusal(output).endswith("choose one named by letters, digits and ./_-+=@ only")


def test_what_a_path_goes_back_over_is_neither_read_nor_made(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("cwd sp").mkdir()
    assert request("cwd sp/../run").run.path == here / "run"
    create(request("gone/../other/run"))
    assert Path("other/run/site.yaml").exists() and not Path("gone").exists()


def test_the_loser_of_a_race_hears_that_the_run_exists() -> None:
    """Both were checked before either of them made its directory."""
    first, second = request("race"), request("race")
    create(first)
    with pytest.raises(InputError, match=r"--output .*race: exists already"):
        create(second)
    assert {path.name for path in Path().iterdir()} == {"race", "site.yaml", "e.yaml"}


def test_a_setting_without_a_value_is_no_default() -> None:
    """As that of a shell variable that is not set."""
    said = refusal("run", "--set", "site.walltime=")
    assert "'site.walltime=': has no value\n    -> write a value, site.walltime=null for the default" in said


def test_an_empty_walltime_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--site", "site.yaml", "--experiment", "e.yaml", "--output", "run", "--dry-run", "--walltime", ""]
    assert submit.main(options) == 2
    assert "--walltime: is empty\n    -> write a time such as 4h" in capsys.readouterr().err


@pytest.mark.parametrize("options", [(), ("--walltime", "1h", "--nodes", "2"), ("--set", "site.walltime=1h")])
@pytest.mark.parametrize("site", ["local", "globus-compute"])
def test_a_site_without_jobs_is_told_as_such(
    capsys: pytest.CaptureFixture[str], site: str, options: tuple[str, ...]
) -> None:
    assert submit.main(["--site", site, *options]) == 2
    problem, remedy = capsys.readouterr().err.splitlines()
    assert problem == f"error: --site {site}: has no scheduler"
    assert "name the site of a cluster" in remedy


def test_a_run_on_a_site_without_jobs_is_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    create(request("run", "--site", "local-threads"))
    assert submit.main(["--resume", "run", "--nodes", "2"]) == 2
    assert "error: --resume run: its site has no scheduler\n    -> name the site" in capsys.readouterr().err
    assert submit.main(["--resume", "run", "--site", "site.yaml", "--nodes", "2", "--dry-run"]) == 0
    assert "#SBATCH --nodes=2" in capsys.readouterr().out


def test_without_a_site_one_is_named_that_has_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    assert submit.main([]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: --site is missing\n    -> name the site of a cluster")
    assert submit.main([*told.split("example ")[1].split(), "--dry-run", "--set", "site.gpus=1"]) == 0


@pytest.mark.parametrize(
    ("option", "value", "remedy"),
    [
        ("--walltime", "1x", "'1x' is not allowed\n    -> write a time"),
        ("--nodes", "0", "0 is not allowed\n    -> write at least 1"),
    ],
)
def test_a_wrong_value_is_told_of_the_option_that_was_written(
    capsys: pytest.CaptureFixture[str], option: str, value: str, remedy: str
) -> None:
    options = ["--site", "site.yaml", "--experiment", "e.yaml", "--set", "site.walltime=2h", option, value]
    assert submit.main([*options, "--dry-run"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {option}: {remedy}")


# -- submission ------------------------------------------------------------------------------------------------------


def commands(monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    """Commands of a scheduler by name, as lines of bash."""
    Path("bin").mkdir(exist_ok=True)
    for name, script in scripts.items():
        (Path("bin") / name).write_text(f"#!/bin/bash\n{script}\n")
        (Path("bin") / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(Path("bin").absolute()), prepend=":")


@pytest.mark.parametrize(
    ("scheduler", "said", "file"),
    [
        ("slurm", "Submitted batch job 26", "run/job-26.out"),
        ("pbs", "2.login1", "run/2.login1.OU"),
        ("torque", "3.login1", "run"),
    ],
)
def test_the_jobs_output_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], scheduler: str, said: str, file: str
) -> None:
    """As ``-k doe`` names it on PBS."""
    commands(monkeypatch, sbatch=f"echo {said}", qsub=f"echo {said}")
    Path("site.yaml").write_text(yaml.safe_dump({**SLURM, "scheduler": scheduler}))
    assert submit.main(["--site", "site.yaml", "--experiment", "e.yaml", "--output", "run"]) == 0
    assert f"its output: {Path(file).absolute()}; after" in capsys.readouterr().out


def test_a_job_script_that_the_disk_does_not_take_is_a_site_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands(monkeypatch, sbatch="echo Submitted batch job 1", squeue="exit")
    create(request("run"))
    Path("run/job.sh").mkdir()
    assert submit.main(["--resume", "run"]) == 3
    assert "job.sh: cannot be written (Is a directory)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("sbatch", "problem"),
    [
        ("echo no such account >&2; exit 1", "sbatch refuses the job: no such account"),
        (None, "sbatch is not on the PATH"),
    ],
)
def test_what_was_not_submitted_is_by_the_command_that_is_told(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], sbatch: str | None, problem: str
) -> None:
    options = ["--site", "site.yaml", "--experiment", "e.yaml", "--output", "run", "--nodes", "2", "--chain", "3"]
    monkeypatch.setenv("PATH", "/nowhere")
    if sbatch is not None:
        commands(monkeypatch, sbatch=sbatch)
    assert submit.main(options) == 3
    told = capsys.readouterr().err
    assert told.startswith(f"error: {problem}\n    -> ")
    again = told.split(": python -m workflow.submit ")[1].split()
    assert again == ["--resume", str(here / "run"), "--chain", "3"]
    assert submit.main(options) == 2
    assert "exists already\n    -> name a new directory, or go on with it by --resume run\n" in capsys.readouterr().err
    commands(monkeypatch, sbatch='echo "Submitted batch job 26"; echo "$@" > said', squeue="exit")
    assert submit.main([*again, "--set", "site.account=mine"]) == 0
    assert Path("said").read_text() == f"--export=ALL,WORKFLOW_CHAIN=3 {here}/run/job.sh\n"
    assert "#SBATCH --nodes=2\n" in Path("run/job.sh").read_text()
    assert "#SBATCH --account=mine\n" in Path("run/job.sh").read_text()


def test_no_job_is_submitted_for_a_run_that_is_led(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands(monkeypatch, sbatch="echo Submitted batch job 1; touch submitted", squeue="exit")
    create(request("run"))
    lock = RunLock(Path("run/controller.lock"))
    lock.acquire()
    assert submit.main(["--resume", "run"]) == 2
    lock.release()
    assert "leads this run\n    -> wait until it ends" in capsys.readouterr().err
    commands(monkeypatch, squeue=f"echo '7|/other/job.sh'; echo '8|{Path('run/job.sh').absolute()}'")
    assert submit.main(["--resume", "run"]) == 2
    assert "job 8 is queued for this run" in capsys.readouterr().err
    assert not Path("submitted").exists()
    commands(monkeypatch, squeue="echo '7|/other/job.sh'")
    assert submit.main(["--resume", "run"]) == 0
