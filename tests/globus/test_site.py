"""Site and experiment files behind Globus Compute: nothing of the endpoint's is looked for on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import toy_experiment
from workflow.config.experiment import Experiment
from workflow.config.load import load_experiment
from workflow.errors import InputError
from workflow.globus.endpoint import Endpoint
from workflow.rundir import RunDir
from workflow.runtimes import Bind
from workflow.site import Site, load_site

ENDPOINT = "11111111-2222-4333-8444-555555555555"
GIVEN: dict[str, Any] = {"scheduler": "globus_compute", "endpoint": ENDPOINT, "endpoint_directory": "/scratch/me/hpo"}


def load(tmp_path: Path, **changes: Any) -> Site:
    path = tmp_path / "site.yaml"
    path.write_text(yaml.safe_dump({**GIVEN, **changes}))
    return load_site(path, {})


def test_a_minimal_site(tmp_path: Path) -> None:
    site = load(tmp_path)
    assert site.endpoint == Endpoint(ENDPOINT, "/scratch/me/hpo", None, 86400.0)
    assert site.endpoint.run(RunDir(Path("/home/me/runs/toy"))).path == Path("/scratch/me/hpo/toy")
    assert (site.gpus, site.gpu_vendor, site.workers, site.container.gpu_flag) == ((), "nvidia", 2, "--nv")
    assert load(tmp_path, gpus=0).container.gpu_flag == ""


def test_a_site_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    changes = {"workers": 16, "queue_timeout": "2h", "gpus": 0, "user_endpoint_config": {"account": "me", "nodes": 2}}
    site = load(tmp_path, **changes)
    path = tmp_path / "again.yaml"
    path.write_text(site.to_yaml())
    assert load_site(path, {}) == site and site.endpoint is not None and site.endpoint.queue_timeout == 7200


def test_binds_are_the_endpoints(tmp_path: Path) -> None:
    assert load(tmp_path, binds=["/not/here:/data"]).options.binds == (Bind("/not/here", "/data"),)


WRONG = [
    ({"endpoint": None}, "endpoint: is missing"),
    ({"endpoint": "polaris"}, "endpoint: 'polaris' is not allowed\n    -> write the endpoint's UUID"),
    ({"endpoint_directory": None}, "endpoint_directory: is missing\n    -> write an absolute path"),
    ({"endpoint_directory": "hpo"}, "endpoint_directory: 'hpo' is not allowed"),
    ({"endpoint_directory": "/scratch/$USER"}, "without variables and ~"),
    ({"user_endpoint_config": [1]}, "user_endpoint_config: [1] is not allowed"),
    ({"user_endpoint_config": {"a": float("nan")}}, "that JSON can carry"),
    ({"queue_timeout": "soon"}, "queue_timeout: 'soon' is not allowed"),
    ({"gpus": 4}, "each worker of the endpoint has its own mask"),
    ({"scheduler": "threads", "gpus": 0}, "endpoint: means nothing to this scheduler (threads)"),
]


@pytest.mark.parametrize(("changes", "expected"), WRONG)
def test_what_is_wrong_is_told_with_its_remedy(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError) as caught:
        load(tmp_path, **changes)
    assert expected in str(caught.value)


def experiment(tmp_path: Path, **model: Any) -> Experiment:
    path = tmp_path / "experiment.yaml"
    stages = {name: {"timeout": "1h"} for name in ("preprocess", "train", "infer")}
    path.write_text(yaml.safe_dump(toy_experiment(model=model, stages=stages)))
    return load_experiment(path, {}, remote=True)


def test_a_models_paths_are_the_endpoints(tmp_path: Path) -> None:
    found = experiment(tmp_path, image="/not/here/model.sif", data_dir="/not/here/data", binds=["/not/here"])
    assert (found.model.image, found.model.data_dir) == ("/not/here/model.sif", "/not/here/data")
    assert experiment(tmp_path, scripts="/not/here").model.scripts == "/not/here"


@pytest.mark.parametrize("path", ["model.sif", "~/model.sif", "$HOME/model.sif"])
def test_a_path_that_would_mean_this_machine_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(InputError, match=r"model\.image: .* is not allowed\n    -> write an absolute path of the"):
        experiment(tmp_path, image=path)


def test_each_stage_needs_a_timeout(tmp_path: Path) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(toy_experiment(model={"scripts": "/there"})))
    with pytest.raises(InputError, match=r"stages\.train\.timeout: is missing\n    -> write one, such as 2h"):
        load_experiment(path, {}, remote=True)
