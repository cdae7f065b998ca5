"""In whose name, and in what environment, a scheduler's commands are called.

Many of their options are also variables, which people set for their own use: in a question they hide jobs that are
there, and in a submission they win over the options in the job's script.
"""

from __future__ import annotations

import getpass
import os
import pwd
import re
from collections.abc import Mapping

from workflow.cluster.batch import Batch

_QUESTIONS = re.compile(r"(SQUEUE|SCANCEL|SCONTROL|SINFO|SACCT|PBS_?QSTAT)_\w+|SLURM_TIME_FORMAT")

_OURS = frozenset({"ARRAY_INX", "ERROR", "JOB_NAME", "NO_KILL", "NO_REQUEUE", "OUTPUT", "REQUEUE", "TIMELIMIT", "WAIT"})
"""Options of sbatch that are always in our scripts, or that would make something else of a job."""


def plain_environ(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for what asks or cancels, with no variable that would change the meaning."""
    return {name: value for name, value in environ.items() if not _QUESTIONS.fullmatch(name)}


def overriding(batch: Batch, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Variables that would win over what our scripts, or the site, ask of sbatch."""
    asked = {"ACCOUNT": batch.account, "PARTITION": batch.queue, "QOS": batch.qos, "CONSTRAINT": batch.constraint}
    ours = {*_OURS, *(name for name, value in asked.items() if value is not None)}
    return sorted(name for name in environ if name.startswith("SBATCH_") and name.removeprefix("SBATCH_") in ours)


def user_name() -> str:
    """Whose jobs they are: by the process's user id, since LOGNAME and USER may be another's after su or sudo."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return getpass.getuser()
