"""What can be wrong with a site that has a scheduler, found from the login node without a job."""

from __future__ import annotations

import re
import shutil
import socket
import sys
from collections.abc import Iterator

from workflow.batch import Batch, clock
from workflow.errors import listing
from workflow.findings import Finding, probe
from workflow.site import Site

_COMMANDS = {
    "slurm": ("sbatch", "squeue", "scancel", "srun"),
    "pbs": ("qsub", "qstat", "qdel", "qselect"),
    "torque": ("qsub", "qstat", "qdel"),
}
_LOCAL_PLACES = ("/tmp/", "/var/tmp/", "/dev/shm/", "/scratch/local/")


def examine_site(site: Site, batch: Batch) -> Iterator[Finding]:
    """A line for each thing that a job of the site needs."""
    yield _request(site, batch)
    commands = _commands(site)
    yield commands
    if commands.level == "pass":
        yield from _slurm_queue(batch) if site.scheduler == "slurm" else _pbs_queue(batch)
    yield from _modules(batch)
    yield from _interface(batch)
    yield _python()


def _request(site: Site, batch: Batch) -> Finding:
    jobs = f"up to {site.max_blocks} jobs of {batch.nodes_per_block} nodes for {clock(batch.walltime)}"
    gpus = f"{len(site.gpus)} GPUs a node" if site.gpus else "no GPUs"
    place = ", ".join(filter(None, [batch.queue, batch.qos, batch.account])) or "its defaults"
    return Finding("pass", "site", f"{site.name}: {jobs}, {gpus}, {site.capacity} trials at a time, in {place}")


def _commands(site: Site) -> Finding:
    missing = [name for name in _COMMANDS[site.scheduler] if shutil.which(name) is None]
    if missing:
        remedy = f"run this on a login node of {site.name}, or load the module that brings them"
        return Finding("fail", "scheduler", f"{listing(missing)}: not on the PATH", remedy)
    return Finding("pass", "scheduler", listing(_COMMANDS[site.scheduler]))


def _slurm_queue(batch: Batch) -> Iterator[Finding]:
    """Partitions with their limits, as sinfo knows them."""
    code, said = probe(["sinfo", "--noheader", "--format=%R|%l|%D"])
    if code:
        yield Finding("fail", "queue", f"sinfo: {said.strip()}", "see whether the scheduler runs, and try again")
        return
    rows = [line.strip().split("|") for line in said.splitlines() if line.count("|") == 2]
    known = {row[0]: row[1] for row in rows}
    nodes: dict[str, int] = {}
    for name, _, count in rows:
        nodes[name] = nodes.get(name, 0) + int(count)
    if batch.queue is None:
        yield Finding("pass", "queue", f"Slurm's default; there are {listing(known)}")
        return
    if batch.queue not in known:
        yield Finding("fail", "queue", f"Slurm has no partition {batch.queue}", f"choose one of {listing(known)}")
        return
    limit = _seconds(known[batch.queue])
    if limit is not None and batch.walltime > limit:
        what = f"walltime {clock(batch.walltime)} is above {known[batch.queue]}, the limit of {batch.queue}"
        yield Finding("fail", "queue", what, f"set site.walltime to {clock(limit)} at most")
    elif batch.nodes_per_block > nodes[batch.queue]:
        what = f"nodes_per_block {batch.nodes_per_block} is above the {nodes[batch.queue]} nodes of {batch.queue}"
        yield Finding("fail", "queue", what, f"set site.nodes_per_block to {nodes[batch.queue]} at most")
    else:
        yield Finding("pass", "queue", f"{batch.queue}: {nodes[batch.queue]} nodes, at most {known[batch.queue]}")


def _seconds(text: str) -> float | None:
    """Slurm's DAYS-HOURS:MINUTES:SECONDS; None for no limit."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if not found:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return 86400.0 * days + 3600 * hours + 60 * minutes + seconds


def _pbs_queue(batch: Batch) -> Iterator[Finding]:
    if batch.queue is None:
        yield Finding("pass", "queue", "the scheduler's default")
        return
    code, said = probe(["qstat", "-Q", batch.queue])
    if code:
        what = said.strip() or f"qstat -Q {batch.queue} ends with code {code}"
        yield Finding("fail", "queue", what, "choose one that qstat -Q lists: --set site.queue=...")
    else:
        yield Finding("pass", "queue", f"{batch.queue} is there; its limits are those of the site file")


def _modules(batch: Batch) -> Iterator[Finding]:
    if not batch.modules:
        return
    lines = " && ".join(line for line in batch.beginning.splitlines() if line.startswith("module "))
    code, said = probe(["bash", "-lc", lines])
    if code or "error" in said.lower():
        what = f"{listing(batch.modules)}: {said.strip()[-300:]}"
        yield Finding("fail", "modules", what, "see module avail, and set the site's modules")
    else:
        yield Finding("pass", "modules", listing(batch.modules))


def _interface(batch: Batch) -> Iterator[Finding]:
    there = [name for _, name in socket.if_nameindex()]
    if batch.interface and batch.interface not in there:
        what = f"{batch.interface} is not there: workers could not reach the controller"
        yield Finding("fail", "interface", what, f"set site.interface to one of {listing(there)}")


def _python() -> Finding:
    if sys.executable.startswith(_LOCAL_PLACES):
        remedy = "make the virtual environment on a file system that the nodes share"
        return Finding("warn", "python", f"{sys.executable} may not be there on compute nodes", remedy)
    return Finding("pass", "python", sys.executable)
