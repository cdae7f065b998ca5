"""What can be wrong with a site that has a scheduler, found where the controller runs, without submitting a job."""

from __future__ import annotations

import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workflow.cluster.batch import Batch, clock
from workflow.cluster.commands import user_name
from workflow.config.strict import HOME
from workflow.doctor.findings import Finding, probe
from workflow.errors import did_you_mean, listing, printable
from workflow.rundir import PLAIN_NAMES, is_plain
from workflow.site import Site

_ANSWER = 15.0
"""Seconds that a scheduler has for an answer: without its configuration, Slurm's commands try for a minute."""

_NODE_LOCAL = tuple(map(Path, ("/tmp", "/var/tmp", "/dev/shm", "/run")))
"""Places that each machine has for itself."""

# For each argument of `module`: its words, exit code and what it said, with tabs between. They load into one shell.
_TRY_MODULES = r"""
type module > /dev/null 2>&1 || exit 127
said=$(mktemp) || exit 1
for words in "$@"; do
  module $words > "$said" 2>&1
  printf '%s\t%s\t%s\n' "$words" "$?" "$(tr '\n\t' '  ' < "$said")"
done
rm -f "$said"
"""
_MODULE_FAILED = re.compile(r"\berror\b|unable to locate|cannot be loaded|unknown module", re.IGNORECASE)
"""Older module commands say so and return 0."""


@dataclass(frozen=True)
class Queue:
    """A queue or partition as the scheduler tells; None is what it doesn't limit, or doesn't tell."""

    name: str
    walltime: float | None = None
    nodes: int | None = None
    closed: str = ""


def examine_site(site: Site, batch: Batch, output: Path) -> Iterator[Finding]:
    """A line for each thing that a job of the site needs; ``output`` is where the run's directory would be made."""
    yield _gpus(site, batch)
    yield from _interface(batch)
    yield from _places(output)
    yield from _modules(batch)
    if site.scheduler not in EXAMINERS:
        yield Finding("warn", "scheduler", f"{site.scheduler} is not asked whether it takes the site's jobs")
        return
    names, examine = EXAMINERS[site.scheduler]
    commands = [_command(name) for name in names]
    yield from commands
    if all(finding.level == "pass" for finding in commands):
        yield from examine(batch)


def _gpus(site: Site, batch: Batch) -> Finding:
    jobs = f"at most {batch.max_blocks} jobs of {batch.nodes_per_block} nodes for {clock(batch.walltime)}"
    if site.gpus:
        return Finding("pass", "GPUs", f"{len(site.gpus)} a node ({site.gpu_vendor}), {site.workers} workers; {jobs}")
    remedy = "write how many GPUs a job gets on a node, if the model needs some: --set site.gpus=4"
    return Finding("warn", "GPUs", f"none asked for; {site.workers} workers a node; {jobs}", remedy)


def _interface(batch: Batch) -> Iterator[Finding]:
    if batch.interface is None:
        return
    there = [name for _, name in socket.if_nameindex()]
    if batch.interface in there:
        yield Finding("pass", "interface", f"{batch.interface} is there")
    else:
        remedy = f"set interface to one of {listing(there)}, or take it out, for the one with the default route"
        yield Finding("fail", "interface", f"{batch.interface} is not there", remedy)


def _places(output: Path) -> Iterator[Finding]:
    """What compute nodes must see: this environment, this package and the run."""
    for subject, path, remedy in (
        ("python", Path(sys.prefix), "make the environment in a directory that compute nodes see, such as your home"),
        ("package", HOME, "install the package into the environment, or keep it where compute nodes see it"),
        ("output", output, "choose a directory that compute nodes see by --output"),
    ):
        local = next((place for place in _NODE_LOCAL if path.is_relative_to(place)), None)
        if local is not None:
            text = f"{path}: {local} is usually each machine's own, and compute nodes see another one"
            yield Finding("warn", subject, text, remedy)
        elif not is_plain(path):
            text = f"{path}: schedulers take no path with blanks or other special characters"
            yield Finding("fail", subject, text, PLAIN_NAMES)
        else:
            yield Finding("pass", subject, str(path))


def _modules(batch: Batch) -> Iterator[Finding]:
    if not batch.modules:
        return
    calls = [words if words.startswith("use ") else f"load {words}" for words in batch.modules]
    code, said = probe(["bash", "-lc", _TRY_MODULES, "bash", *calls])
    rows = [line.split("\t", 2) for line in said.splitlines() if line.count("\t") >= 2]
    if len(rows) < len(calls):
        why = "a login shell has no module command" if code == 127 else _last(said, code)
        yield Finding("fail", "modules", why, "run this on the site's login node, or take modules out of the site")
        return
    for words, exit_code, text in rows:
        if exit_code != "0" or _MODULE_FAILED.search(text):
            remedy = f"see module avail; in the site's modules, replace {words.removeprefix('load ')!r}"
            yield Finding("fail", "modules", f"module {words}: {_last(text, int(exit_code))}", remedy)
        else:
            yield Finding("pass", "modules", f"module {words}")


def _command(name: str) -> Finding:
    if path := shutil.which(name):
        return Finding("pass", name, path)
    remedy = "run this on the site's login node, or add the scheduler's directory to the PATH"
    return Finding("fail", name, "is in no directory of the PATH", remedy)


# -- Slurm -----------------------------------------------------------------------------------------------------------


def _slurm(batch: Batch) -> Iterator[Finding]:
    code, said = probe(["sinfo", "--noheader", "--format=%P|%l|%D|%a"], timeout=_ANSWER)
    if code:
        yield Finding("fail", "scheduler", f"sinfo: {_last(said, code)}", "ask the site whether Slurm is up")
        return
    yield from _slurm_account(batch)
    rows = [line.split("|") for line in said.splitlines() if line.count("|") == 3]
    default = next((name.rstrip("*") for name, *_ in rows if name.endswith("*")), None)
    if batch.queue is None and (batch.qos is not None or default is None):
        text = "left to the scheduler" + (f" (qos {batch.qos})" if batch.qos else ", which has no default")
        remedy = "" if batch.qos else f"set partition to one of {listing(row[0] for row in rows)}"
        yield Finding("pass" if batch.qos else "warn", "partition", text, remedy)
        return
    queues = [
        Queue(name.rstrip("*"), slurm_seconds(limit), int(nodes), "" if state == "up" else f"is {state}")
        for name, limit, nodes, state in rows
    ]
    yield from _queue("partition", batch, batch.queue or str(default), queues)


def slurm_seconds(text: str) -> float | None:
    """Seconds of Slurm's [DAYS-]HOURS:MINUTES:SECONDS or MINUTES:SECONDS; None if there is no limit."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text.strip())
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(86400 * days + 3600 * hours + 60 * minutes + seconds)


def _slurm_account(batch: Batch) -> Iterator[Finding]:
    """Only clusters that account for their jobs can tell."""
    if batch.account is None:
        return
    user = f"user={user_name()}"
    question = ["sacctmgr", "--noheader", "--parsable2", "show", "associations", user, "format=account"]
    code, said = probe(question, timeout=_ANSWER)
    accounts = sorted(set(said.split()))
    if code or not accounts:
        yield Finding("pass", "account", f"{batch.account} (sacctmgr does not tell whether it is yours)")
    elif batch.account.lower() in accounts:
        yield Finding("pass", "account", batch.account)
    else:
        yield Finding("fail", "account", f"{batch.account} is not yours", did_you_mean(batch.account, accounts))


# -- PBS and Torque --------------------------------------------------------------------------------------------------


def _pbs(batch: Batch) -> Iterator[Finding]:
    code, said = probe(["qstat", "-Q", "-f"], timeout=_ANSWER)
    if code:
        yield Finding("fail", "scheduler", f"qstat: {_last(said, code)}", "ask the site whether PBS is up")
        return
    if batch.account is not None:
        yield Finding("pass", "account", f"{batch.account} (PBS does not tell whether it is yours)")
    if batch.queue is None:
        yield Finding("pass", "queue", "left to the scheduler")
        return
    yield from _queue("queue", batch, batch.queue, pbs_queues(said))


def pbs_queues(text: str) -> list[Queue]:
    """The queues in what ``qstat -Q -f`` prints."""
    found = []
    for part in re.split(r"^Queue:\s*", text, flags=re.MULTILINE)[1:]:
        name, _, rest = part.partition("\n")
        about: dict[str, str] = dict(re.findall(r"^\s+([\w.]+) = (.*?)\s*$", rest, flags=re.MULTILINE))
        nodes = about.get("resources_max.nodect", "")
        closed = "takes no jobs now" if about.get("enabled", "").lower() in ("false", "no") else ""
        found.append(Queue(name.strip(), _pbs_seconds(about), int(nodes) if nodes.isdigit() else None, closed))
    return found


def _pbs_seconds(about: Mapping[str, str]) -> float | None:
    match = re.fullmatch(r"(\d+):(\d+):(\d+)", about.get("resources_max.walltime", ""))
    if match is None:
        return None
    hours, minutes, seconds = map(int, match.groups())
    return float(3600 * hours + 60 * minutes + seconds)


# -- both ------------------------------------------------------------------------------------------------------------


def _queue(word: str, batch: Batch, name: str, queues: Sequence[Queue]) -> Iterator[Finding]:
    """A request against the queue as it is now; ``word`` is what the scheduler calls it."""
    # A partition of several kinds of nodes has a line for each.
    parts = [queue for queue in queues if queue.name == name]
    if not parts:
        names = list(dict.fromkeys(queue.name for queue in queues))
        yield Finding("fail", word, f"{name} is not known here", f"{did_you_mean(name, names)}: set site.{word}")
        return
    queue, nodes = parts[0], [part.nodes for part in parts if part.nodes is not None]
    problems = list(_objections(batch, queue, sum(nodes) if nodes else None, queues))
    yield from (Finding("fail", word, f"{name} {what}", remedy) for what, remedy in problems)
    if not problems:
        limit = "without limit" if queue.walltime is None else f"for at most {clock(queue.walltime)}"
        size = f"{sum(nodes)} nodes, " if nodes else ""
        yield Finding("pass", word, f"{name}: {size}jobs {limit}")
        if nodes and batch.max_blocks * batch.nodes_per_block > sum(nodes):
            jobs = f"{batch.max_blocks} jobs of {batch.nodes_per_block} nodes"
            text = f"{jobs} are more than {name} has, {sum(nodes)} nodes"
            yield Finding("warn", word, text, "some will wait until the others have ended: lower max_blocks")


def _objections(batch: Batch, queue: Queue, nodes: int | None, queues: Sequence[Queue]) -> Iterator[tuple[str, str]]:
    """What the queue has against the request, and the remedy."""
    if queue.closed:
        yield queue.closed, "choose another one, or wait"
    if queue.walltime is not None and batch.walltime > queue.walltime:
        longer = [q.name for q in queues if q.walltime is None or q.walltime >= batch.walltime]
        other = f", or use {listing(dict.fromkeys(longer))}" if longer else ""
        what = f"admits jobs of {clock(queue.walltime)}, and walltime is {clock(batch.walltime)}"
        yield what, f"set site.walltime to {clock(queue.walltime)} at most{other}"
    if nodes is not None and batch.nodes_per_block > nodes:
        what = f"has {nodes} nodes, and nodes_per_block is {batch.nodes_per_block}"
        less = "single nodes start sooner, and lose less when one fails"
        yield what, f"set site.nodes_per_block to {nodes} at most; {less}"


def _last(said: str, code: int) -> str:
    """The last line of what a command said, which names the reason more often than the first."""
    lines = [line.strip() for line in printable(said).splitlines() if line.strip()]
    return lines[-1] if lines else f"exit code {code}"


EXAMINERS: dict[str, tuple[tuple[str, ...], Callable[[Batch], Iterator[Finding]]]] = {
    "slurm": (("sbatch", "squeue", "scancel", "sinfo"), _slurm),
    "pbs": (("qsub", "qstat", "qdel", "qselect"), _pbs),
    "torque": (("qsub", "qstat", "qdel"), _pbs),
}
"""The commands of each scheduler, and what asks it about a job."""
