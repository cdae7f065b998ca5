"""``python -m workflow.run``: run or resume a campaign."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from workflow import __version__
from workflow.config.notify import describe
from workflow.errors import EXIT_DONE, InputError
from workflow.finals import reruns_of
from workflow.globus.endpoint import INSTALL_SDK, sdk_trouble
from workflow.request import Request, checked_request, create, parser
from workflow.site import OTHER_ADDRESS
from workflow.stages import Command, Place
from workflow.terminal import run_command
from workflow.trial import Trial

_EXIT_CODES = """\
exit codes: 0 done; 2 bad input; 3 the site failed (resumable); 4 no trial succeeded; 5 the set-up is broken
(resumable); 6 the allocation ends (resumable); 130 interrupted by Ctrl-C or TERM (resumable)"""


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    return run_command(lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    request = checked_request(args)
    for warning in request.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return _dry_run(request) if args.dry_run else _execute(request)


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


# -- a dry run -------------------------------------------------------------------------------------------------------


def _dry_run(request: Request) -> int:
    """Print what the first trial would run, ready to be pasted into a shell on a worker."""
    if request.site.endpoint is not None:
        request = replace(request, run=request.site.endpoint.run(request.run))
    pipeline = request.experiment.pipeline(request.site.container, request.run)
    search = request.experiment.make_search()
    trial = search.ask()
    assert trial is not None, "a new search asks at least once"
    data = None
    if "preprocess" in request.experiment.stages:
        data = Place(str(request.run.stage_attempt("preprocess", 1)), request.run.name)
        _print_command("preprocess, once", pipeline.preprocess(data), request)
    train = _train_command(request, trial, data)
    _print_command(
        f"train, trial {trial.id} of at most {search.budget}, {request.site.capacity} at a time", train, request
    )
    finalists = request.experiment.finalists
    for again in reruns_of([trial], finalists, ())[:1]:
        title = f"train again, the first of {finalists.size} re-runs, if trial {trial.id} is one of the best"
        _print_command(title, _train_command(request, again, data), request)
    if "infer" in request.experiment.stages:
        place = Place(str(request.run.stage_attempt("infer", 1)), request.run.name)
        _print_command("infer, with the winner's model", pipeline.infer(place, train, data), request)
    if (notify := request.experiment.notify) is not None:
        for line in describe(notify):
            print(f"# notify {line}")
        print()
    if request.site.batch is not None and not request.site.allocated_nodes:
        from workflow.cluster.providers import block_script  # imports Parsl

        print(f"# a job that runs {request.site.workers} trials at a time on each of its nodes\n")
        print(block_script(request.site, "# the workers"))
    return EXIT_DONE


def _train_command(request: Request, trial: Trial, data: Place | None) -> Command:
    checkpoints = str(request.run.checkpoints(trial.config_id))
    place = Place(str(request.run.trial_attempt(trial.id, 1)), request.run.name, trial.id, checkpoints)
    return request.experiment.pipeline(request.site.container, request.run).train(place, trial.params, data)


def _print_command(title: str, command: Command, request: Request) -> None:
    if program := next(filter(shutil.which, command.programs), None):
        command = replace(command, argv=(program, *command.argv[1:]))
    directories = (
        [command.directory] if request.experiment.model.data_dir else [command.directory, str(request.run.data)]
    )
    print(f"# {title}")
    print(f"mkdir -p {shlex.join(directories)} && cd {shlex.quote(command.directory)}")
    own_python = not command.programs and request.site.endpoint is None
    prefix = f'PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH" ' if own_python else ""
    if unset := [name for name in command.unset if name in os.environ]:
        prefix = f"env {' '.join(f'-u {name}' for name in unset)} "
    print(prefix + command.shell() + "\n")


# -- a campaign ------------------------------------------------------------------------------------------------------


def _execute(request: Request) -> int:
    """Own the run from its first file to its last; everything heavy is imported here, after the input was checked."""
    if reason := request.site.foreign_address:
        raise InputError(f"--site {request.site.name}: {reason}\n    -> {OTHER_ADDRESS}")
    if request.site.endpoint is not None and (reason := sdk_trouble()):
        raise InputError(f"--site {request.site.name}: {reason}\n    -> {INSTALL_SDK}")
    from workflow.controller import control

    if not request.resume:
        request = create(request)
    return control(
        request.experiment,
        request.site,
        request.run,
        quiet=request.quiet,
        accept_image=request.accept_image,
        end=request.end,
    )


def program() -> NoReturn:
    """The program, which from here on only ends: a signal that comes late changes nothing about its exit code."""
    code = main()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


if __name__ == "__main__":
    program()
