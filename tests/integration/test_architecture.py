"""The examples of ``workflow/ARCHITECTURE.md`` are complete: each one is added as it stands, and used."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from parsl.jobs.states import JobState

from tests.conftest import RESULT, ROOT
from workflow import metrics, runtimes
from workflow.cluster import batch, providers
from workflow.doctor.site import EXAMINERS, examine_site
from workflow.errors import InputError
from workflow.outcomes import judge
from workflow.runtimes import Container, Model, Options
from workflow.search import SearchSettings
from workflow.site import Site, find_site, load_site
from workflow.space_file import parse_space
from workflow.stages import Pipeline, Place, Stage
from workflow.submit import JOBS, _parser, _read_request

PAGE = (ROOT / "workflow" / "ARCHITECTURE.md").read_text()


def example(title: str) -> str:
    """The code below a heading of the page."""
    return re.split(rf"^### {title}$", PAGE, flags=re.M)[1].split("```")[1].split("\n", 1)[1]


def added(title: str) -> dict[str, Any]:
    """The names of an example that has been executed."""
    names: dict[str, Any] = {"__name__": "example"}
    exec(example(title), names)
    return names


@pytest.fixture
def lsf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site of the example's scheduler, whose commands keep the script of job 7 and tell that it runs."""
    for table in (batch.BATCH_SCHEDULERS, providers.PROVIDERS):
        monkeypatch.setitem(table, "lsf", table["slurm"])
    added("A scheduler")
    answers = {
        "bsub": f'cp "$1" {tmp_path}/job; echo "Job <7> is submitted to queue <gpu>."',
        "bjobs": f"""[ -e {tmp_path}/killed ] && {{ echo 'Job <7> is not found' >&2; exit 255; }}
case "$*" in *-J*) echo 7;; *) echo 7 RUN;; esac""",
        "bkill": f"echo $1 > {tmp_path}/killed",
    }
    for name, answer in answers.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{answer}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (tmp_path / "summit.yaml").write_text(
        "{name: summit, scheduler: lsf, account: ABC, queue: gpu, gpus: 6, exclusive: true}"
    )
    return load_site(tmp_path / "summit.yaml", {})


def test_a_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "mycluster.yaml").write_text(example("A site"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROJECT", "ABC")
    script = providers.block_script(load_site(find_site("mycluster"), {}), "echo")
    assert {"#SBATCH --account=ABC", "#SBATCH --partition=gpu", "#SBATCH --gpus-per-node=4"} <= set(script.splitlines())


def test_a_scheduler(lsf: Site, tmp_path: Path) -> None:
    provider = providers.provider(lsf, "workflow")
    provider.script_dir = str(tmp_path)
    job = provider.submit("echo hello", 1)
    script = (tmp_path / "job").read_text()
    assert all(
        line in script for line in ("#BSUB -P ABC", "#BSUB -q gpu", '#BSUB -gpu "num=6"', "#BSUB -x", "echo hello")
    )
    assert [status.state for status in provider.status([job])] == [JobState.RUNNING]
    assert provider.named_jobs() == ["7"]
    (tmp_path / "killed").touch()
    assert [status.state for status in provider.status([job])] == [JobState.COMPLETED], "it was forgotten"


def test_a_scheduler_that_is_new_is_told_so_by_what_does_not_know_it(lsf: Site, tmp_path: Path) -> None:
    assert lsf.batch is not None
    assert "lsf is not asked" in [finding.text for finding in examine_site(lsf, lsf.batch, tmp_path)][-1]
    site, experiment = tmp_path / "summit.yaml", ROOT / "configs" / "demo.yaml"
    with pytest.raises(InputError, match="no job for lsf can be written"):
        _read_request(_parser().parse_args(["--site", str(site), "--experiment", str(experiment)]))


def test_every_scheduler_is_in_every_table() -> None:
    tables = batch.BATCH_SCHEDULERS, providers.PROVIDERS, EXAMINERS, JOBS
    assert len({tuple(table) for table in tables}) == 1


def test_a_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(runtimes.RUNTIMES, "podman", runtimes.RUNTIMES["none"])
    added("A runtime")
    model = Model("podman", "improve", "/data", "registry/model:1", options=Options(env={"A": "b c"}))
    pipeline = Pipeline(model, {"train": Stage()}, container=Container(gpu_flag="--nv"))
    command = pipeline.train(Place("/run/trials/0007/attempt-1", "run", 7), {"lr": 0.1}, None)
    assert command.shell("3") == (
        "podman run --rm --device nvidia.com/gpu=all --volume=/data:/IMPROVE_DATA_DIR "
        "--volume=/run/trials/0007/attempt-1:/run/trials/0007/attempt-1 '--env=A=b c' registry/model:1 "
        "train.sh 3 /IMPROVE_DATA_DIR --lr 0.1 --model_outdir /run/trials/0007/attempt-1"
    )


def test_a_search() -> None:
    space = parse_space([{"name": name, "type": "float", "lower": 0, "upper": 8} for name in "xy"], "here")
    search = added("A search")["Halton"](space, SearchSettings(evaluations=3))
    asked = [tuple(trial.params.values()) for trial in iter(search.ask, None)]
    assert asked == [pytest.approx(point) for point in ((4, 8 / 3), (2, 16 / 3), (6, 8 / 9))]


def test_a_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(metrics.MEASURED, "log_lines", lambda result: None)
    added("A metric")
    assert judge({**RESULT, "log_tail": "one\ntwo\n"}, "train", ["log_lines"], 0, 1).value == 2.0
