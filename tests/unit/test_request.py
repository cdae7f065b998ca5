"""The run's directory, whatever interrupts its making."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import small_disk, toy_experiment
from workflow.errors import InputError
from workflow.init import write_model
from workflow.request import Request, checked_request, create, parser
from workflow.rundir import RunDir

MADE = ["experiment.yaml", "site.yaml", "space.json"]


def request(directory: Path, output: Path, **changes: Any) -> Request:
    (directory / "e.yaml").write_text(yaml.safe_dump(toy_experiment(**changes)))
    arguments = ["--site", "local-threads", "--experiment", str(directory / "e.yaml"), "--output", str(output)]
    return checked_request(parser("test", "", "").parse_args(arguments))


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("moves", [0, 1, 2])
def test_a_start_that_is_cut_off_leaves_no_run_and_the_next_one_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    output = tmp_path / "mine"
    (output / "lost+found").mkdir(parents=True)
    inode = output.stat().st_ino
    rename, done = Path.rename, 0

    def cut_off(path: Path, target: Any) -> Path:
        nonlocal done
        if done == moves:
            raise KeyboardInterrupt
        done += 1
        return rename(path, target)

    with monkeypatch.context() as context:
        context.setattr(Path, "rename", cut_off)
        context.setattr("shutil.rmtree", lambda *_, **__: None)  # killed, it removes nothing
        with pytest.raises(KeyboardInterrupt):
            create(request(tmp_path, output))
    assert not RunDir(output).experiment.exists()
    create(request(tmp_path, output))
    assert names(output) == sorted([*MADE, "lost+found"])
    assert output.stat().st_ino == inode


def test_an_output_on_a_full_disk_is_told_to_make_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64k"):
        (tmp_path / "disk/filler").write_bytes(bytes(60_000))
        with pytest.raises(
            InputError, match=r"No space left on device.*\n    -> make room, or choose another directory"
        ):
            create(request(tmp_path, tmp_path / "disk/run"))


@pytest.mark.parametrize("name", ["site.yaml", "notes.txt"])
def test_a_directory_with_something_in_it_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).touch()
    with pytest.raises(InputError, match="exists already\n    -> name a new directory"):
        request(tmp_path, tmp_path / "mine")


def test_a_models_directory_is_no_run_and_stays_as_it_is(tmp_path: Path) -> None:
    """Its experiment.yaml is the user's, with comments."""
    write_model(tmp_path / "my model")
    before = {path: path.read_bytes() for path in (tmp_path / "my model").iterdir()}
    arguments = ["--site", "local-threads", "--resume", str(tmp_path / "my model")]
    with pytest.raises(InputError, match="holds an experiment, but no run of it") as caught:
        checked_request(parser("test", "", "").parse_args(arguments))
    begin = f"--experiment '{tmp_path}/my model/experiment.yaml'"
    assert str(caught.value).endswith(f"-> begin a run: {begin} instead of --resume")
    assert {path: path.read_bytes() for path in (tmp_path / "my model").iterdir()} == before


@pytest.mark.parametrize("gone", ["journal.jsonl", "site.yaml"])
def test_a_run_that_has_lost_one_of_its_files_can_be_resumed(tmp_path: Path, gone: str) -> None:
    create(request(tmp_path, tmp_path / "run"))
    (tmp_path / "run/journal.jsonl").touch()
    (tmp_path / "run" / gone).unlink()
    arguments = ["--site", "local-threads", "--resume", str(tmp_path / "run")]
    assert checked_request(parser("test", "", "").parse_args(arguments)).resume


def test_a_config_file_that_is_not_in_the_data_is_refused(tmp_path: Path) -> None:
    changes = {"model": {**toy_experiment()["model"], "data_dir": str(tmp_path)}}
    changes["stages"] = {"train": {"config_file": "conf.txt"}}
    with pytest.raises(InputError, match=rf"config_file: conf\.txt: no such file: {tmp_path}/conf\.txt\n    -> put it"):
        request(tmp_path, tmp_path / "new", **changes)
    (tmp_path / "conf.txt").touch()
    assert request(tmp_path, tmp_path / "new", **changes)


@pytest.mark.parametrize("output", ["file", "file/run"])
def test_a_file_is_no_output(tmp_path: Path, output: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=f"{output}: {tmp_path / 'file'} is no directory\n    -> name a new directory"):
        request(tmp_path, tmp_path / output)


def test_a_new_run_is_made_beside_its_place(tmp_path: Path) -> None:
    create(request(tmp_path, tmp_path / "new"))
    assert names(tmp_path / "new") == MADE and names(tmp_path) == ["e.yaml", "new"]
