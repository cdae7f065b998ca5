"""``python -m workflow.submit``: a campaign as one batch job, whose controller runs on the first of its nodes."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from workflow.cluster.batch import Batch, clock
from workflow.cluster.commands import overriding
from workflow.disk import write_text
from workflow.doctor.findings import probe
from workflow.errors import EXIT_DONE, InputError, OutOfTime, SiteError
from workflow.lock import leader
from workflow.request import Request, checked_request, create, parser
from workflow.rundir import RunDir
from workflow.site import Site
from workflow.terminal import run_command

CHAIN = "WORKFLOW_CHAIN"
"""The variable that tells a job how many may still follow it."""

_TIMEOUT = 120.0

_EPILOG = """\
The run's directory is made now, with the job's script in it (job.sh). The job stops early enough for all results to be
kept; with --chain N it is then submitted again, at most N times, until the campaign is done or a job got no further.
exit codes: 0 submitted; 2 bad input; 3 the scheduler refuses the job, or the disk its script"""


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    return run_command(lambda: _submit_or_print(args))


def _submit_or_print(args: argparse.Namespace) -> int:
    request = _read_request(args)
    for warning in request.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if args.dry_run:
        print(job_script(request.site, request.run), end="")
        return EXIT_DONE
    if request.resume:
        _refuse_second(request)
    return _submit(request if request.resume else create(request), args.chain)


def _refuse_second(request: Request) -> None:
    """Raises InputError for a run that is led, or that a job in Slurm's queue will lead, as another one could not."""
    if name := leader(request.run.lock):
        who = f"{name} leads this run"
    elif job := _queued(request):
        who = f"job {job} is queued for this run, or leads it"
    else:
        return
    raise InputError(f"--resume {request.run.path}: {who}\n    -> wait until it ends, or stop it (scancel, qdel, kill)")


def _queued(request: Request) -> str:
    """The user's job in Slurm's queue that has the run's script, if there is one."""
    if not JOBS[request.site.scheduler].tells_scripts:
        return ""
    _, said = probe(["squeue", "--noheader", f"--user={os.getuid()}", "--format=%i|%o"])
    jobs = [line.partition("|") for line in said.splitlines()]
    return next((job for job, _, command in jobs if command.strip() == str(request.run.job_script)), "")


def _parser() -> argparse.ArgumentParser:
    submit = parser(
        "workflow.submit", "Submit a campaign as one job, in which the controller runs beside the trials.", _EPILOG
    )
    submit.add_argument("--nodes", type=int, metavar="N", help="nodes of the job (default: the site's nodes_per_block)")
    submit.add_argument("--walltime", metavar="TIME", help="as 4h or 01:30:00 (default: the site's walltime)")
    submit.add_argument("--chain", type=int, default=0, metavar="N", help="submit the job again, up to N times")
    submit.add_argument("--dry-run", action="store_true", help="print the job's script and exit")
    return submit


def _read_request(args: argparse.Namespace) -> Request:
    if args.chain < 0:
        raise InputError(f"--chain {args.chain}: below 0\n    -> write how many jobs may follow the first one")
    if args.walltime is not None and not args.walltime.strip():
        raise InputError("--walltime: is empty\n    -> write a time such as 4h, or leave it out for the site's")
    given = {"nodes_per_block": ("--nodes", args.nodes), "walltime": ("--walltime", args.walltime)}
    given = {key: (option, value) for key, (option, value) in given.items() if value is not None}
    args.settings += [f"site.{key}={value}" for key, (_, value) in given.items()]
    args.as_job, args.site_options = True, {key: option for key, (option, _) in given.items()}
    request = checked_request(args)
    if request.site.scheduler not in JOBS:
        what = f"no job for {request.site.scheduler} can be written that leads a campaign"
        raise InputError(f"--site {request.site.name}: {what}\n    -> submit blocks of workers: python -m workflow.run")
    return request


def job_script(site: Site, run: RunDir) -> str:
    """The job that leads ``run`` to its end, or submits itself again when its time is over."""
    assert site.batch is not None, "only a site with a scheduler has jobs"
    path = os.environ.get("PYTHONPATH")
    again = " ".join(_submission(site, f"$(({CHAIN} - 1))"))
    lines = [
        "#!/bin/bash",
        *JOBS[site.scheduler].directives(site, site.batch, run),
        "",
        *filter(None, [site.batch.beginning]),
        f"cd {shlex.quote(str(Path.cwd()))} || exit 3",
        *([f"export PYTHONPATH={shlex.quote(path)}"] if path else []),
        "code=0",  # worker_init may have said set -e
        f"{shlex.quote(sys.executable)} -m workflow.run --resume {run.path} --in-allocation || code=$?",
        f'if [ $code -eq {OutOfTime.exit_code} ] && [ "${{{CHAIN}:-0}}" -gt 0 ]; then',
        f"    {again} {run.job_script} || echo 'the next job of the chain was refused; resume by hand' >&2",
        "fi",
        "exit $code",
    ]
    return "\n".join(lines) + "\n"


def _submission(site: Site, chain: str) -> list[str]:
    """The command that submits a script, after which so many may follow."""
    return [word.format(f"{CHAIN}={chain}") for word in JOBS[site.scheduler].submission]


def _job_name(run: RunDir) -> str:
    """PBS takes fewer characters than a path may have."""
    return re.sub(r"[^\w.-]", "-", f"workflow-{run.name}", flags=re.ASCII)


def _slurm(site: Site, batch: Batch, run: RunDir) -> Iterator[str]:
    options = {
        "job-name": _job_name(run),
        "output": run.path / "job-%j.out",
        "nodes": batch.nodes_per_block,
        "time": clock(batch.walltime),
        "partition": batch.queue,
        "account": batch.account,
        "qos": batch.qos,
        "constraint": batch.constraint,
        "ntasks-per-node": 1,
        "cpus-per-task": batch.cores_per_node,
        "gres": batch.gres,
        "gpus-per-node": batch.gpus_per_node(site.gpu_count),
    }
    yield from (f"#SBATCH --{name}={value}" for name, value in options.items() if value is not None)
    # A node that fails ends its trials only, and a job that Slurm began anew would meet the one that follows.
    yield from (f"#SBATCH {option}" for option in ("--no-requeue", "--no-kill", *["--exclusive"] * batch.exclusive))
    yield from (f"#SBATCH {option}" for option in batch.scheduler_options)


def _pbs(site: Site, batch: Batch, run: RunDir) -> Iterator[str]:
    cores = f"ncpus={batch.cores_per_node or 1}"
    chunk = ":".join(filter(None, [f"{batch.nodes_per_block}", cores, batch.chunk(site.gpu_count)]))
    options = {
        "-N": _job_name(run),
        "-o": f"{run.path}/",
        "-j": "oe",
        "-k": "doe",
        "-r": "n",
        "-q": batch.queue,
        "-A": batch.account,
        "-l select": chunk,
        "-l walltime": clock(batch.walltime),
        "-l place": batch.place,
    }
    if site.scheduler == "torque":
        options["-l nodes"] = f"{batch.nodes_per_block}:{batch.node_properties(site.gpu_count)}"
        for key in ("-l select", "-l place", "-k"):
            del options[key]
    for name, value in options.items():
        if value is not None:
            yield f"#PBS {name}={value}" if name.startswith("-l ") else f"#PBS {name} {value}"
    yield from (f"#PBS {option}" for option in batch.scheduler_options)


@dataclass(frozen=True)
class JobKind:
    """What a scheduler wants of a job that leads a campaign: its script's ``directives``, and how it is submitted.

    In ``submission`` {} is a variable with its value, in ``output`` the number that the scheduler has given the job.
    ``tells_scripts``: whether it says of a queued job by which script it was submitted.
    """

    directives: Callable[[Site, Batch, RunDir], Iterator[str]]
    submission: tuple[str, ...]
    output: str
    tells_scripts: bool = False


JOBS = {
    "slurm": JobKind(_slurm, ("sbatch", "--export=ALL,{}"), "job-{}.out", tells_scripts=True),
    "pbs": JobKind(_pbs, ("qsub", "-v", "{}"), "{}.OU"),
    "torque": JobKind(_pbs, ("qsub", "-v", "{}"), ""),
}


def _output(site: Site, run: RunDir, said: str) -> Path:
    """The file with the job's output, by what the command said of its submission."""
    return run.path / JOBS[site.scheduler].output.format(said.rpartition(" ")[2])


def _again(request: Request, chain: int) -> str:
    """The command that submits the run's job anew, which writes its script anew, too."""
    if request.resume:
        return "give the command again"
    follow = f" --chain {chain}" if chain else ""
    return f"python -m workflow.submit --resume {shlex.quote(str(request.run.path))}{follow}"


def _submit(request: Request, chain: int) -> int:
    run, site = request.run, request.site
    path = run.job_script
    write_text(path, job_script(site, run))
    path.chmod(0o755)
    command = _submission(site, str(chain))
    hidden = overriding(site.batch) if site.batch is not None else []
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    again = _again(request, chain)
    try:
        done = subprocess.run(
            [*command, str(path)], capture_output=True, text=True, timeout=_TIMEOUT, check=False, env=env
        )
    except FileNotFoundError:
        raise SiteError(f"{command[0]} is not on the PATH\n    -> on a login node of {site.name}: {again}") from None
    except subprocess.TimeoutExpired:
        remedy = f"see whether the job is queued; if not: {again}"
        raise SiteError(f"{command[0]} gives no answer\n    -> {remedy}") from None
    said = ((done.stderr if done.returncode else "") or done.stdout).strip()
    if done.returncode != 0:
        mend = "mend what it names by --set site.KEY=VALUE"
        raise SiteError(f"{command[0]} refuses the job: {said}\n    -> {mend}: {again}")
    print(f"{said}: run {run.path} on site {site.name}")
    print(f"its output: {_output(site, run, said)}; after its end: {run.resume_command}")
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
