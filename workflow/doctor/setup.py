"""What can be wrong with a set-up before a campaign spends GPU-hours on it, found without running the model.

Each check returns findings, a line each: pass, warn or fail, with the remedy. ``rehearsal`` then runs the model.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from workflow.config.experiment import Experiment
from workflow.config.strict import is_there
from workflow.doctor.findings import Finding, probe
from workflow.doctor.site import examine_site
from workflow.durations import LONGER
from workflow.errors import listing, one_line, printable
from workflow.globus.endpoint import INSTALL_SDK, Endpoint, sdk_trouble
from workflow.image import ImageError, read_image
from workflow.rundir import RunDir
from workflow.site import OTHER_ADDRESS, Site
from workflow.stages import OUTPUT_DIRS, PATH_NAMES

_GIB = 2**30
_LITTLE_DISK, _NO_DISK = 20 * _GIB, 1 * _GIB

# For each script named: its name, its state and a detail, with tabs between. Any POSIX shell runs it.
_LOOK_AT_SCRIPTS = r"""
cr=$(printf '\r')
look() {
  found=
  IFS=:
  for directory in $PATH; do [ -f "$directory/$1" ] && found=$directory/$1 && break; done
  unset IFS
  case $1 in */*) [ -f "$1" ] && found=$1;; esac
  [ -n "$found" ] || { echo "missing	$PATH"; return; }
  [ -x "$found" ] || { echo "no-run-bit	$found"; return; }
  IFS= read -r first < "$found"
  case $first in *"$cr") echo "crlf	$found"; return;; esac
  case $first in '#!'*) ;; *) echo "interpreter	an interpreter in its first line"; return;; esac
  name=$1
  set -f
  set -- ${first#??}
  [ -x "$1" ] || { echo "interpreter	$1"; return; }
  case $1 in */env)
    shift
    while :; do case $1 in -*|*=*) shift;; *) break;; esac; done
    command -v "$1" > /dev/null || { echo "interpreter	$1"; return; }
  esac
  case $1 in *sh)
    number=0
    while IFS= read -r line || [ -n "$line" ]; do
      number=$((number + 1))
      case $line in *"$cr") echo "crlf	$found (line $number)"; return;; esac
    done < "$found"
  esac
  echo "ok	$found"
}
for script in "$@"; do printf '%s\t%s\n' "$script" "$(look "$script")"; done
"""

_SCRIPT_PROBLEMS = {
    "missing": ("is in no directory of the PATH ({})", "install it there in the def file's %post, or link to it"),
    "no-run-bit": ("{} is not executable", "chmod a+x it in the def file's %post"),
    "crlf": ("{} has Windows line ends (CRLF)", "save it with Unix line ends: sed -i 's/\\r$//'"),
    "interpreter": ("cannot be started: {} is not there", "let its first line name an interpreter, as #!/bin/bash"),
}


def examine(experiment: Experiment, site: Site, output: Path) -> Iterator[Finding]:
    """All checks that don't run the model; ``output`` is where the run's directory would be made."""
    yield from _definition(experiment)
    if site.endpoint is not None:
        yield from _endpoint(site.endpoint)
        yield from _disk(output)
        return
    usable = True
    if experiment.model.runtime == "apptainer":
        found = [*_image(experiment, site), *_runtime(site)]
        yield from found
        usable = all(finding.level == "pass" for finding in found)
    if usable:
        yield from _scripts(experiment, site)
    yield from _data(experiment)
    yield from _config_file(experiment, site)
    if reason := site.foreign_address:
        yield Finding("fail", "address", reason, OTHER_ADDRESS)
    if site.batch is not None and (reason := experiment.too_long_for(site.batch.walltime)):
        yield Finding("warn", "walltime", reason, LONGER)
    yield from examine_site(site, site.batch, output) if site.batch is not None else _machine(site)
    yield from _disk(output)


def _endpoint(endpoint: Endpoint) -> Iterator[Finding]:
    """What can be known of it without asking the service."""
    if endpoint.is_placeholder:
        remedy = "set the site's endpoint to yours, as globus-compute-endpoint list shows it"
        yield Finding("fail", "endpoint", f"{endpoint.id} is the shipped file's placeholder", remedy)
    else:
        text = f"image, scripts and data are on endpoint {endpoint.id}: the model's run below tells whether they fit"
        yield Finding("pass", "endpoint", text)
    if reason := sdk_trouble():
        yield Finding("fail", "SDK", reason, INSTALL_SDK)
        return
    yield _login()


def _login() -> Finding:
    from workflow.globus.service import LOG_IN, login_missing  # which need the SDK

    try:
        if not login_missing():
            return Finding("pass", "login", "somebody is logged in to Globus here")
    except Exception as error:
        text = one_line(error, 300)
        return Finding("warn", "login", f"whether somebody is logged in to Globus cannot be told: {text}", LOG_IN)
    return Finding("fail", "login", "nobody is logged in to Globus here", LOG_IN)


def _definition(experiment: Experiment) -> Iterator[Finding]:
    searched = [parameter.name for parameter in experiment.space.varying]
    yield Finding("pass", "experiment", f"{experiment.name}: stages {listing(experiment.stages)}")
    if searched:
        yield Finding("pass", "space", f"{len(searched)} hyperparameters are searched: {listing(searched)}")
    else:
        remedy = "give at least one hyperparameter another type than constant"
        yield Finding("fail", "space", "holds constants alone: there is nothing to search", remedy)
    for warning in experiment.warnings:
        yield Finding("warn", "experiment", warning, "check whether this is meant")


def _image(experiment: Experiment, site: Site) -> Iterator[Finding]:
    path = Path(str(experiment.model.image))
    try:
        image = read_image(path)
    except ImageError as error:
        yield Finding("fail", "image", f"{path}: {error}", error.remedy)
        return
    size = "" if image.kind == "sandbox" else f", {image.size / _GIB:.2f} GiB"
    what = f"{path}: {image.kind}, {image.architecture or 'architecture unknown'}{size}"
    if image.runs_here:
        yield Finding("pass", "image", what)
    elif site.batch is not None:
        here = os.uname().machine
        yield Finding(
            "warn", "image", f"{what}; this machine is {here}", "see whether the compute nodes are of that kind"
        )
    else:
        here = os.uname().machine
        yield Finding("fail", "image", f"{what}; this machine is {here}", f"build it on, or for, {here}")


def _runtime(site: Site) -> Iterator[Finding]:
    programs = site.container.programs
    program = next(filter(shutil.which, programs), None)
    if program is None and site.batch is not None:
        what = f"{' and '.join(programs)}: not here; the jobs load {listing(site.batch.modules) or 'no module'}"
        yield Finding("warn", "runtime", what, "without --fast, a job of the site shows whether containers run there")
        return
    if program is None:
        remedy = "install Apptainer, load its module, or set the site's container_command"
        yield Finding("fail", "runtime", f"{' and '.join(programs)}: {_why_no_program(programs[0])}", remedy)
        return
    code, said = probe([program, "--version"])
    if code:
        yield Finding("fail", "runtime", f"{program} --version: {said.strip()}", "mend its installation")
    else:
        yield Finding("pass", "runtime", said.strip())


def _why_no_program(program: str) -> str:
    """Why the shell would not find a program."""
    if os.sep not in program:
        return "not on the PATH"
    return "is not executable" if is_there(Path(program)) else "no such file"


def _scripts(experiment: Experiment, site: Site) -> Iterator[Finding]:
    """Whether the interface scripts can be started, looked at from inside the container where there is one."""
    model = experiment.model
    scripts = [f"{model.scripts}/{stage}.sh" if model.scripts else f"{stage}.sh" for stage in experiment.stages]
    with tempfile.TemporaryDirectory(prefix="workflow-check-") as scratch:
        run = RunDir(Path(scratch))
        run.data.mkdir()
        command = experiment.pipeline(site.container, run).inside(["sh", "-c", _LOOK_AT_SCRIPTS, "sh", *scripts])
        program = next(filter(shutil.which, command.programs), command.argv[0])
        code, said = probe([program, *command.argv[1:]], command.env)
    rows = [line.split("\t") for line in said.splitlines() if line.count("\t") == 2]
    if code or len(rows) != len(scripts):
        said_lines = [line for line in printable(said).splitlines() if line.strip()] or [f"exit code {code}"]
        why = next((line for line in said_lines if re.match(r"(?i)fatal|error", line)), said_lines[-1])
        remedy = "read what the runtime says: a bind source, a library of the image, its rights on this machine"
        yield Finding("fail", "container", f"cannot run a shell: {why}", remedy)
        return
    for name, state, detail in rows:
        if state == "ok":
            yield Finding("pass", Path(name).name, detail)
        else:
            text, remedy = _SCRIPT_PROBLEMS[state]
            yield Finding("fail", Path(name).name, text.format(detail), remedy)


def _data(experiment: Experiment) -> Iterator[Finding]:
    data_dir = experiment.model.data_dir
    if not data_dir:
        yield Finding("pass", "data", "data_dir is left out: each run gets a directory of its own")
        return
    path = Path(data_dir)
    preprocess = experiment.stages.get("preprocess")
    output = str(preprocess.args.get("ml_data_outdir", "")) if preprocess is not None else ""
    inside = "{data_dir}", "/IMPROVE_DATA_DIR", "/candle_data_dir", data_dir
    writes_there = bool(output) and output.startswith(inside)
    if not os.access(path, os.R_OK | os.X_OK):
        yield Finding("fail", "data", f"{path}: cannot be read", "check its permissions")
    elif os.access(path, os.W_OK):
        yield Finding("pass", "data", f"{path}: is there and writable")
    elif writes_there:
        leave_out = listing(["ml_data_outdir", *_read_from(experiment, output, inside)])
        remedy = f"make it writable, or leave out {leave_out}: they then default to a directory of the run"
        yield Finding("fail", "data", f"{path}: cannot be written, and preprocess writes into it", remedy)
    else:
        yield Finding("pass", "data", f"{path}: is there (read only, which is enough)")


def _config_file(experiment: Experiment, site: Site) -> Iterator[Finding]:
    if path := experiment.missing_config_file(site.container):
        remedy = "put it into the data directory, or mend or leave out stages.train.config_file"
        yield Finding("fail", "config file", f"{path}: no such file", remedy)


def _read_from(experiment: Experiment, output: str, data_dirs: tuple[str, ...]) -> list[str]:
    """Arguments and constants by which trainings read what preprocess writes to ``output``, in the data directory."""
    constants = experiment.space.constants
    given = {**experiment.stages["train"].args, **constants}
    written = _below(output, data_dirs)
    return [
        name for name in given if name in PATH_NAMES - set(OUTPUT_DIRS) and _below(given[name], data_dirs) == written
    ]


def _below(path: object, directories: tuple[str, ...]) -> str | None:
    """A path without the directory that it is below; None if it is below none of them."""
    return next((str(path).removeprefix(each).strip("/") for each in directories if str(path).startswith(each)), None)


def _machine(site: Site) -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0))
    there = _gpus_there() if site.gpu_vendor == "nvidia" else None
    if there is not None and (missing := [gpu for gpu in site.gpus if gpu.isdigit() and gpu not in there]):
        what = f"{listing(missing)}: not on this machine, whose GPUs are {listing(there) or 'none'} (nvidia-smi -L)"
        yield Finding("fail", "GPUs", what, "name those that are there: --set site.gpus=auto takes all of them")
    elif site.gpus:
        yield Finding("pass", "GPUs", f"{listing(site.gpus)} ({site.gpu_vendor}), {site.workers} workers")
    else:
        remedy = "if it has some, check nvidia-smi, or name them: --set site.gpus=4"
        yield Finding("warn", "GPUs", f"none found on this machine; {site.workers} workers without one", remedy)
    if site.workers > cores:
        remedy = f"set site.workers to {cores} at most, unless trainings mostly wait for their GPU"
        yield Finding("warn", "cores", f"{cores} for {site.workers} workers", remedy)
    else:
        yield Finding("pass", "cores", f"{cores} for {site.workers} workers")


def _gpus_there() -> list[str] | None:
    """Numbers of this machine's NVIDIA GPUs; None where nvidia-smi gives no answer."""
    code, said = probe(["nvidia-smi", "-L"])
    return None if code else re.findall(r"^GPU (\d+):", said, re.MULTILINE)


def _disk(output: Path) -> Iterator[Finding]:
    directory = next(path for path in (output, *output.parents) if is_there(path, directory=True))
    free = shutil.disk_usage(directory).free
    text = f"{free / _GIB:.1f} GiB free at {directory}"
    if not os.access(directory, os.W_OK):
        yield Finding("fail", "disk", f"{directory} cannot be written", "choose another directory by --output")
    elif free < _NO_DISK:
        yield Finding("fail", "disk", text, "make room, or choose another directory by --output")
    elif free < _LITTLE_DISK:
        yield Finding("warn", "disk", text, "check that it holds what all trials write")
    else:
        yield Finding("pass", "disk", text)
