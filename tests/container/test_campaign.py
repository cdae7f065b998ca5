"""Campaigns in real images, on real Apptainer."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Workflow, eventually, journal, results, toy_space, without_walltime

pytestmark = pytest.mark.usefixtures("nothing_left_mounted")


def scripts(directory: Path, **texts: str) -> Path:
    """A directory of interface scripts, to be bound over the image's own."""
    directory.mkdir()
    for name, text in texts.items():
        path = directory / f"{name}.sh"
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)
    return directory


def in_image(image: Path, **keys: Any) -> dict[str, Any]:
    return {"image": str(image), **keys}


def test_the_demo_in_an_image_is_the_demo_on_the_host(workflow: Workflow, demo_image: Path) -> None:
    """At least 20 trials on two workers, killed -9 in between and resumed; the same best value to 1e-6."""
    run = workflow.directory / "in-image"
    budget = ("--set", "search.population_size=12", "--set", "search.num_iterations=3", "--set", "search.seed=2")
    budget += ("--set", "finalists.repeats=1")
    image = ("--set", f"model.image={demo_image}", "--set", "model.scripts=null")
    controller = workflow.start("--site", "local", *image, *budget, "--output", run)
    assert eventually(lambda: run.exists() and len(results(run)) >= 4, 90)
    controller.kill()
    controller.communicate()
    done = workflow.run("--resume", run, timeout=180)
    assert done.returncode == 0, done.stdout
    host = workflow.run("--site", "local", *budget, "--output", "on-host", timeout=180)
    assert host.returncode == 0, host.stdout
    inside, outside = (json.loads((d / "summary.json").read_text()) for d in (run, workflow.directory / "on-host"))
    assert inside["trials"]["ok"] >= 20
    assert inside["best_value"] == pytest.approx(outside["best_value"], rel=1e-6)
    assert inside["test_scores"] == pytest.approx(outside["test_scores"], rel=1e-6)
    header = journal(run)[0]
    assert len(header["image"]["sha256"]) == 64 and header["image"]["labels"]["Model"] == "model_template"
    assert header["runtime"].startswith("apptainer version")
    assert eventually(lambda: not workflow.processes(), 20), workflow.processes()


STUBBORN = """trap '' TERM INT HUP
setsid bash -c "trap '' TERM; sleep 600; sleep 600" &
(trap '' TERM; while :; do sleep 1; done) &
while :; do sleep 1; done"""


@pytest.mark.parametrize("pid", [True, False], ids=["--pid", "without --pid"])
def test_a_timeout_ends_all_that_a_training_started(workflow: Workflow, toy_image: Path, pid: bool) -> None:
    bound = scripts(workflow.directory / "bin", train=STUBBORN)
    experiment = workflow.experiment(
        model=in_image(toy_image, binds=[f"{bound}:/usr/local/bin"]),
        stages={"train": {"timeout": "2s"}},
        search={"num_iterations": 1, "population_size": 2},
    )
    settings = ("--set", f"site.container_pid={str(pid).lower()}", "--set", "site.grace=1")
    done = workflow.run("--site", "local", "--experiment", experiment, "--output", "run", *settings)
    assert done.returncode == 4, done.stdout
    for (attempt,) in results(workflow.directory / "run").values():
        assert attempt["ended_by"] == "timeout after 2 s"
        assert attempt["ended"] - attempt["started"] < 20
    assert eventually(lambda: not workflow.processes(), 20), workflow.processes()


def test_the_older_contract(workflow: Workflow, toy_image: Path) -> None:
    """CANDLE's images: another data directory and variable, and two arguments more."""
    train = 'echo "$CANDLE_DATA_DIR $(ls /candle_data_dir)" > seen; exec python3 -S /opt/toy/toy.py train "$@"'
    bound = scripts(workflow.directory / "bin", train=train)
    data = workflow.directory / "data"
    data.mkdir()
    (data / "table.csv").touch()
    toy = Path(__file__).resolve().parents[1] / "models" / "toy"
    experiment = workflow.experiment(
        model=in_image(
            toy_image, contract="candle", data_dir=str(data), binds=[f"{bound}:/usr/local/bin", f"{toy}:/opt/toy"]
        ),
        stages={"train": {}},
        search={"num_iterations": 1, "population_size": 3},
    )
    done = workflow.run("--site", "local-threads", "--experiment", experiment, "--output", "run")
    assert done.returncode == 0, done.stdout
    attempt = workflow.directory / "run/trials/0002/attempt-1"
    assert (attempt / "seen").read_text() == "/candle_data_dir table.csv\n"
    argv = json.loads((attempt / "argv.json").read_text())
    assert argv[1] == "/candle_data_dir"
    assert argv[-4:] == ["--experiment_id", "run", "--run_id", "0002"]


def test_what_a_container_sees(workflow: Workflow, toy_image: Path) -> None:
    """Variables and binds of site and experiment, unbuffered output, nothing of the host's Python."""
    train = """env -0 > environment; ls /extra > listing
    echo '{"mse": 1}' > val_scores.json"""
    bound = scripts(workflow.directory / "bin", train=train)
    (workflow.directory / "extra: dir").mkdir()
    (workflow.directory / "extra: dir" / "file").touch()
    value = """x,y=1 "quoted" 'single' $(no) `no` ${HOME} \\$x \\" {"a": 1}\nline é \\"""
    experiment = workflow.experiment(
        model=in_image(toy_image, binds=[f"{bound}:/usr/local/bin"], env={"GIVEN": value}, extra_args=["--no-home"]),
        stages={"train": {}},
        search={"num_iterations": 1, "population_size": 1},
    )
    link = workflow.directory / "extra"
    link.symlink_to(workflow.directory / "extra: dir")
    settings = ("--set", "site.env={FROM_SITE: here}", "--set", f"site.binds=['{link}:/extra']")
    host = {"PYTHONHOME": "", "VIRTUAL_ENV": "/host/venv", "LD_PRELOAD": "", "PYTHONSTARTUP": "/host/startup"}
    arguments = ("--site", "local-threads", "--experiment", experiment, "--output", "run")
    done = workflow.run(*arguments, *settings, env=host)
    assert done.returncode == 0, done.stdout
    attempt = workflow.directory / "run/trials/0000/attempt-1"
    seen = dict(line.partition("=")[::2] for line in (attempt / "environment").read_text().split("\0") if line)
    assert (seen["GIVEN"], seen["FROM_SITE"]) == (value, "here")
    assert (seen["PYTHONUNBUFFERED"], seen["PYTHONNOUSERSITE"]) == ("1", "1")
    assert not {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONSTARTUP"} & seen.keys()
    assert "host" not in seen["LD_LIBRARY_PATH"]
    assert (attempt / "listing").read_text() == "file\n"


def test_another_image_is_refused_at_a_resume(workflow: Workflow, toy_image: Path) -> None:
    copy = workflow.directory / "model.sif"
    copy.write_bytes(toy_image.read_bytes())
    experiment = workflow.experiment(model=in_image(copy), search={"num_iterations": 1, "population_size": 3})
    assert workflow.run("--site", "local-threads", "--experiment", experiment, "--output", "run").returncode == 0
    with copy.open("ab") as file:
        file.write(b"another")
    more = ("--resume", "run", "--set", "search.num_iterations=2")
    refused = workflow.run(*more)
    assert refused.returncode == 2 and "the results so far came from" in refused.stdout, refused.stdout
    done = workflow.run(*more, "--accept-image")
    assert done.returncode == 0, done.stdout


def test_a_broken_image_stops_the_campaign_and_may_be_replaced(workflow: Workflow, toy_image: Path) -> None:
    """Nothing has succeeded with it: no question is asked about the one that replaces it."""
    experiment = workflow.experiment(
        model=in_image(toy_image, extra_args=["--bind", "/nowhere:/data"]),
        search={"num_iterations": 1, "population_size": 3},
    )
    start = time.monotonic()
    done = workflow.run("--site", "local-threads", "--experiment", experiment, "--output", "run")
    assert done.returncode == 5, done.stdout
    assert "/nowhere" in done.stdout and time.monotonic() - start < 30
    mended = workflow.run("--resume", "run", "--set", "model.extra_args=[]")
    assert mended.returncode == 0, mended.stdout
    assert without_walltime((workflow.directory / "run/hpo.csv").read_text())[3:]


def test_the_shipped_space_runs_in_an_image_as_it_is(workflow: Workflow, toy_image: Path) -> None:
    experiment = workflow.experiment(
        model=in_image(toy_image), space=toy_space(), search={"num_iterations": 2, "population_size": 4}
    )
    done = workflow.run("--site", "local", "--experiment", experiment, "--output", "run")
    assert done.returncode == 0, done.stdout
    assert json.loads((workflow.directory / "run/summary.json").read_text())["test_scores"] == {"mse": 0.5}


def test_run_directories_with_characters_that_binds_cannot_carry(workflow: Workflow, toy_image: Path) -> None:
    experiment = workflow.experiment(
        model=in_image(toy_image), search={"num_iterations": 1, "population_size": 2}, space=toy_space()
    )
    for name in ("one,comma", "two:colons:", "back\\slash", 'a "quoted", one'):
        done = workflow.run("--site", "local-threads", "--experiment", experiment, "--output", name)
        assert done.returncode == 0, (name, done.stdout)


def test_an_image_that_goes_away_costs_no_trial(workflow: Workflow, toy_image: Path) -> None:
    """The campaign stops, and once the image is back it goes on as if nothing had been."""
    image = workflow.directory / "model.sif"
    image.symlink_to(toy_image)
    experiment = workflow.experiment(
        model=in_image(image), search={"strategy": "random", "evaluations": 20}, space=toy_space(0.5)
    )
    controller = workflow.start("--site", "local-threads", "--experiment", experiment, "--output", "run")
    run = workflow.directory / "run"
    assert eventually(lambda: run.exists() and len(results(run)) >= 4, 60)
    image.rename(workflow.directory / "away.sif")
    output, _ = controller.communicate(timeout=60)
    assert controller.returncode == 5 and "model.sif is gone\n    -> put the old one back" in output, output
    (workflow.directory / "away.sif").rename(image)
    done = workflow.run("--resume", "run")
    assert done.returncode == 0, done.stdout
    assert json.loads((run / "summary.json").read_text())["trials"]["ok"] == 20


def test_an_interrupt_while_the_image_is_read_tells_how_to_go_on(workflow: Workflow, toy_image: Path) -> None:
    """The run is there by then, its campaign is not. Zeros at an image's end take their time."""
    image = workflow.directory / "model.sif"
    shutil.copy(toy_image, image)
    size = image.stat().st_size
    os.truncate(image, 1 << 40)
    experiment = workflow.experiment(
        model=in_image(image), space=toy_space(), search={"strategy": "random", "evaluations": 2}
    )
    controller = workflow.start("--site", "local-threads", "--experiment", experiment, "--output", "run")
    try:
        assert eventually(lambda: (workflow.directory / "run/journal.jsonl").exists(), 60)
        controller.terminate()
        output, _ = controller.communicate(timeout=60)
    finally:
        os.truncate(image, size)
    assert (controller.returncode, output.splitlines()[-1]) == (
        130, f"interrupted; resume with: python -m workflow.run --resume {workflow.directory}/run",
    ), output  # fmt: skip
    done = workflow.run("--resume", "run")
    assert done.returncode == 0, done.stdout
