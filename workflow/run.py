"""``python -m workflow.run``: run or resume a campaign."""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import NoReturn

from workflow import __version__
from workflow.allocation import find_allocation
from workflow.config import Experiment, load_experiment
from workflow.errors import EXIT_DONE, EXIT_INTERRUPTED, InputError, WorkflowError, unusable_text
from workflow.initial import write_initial
from workflow.rundir import RunDir, is_plain
from workflow.site import Site, find_site, load_site
from workflow.stages import Command, Place, fragile
from workflow.strict import parse_overrides, shipped, split_overrides

_EXIT_CODES = """\
exit codes: 0 done; 2 bad input; 3 the site failed (resumable); 4 no trial succeeded; 5 the set-up is broken
(resumable); 6 the allocation ends (resumable); 130 interrupted by Ctrl-C or TERM (resumable)"""


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


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    _speak_any_language()
    heard = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _interrupt) for number in heard}
    try:
        job = checked_job(args)
        for warning in (*job.experiment.warnings, *_warnings(job)):
            print(f"warning: {warning}", file=sys.stderr)
        return _dry_run(job) if args.dry_run else _execute(job)
    except WorkflowError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _flush()


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """TERM and HUP before there is a campaign that could clean up: as Ctrl-C."""
    raise KeyboardInterrupt


def _speak_any_language() -> None:
    """Escape what the terminal's encoding lacks: a run's name must not end it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _flush() -> None:
    """Write out what is buffered; where nobody reads any more, let Python not complain about it at its exit."""
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None: it was closed before the start
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _parser() -> argparse.ArgumentParser:
    run = parser("workflow.run", "Search the hyperparameters of a containerized model.", _EXIT_CODES)
    run.add_argument(
        "--accept-image", action="store_true", help="with --resume: go on although the image is another one"
    )
    run.add_argument(
        "--in-allocation", action="store_true",
        help="inside a job of the site's scheduler: run the trials on the nodes of this job (see workflow.submit)",
    )  # fmt: skip
    run.add_argument("--dry-run", action="store_true", help="print the command lines of the first trial and exit")
    run.add_argument("--quiet", action="store_true", help="print errors and warnings only")
    run.add_argument("--version", action="version", version=f"workflow {__version__}")
    return run


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
    made.add_argument("--experiment", type=Path, help="experiment YAML file; the shipped demo if left out")
    made.add_argument("--output", type=Path, help="run directory; runs/<experiment>-<time> if left out")
    made.add_argument("--resume", type=Path, metavar="RUN_DIR", help="go on with a run, on its own site or on --site")
    made.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="change a key of the experiment (search.population_size=8) or of the site (site.workers=2); repeatable",
    )  # fmt: skip
    return made


# -- reading the command line ----------------------------------------------------------------------------------------


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


def _warnings(job: Job) -> list[str]:
    """The run's path is an argument of every trial, and published scripts don't quote theirs."""
    reason = fragile(str(job.run.path)) if job.experiment.model.runtime == "apptainer" else ""
    return [f"run directory {job.run.path}: {reason}"] if reason else []


# -- a dry run -------------------------------------------------------------------------------------------------------


def _dry_run(job: Job) -> int:
    """Print what the first trial would run, ready to be pasted into a shell on a worker."""
    if job.site.endpoint is not None:
        job = replace(job, run=job.site.endpoint.run(job.run))
    pipeline = job.experiment.pipeline(job.site.container, job.run)
    search = job.experiment.make_search()
    trial = search.ask()
    assert trial is not None, "a new search asks at least once"
    data = None
    if "preprocess" in job.experiment.stages:
        data = Place(str(job.run.stage_attempt("preprocess", 1)), job.run.name)
        _print_command("preprocess, once", pipeline.preprocess(data), job)
    checkpoints = str(job.run.checkpoints(trial.config_id))
    place = Place(str(job.run.trial_attempt(trial.id, 1)), job.run.name, trial.id, checkpoints)
    train = pipeline.train(place, trial.params, data)
    _print_command(f"train, trial {trial.id} of at most {search.budget}, {job.site.capacity} at a time", train, job)
    if "infer" in job.experiment.stages:
        place = Place(str(job.run.stage_attempt("infer", 1)), job.run.name)
        _print_command("infer, with the winner's model", pipeline.infer(place, train, data), job)
    return EXIT_DONE


def _print_command(title: str, command: Command, job: Job) -> None:
    if program := next(filter(shutil.which, command.programs), None):
        command = replace(command, argv=(program, *command.argv[1:]))
    directories = [command.directory] if job.experiment.model.data_dir else [command.directory, str(job.run.data)]
    print(f"# {title}")
    print(f"mkdir -p {shlex.join(directories)} && cd {shlex.quote(command.directory)}")
    own_python = not command.programs and job.site.endpoint is None
    prefix = f'PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH" ' if own_python else ""
    if unset := [name for name in command.unset if name in os.environ]:
        prefix = f"env {' '.join(f'-u {name}' for name in unset)} "
    print(prefix + command.shell() + "\n")


# -- a campaign ------------------------------------------------------------------------------------------------------


def _execute(job: Job) -> int:
    """Own the run from its first file to its last; everything heavy is imported here, after the input was checked."""
    from workflow.controller import control

    if not job.resume:
        job = create(job)
    return control(job.experiment, job.site, job.run, quiet=job.quiet, accept_image=job.accept_image, end=job.end)


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


def program() -> NoReturn:
    """The program, which from here on only ends: a signal that comes late changes nothing about its exit code."""
    code = main()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


if __name__ == "__main__":
    program()
