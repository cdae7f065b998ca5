"""A controller and an endpoint that see nothing of each other but the spool of the stand-in between them."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import MARKER, ROOT, TOY, Workflow, toy_experiment, toy_space

HERE = Path(__file__).parent
ENDPOINT = "11111111-2222-4333-8444-555555555555"
WORKERS = 2


def hiding(path: Path, command: list[str]) -> list[str]:
    """The command where nothing of ``path`` can be seen and nothing written, if this process may arrange that."""
    if not can_hide():
        return command
    script = f"mount -t tmpfs -o ro none {shlex.quote(str(path))} && exec {shlex.join(command)}"
    return ["unshare", "--mount", "sh", "-c", script]


def can_hide() -> bool:
    return os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0


@dataclass
class Globus:
    """``here`` is the controller's directory, ``there`` the endpoint's, ``spool`` what is between them."""

    here: Path
    there: Path
    spool: Path
    marker: str = field(default_factory=lambda: uuid.uuid4().hex)
    endpoint: subprocess.Popen[bytes] | None = None

    def prepare(self, **faults: Any) -> None:
        """``faults`` are those of the endpoint, by ``task_`` and the task's number."""
        for directory in (self.here, self.there, self.spool / "tasks", self.spool / "results"):
            directory.mkdir(parents=True)
        shutil.copytree(TOY, self.there / "toy")
        shutil.copy(HERE / "endpoint.py", self.spool)
        by_number = {name.removeprefix("task_"): fault for name, fault in faults.items()}
        (self.spool / "faults.json").write_text(json.dumps(by_number))

    def start_endpoint(self) -> None:
        command = [sys.executable, "-I", str(self.spool / "endpoint.py"), str(self.spool), str(WORKERS)]
        env = {**os.environ, MARKER: self.marker}
        env.pop("PYTHONPATH", None)
        self.endpoint = subprocess.Popen(hiding(self.here, command), env=env, start_new_session=True)

    def site(self, **changes: Any) -> Path:
        data = {
            "scheduler": "globus_compute", "endpoint": ENDPOINT, "endpoint_directory": str(self.there / "hpo"),
            "workers": WORKERS, "grace": 0.2, "poll": 0.1, **changes,
        }  # fmt: skip
        path = self.here / "site.yaml"
        path.write_text(yaml.safe_dump(data))
        return path

    def experiment(self, sleep: float = 0.0, timeout: float = 20, until: Path | str = "", **changes: Any) -> Path:
        stages = {name: {"timeout": timeout} for name in ("preprocess", "train", "infer")}
        data = toy_experiment(
            model={"scripts": str(self.there / "toy")}, stages=stages, space=toy_space(sleep, until=until),
            search={"strategy": "random", "evaluations": 8}, **changes,
        )  # fmt: skip
        path = self.here / "experiment.yaml"
        path.write_text(yaml.safe_dump(data))
        return path

    def controller(self, *arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
        """A campaign on the stand-in, in ``here``; ``options`` are the harness's."""
        options = {"spool": str(self.spool), **options}
        command = [sys.executable, "-m", "tests.globus.harness", json.dumps(options), *map(str, arguments)]
        return self.start(command)

    def start(self, command: list[str]) -> subprocess.Popen[str]:
        env = {**os.environ, "PYTHONPATH": str(ROOT), MARKER: self.marker, "HOME": str(self.here)}
        env |= {"GLOBUS_COMPUTE_USER_DIR": str(self.here / "globus")}
        return subprocess.Popen(
            hiding(self.there, command), cwd=self.here, env=env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, *arguments: str | Path, **options: Any) -> tuple[int, str]:
        """A campaign to its end: exit code and output."""
        process = self.controller("--output", self.here / "toy-run", *arguments, **options)
        return finish(process)

    @property
    def remote_run(self) -> Path:
        return self.there / "hpo" / "toy-run"

    def close(self) -> None:
        (self.spool / "stop").touch()
        Workflow(self.here, self.marker).kill()


def finish(process: subprocess.Popen[str], timeout: float = 120) -> tuple[int, str]:
    """Wait without closing its input, at which a prompt would wait."""
    output = process.stdout.read() if process.stdout else ""
    return process.wait(timeout), output


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[Globus]:
    found = Globus(tmp_path / "here", tmp_path / "there", tmp_path / "spool")
    yield found
    if found.spool.exists():
        found.close()
