"""What a site asks of its scheduler: the keys of a site file that describe a job, and the limits of its queues."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from workflow.config.strict import Section, literal_path
from workflow.errors import listing

BATCH_SCHEDULERS = {"slurm": "srun", "pbs": "mpiexec", "torque": "single"}
"""Schedulers, each with its usual launcher. ``providers.PROVIDERS`` submits to them."""
LAUNCHERS = ("srun", "mpiexec", "single")

_ONE_NODE = "single"
"""The launcher that knows one node only: on several it would start everything on the first."""

_LEAST_WALLTIME, _MOST_WALLTIME = 60.0, 366 * 86400.0

BLOCK_START = "WORKFLOW_BLOCK_START"
"""The variable of a block's script with the time at which it began, in seconds since the epoch."""

_ONE_LINE = (
    "account", "queue", "qos", "constraint", "gres", "launcher_options", "launcher_bind", "select_options", "interface",
    "proxy", "modules", "scheduler_options",
)  # fmt: skip
"""Keys that stand in a line of the job's script: what came after a line break would be a command of its own."""

_PERSONAL = ("account", "partition", "queue", "qos", "constraint")


@dataclass(frozen=True)
class Queue:
    """What a queue admits, as far as it is known: nodes a job, its walltime in seconds, a user's jobs at a time.

    ``verified`` says when and how that was found, or that nobody has.
    """

    min_nodes: int = 1
    max_nodes: int | None = None
    walltime: float | None = None
    max_jobs: int | None = None
    source: str = ""
    verified: str = "no"

    def objection(self, nodes: int, walltime: float, jobs: int) -> str:
        """Why such jobs are not admitted; empty if they are."""
        if nodes < self.min_nodes:
            return f"nodes_per_block {nodes} is below its {self.min_nodes} nodes"
        if self.max_nodes is not None and nodes > self.max_nodes:
            return f"nodes_per_block {nodes} is above its {self.max_nodes} nodes"
        if self.walltime is not None and walltime > self.walltime:
            return f"walltime {clock(walltime)} is above its {clock(self.walltime)}"
        if self.max_jobs is not None and jobs > self.max_jobs:
            return f"max_blocks {jobs} is above the {self.max_jobs} jobs that it runs for one user"
        return ""

    @property
    def limits(self) -> str:
        nodes = f"{self.min_nodes} to {self.max_nodes}" if self.max_nodes else f"{self.min_nodes} or more"
        time = f" for at most {clock(self.walltime)}" if self.walltime else ""
        jobs = f", {self.max_jobs} jobs at a time" if self.max_jobs else ""
        return f"{nodes} nodes{time}{jobs} (verified: {self.verified})"


@dataclass(frozen=True)
class Batch:
    """One job, which is a block of workers for Parsl, and how many of them there may be at a time.

    ``walltime`` is in seconds; ``gres`` asks Slurm for GPUs in other words, and without ``gpu_request`` no scheduler is
    asked for any, as where whole nodes are given. ``modules``, ``worker_init`` and ``proxy`` become the beginning of
    the job's script.
    """

    account: str | None = None
    queue: str | None = None
    qos: str | None = None
    constraint: str | None = None
    nodes_per_block: int = 1
    min_blocks: int = 0
    max_blocks: int = 1
    walltime: float = 3600.0
    cores_per_node: int | None = None
    gres: str | None = None
    gpu_request: bool = True
    exclusive: bool = False
    launcher: str = "srun"
    launcher_options: str = ""
    launcher_bind: str = "--cpu-bind"
    modules: tuple[str, ...] = ()
    worker_init: str = ""
    proxy: str | None = None
    scheduler_options: tuple[str, ...] = ()
    select_options: str = ""
    interface: str | None = None
    status_interval: float = 30.0
    scheduler_patience: float = 900.0
    queues: Mapping[str, Queue] = field(default_factory=dict)

    @property
    def beginning(self) -> str:
        """Lines of bash before the workers start."""
        proxies = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY") if self.proxy else ()
        lines = [_module_line(words) for words in self.modules]
        lines += [f"export {name}={shlex.quote(str(self.proxy))}" for name in proxies]
        return "\n".join([*lines, *filter(None, [self.worker_init.strip()])])

    def gpus_per_node(self, gpus: int) -> int | None:
        """What Slurm's option of that name gets where a node has so many; None where GPUs are asked for otherwise."""
        return gpus if gpus and self.gpu_request and not self.gres else None

    def chunk(self, gpus: int) -> str:
        """What PBS's select has after a node's cores."""
        return self.select_options.lstrip(":") or (f"ngpus={gpus}" if gpus and self.gpu_request else "")

    def node_properties(self, gpus: int) -> str:
        """What Torque's nodes has after their number."""
        return f"ppn={self.cores_per_node or 1}" + (f":gpus={gpus}" if gpus and self.gpu_request else "")

    @property
    def place(self) -> str:
        """How PBS spreads the chunks of a job: without it, several may lie on one node."""
        return "scatter:excl" if self.exclusive else "scatter"


def _module_line(words: str) -> str:
    """Ends the script where a module cannot be loaded, since everything after it would fail for unclear reasons.

    Some module commands fail although they have loaded a module; what counts then is the list of what is loaded.
    """
    if words.startswith("use "):
        return f"module {words}"
    loaded = f'[[ ":${{LOADEDMODULES:-}}:" == *:{shlex.quote(words)}[:/]* ]]'
    return f"module load {words} || {loaded} || {{ echo {shlex.quote(f'module load {words} failed')} >&2; exit 1; }}"


def clock(seconds: float) -> str:
    """HH:MM:SS, as schedulers read it; whole minutes, since Parsl cuts the seconds off for Slurm."""
    minutes = int(seconds // 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:00"


def read_batch(top: Section, scheduler: str) -> Batch:
    """The keys of a job; every problem goes to the section's problems."""
    usual = Batch(launcher=BATCH_SCHEDULERS[scheduler])
    personal = {key: top.expanded(key) for key in _PERSONAL}
    if personal["partition"] and personal["queue"]:
        top.wrong("queue", personal["queue"], "write partition or queue, not both: they are the same")
    batch = Batch(
        account=personal["account"],
        queue=personal["partition"] or personal["queue"],
        qos=personal["qos"],
        constraint=personal["constraint"],
        nodes_per_block=top.integer("nodes_per_block", usual.nodes_per_block, least=1),
        min_blocks=top.integer("min_blocks", usual.min_blocks, least=0),
        max_blocks=top.integer("max_blocks", usual.max_blocks, least=1),
        walltime=_read_walltime(top, usual.walltime),
        cores_per_node=top.integer("cores_per_node", None, least=1),
        gres=top.text("gres"),
        gpu_request=top.boolean("gpu_request", usual.gpu_request),
        exclusive=top.boolean("exclusive", usual.exclusive),
        launcher=top.text("launcher", usual.launcher, LAUNCHERS),
        launcher_options=top.text("launcher_options", ""),
        launcher_bind=top.text("launcher_bind", usual.launcher_bind),
        modules=tuple(top.texts("modules")),
        worker_init=top.text("worker_init", ""),
        proxy=top.text("proxy"),
        scheduler_options=tuple(top.texts("scheduler_options")),
        select_options=top.text("select_options", ""),
        interface=top.text("interface"),
        status_interval=top.number("status_interval", usual.status_interval, least=1, most=3600),
        scheduler_patience=top.duration("scheduler_patience", usual.scheduler_patience),
        queues=_read_queues(top.section("queues")),
    )
    _check(top, batch)
    return batch


def _read_walltime(top: Section, default: float) -> float:
    walltime = top.duration("walltime", default)
    if walltime < _LEAST_WALLTIME:
        top.wrong("walltime", top.data.get("walltime"), "write at least 1m: schedulers count in minutes")
    elif walltime > _MOST_WALLTIME:
        top.wrong("walltime", top.data.get("walltime"), "write at most 366d")
    return min(max(_LEAST_WALLTIME, walltime), _MOST_WALLTIME)


def _read_queues(section: Section) -> dict[str, Queue]:
    return {name: _read_queue(section.section(name)) for name in section.data}


def _read_queue(section: Section) -> Queue:
    queue = Queue(
        section.integer("min_nodes", 1, least=1),
        section.integer("max_nodes", None, least=1),
        section.duration("walltime"),
        section.integer("max_jobs", None, least=1),
        section.text("source", ""),
        section.text("verified", "no"),
    )
    if queue.max_nodes is not None and queue.max_nodes < queue.min_nodes:
        section.wrong("max_nodes", queue.max_nodes, f"write at least min_nodes, {queue.min_nodes}")
    section.finish()
    return queue


def _check(top: Section, batch: Batch) -> None:
    if batch.min_blocks > batch.max_blocks:
        top.wrong("min_blocks", batch.min_blocks, f"write at most max_blocks, {batch.max_blocks}")
    if batch.launcher == _ONE_NODE and batch.nodes_per_block > 1:
        remedy = "write srun or mpiexec: single starts everything on the first node"
        top.wrong("launcher", batch.launcher, remedy)
    for key in _ONE_LINE:
        given = getattr(batch, key)
        for text in [given] if isinstance(given, str) else given or ():
            if set(text) & set("\n\r"):
                top.wrong("partition" if key == "queue" and "partition" in top.data else key, text, "write one line")
    for option in batch.scheduler_options:
        if not option.startswith("-"):
            top.wrong("scheduler_options", option, "write one option of sbatch or qsub each, such as --mail-type=END")
    _check_limits(top, batch)


def _check_limits(top: Section, batch: Batch) -> None:
    name = batch.qos if batch.qos in batch.queues else batch.queue
    queue = batch.queues.get(name or "")
    if name is None or queue is None:
        return
    request = batch.nodes_per_block, batch.walltime, batch.max_blocks
    if objection := queue.objection(*request):
        others = [f"{other} ({batch.queues[other].limits})" for other in batch.queues]
        better = [other for other in batch.queues if not batch.queues[other].objection(*request)]
        remedy = f"use {listing(better)}, or ask for less" if better else f"known queues: {'; '.join(others)}"
        top.problems.add(top.at("queue"), f"{name} admits {queue.limits}, and {objection}", remedy)


def batch_data(batch: Batch) -> dict[str, Any]:
    """What ``read_batch`` reads back to the same."""
    data = {key: value for key, value in asdict(batch).items() if value != getattr(Batch, key, None)}
    data |= {key: literal_path(data[key]) for key in _PERSONAL if data.get(key)}
    data["queues"] = {name: {k: v for k, v in asdict(queue).items() if v} for name, queue in batch.queues.items()}
    data |= {key: list(data[key]) for key in ("modules", "scheduler_options") if key in data}
    return {key: value for key, value in data.items() if value not in ({}, [], None)} | {"launcher": batch.launcher}
