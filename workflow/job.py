"""Which run a command line means: its options, read and checked, and the run's directory."""

from __future__ import annotations

import argparse
import errno
import json
import os
import shlex
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from workflow.allocation import find_allocation
from workflow.config import Experiment, load_experiment
from workflow.errors import InputError, unusable_text
from workflow.initial import write_initial
from workflow.rundir import RunDir, is_plain
from workflow.site import Site, find_site, load_site
from workflow.strict import parse_overrides, shipped, split_overrides


@dataclass(frozen=True)
class Job:
    """What the command line asks for, checked."""

    experiment: Experiment
    site: Site
    run: RunDir
    resume: bool
    quiet: bool
    named: bool = True
    """Whether the user named the run's directory."""
    accept_image: bool = False
    end: float | None = None
    """When the allocation ends in which this process runs, in seconds since the epoch."""


class SiteHelp(argparse.Action):
    """Prints the commented template of site files."""

    def __init__(self, **options: Any) -> None:
        super().__init__(nargs=0, **options)

    def __call__(self, made: argparse.ArgumentParser, *_: object) -> NoReturn:
        print((shipped("sites") / "TEMPLATE").read_text(encoding="utf-8"), end="")
        made.exit()


def parser(program: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """The options that say which run is meant, for all commands that begin or go on with one."""
    made = argparse.ArgumentParser(
        prog=f"python -m {program}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--site", help="site by name (./sites, $WORKFLOW_SITES, shipped ones) or path of its YAML file")
    made.add_argument("--site-help", action=SiteHelp, help="explain every key of site files and exit")
    made.add_argument("--experiment", type=Path, help="experiment YAML file; the shipped demo if left out")
    made.add_argument("--output", type=Path, help="run directory; runs/<experiment>-<time> if left out")
    made.add_argument("--resume", type=Path, metavar="RUN_DIR", help="go on with a run, on its own site or on --site")
    made.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="change a key of the experiment (search.population_size=8) or of the site (site.workers=2); repeatable",
    )  # fmt: skip
    return made


def checked_job(args: argparse.Namespace) -> Job:
    """The job, with every path that the system cannot even look up as bad input. Raises InputError."""
    try:
        return _placed(_job(args), in_allocation=getattr(args, "in_allocation", False))
    except OSError as error:
        where = error.filename or "the working directory"
        raise InputError(f"{where}: {error.strerror}\n    -> check the path and its permissions") from error


def _placed(job: Job, *, in_allocation: bool) -> Job:
    """The job where it runs: in the allocation around this process, or with jobs of its own."""
    if job.site.batch is not None and not is_plain(job.run.path):
        raise InputError(
            f"--output {job.run.path}: schedulers take no path with blanks or other special characters\n"
            "    -> choose a directory named by letters, digits and ./_-+=@% only"
        )
    if not in_allocation:
        return job
    if job.site.batch is None:
        raise InputError(
            f"--in-allocation: site {job.site.name} has no scheduler\n    -> leave it out, or name another --site"
        )
    allocation = find_allocation()
    return replace(job, site=replace(job.site, allocated_nodes=allocation.nodes), end=allocation.end)


def _job(args: argparse.Namespace) -> Job:
    for_experiment, for_site = split_overrides(parse_overrides(args.settings))
    if args.resume is None:
        if args.site is None:
            raise InputError("--site is missing\n    -> name a site, for example --site local")
        site = load_site(find_site(args.site), for_site)
        given = args.experiment or shipped("configs") / "demo.yaml"
        experiment = load_experiment(given, for_experiment, remote=site.endpoint is not None)
        run = _new_run(args.output, experiment.name)
        return Job(
            experiment, site, run, resume=False, quiet=getattr(args, "quiet", False), named=args.output is not None
        )
    for option in ("experiment", "output"):
        if getattr(args, option) is not None:
            raise InputError(f"--{option} does not go with --resume\n    -> leave it out: the run has its own")
    run = RunDir(_writable_name("--resume", args.resume))
    if not run.experiment.is_file():
        raise InputError(f"--resume {args.resume}: not a run (it has no {run.experiment.name})\n    -> check the path")
    site = load_site(find_site(args.site) if args.site else run.site, for_site)
    experiment = load_experiment(run.experiment, for_experiment, remote=site.endpoint is not None)
    return Job(
        experiment,
        site,
        run,
        resume=True,
        quiet=getattr(args, "quiet", False),
        accept_image=getattr(args, "accept_image", False),
    )


def _new_run(output: Path | None, name: str) -> RunDir:
    if output is None:
        stem = Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
        candidates = (Path(f"{stem}{suffix}") for suffix in ("", *(f"-{n}" for n in range(2, 1000))))
        output = next(path for path in candidates if not path.exists())
    elif output.exists() and (not output.is_dir() or any(output.iterdir())):
        resume = f", or go on with it by --resume {shlex.quote(str(output))}" if RunDir(output).journal.exists() else ""
        raise InputError(f"--output {output}: exists already\n    -> name a new directory{resume}")
    return RunDir(_writable_name("--output", output))


def _writable_name(option: str, path: Path) -> Path:
    """The absolute path of a run, which stands in files and command lines of all trials."""
    if reason := unusable_text(str(path.absolute())):
        shown = str(path).encode(errors="surrogateescape")
        raise InputError(f"{option} {shown!r}: {reason}\n    -> give a path in UTF-8")
    return path.absolute()


def create(job: Job) -> Job:
    """Make the run's directory with what a resume needs, all at once: it exists whole or not at all.

    A name of ours that another run has taken in the meantime is replaced by the next one.
    """
    draft = RunDir(job.run.path.with_name(f".{job.run.name}.{os.getpid()}"))
    try:
        draft.path.mkdir(parents=True)
        draft.experiment.write_text(job.experiment.to_yaml(), encoding="utf-8")
        draft.site.write_text(job.site.to_yaml(), encoding="utf-8")
        draft.space.write_text(json.dumps(job.experiment.space.entries, indent=2) + "\n", encoding="utf-8")
        if job.experiment.initial:
            write_initial(draft.initial, job.experiment.space, job.experiment.initial)
        return _move_in(draft, job)
    except OSError as error:
        what = f"--output {job.run.path}: cannot be made ({error.strerror})"
        raise InputError(f"{what}\n    -> choose another directory") from error
    finally:
        shutil.rmtree(draft.path, ignore_errors=True)


def _move_in(draft: RunDir, job: Job) -> Job:
    if job.run.path.is_dir() and job.named and not any(job.run.path.iterdir()):
        for path in draft.path.iterdir():  # an empty directory of the user's stays the one that it is
            path.rename(job.run.path / path.name)
        return job
    while True:
        try:
            draft.path.rename(job.run.path)
            return job
        except OSError as error:
            if job.named or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            job = replace(job, run=_new_run(None, job.experiment.name))
