"""A release, in a repository of its own: what it refuses, what it leaves, and that it takes back what fails."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import yaml

from tests.conftest import ROOT

PARTS = ("workflow", "sites", "configs", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", ".gitignore")
RELEASED = "## 0.1.0 (2026-11-26)"


class Repository:
    """What a release is made of, committed. Nothing is downloaded: what the commands import lies in ``libraries``."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "clone"
        self.libraries = directory / "libraries"
        self.libraries.mkdir()
        for package in (numpy, yaml):
            own = Path(package.__file__ or "").parent
            for part in own.parent.glob(f"*{own.name}*"):
                (self.libraries / part.name).symlink_to(part)
        for name in PARTS:
            source, target = ROOT / name, self.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        (self.path / "scripts").mkdir()
        shutil.copy(ROOT / "scripts/release.py", self.path / "scripts")
        self.git("init", "--quiet", "--initial-branch", "main")
        self.commit()

    def git(self, *words: str) -> str:
        return self._run("git", *words).stdout.strip()

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "as it is")

    def release(self, version: str, checks: str = "true") -> subprocess.CompletedProcess[str]:
        return self._run(sys.executable, "scripts/release.py", version, "--checks", checks)

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        who = {f"GIT_{role}_{what}": "me@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        env = {**os.environ, **who, "PIP_NO_DEPS": "1", "PYTHONPATH": str(self.libraries)}
        return subprocess.run(command, cwd=self.path, env=env, capture_output=True, text=True, timeout=120)

    def text(self, name: str) -> str:
        return (self.path / name).read_text()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def test_a_release_is_a_commit_with_its_tag_and_what_is_to_be_published(repository: Repository) -> None:
    done = repository.release("7.2.0", "grep -q 7.2.0 workflow/__init__.py")
    assert done.returncode == 0, done.stderr
    assert '__version__ = "7.2.0"' in repository.text("workflow/__init__.py")
    assert re.search(r"^## 7\.2\.0 \(\d{4}-\d\d-\d\d\)$", repository.text("CHANGELOG.md"), flags=re.M)
    assert repository.git("describe") == "v7.2.0" and repository.git("status", "--porcelain") == ""
    assert sorted(repository.git("diff", "--name-only", "HEAD~1").splitlines()) == [
        "CHANGELOG.md",
        "workflow/__init__.py",
    ]
    built = {path.name for path in (repository.path / "dist").iterdir()}
    assert built == {"workflow-7.2.0-py3-none-any.whl", "workflow-7.2.0.tar.gz"}
    assert "git push origin HEAD v7.2.0" in done.stdout
    again = repository.release("7.3.0")
    assert again.returncode == 1 and "no entry" in again.stderr


def test_what_does_not_pass_leaves_nothing_behind(repository: Repository) -> None:
    before = repository.git("rev-parse", "HEAD")
    done = repository.release("7.2.0", "exit 3")
    assert done.returncode == 1 and "ended with exit code 3" in done.stderr
    assert repository.git("status", "--porcelain") == repository.git("tag") == ""
    assert repository.git("rev-parse", "HEAD") == before


@pytest.mark.parametrize(
    ("version", "changelog", "told"),
    [
        ("0.1.0", f"## 0.2.0 (unreleased)\n\n- new\n\n{RELEASED}\n\n- old\n", "0.1.0 is not newer than 0.1.0"),
        ("0.0.9", f"## 0.2.0 (unreleased)\n\n- new\n\n{RELEASED}\n\n- old\n", "0.0.9 is not newer than 0.1.0"),
        ("2", "## 0.2.0 (unreleased)\n\n- new\n", "'2' is not of the form"),
        ("0.2.0", f"## 0.2.0 (unreleased)\n\n{RELEASED}\n\n- old\n", "no entry"),
        ("0.2.0", f"{RELEASED}\n\n- old\n", "no entry"),
    ],
)
def test_refused_is_what_is_not_ready(repository: Repository, version: str, changelog: str, told: str) -> None:
    (repository.path / "CHANGELOG.md").write_text(f"# Changelog\n\n{changelog}")
    repository.commit()
    done = repository.release(version)
    assert done.returncode == 1 and told in done.stderr
    assert repository.git("status", "--porcelain") == repository.git("tag") == ""


def test_refused_is_a_tree_with_changes(repository: Repository) -> None:
    (repository.path / "note.txt").touch()
    done = repository.release("7.2.0")
    assert done.returncode == 1 and "?? note.txt" in done.stderr
    assert "unreleased" in repository.text("CHANGELOG.md")
