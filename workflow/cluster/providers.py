"""Parsl's providers for schedulers, made to survive what schedulers do.

Each class mends what was observed of Parsl 2026.10 with a real Slurm and a real OpenPBS: a status query that failed
once, or for one id among many, made blocks look ended or never ended; a submission that failed was given up; statuses
were asked for once a minute. Only what is known to have ended counts as ended here.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import re
import shlex
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from parsl.jobs.states import TERMINAL_STATES, JobState, JobStatus
from parsl.launchers import MpiExecLauncher, SingleNodeLauncher, SrunLauncher
from parsl.launchers.base import Launcher
from parsl.providers import PBSProProvider, SlurmProvider, TorqueProvider

from workflow.cluster.batch import BLOCK_START, Batch, clock
from workflow.cluster.commands import overriding, plain_environ, user_name
from workflow.site import Site

logger = logging.getLogger(__name__)

_COMMAND_TIMEOUT = 60
_FIRST_WAIT, _LONGEST_WAIT = 2.0, 60.0

_CLEARING = 20.0
"""Seconds for which jobs that were left are asked for and cancelled again."""

_PASSING = re.compile(
    r"unable to contact|timed out|connection (refused|reset)|cannot connect|unexpected eof|end of file|no route to host"
    r"|zero bytes were transmitted|communication failure|temporarily|try again|submit.{0,20}limit|would exceed",
    re.IGNORECASE,
)
"""What a scheduler says that will answer again; everything else is a refusal."""


class Steady(ABC):
    """What our providers have in common; comes before Parsl's class among the bases.

    Jobs are named ``prefix``.block-NUMBER.TIME, so that those of a run can be found again. A submission that the
    scheduler cannot take now is tried again for ``patience`` seconds, one that it refuses raises at once.
    """

    prefix = "workflow"
    interval = 30.0
    patience = 900.0
    closing: threading.Event
    trouble = ""
    """What the scheduler last had against a question; empty once it answers."""
    resources: dict[str, Any]

    def configure(self, prefix: str, batch: Batch) -> None:
        """What Parsl's constructors have no room for."""
        self.prefix, self.interval, self.patience = prefix, batch.status_interval, batch.scheduler_patience
        self.closing = threading.Event()

    @property
    def status_polling_interval(self) -> float:
        return self.interval

    def submit(self, command: str, tasks_per_node: int, job_name: str = "block-0") -> Any:
        name = f"{self.prefix}.{job_name.rpartition('.')[2]}"
        deadline = time.monotonic() + self.patience
        for wait in _waits():
            try:
                return self._submit(command, tasks_per_node, name)
            except Exception as error:
                if not _will_pass(error) or time.monotonic() + wait > deadline:
                    raise
                logger.warning("the scheduler takes no job now, trying again in %g s: %s", wait, error)
            if self.closing.wait(wait):
                raise InterruptedError("the campaign ends")
        raise AssertionError("waits never end")

    def _submit(self, command: str, tasks_per_node: int, name: str) -> Any:
        return super().submit(command, tasks_per_node, name)  # type: ignore[misc]  # Parsl's, which comes after

    def status(self, job_ids: list[Any]) -> list[JobStatus]:
        """Of each job; that of the last time where the scheduler doesn't answer."""
        active = self._active(job_ids)
        if active:
            for job, state in self._ask(active).items():
                known = self.resources[job]
                paths = known.get("job_stdout_path"), known.get("job_stderr_path")
                known["status"] = JobStatus(state, stdout_path=paths[0], stderr_path=paths[1])
        return [self.resources[job]["status"] for job in job_ids]

    def cancel(self, job_ids: list[Any]) -> list[bool]:
        """Ask the scheduler to end jobs; those that have ended already are no error."""
        active = self._active(job_ids)
        code, _ = self._cancel(active)
        for job in active if code == 0 else ():
            self.resources[job]["status"] = JobStatus(JobState.CANCELLED)
        return [job not in active or code == 0 for job in job_ids]

    def _active(self, job_ids: list[Any]) -> list[Any]:
        """Those that have not ended, as far as is known."""
        return [job for job in job_ids if self.resources[job]["status"].state not in TERMINAL_STATES]

    def _cancel(self, jobs: list[Any]) -> tuple[int, str]:
        """The exit code of the scheduler's command, and what it complains of."""
        code, _, error = self._run(*self.cancel_command, *jobs) if jobs else (0, "", "")
        if code != 0:
            logger.warning(_trouble(self.cancel_command[0], code, error))
        return code, error

    cancel_command: tuple[str, ...] = ()

    @abstractmethod
    def _ask(self, jobs: list[str]) -> Mapping[str, JobState]:
        """States of those jobs that the scheduler knows something of."""

    def avoid(self, node: str) -> bool:
        """Keep further jobs from a node; False where the scheduler cannot be told."""
        return False

    @abstractmethod
    def named_jobs(self) -> list[str] | None:
        """Ids of all jobs of this run that are not over, those of an earlier controller included.

        None if the scheduler doesn't answer.
        """

    def _note_trouble(self, text: str) -> None:
        """Warn of what a scheduler says instead of an answer, not again at each question while it says the same."""
        if text and text != self.trouble:
            logger.warning("%s", text)
        self.trouble = text

    def clear(self) -> None:
        """Cancel what an earlier controller of this run has left in the queue, or what was submitted unnoticed.

        A scheduler that doesn't answer is asked again for a while.
        """
        deadline = time.monotonic() + _CLEARING
        for wait in _waits():
            left = self.named_jobs()
            if left == [] or (left and self._run(*self.cancel_command, *left)[0] == 0):
                return
            if time.monotonic() + wait > deadline:
                logger.warning("the scheduler doesn't tell which jobs of this run are left, or doesn't cancel them")
                return
            time.sleep(wait)

    def _run(self, *command: str) -> tuple[int, str, str]:
        """Exit code, output and errors of a scheduler's command; 124 if it doesn't answer, 127 if there is none."""
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=_COMMAND_TIMEOUT, check=False,
                stdin=subprocess.DEVNULL, start_new_session=True, env=plain_environ(),
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return 124, "", "no answer"
        except OSError as error:
            return 127, "", str(error)
        return done.returncode, done.stdout, done.stderr


def _trouble(command: str, code: int, error: str) -> str:
    """What went wrong with a command, in one line; empty if nothing did."""
    return f"{command}: exit code {code}: {' '.join(error.split())}" if code != 0 else ""


def _waits() -> Iterable[float]:
    return (min(_LONGEST_WAIT, _FIRST_WAIT * 2**n) for n in itertools.count())


def _will_pass(error: Exception) -> bool:
    if isinstance(error, subprocess.TimeoutExpired):
        return True
    said = getattr(error, "stderr", None)  # the error's own text has names of the run's files, which may say anything
    return _PASSING.search(str(error) if said is None else said) is not None


class SteadySlurm(Steady, SlurmProvider):
    """Asks squeue for all jobs of the user: it then knows no id that could make it fail."""

    cancel_command = ("scancel",)

    _STATES: ClassVar[dict[str, JobState]] = {
        "PENDING": JobState.PENDING, "CONFIGURING": JobState.PENDING, "REQUEUED": JobState.PENDING,
        "REQUEUE_FED": JobState.PENDING, "REQUEUE_HOLD": JobState.HELD, "SPECIAL_EXIT": JobState.HELD,
        "RUNNING": JobState.RUNNING, "COMPLETING": JobState.RUNNING, "SUSPENDED": JobState.HELD,
        "STOPPED": JobState.HELD, "RESIZING": JobState.RUNNING, "SIGNALING": JobState.RUNNING,
        "STAGE_OUT": JobState.RUNNING, "COMPLETED": JobState.COMPLETED, "CANCELLED": JobState.CANCELLED,
        "FAILED": JobState.FAILED, "NODE_FAIL": JobState.FAILED, "BOOT_FAIL": JobState.FAILED,
        "OUT_OF_MEMORY": JobState.FAILED, "REVOKED": JobState.FAILED, "TIMEOUT": JobState.TIMEOUT,
        "DEADLINE": JobState.TIMEOUT, "PREEMPTED": JobState.TIMEOUT,
    }  # fmt: skip

    hidden: tuple[str, ...] = ()
    """Variables that sbatch shall not see."""

    def execute_wait(self, cmd: str, timeout: int | None = None) -> tuple[int, str, str]:
        """As the original, but for its question whether there is accounting: it isn't needed, and may take minutes."""
        if cmd.startswith("sacct"):
            return 1, "", ""
        hide = [word for name in self.hidden for word in ("-u", name)]
        code, output, error = super().execute_wait(shlex.join(["env", *hide]) + f" {cmd}", timeout)
        return code, output, error

    def _ask(self, jobs: list[str]) -> Mapping[str, JobState]:
        code, output, error = self._squeue("--states=all", "--format=%i|%T")
        self._note_trouble(_trouble("squeue", code, error))
        if code != 0:
            return {}
        said = dict(line.split("|", 1) for line in output.splitlines() if "|" in line)
        # A job that squeue has forgotten is over, for whatever reason.
        return {
            job: self._STATES.get(said[job], JobState.UNKNOWN) if job in said else JobState.COMPLETED for job in jobs
        }

    def avoid(self, node: str) -> bool:
        option = f"#SBATCH --exclude={node}\n"
        if option not in self.scheduler_options:
            self.scheduler_options += option  # sbatch adds up what several of them name
        return True

    def named_jobs(self) -> list[str] | None:
        code, output, _ = self._squeue("--format=%i|%j")
        if code != 0:
            return None
        jobs = [line.split("|", 1) for line in output.splitlines() if "|" in line]
        return [job for job, name in jobs if name.startswith(f"{self.prefix}.")]

    def _squeue(self, *options: str) -> tuple[int, str, str]:
        return self._run("squeue", "--noheader", f"--user={os.getuid()}", *options)


class SteadyPBS(Steady, PBSProProvider):
    """Asks qstat without -x, which answers alike with and without a job history.

    A job is over once qstat says so, or no longer knows it; that there is no history says nothing of a job. OpenPBS's
    newest qstat prints the first of several jobs only: one that wasn't spoken of is asked for alone.
    """

    cancel_command = ("qdel",)

    _STATES: ClassVar[dict[str, JobState]] = {
        "R": JobState.RUNNING, "E": JobState.RUNNING, "B": JobState.RUNNING, "H": JobState.HELD, "Q": JobState.PENDING,
        "W": JobState.PENDING, "T": JobState.PENDING, "M": JobState.PENDING, "S": JobState.HELD, "U": JobState.HELD,
        "F": JobState.COMPLETED, "X": JobState.COMPLETED,
    }  # fmt: skip
    _OVER = re.compile(r"(?:Unknown Job Id|Job has finished) (\d\S*)|(\d\S*) Job has finished")

    def _ask(self, jobs: list[str]) -> Mapping[str, JobState]:
        found = self._qstat(jobs)
        for job in jobs if found else ():  # with no answer at all, another question would wait as long
            if job not in found:
                found |= self._qstat([job])
        return found

    def _qstat(self, jobs: list[str]) -> dict[str, JobState]:
        code, output, error = self._run("qstat", "-f", "-F", "json", *jobs)
        over = ["".join(match) for match in self._OVER.findall(error)]
        states = self._read(output)
        self._note_trouble("" if over else _trouble("qstat", code, error))
        said = {**dict.fromkeys(over, JobState.COMPLETED), **states}
        return {job: state for job in jobs for name, state in said.items() if _same_job(job, name)}

    def _read(self, output: str) -> dict[str, JobState]:
        letters = {name: job["job_state"] for name, job in _described(output).items() if "job_state" in job}
        return {name: self._STATES.get(letter, JobState.UNKNOWN) for name, letter in letters.items()}

    def cancel(self, job_ids: list[Any]) -> list[bool]:
        """qdel fails where one of several jobs has ended, and has deleted the others all the same.

        So a job is deleted if qdel complains of other jobs only; of one that has ended it says so.
        """
        active = self._active(job_ids)
        code, error = self._cancel(active)
        lines = [line for line in error.splitlines() if line.strip()]
        about = {job: line for line in lines for job in active if any(_same_job(job, word) for word in line.split())}
        for job in active:
            if self._OVER.search(about.get(job, "")):
                self.resources[job]["status"] = JobStatus(JobState.COMPLETED)
            elif job not in about and (code == 0 or (lines and set(lines) == set(about.values()))):
                self.resources[job]["status"] = JobStatus(JobState.CANCELLED)
        return [self.resources[job]["status"].state in TERMINAL_STATES for job in job_ids]

    def named_jobs(self) -> list[str] | None:
        code, output, _ = self._run("qselect", "-u", user_name())
        if code != 0:
            return None
        jobs = output.split()
        found = self._describe(jobs) if jobs else {}
        if jobs and not found:
            return None
        for job in jobs:
            if job not in found:
                found |= self._describe([job])
        return [job for job, about in found.items() if str(about.get("Job_Name", "")).startswith(f"{self.prefix}.")]

    def _describe(self, jobs: list[str]) -> dict[str, dict[str, Any]]:
        return _described(self._run("qstat", "-f", "-F", "json", *jobs)[1])


def _described(output: str) -> dict[str, dict[str, Any]]:
    """What qstat said of each job; an odd environment makes it write JSON that is none."""
    try:
        said = json.loads(output or "{}")
    except ValueError:
        parts = re.split(r'^ {8}"(\d[^"]*)":\{', output, flags=re.MULTILINE)
        attribute = re.compile(r'^ {12}"(Job_Name|job_state)":"?([^",\n]+)"?,', re.MULTILINE)
        return {name: dict(attribute.findall(about)) for name, about in zip(parts[1::2], parts[2::2], strict=True)}
    jobs = said.get("Jobs") if isinstance(said, dict) else None
    return {name: job for name, job in jobs.items() if isinstance(job, dict)} if isinstance(jobs, dict) else {}


def _same_job(submitted: str, named: str) -> bool:
    """qsub may add the server's full name, of which qstat prints the beginning, or the other way round."""
    return submitted == named or submitted.startswith(f"{named}.") or named.startswith(f"{submitted}.")


class SteadyTorque(Steady, TorqueProvider):
    """Reads qstat's table, whose names of jobs are cut off."""

    cancel_command = ("qdel",)

    _STATES = SteadyPBS._STATES | {"C": JobState.COMPLETED}
    _UNKNOWN = re.compile(r"unknown job|invalid job", re.IGNORECASE)

    def _submit(self, command: str, tasks_per_node: int, name: str) -> Any:
        """As the original, which doesn't note where the job's output goes: to files named after its script."""
        job = super()._submit(command, tasks_per_node, name)
        scripts = sorted(Path(str(self.script_dir)).glob(f"*{name}.*.submit"))
        for stream in ("stdout", "stderr") if scripts and job is not None else ():
            self.resources[job][f"job_{stream}_path"] = f"{scripts[-1]}.{stream}"
        return job

    def _ask(self, jobs: list[str]) -> Mapping[str, JobState]:
        found = {}
        for job in jobs:
            code, output, error = self._run("qstat", job)
            rows = [line.split() for line in output.splitlines() if re.match(r"\d", line)]
            letters = [row[4] for row in rows if len(row) > 4 and job.startswith(row[0].rstrip("*"))]
            if letters:
                found[job] = self._STATES.get(letters[0], JobState.UNKNOWN)
            elif self._UNKNOWN.search(output + error) or code == 0:
                found[job] = JobState.COMPLETED
            else:
                self._note_trouble(_trouble("qstat", code, error))
        return found

    def named_jobs(self) -> list[str]:
        """None: the table has no full names. A job that starts without its controller ends by itself."""
        return []


# -- from a site -------------------------------------------------------------------------------------------------------


def launcher(batch: Batch) -> Launcher:
    """Starts one pool of workers on each node of a job.

    With debug=False, Parsl's scripts end with a test that fails, and every job as failed.
    """
    if batch.launcher == "srun":
        # Since 22.05 srun doesn't take --cpus-per-task over from the job. A node that is lost ends its own pool only.
        # A job that was submitted with --export=NONE hands that on to srun, which then finds no program.
        cores = f"--cpus-per-task={batch.cores_per_node} " if batch.cores_per_node else ""
        options = f"--export=ALL --ntasks-per-node=1 {cores}--no-kill --kill-on-bad-exit=0 --cpu-bind=none"
        options = f"{options} {batch.launcher_options}"
        return SrunLauncher(overrides=options.strip())
    if batch.launcher == "mpiexec":
        return MpiExecLauncher(bind_cmd=batch.launcher_bind, overrides=batch.launcher_options)
    return SingleNodeLauncher()


def provider(site: Site, prefix: str) -> Steady:
    """The provider of a site with a scheduler. Its jobs' names begin with ``prefix``."""
    batch = site.batch
    assert batch is not None, "only sites with a scheduler have a provider"
    made = PROVIDERS[site.scheduler](site, batch)
    made.configure(prefix, batch)
    return made


def block_script(site: Site, command: str) -> str:
    """The script of a job whose nodes run ``command``, as it would be submitted; nothing is.

    Parsl's providers write it while they submit: so one submits here, to nobody, in a directory of its own.
    """
    with tempfile.TemporaryDirectory() as directory:
        made: Any = provider(site, "workflow")
        made.script_dir = directory
        made.execute_wait = lambda command: (0, "Submitted batch job 1", "")
        made.submit(command, 1, "block-0")
        (script,) = (path for path in Path(directory).iterdir() if path.is_file())
        name = script.name.removesuffix(".submit")
        return script.read_text().replace(directory, "SCRIPTS").replace(name, "workflow.block-0.TIME")


def common_options(batch: Batch) -> dict[str, Any]:
    """What the providers of all schedulers are made with."""
    return {
        "nodes_per_block": batch.nodes_per_block,
        "init_blocks": batch.min_blocks,
        "min_blocks": batch.min_blocks,
        "max_blocks": batch.max_blocks,
        "walltime": clock(batch.walltime),
        # Modules and worker_init may take minutes, which are a part of the walltime.
        "worker_init": f"{BLOCK_START}=$(date +%s)\n{batch.beginning}",
        "launcher": launcher(batch),
        "cmd_timeout": _COMMAND_TIMEOUT,
        "account": batch.account,
    }


def directives(word: str, batch: Batch, *more: str) -> str:
    """Lines of a job's script, each with an option: those given here, and the site's."""
    return "\n".join(f"#{word} {option}" for option in (*more, *batch.scheduler_options))


def _slurm(site: Site, batch: Batch) -> SteadySlurm:
    made = SteadySlurm(
        partition=batch.queue,
        qos=batch.qos,
        constraint=batch.constraint,
        cores_per_node=batch.cores_per_node,
        gpus_per_node=batch.gpus_per_node(site.gpu_count),
        gres=batch.gres,
        exclusive=batch.exclusive,
        # A job that Slurm begins anew after a node's failure would meet the block that has replaced it.
        scheduler_options=directives("SBATCH", batch, "--no-requeue", *["--no-kill"] * (batch.nodes_per_block > 1)),
        **common_options(batch),
    )
    made.hidden = tuple(overriding(batch))
    return made


def _pbs(site: Site, batch: Batch) -> SteadyPBS:
    return SteadyPBS(
        queue=batch.queue,
        cpus_per_node=batch.cores_per_node or 1,
        select_options=batch.chunk(site.gpu_count),
        scheduler_options=directives("PBS", batch, "-r n", f"-l place={batch.place}"),
        **common_options(batch),
    )


def _torque(site: Site, batch: Batch) -> SteadyTorque:
    made = SteadyTorque(queue=batch.queue, scheduler_options=directives("PBS", batch), **common_options(batch))
    # Parsl asks for as many cores of a node as it starts pools there, which is one, and for no GPUs.
    wanted = batch.node_properties(site.gpu_count)
    made.template_string = made.template_string.replace("ppn=${tasks_per_node}", wanted)
    return made


PROVIDERS: dict[str, Callable[[Site, Batch], Steady]] = {"slurm": _slurm, "pbs": _pbs, "torque": _torque}
"""How a provider is made for each of ``batch.BATCH_SCHEDULERS``."""
