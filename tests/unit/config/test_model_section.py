"""The sections ``model`` and ``stages``: scripts, images, directories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.config.experiments import SPACE, TEMPLATE, load, refusal
from workflow.errors import InputError


def test_scripts_of_all_stages_must_be_there_and_executable(tmp_path: Path) -> None:
    (tmp_path / "train.sh").touch(0o644)
    (tmp_path / "preprocess.sh").touch(0o755)
    stages: dict[str, Any] = {"preprocess": {}, "train": {}, "infer": {}}
    message = refusal(tmp_path, model={"scripts": "."}, stages=stages)
    assert "it has no infer.sh" in message
    assert "train.sh" in message.partition("not executable: chmod +x ")[2]
    assert "preprocess.sh" not in message


def test_the_data_directory_has_its_place_for_itself(tmp_path: Path) -> None:
    (tmp_path / "train.sh").touch(0o755)
    message = refusal(tmp_path, model={"scripts": ".", "binds": ["/tmp:/IMPROVE_DATA_DIR"]})
    assert message.startswith("try.yaml: model.binds: '/tmp:/IMPROVE_DATA_DIR' is not allowed\n    -> ")
    assert "model.data_dir" in message
    other = {"scripts": ".", "binds": ["/tmp:/candle_data_dir", "/tmp:/IMPROVE_DATA_DIR/more"]}
    assert load(tmp_path, model=other).model.options.binds


def test_only_the_stages_of_the_experiment_need_a_script(tmp_path: Path) -> None:
    (tmp_path / "train.sh").touch(0o755)
    assert load(tmp_path, model={"scripts": "."}).model.scripts == str(tmp_path)


def test_path_that_was_left_as_in_the_sample_needs_preprocess(tmp_path: Path) -> None:
    space = [*SPACE, {"name": "train_ml_data_dir", "type": "constant", "value": "<train_data_dir>"}]
    message = refusal(tmp_path, space=space)
    assert "try.yaml: space: train_ml_data_dir: '<train_data_dir>' is not filled in" in message
    assert "preprocess" in message
    assert load(tmp_path, space=space, stages={"preprocess": {}}).stages.keys() == {"preprocess", "train"}


def test_output_directory_as_in_the_sample_needs_nothing(tmp_path: Path) -> None:
    load(tmp_path, space=[*SPACE, {"name": "model_outdir", "type": "constant", "value": "<desired_outdir>"}])


def test_of_image_and_scripts_one_is_given(tmp_path: Path) -> None:
    image = {"image": str(tmp_path / "model.sif")}
    (tmp_path / "model.sif").touch()
    said = refusal(tmp_path, model={"scripts": TEMPLATE, **image})
    assert said.startswith("try.yaml: model.scripts: is given beside image\n    -> keep one of the two (--set model")
    one = load(tmp_path, f"model.image={image['image']}", "model.scripts=null").model
    assert (one.runtime, one.image, one.scripts) == ("apptainer", image["image"], None)
    assert load(tmp_path, model={"scripts": TEMPLATE, **image, "runtime": "none"}).model.runtime == "none"


def test_an_address_of_a_hub_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a file is needed: apptainer pull model.sif docker://pytorch/pytorch"):
        load(tmp_path, model={"image": "docker://pytorch/pytorch"})
