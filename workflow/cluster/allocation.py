"""The job in which a controller runs: its nodes and when it ends, as the scheduler tells."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from workflow.cluster.commands import plain_environ
from workflow.errors import InputError, show

_TIMEOUT = 60.0


@dataclass(frozen=True)
class Allocation:
    """``end`` is in seconds since the epoch, None if nothing tells it."""

    job: str
    nodes: int
    end: float | None


def find_allocation(environ: Mapping[str, str] = os.environ) -> Allocation:
    """The job of Slurm or PBS around this process. Raises InputError if there is none."""
    if job := environ.get("SLURM_JOB_ID"):
        return Allocation(job, _slurm_nodes(environ), _slurm_end(job, environ))
    if job := environ.get("PBS_JOBID"):
        return Allocation(job, _pbs_nodes(environ), _pbs_end(job))
    raise InputError(
        "--in-allocation: this is no job of Slurm or PBS (SLURM_JOB_ID and PBS_JOBID are not set)\n"
        "    -> submit one with python -m workflow.submit, or leave the option out"
    )


def _slurm_nodes(environ: Mapping[str, str]) -> int:
    text = environ.get("SLURM_JOB_NUM_NODES", "1")
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise InputError(
        f"--in-allocation: SLURM_JOB_NUM_NODES is {show(text)}, not a number of nodes\n"
        "    -> leave Slurm's variables as they are in the job"
    )


def _slurm_end(job: str, environ: Mapping[str, str]) -> float | None:
    if (text := environ.get("SLURM_JOB_END_TIME", "")).isdigit():
        return float(text)
    try:
        return datetime.fromisoformat(
            _output("squeue", "--noheader", f"--jobs={job}", "--format=%e").strip()
        ).timestamp()
    except ValueError:  # "N/A" of a job without a limit
        return None


def _pbs_nodes(environ: Mapping[str, str]) -> int:
    """PBS names a node once for each chunk."""
    try:
        return max(1, len(set(Path(environ["PBS_NODEFILE"]).read_text().split())))
    except (KeyError, OSError):
        return 1


def _pbs_end(job: str) -> float | None:
    """Start and walltime are what the server tells of a job."""
    try:
        (about,) = json.loads(_output("qstat", "-f", "-F", "json", job))["Jobs"].values()
        hours, minutes, seconds = map(int, about["Resource_List"]["walltime"].split(":"))
        start = time.mktime(time.strptime(about["stime"]))
    except (ValueError, KeyError, AttributeError):
        return None
    return start + 3600 * hours + 60 * minutes + seconds


def _output(*command: str) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT, check=False, env=plain_environ()
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
