"""The check against set-ups that are broken in many ways: it names what is wrong, and what helps."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import TOY, Workflow, eventually, toy_experiment, toy_space
from workflow.image import ImageError, read_image

TRAIN, INFER, PREPROCESS = "train.sh", "infer.sh", "preprocess.sh"


@dataclass
class Setup:
    """A whole set-up in ``directory``: an image, scripts that are bound over its own, data and a site to be broken."""

    directory: Path
    image: Path
    scripts: Path
    data: Path
    experiment: dict[str, Any]
    site: list[str] = field(default_factory=list)

    def script(self, name: str, text: str, mode: int = 0o755) -> None:
        (self.scripts / name).write_bytes(text.encode())
        (self.scripts / name).chmod(mode)

    def train(self, text: str) -> None:
        self.script(TRAIN, f"#!/bin/bash\n{text}\n")


@pytest.fixture
def setup(tmp_path: Path, toy_image: Path) -> Setup:
    image, scripts, data = tmp_path / "model.sif", tmp_path / "scripts", tmp_path / "data"
    image.symlink_to(toy_image)
    shutil.copytree(TOY, scripts)
    data.mkdir()
    (data / "table.csv").write_text("1,2\n")
    model = {"image": str(image), "data_dir": str(data), "binds": [f"{scripts}:/usr/local/bin"]}
    space = [*toy_space(), {"name": "epochs", "type": "constant", "value": 20}]
    return Setup(tmp_path, image, scripts, data, toy_experiment(model=model, space=space))


def check(workflow: Workflow, setup: Setup, *arguments: str) -> tuple[int, str]:
    """Exit code and output of the check."""
    path = setup.directory / "experiment.yaml"
    path.write_text(yaml.safe_dump(setup.experiment))
    command = ["--site", "local-threads", "--experiment", str(path), *setup.site, *arguments]
    done = workflow.run(*command, module="workflow.check")
    assert "\nTraceback" not in f"\n{done.stdout}", done.stdout
    return done.returncode, done.stdout


def test_a_sound_setup_passes(workflow: Workflow, setup: Setup) -> None:
    code, said = check(workflow, setup)
    assert code == 0, said
    for line in ("pass  image", "pass  runtime", "pass  train.sh", "pass  data", "pass  preprocess", "pass  infer"):
        assert line in said, said
    assert "(1 of 20 epochs), val_loss" in said
    assert "pass  estimate: at most 12 trials" in said
    assert not list((workflow.directory / "runs").iterdir())


def test_fast_runs_nothing_and_json_can_be_read(workflow: Workflow, setup: Setup) -> None:
    setup.train("exit 1")
    code, said = check(workflow, setup, "--fast", "--json")
    report = json.loads(said)
    assert code == 0 and report["ok"] and report["failed"] == 0
    assert {"level", "subject", "text", "remedy"} == report["findings"][0].keys()
    assert not {"preprocess", "train", "infer"} & {finding["subject"] for finding in report["findings"]}


# -- broken ----------------------------------------------------------------------------------------------------------


def no_image(s: Setup) -> None:
    s.image.unlink()


def text_for_image(s: Setup) -> None:
    s.image.unlink()
    s.image.write_text("not an image")


def empty_image(s: Setup) -> None:
    s.image.unlink()
    s.image.touch()


def truncated(s: Setup) -> None:
    data = s.image.read_bytes()
    s.image.unlink()
    s.image.write_bytes(data[: len(data) // 2])


def only_a_header(s: Setup) -> None:
    data = s.image.read_bytes()
    s.image.unlink()
    s.image.write_bytes(data[:200])


def wrong_architecture(s: Setup) -> None:
    data = bytearray(s.image.read_bytes())
    s.image.unlink()
    data[45:47] = b"04" if os.uname().machine == "x86_64" else b"02"
    s.image.write_bytes(data)


def damaged_content(s: Setup) -> None:
    """Whole by its table of contents, but no file system in it."""
    data = bytearray(s.image.read_bytes())
    s.image.unlink()
    table = struct.unpack_from("<8q", data, 64)[4]
    for number in range(8):
        kind, used, *_ = struct.unpack_from("<i?", data, table + 585 * number)
        offset, size = struct.unpack_from("<qq", data, table + 585 * number + 17)
        if used and kind == 0x4004:
            data[offset : offset + min(size, 4096)] = bytes(min(size, 4096))
    s.image.write_bytes(data)


def directory_for_image(s: Setup) -> None:
    s.image.unlink()
    s.image.mkdir()


def no_runtime(s: Setup) -> None:
    s.site = ["--set", "site.container_command=/opt/none/apptainer"]


def unknown_option(s: Setup) -> None:
    s.experiment["model"]["extra_args"] = ["--no-such-option"]


def bind_source_missing(s: Setup) -> None:
    s.experiment["model"]["binds"].append("/no/such/directory:/data")


def bind_behind_the_check(s: Setup) -> None:
    s.experiment["model"]["extra_args"] = ["--bind", "/no/such/directory:/data"]


def no_script(s: Setup) -> None:
    (s.scripts / INFER).unlink()


def no_run_bit(s: Setup) -> None:
    (s.scripts / TRAIN).chmod(0o644)


def crlf(s: Setup) -> None:
    s.script(PREPROCESS, "#!/bin/bash\r\nexit 0\r\n")


def no_interpreter(s: Setup) -> None:
    s.script(TRAIN, "#!/usr/bin/fish\nexit 0\n")


def env_finds_no_interpreter(s: Setup) -> None:
    s.script(TRAIN, "#!/usr/bin/env python2\nexit 0\n")


def no_first_line(s: Setup) -> None:
    s.script(TRAIN, "exit 0\n")


def data_read_only(s: Setup) -> None:
    """Even root can't write to a read-only mount."""
    s.experiment["stages"]["preprocess"] = {"args": {"ml_data_outdir": "{data_dir}/ml_data"}}
    s.experiment["model"]["data_dir"] = "/proc/sys/kernel"


def no_data(s: Setup) -> None:
    shutil.rmtree(s.data)


def nothing_to_search(s: Setup) -> None:
    s.experiment["space"] = [{"name": "x", "type": "constant", "value": 1}]


def preprocess_fails(s: Setup) -> None:
    s.script(PREPROCESS, "#!/bin/bash\necho 'no file model_params.txt' >&2; exit 1\n")


def unknown_argument(s: Setup) -> None:
    s.train('echo "train.py: error: unrecognized arguments: --x" >&2; exit 2')


def no_metric(s: Setup) -> None:
    s.train("echo done")


def other_metric(s: Setup) -> None:
    s.experiment["objective"] = {"metric": "auc", "mode": "max"}


def nan(s: Setup) -> None:
    s.train("echo IMPROVE_RESULT val_loss: nan")


def scores_no_json(s: Setup) -> None:
    s.train("while [ $1 != --model_outdir ]; do shift; done; echo oops > $2/val_scores.json")


def writes_into_the_image(s: Setup) -> None:
    s.train("mkdir /opt/cache")


def no_module(s: Setup) -> None:
    s.train("exec python3 -c 'import torch'")


def no_command(s: Setup) -> None:
    s.train("Rscript train.R")


def too_slow(s: Setup) -> None:
    s.experiment["stages"]["train"] = {"timeout": "1s"}
    s.train("sleep 60")


def no_gpu_memory(s: Setup) -> None:
    s.train("echo 'RuntimeError: CUDA out of memory.'; exit 1")


def infer_fails(s: Setup) -> None:
    s.script(INFER, '#!/bin/bash\necho "infer.sh: no file model.npz: run train.sh first"; exit 1\n')


def wrong_path(s: Setup) -> None:
    s.train("cat /IMPROVE_DATA_DIR/none.csv")


BROKEN: list[tuple[Callable[[Setup], None], int, str, str]] = [
    (no_image, 2, "model.image", "check the path, or pull or build the image"),
    (text_for_image, 1, "FAIL  image", "build or pull it again"),
    (empty_image, 1, "FAIL  image", "build or pull it again"),
    (truncated, 1, "is truncated", "copy, pull or build it again"),
    (only_a_header, 1, "is truncated", "copy, pull or build it again"),
    (wrong_architecture, 1, "this machine is", "build it on, or for,"),
    (damaged_content, 1, "FAIL  container", "read what the runtime says"),
    (directory_for_image, 1, "no sandbox image", "name the .sif file, or build with --sandbox"),
    (no_runtime, 1, "FAIL  runtime: /opt/none/apptainer", "set the site's container_command"),
    (unknown_option, 1, "no-such-option", "read what the runtime says"),
    (bind_source_missing, 2, "model.binds", "no such file or directory"),
    (bind_behind_the_check, 1, "/no/such/directory", "a bind source"),
    (no_script, 1, "FAIL  infer.sh: is in no directory of the PATH", "link to it"),
    (no_run_bit, 1, "FAIL  train.sh: /usr/local/bin/train.sh is not executable", "chmod a+x"),
    (crlf, 1, "FAIL  preprocess.sh: /usr/local/bin/preprocess.sh has Windows line ends", "Unix line ends"),
    (no_interpreter, 1, "/usr/bin/fish is not there", "name an interpreter"),
    (env_finds_no_interpreter, 1, "python2 is not there", "name an interpreter"),
    (no_first_line, 1, "FAIL  train.sh", "name an interpreter"),
    (data_read_only, 1, "cannot be written, and preprocess writes into it", "make it writable, or"),
    (no_data, 2, "model.data_dir", "no such directory"),
    (nothing_to_search, 1, "FAIL  space", "another type than constant"),
    (preprocess_fails, 1, "FAIL  preprocess: exit code 1; last line: no file model_params.txt", "check the paths"),
    (unknown_argument, 1, "unrecognized arguments: --x", "let the script accept every hyperparameter"),
    (no_metric, 1, "FAIL  train", "print 'IMPROVE_RESULT METRIC: VALUE'"),
    (other_metric, 1, "auc", "check the objective's name"),
    (nan, 1, "nan", "write a finite number"),
    (scores_no_json, 1, "val_scores.json is not JSON", "write a finite number"),
    (writes_into_the_image, 1, "Read-only file system", "output directory alone"),
    (no_module, 1, "No module named 'torch'", "install the module"),
    (no_command, 1, "Rscript: command not found", "install the program"),
    (too_slow, 1, "timeout after 1 s", "raise the stage's timeout"),
    (no_gpu_memory, 1, "out of memory", "a smaller model or batch"),
    (infer_fails, 1, "FAIL  infer", "check the paths"),
    (wrong_path, 1, "none.csv: No such file", "check the paths"),
]


@pytest.mark.parametrize(("deed", "code", "named", "remedy"), BROKEN, ids=[case[0].__name__ for case in BROKEN])
def test_a_broken_setup_is_named_with_its_remedy(
    workflow: Workflow, setup: Setup, deed: Callable[[Setup], None], code: int, named: str, remedy: str
) -> None:
    deed(setup)
    found, said = check(workflow, setup)
    assert found == code, said
    assert named in said, said
    assert remedy in said, said


def test_what_init_writes_passes_unchanged(workflow: Workflow, demo_image: Path) -> None:
    """On the host, and in the image that its def file builds."""
    done = workflow.run("my model", module="workflow.init")
    assert done.returncode == 0 and "workflow.check" in done.stdout
    experiment = workflow.directory / "my model" / "experiment.yaml"
    for image in ((), ("--set", f"model.image={demo_image}", "--set", "model.scripts=null")):
        done = workflow.run("--site", "local", "--experiment", experiment, *image, module="workflow.check")
        assert done.returncode == 0, done.stdout
    again = workflow.run("my model", module="workflow.init")
    assert again.returncode == 2 and "is not empty" in again.stdout


def test_a_damaged_header_of_an_image_is_told_without_a_traceback(tmp_path: Path, toy_image: Path) -> None:
    for offset, number in ((80, 2**40), (88, 2**62), (80, -1)):
        damaged = tmp_path / "damaged.sif"
        data = bytearray(toy_image.read_bytes())
        struct.pack_into("<q", data, offset, number)
        damaged.write_bytes(data)
        with pytest.raises(ImageError):
            read_image(damaged)


@pytest.mark.parametrize("output", ["experiment.yaml", "/dev/null", "/dev/null/x"])
def test_an_output_that_cannot_be_made_is_bad_input(workflow: Workflow, output: str) -> None:
    done = workflow.run(
        "--site", "local-threads", "--experiment", workflow.experiment(), "--output", output, module="workflow.check"
    )
    assert done.returncode == 2 and f"--output {output}: " in done.stdout, done.stdout


def test_a_reader_that_goes_away_is_no_error_of_init(workflow: Workflow) -> None:
    read, write = os.pipe()
    os.close(read)
    init = workflow.start(
        "model", module="workflow.init", stdout=write, stderr=subprocess.PIPE, env={"PYTHONUNBUFFERED": "1"}
    )
    os.close(write)
    assert "Traceback" not in init.communicate(timeout=60)[1]
    assert init.returncode == 0
    assert (workflow.directory / "model" / "experiment.yaml").is_file()


def test_a_reader_that_goes_away_ends_the_check(workflow: Workflow) -> None:
    check = workflow.start("--site", "local-threads", "--experiment", workflow.experiment(), module="workflow.check",
                           stderr=subprocess.PIPE)  # fmt: skip
    assert check.stdout is not None and check.stderr is not None
    check.stdout.readline()
    check.stdout.close()
    assert "Traceback" not in check.stderr.read()
    check.wait(60)
    assert not list((workflow.directory / "runs").glob(".check-*"))


@pytest.mark.parametrize("json_too", [(), ("--json",)])
def test_an_output_of_the_check_on_a_full_disk_is_told(workflow: Workflow, json_too: tuple[str, ...]) -> None:
    arguments = ("--site", "local-threads", "--experiment", workflow.experiment(), "--fast", *json_too)
    with Path("/dev/full").open("w") as full:
        check = workflow.start(*arguments, module="workflow.check", stdout=full, stderr=subprocess.PIPE)
        _, said = check.communicate(timeout=60)
    assert check.returncode == 3
    assert "error: the output cannot be written (No space left on device)\n    -> make room\n" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminated_check_leaves_nothing(workflow: Workflow, number: signal.Signals) -> None:
    experiment = workflow.experiment(space=toy_space(60.0), stages={"train": {}})
    check = workflow.start("--site", "local", "--experiment", experiment, module="workflow.check")
    assert eventually(lambda: list((workflow.directory / "runs").glob(".check-*/trials/*/*/argv.json")), 60)
    check.send_signal(number)
    output, _ = check.communicate(timeout=60)
    assert check.returncode == 130, output
    assert eventually(lambda: not workflow.processes(), 20)
    assert not list((workflow.directory / "runs").glob(".check-*"))


def test_bad_input_is_json_too(workflow: Workflow) -> None:
    done = workflow.run("--site", "nowhere", "--json", module="workflow.check", stderr=subprocess.DEVNULL)
    assert done.returncode == 2 and "no such site" in json.loads(done.stdout)["error"]
