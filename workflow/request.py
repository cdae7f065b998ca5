"""Which run a command line means: its options, read and checked, and the run's directory."""

from __future__ import annotations

import argparse
import errno
import json
import os
import shlex
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from workflow.arguments import fragile
from workflow.cluster.allocation import find_allocation
from workflow.config.experiment import Experiment
from workflow.config.initial import write_earlier, write_initial
from workflow.config.load import load_experiment
from workflow.config.strict import apply_overrides, is_there, parse_overrides, read_yaml, shipped, split_overrides
from workflow.disk import FULL_DISK
from workflow.durations import LONGER
from workflow.errors import InputError, Problems, unusable_text
from workflow.image import ImageError, read_image
from workflow.rundir import PLAIN_NAMES, RunDir, is_plain, whole_path, why_no_run
from workflow.site import OTHER_SCHEDULERS, Site, find_site, load_site

_DRAFT = ".workflow-draft."


@dataclass(frozen=True)
class Request:
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

    @property
    def warnings(self) -> list[str]:
        """Of what may go wrong with this experiment on this site."""
        found = list(self.experiment.warnings)
        if self.experiment.model.runtime == "apptainer" and (reason := fragile(str(self.run.path))):
            found.append(f"run directory {self.run.path}: {reason}")  # published scripts don't quote theirs
        if self.site.batch is not None and (reason := self.experiment.too_long_for(self.site.batch.walltime)):
            found.append(f"{reason}\n    -> {LONGER}")
        return found


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
    made.set_defaults(quiet=False, accept_image=False, in_allocation=False)  # of commands without these options
    made.set_defaults(as_job=False, site_options={})
    made.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="change a key of the experiment (search.population_size=8) or of the site (site.workers=2); repeatable",
    )  # fmt: skip
    return made


def checked_request(args: argparse.Namespace) -> Request:
    """The request, with every path that the system cannot even look up as bad input. Raises InputError."""
    try:
        request = _read_request(args)
        _refuse_missing_config_file(request)
        return _placed(request, in_allocation=args.in_allocation)
    except OSError as error:
        where = error.filename or "the working directory"
        raise InputError(f"{where}: {error.strerror}\n    -> check the path and its permissions") from error


def _refuse_missing_config_file(request: Request) -> None:
    experiment = request.experiment
    if request.site.endpoint is None and (path := experiment.missing_config_file(request.site.container)):
        raise InputError(
            f"stages.train.config_file: {experiment.stages['train'].config_file}: no such file: {path}\n"
            "    -> put it into the data directory, or mend the name or leave it out"
        )


def _placed(request: Request, *, in_allocation: bool) -> Request:
    """The request with where it runs: in the allocation around this process, or with jobs of its own."""
    if request.site.batch is not None and not is_plain(request.run.path):
        raise InputError(
            f"--output {request.run.path}: schedulers take no path with blanks or other special characters\n"
            f"    -> {PLAIN_NAMES}"
        )
    if not in_allocation:
        return request
    if request.site.batch is None:
        raise InputError(
            f"--in-allocation: site {request.site.name} has no scheduler\n    -> leave it out, or name another --site"
        )
    allocation = find_allocation()
    return replace(request, site=replace(request.site, allocated_nodes=allocation.nodes), end=allocation.end)


def _read_request(args: argparse.Namespace) -> Request:
    for_experiment, for_site = split_overrides(parse_overrides(args.settings))
    if args.as_job:
        _refuse_site_without_jobs(args, for_site)
    if args.resume is None:
        if args.site is None:
            raise InputError("--site is missing\n    -> name a site, for example --site local")
        site = load_site(find_site(args.site), for_site, args.site_options)
        given = args.experiment or shipped("configs") / "demo.yaml"
        experiment = _load_experiment(given, for_experiment, site)
        run = _new_run(args.output, experiment.name)
        return Request(experiment, site, run, resume=False, quiet=args.quiet, named=args.output is not None)
    for option in ("experiment", "output"):
        if getattr(args, option) is not None:
            raise InputError(f"--{option} does not go with --resume\n    -> leave it out: the run has its own")
    run = RunDir(_writable_name("--resume", args.resume))
    if not run.experiment.is_file():
        raise InputError(f"--resume {args.resume}: not a run (it has no {run.experiment.name})\n    -> check the path")
    if reason := why_no_run(run.path):
        begin = f"--experiment {shlex.quote(str(args.resume / run.experiment.name))}"
        raise InputError(f"--resume {args.resume}: {reason}\n    -> begin a run: {begin} instead of --resume")
    site = load_site(find_site(args.site) if args.site else run.site, for_site, args.site_options)
    experiment = _load_experiment(run.experiment, for_experiment, site)
    return Request(
        experiment,
        site,
        run,
        resume=True,
        quiet=args.quiet,
        accept_image=args.accept_image,
    )


def _load_experiment(path: Path, overrides: Mapping[str, Any], site: Site) -> Experiment:
    """With its image looked into, which a look at the file alone leaves out. Raises InputError."""
    experiment = load_experiment(path, overrides, remote=site.endpoint is not None)
    if experiment.model.image is not None and site.endpoint is None:
        try:
            read_image(Path(experiment.model.image))
        except ImageError as error:
            entry = Problems(str(path), {key: f"--set {key}" for key in overrides}).where("model.image")
            raise error.as_input(experiment.model.image, entry) from error
    return experiment


def _refuse_site_without_jobs(args: argparse.Namespace, overrides: Mapping[str, Any]) -> None:
    """Raises InputError before the keys of a job are read, which such a site has none of."""
    remedy = "name the site of a cluster, for example --site slurm-generic"
    if args.site is None and args.resume is None:
        raise InputError(f"--site is missing\n    -> {remedy}")
    path = find_site(args.site) if args.site else RunDir(args.resume).site
    if not is_there(path):
        return  # which is told with the rest of the command line
    data = read_yaml(path, "site")
    apply_overrides(data, overrides)
    if data.get("scheduler") in OTHER_SCHEDULERS:
        what = f"--site {args.site}: has" if args.site else f"--resume {args.resume}: its site has"
        raise InputError(f"{what} no scheduler\n    -> {remedy}, or do without a job: python -m workflow.run")


def _new_run(output: Path | None, name: str) -> RunDir:
    if output is None:
        stem = Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
        candidates = (Path(f"{stem}{suffix}") for suffix in ("", *(f"-{n}" for n in range(2, 1000))))
        output = next(path for path in candidates if not path.exists())
    refuse_file(output)
    if output.exists() and not _is_vacant(RunDir(output)):
        resume = f", or go on with it by --resume {shlex.quote(str(output))}" if not why_no_run(output) else ""
        raise InputError(f"--output {output}: exists already\n    -> name a new directory{resume}")
    return RunDir(_writable_name("--output", output))


def refuse_file(output: Path) -> None:
    """Raises InputError for an output that is a file, or below one."""
    there = next((path for path in (output, *output.absolute().parents) if is_there(path)), None)
    if there is not None and not there.is_dir():
        raise InputError(f"--output {output}: {there} is no directory\n    -> name a new directory")


def _is_vacant(run: RunDir) -> bool:
    """Whether a directory of the user's has nothing in it but what file systems and starts that were cut off leave."""
    names = {path.name for path in run.path.iterdir()} - {"lost+found"}
    drafts = {name for name in names if name.startswith(_DRAFT)}
    moved = {path.name for path in (run.site, run.space, run.initial, run.warm_start)} if drafts else set()
    return names <= drafts | moved


def _writable_name(option: str, path: Path) -> Path:
    """The absolute path of a run, which stands in files and command lines of all trials."""
    whole = whole_path(path)
    if reason := unusable_text(str(whole)):
        shown = str(path).encode(errors="surrogateescape")
        raise InputError(f"{option} {shown!r}: {reason}\n    -> give a path in UTF-8")
    return whole


def create(request: Request) -> Request:
    """Make the run's directory with what a resume needs, all at once: it exists whole or not at all.

    An empty directory of the user's stays the one that it is. A start that is cut off there leaves a draft beside what
    it has moved in; the next start takes such a directory for empty.

    A name of ours that another run has taken in the meantime is replaced by the next one. Raises InputError.
    """
    draft = _draft(request)
    try:
        draft.path.mkdir(parents=True)
        draft.experiment.write_text(request.experiment.to_yaml(), encoding="utf-8")
        draft.site.write_text(request.site.to_yaml(), encoding="utf-8")
        draft.space.write_text(json.dumps(request.experiment.space.entries, indent=2) + "\n", encoding="utf-8")
        if request.experiment.initial:
            write_initial(draft.initial, request.experiment.space, request.experiment.initial)
        if request.experiment.earlier:
            mode, earlier = request.experiment.objective.mode, request.experiment.earlier
            write_earlier(draft.warm_start, request.experiment.space, mode, earlier)
        return _move_in(draft, request)
    except OSError as error:
        what = f"--output {request.run.path}: cannot be made ({error.strerror})"
        remedy = "make room, or choose" if error.errno in FULL_DISK else "choose"
        raise InputError(f"{what}\n    -> {remedy} another directory") from error
    finally:
        shutil.rmtree(draft.path, ignore_errors=True)


def _draft(request: Request) -> RunDir:
    """Beside the run's directory, or inside of one of the user's: that may be a mount point, its parent read-only."""
    run = request.run
    if not (request.named and run.path.is_dir()):
        return RunDir(run.path.with_name(f".{run.name}.{os.getpid()}"))
    _new_run(run.path, request.experiment.name)  # which refuses a run that was made there in the meantime
    return RunDir(run.path / f"{_DRAFT}{time.time_ns()}")


def _move_in(draft: RunDir, request: Request) -> Request:
    if draft.path.parent == request.run.path:
        for path in sorted(draft.path.iterdir(), key=lambda path: path.name == draft.experiment.name):
            path.rename(request.run.path / path.name)  # what makes it a run comes last
        for left in request.run.path.glob(f"{_DRAFT}*"):
            shutil.rmtree(left, ignore_errors=True)
        return request
    while True:
        try:
            draft.path.rename(request.run.path)
            return request
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            again = request.run.path if request.named else None  # which refuses a directory that is there by now
            request = replace(request, run=_new_run(again, request.experiment.name))
