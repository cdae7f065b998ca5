"""The job around a controller, as Slurm and PBS tell of it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from workflow.cluster.allocation import Allocation, find_allocation
from workflow.errors import InputError


def fake(directory: Path, name: str, output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = directory / name
    program.write_text(f"#!/bin/bash\ncat <<'END'\n{output}\nEND\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(directory), prepend=":")


def test_no_job_is_bad_input() -> None:
    with pytest.raises(InputError, match=r"no job of Slurm or PBS.*\n    -> submit one"):
        find_allocation({})


def test_a_number_of_nodes_that_is_none_is_bad_input() -> None:
    with pytest.raises(InputError, match=r"SLURM_JOB_NUM_NODES is 'x', not a number of nodes"):
        find_allocation({"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "x"})


def test_slurm_tells_in_the_environment() -> None:
    """From version 23.02 on."""
    environ = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "3", "SLURM_JOB_END_TIME": "1795000000"}
    assert find_allocation(environ) == Allocation("7", 3, 1795000000.0)


@pytest.mark.parametrize(("said", "end"), [("2026-11-25T19:00:00", True), ("N/A", False), ("", False)])
def test_older_slurm_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, end: bool) -> None:
    fake(tmp_path, "squeue", said, monkeypatch)
    expected = datetime(2026, 11, 25, 19).timestamp() if end else None
    assert find_allocation({"SLURM_JOB_ID": "7"}) == Allocation("7", 1, expected)


PBS = """{
    "timestamp":1795464534,
    "Jobs":{
        "21.login1":{
            "Account_Name":12345,
            "Resource_List":{
                "walltime":"01:05:10"
            },
            "stime":"Mon Nov 23 20:08:54 2026"
        }
    }
}"""


def test_pbs_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node stands in the node file once for each of its chunks."""
    fake(tmp_path, "qstat", PBS, monkeypatch)
    nodes = tmp_path / "nodes"
    nodes.write_text("a\na\nb\n")
    start = datetime(2026, 11, 23, 20, 8, 54).timestamp()
    found = find_allocation({"PBS_JOBID": "21.login1", "PBS_NODEFILE": str(nodes)})
    assert found == Allocation("21.login1", 2, start + 3910)


def test_a_scheduler_that_gives_no_answer_leaves_the_end_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, "qstat", "qstat: cannot connect", monkeypatch)
    assert find_allocation({"PBS_JOBID": "21"}) == Allocation("21", 1, None)
