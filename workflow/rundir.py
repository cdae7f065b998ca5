"""The files of a run: every path comes from here."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from workflow.trial import FIRST_RERUN, is_rerun

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+=@")

_TRIALS = {0: "trials", FIRST_RERUN: "reruns"}
"""The directories of trials by the id that each one counts from."""

PLAIN_NAMES = "choose one named by letters, digits and ./_-+=@ only"
"""The remedy where a path is not plain."""


def is_plain(path: Path) -> bool:
    """Whether Parsl's unquoted shell commands and a scheduler's directives can carry a path.

    Slurm takes %j and the like for a job's number.
    """
    return set(str(path)) <= _PLAIN


def whole_path(path: Path) -> Path:
    """The absolute path, without ``..``: a directory on the way to it need neither be plain nor be there."""
    return path.resolve() if ".." in path.parts else path.absolute()


@dataclass(frozen=True)
class RunDir:
    """``path`` is absolute."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def gone(self) -> str:
        """Why nothing more can happen here: the directory was taken away while it was led; empty if it is there."""
        return "" if self.journal.exists() else f"{self.path}: is gone: it was deleted or moved while it was led"

    @property
    def resume_command(self) -> str:
        return f"python -m workflow.run --resume {shlex.quote(str(self.path))}"

    @property
    def experiment(self) -> Path:
        return self.path / "experiment.yaml"

    @property
    def site(self) -> Path:
        return self.path / "site.yaml"

    @property
    def space(self) -> Path:
        return self.path / "space.json"

    @property
    def initial(self) -> Path:
        return self.path / "initial.csv"

    @property
    def warm_start(self) -> Path:
        return self.path / "warm_start.csv"

    @property
    def journal(self) -> Path:
        return self.path / "journal.jsonl"

    @property
    def lock(self) -> Path:
        return self.path / "controller.lock"

    @property
    def hpo_csv(self) -> Path:
        return self.path / "hpo.csv"

    @property
    def best(self) -> Path:
        return self.path / "best.json"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    def export(self, name: str) -> Path:
        """What an export to another format is called that is given no other name."""
        return self.path / name

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def data(self) -> Path:
        """The data directory of an experiment that names none."""
        return self.path / "data"

    @property
    def parsl(self) -> Path:
        return self.path / "parsl"

    @property
    def token(self) -> Path:
        """What tells this run from another one of its name, where a site keeps its files elsewhere."""
        return self.path / "endpoint.token"

    def stage_attempt(self, stage: str, attempt: int) -> Path:
        """Directory of an attempt of preprocess or infer."""
        return self.path / stage / f"attempt-{attempt}"

    @property
    def job_script(self) -> Path:
        """The batch job that leads the run, if it was submitted as one."""
        return self.path / "job.sh"

    def checkpoints(self, config_id: int) -> Path:
        """What all trainings of one configuration share."""
        return self.path / "checkpoints" / f"{config_id:04d}"

    def trial_attempt(self, trial_id: int, attempt: int) -> Path:
        first = FIRST_RERUN if is_rerun(trial_id) else 0
        return self.path / _TRIALS[first] / f"{trial_id - first:04d}" / f"attempt-{attempt}"

    def trial_attempts(self) -> Iterator[tuple[int, int]]:
        """All attempts (trial id, attempt) of which there is a directory."""
        for first, name in _TRIALS.items():
            for directory in self.path.glob(f"{name}/*/attempt-*"):
                trial, attempt = directory.parent.name, directory.name.removeprefix("attempt-")
                if trial.isdecimal() and attempt.isdecimal():
                    yield first + int(trial), int(attempt)


def why_no_run(path: Path) -> str:
    """Why a path is not the directory of a run; empty if it is one.

    A run has its site or its journal beside its experiment: a model's directory may have an experiment.yaml, too.
    """
    try:
        if not path.exists():
            return "no such directory"
        if not path.is_dir():
            return "is no directory"
        run = RunDir(path)
        if run.journal.exists() or (run.experiment.exists() and run.site.exists()):
            return ""
        if run.experiment.exists():
            return f"holds an experiment, but no run of it (neither {run.site.name} nor {run.journal.name})"
        return "holds no run"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
