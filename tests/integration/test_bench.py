"""The benchmarks run, in small, and tell each figure beside its baseline."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

FIGURES = {
    "supervisor.py --trials 2 --rounds 1": ["threads", "htex"],
    "status.py --trials 30 --rounds 1": ["status", "status", "status"],
    "throughput.py --trials 6 --rounds 1 --seconds 0 --pools threads": ["threads"],
    "asks.py --trials 20 --rounds 1 --searches random simple async": ["ask and tell", "memory"],
    "journal.py --trials 20 --appends 9 --rounds 1": ["appends", "records", "records"],
    "startup.py --rounds 1": ["answer", "first command"],
    "report.py --trials 30 --rounds 1": ["writing", "size", "opening"],
}


@pytest.mark.parametrize("command", FIGURES)
def test_a_benchmark_tells_its_figures(command: str, tmp_path: Path) -> None:
    script, *arguments = command.split()
    results = tmp_path / "results.json"
    line = [sys.executable, ROOT / "scripts/bench" / script, *arguments, "--json", results]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    figures = json.loads(results.read_text())["figures"]
    assert len(figures) == len(FIGURES[command])
    for figure, words in zip(figures, FIGURES[command], strict=True):
        assert words in figure["name"] and figure["name"] in done.stdout
        assert figure["ratios"][figure["baseline"]] in (1.0, None) and len(figure["ratios"]) > 1


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, ROOT / "scripts/bench", *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=120)


def test_one_command_runs_those_that_are_named() -> None:
    done = bench("status")
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^== \S+/(\w+).py", done.stdout, flags=re.M) == ["status"]
    assert done.stdout.count("ratio to json.loads") == 3


def test_one_command_knows_all_benchmarks_and_no_others() -> None:
    done = bench("all")
    assert done.returncode == 2
    listed = done.stderr.strip().rpartition("there are ")[2].split(", ")
    programs = {path.stem for path in (ROOT / "scripts/bench").glob("*.py") if "def main" in path.read_text()}
    assert sorted(listed) == sorted(programs - {"__main__"} | {"search"})
