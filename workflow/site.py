"""Site files: what a machine offers, as strict YAML to a dataclass."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workflow.cluster.batch import BATCH_SCHEDULERS, Batch, batch_data, read_batch
from workflow.config.options import options_data, read_options
from workflow.config.strict import Section, apply_overrides, is_there, literal_path, read_yaml, shipped, to_yaml
from workflow.errors import InputError, Problems, did_you_mean, listing, show, unusable_text
from workflow.globus.endpoint import ENDPOINT_SCHEDULER, Endpoint, endpoint_data, read_endpoint
from workflow.machine import foreign_address, visible_gpus
from workflow.runtimes import CONTRACTS, Container, Options, data_dir_inside

OTHER_SCHEDULERS = ("local", "threads", ENDPOINT_SCHEDULER)
"""Those that have no jobs."""

_LEAST_PATIENCE = 6.0
_BATCH_BEATS = (15, 90)
"""Heartbeats over a cluster's network: a node whose file system hangs for a minute is not lost."""

OTHER_ADDRESS = "set the site's address to one of these, or to auto"


@dataclass(frozen=True)
class Vendor:
    """Whose GPUs they are: the ``mask`` variable that shows a process those it may use, and the runtime's ``flag``.

    Masks in ``unset`` would hide some beside it, since each one counts in what the one before has left.
    """

    mask: str
    unset: tuple[str, ...] = ()
    flag: str = ""


VENDORS = {
    "nvidia": Vendor("CUDA_VISIBLE_DEVICES", flag="--nv"),
    "amd": Vendor(
        "ROCR_VISIBLE_DEVICES", ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"), "--rocm"
    ),
    "intel": Vendor("ZE_AFFINITY_MASK", ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")),
    "none": Vendor("CUDA_VISIBLE_DEVICES"),
}


@dataclass(frozen=True)
class Site:
    """Where trials run.

    ``workers`` run at a time on a node, each with ``gpus_per_trial`` of its ``gpus`` where there are any (names as the
    vendor's mask takes them; of those that the scheduler gave, if it set the mask), or ``trials_per_gpu`` share one.
    ``batch`` describes the jobs of a scheduler; with ``allocated_nodes`` the controller runs inside such a job, whose
    nodes these are. ``scratch`` is a directory for caches and temporary files, with variables of the worker.
    ``auto`` are the keys that were found out here and now; a resume, perhaps elsewhere, finds them out again.
    ``heartbeat_period`` and ``heartbeat_threshold`` are Parsl's, in seconds; ``submissions_per_minute`` is the most
    blocks of workers that are submitted in a minute. ``grace`` is the time from TERM to KILL,
    ``poll`` the interval at which a trial looks for its controller, ``patience`` the silence after which it gives up,
    all in seconds.
    """

    name: str
    scheduler: str
    workers: int
    gpus: tuple[str, ...] = ()
    gpu_vendor: str = "none"
    gpu_mask: str | None = None
    gpu_unset: tuple[str, ...] | None = None
    gpus_per_trial: int = 1
    trials_per_gpu: int = 1
    workers_without_gpu: int = 2
    container_command: str | None = None
    container_pid: bool = False
    container_fakeroot: bool = False
    options: Options = field(default_factory=Options)
    scratch: str | None = None
    address: str = "127.0.0.1"
    heartbeat_period: int = 5
    heartbeat_threshold: int = 20
    submissions_per_minute: int = 20
    grace: float = 5.0
    poll: float = 0.5
    patience: float = 20.0
    batch: Batch | None = None
    allocated_nodes: int = 0
    endpoint: Endpoint | None = None
    """Where trials run if it shares no file system with this machine: the model's paths are paths there."""
    auto: frozenset[str] = frozenset()

    @property
    def mask(self) -> str:
        """The environment variable that shows a process the GPUs it may use."""
        return self.gpu_mask or VENDORS[self.gpu_vendor].mask

    @property
    def unset_masks(self) -> tuple[str, ...]:
        """Masks that a training must not see beside it."""
        return VENDORS[self.gpu_vendor].unset if self.gpu_unset is None else self.gpu_unset

    @property
    def gpu_count(self) -> int:
        """GPUs of a node, of which the names may be those of tiles, as 0.1."""
        return len({name.partition(".")[0] for name in self.gpus})

    @property
    def renumbered(self) -> bool:
        """Whether a process under the mask counts its GPUs from 0; a CUDA mask is simply written again by train.sh."""
        return self.mask != VENDORS["nvidia"].mask

    @property
    def nodes_per_block(self) -> int:
        return self.allocated_nodes or (self.batch.nodes_per_block if self.batch else 1)

    @property
    def max_blocks(self) -> int:
        return self.batch.max_blocks if self.batch and not self.allocated_nodes else 1

    @property
    def node_count(self) -> int:
        """How many nodes run trials at a time, at most."""
        return self.nodes_per_block * self.max_blocks

    @property
    def capacity(self) -> int:
        """How many trials run at a time, at most."""
        return self.workers * self.node_count

    @property
    def in_flight(self) -> int:
        """Trials that are submitted at a time: one for each worker, and a few that wait at its door."""
        return self.capacity + max(1, self.capacity // 16)

    @property
    def container(self) -> Container:
        programs = (self.container_command,) if self.container_command else Container.programs
        flag = VENDORS[self.gpu_vendor].flag
        return Container(programs, flag, self.container_pid, self.container_fakeroot, self.options)

    @property
    def foreign_address(self) -> str:
        """Why workers cannot find a controller here at ``address``: it is not this machine's. Empty if it is."""
        if self.address == "auto" or (self.batch is not None and self.batch.interface):
            return ""
        return foreign_address(self.address)

    def to_yaml(self) -> str:
        """The file that a resume reads; what was found out here and now is left to be found out again."""
        data = {**vars(self), "gpus": list(self.gpus), **options_data(self.options)}
        data |= batch_data(self.batch) if self.batch else {}
        del data["auto"], data["options"], data["batch"], data["allocated_nodes"], data["endpoint"]
        data |= endpoint_data(self.endpoint)
        if self.container_command:
            data["container_command"] = literal_path(self.container_command)
        for key in ("gpu_mask", "gpu_unset", "scratch"):
            if data[key] is None:
                del data[key]
        found = "".join(f"# {key}: {data[key]}\n" for key in data if key in self.auto)
        heading = f"# auto was, at the last start:\n{found}" if found else ""
        return heading + to_yaml(data | dict.fromkeys(self.auto, "auto"))


def find_site(name: str) -> Path:
    """The file of a site given by name or path.

    A name is looked for in ./sites, $WORKFLOW_SITES and the shipped sites, in this order. Raises InputError.
    """
    if name.endswith((".yaml", ".yml")) or os.sep in name:
        return Path(name)
    directories = site_directories()
    for directory in directories if not unusable_text(name) else []:
        if is_there(path := directory / f"{name}.yaml"):
            return path
    known = sorted({path.stem for directory in directories for path in directory.glob("*.yaml")})
    places = listing(map(str, directories))
    remedy = f"{did_you_mean(name, known)}; looked in {places}; or give the path of a .yaml file"
    raise InputError(f"--site {name}: no such site\n    -> {remedy}")


def site_directories() -> list[Path]:
    own = os.environ.get("WORKFLOW_SITES", "")
    candidates = [Path("sites"), *map(Path, filter(None, own.split(os.pathsep))), shipped("sites")]
    return [directory for directory in candidates if directory.is_dir()]


def load_site(path: Path, overrides: Mapping[str, Any], options: Mapping[str, str] | None = None) -> Site:
    """Read and check a site file. Raises InputError with all its problems.

    ``options`` names options that gave an override, by its key, in place of --set.
    """
    data = read_yaml(path, "site")
    apply_overrides(data, overrides)
    problems = Problems(str(path), {key: f"--set site.{key}" for key in overrides} | dict(options or {}))
    top = Section(data, "", problems, path.absolute().parent)
    name = top.text("name", path.stem) or path.stem
    schedulers = (*BATCH_SCHEDULERS, *OTHER_SCHEDULERS)
    scheduler = top.text("scheduler", None, schedulers)
    if data.get("scheduler") is None:
        problems.add("scheduler", "is missing", f"one of {listing(schedulers)}")
    is_batch = scheduler in BATCH_SCHEDULERS
    vendor = top.text("gpu_vendor", "auto", ("auto", *VENDORS))
    endpoint = read_endpoint(top, scheduler)
    gpus = () if endpoint else _read_gpus(top, vendor, is_batch=is_batch)
    per_trial, per_gpu = _read_shares(top, gpus)
    without_gpu = top.integer("workers_without_gpu", Site.workers_without_gpu, least=1)
    workers = _read_workers(top, len(gpus) // per_trial * per_gpu, gpus, without_gpu)
    beats = _BATCH_BEATS if is_batch else (Site.heartbeat_period, Site.heartbeat_threshold)
    mask, unset = _read_masks(top)
    site = Site(
        name,
        str(scheduler),
        workers,
        gpus,
        _found_vendor(vendor, nvidia=bool(gpus) or (endpoint is not None and data.get("gpus") in (None, "auto"))),
        gpu_mask=mask,
        gpu_unset=unset,
        gpus_per_trial=per_trial,
        trials_per_gpu=per_gpu,
        workers_without_gpu=without_gpu,
        container_command=_read_command(top),
        container_pid=top.boolean("container_pid", False),
        container_fakeroot=top.boolean("container_fakeroot", False),
        options=read_options(top, map(data_dir_inside, CONTRACTS), look=endpoint is None),
        scratch=_read_scratch(top),
        address=_read_address(top, "auto" if is_batch else Site.address),
        heartbeat_period=top.integer("heartbeat_period", beats[0], least=1),
        heartbeat_threshold=top.integer("heartbeat_threshold", beats[1], least=2),
        submissions_per_minute=top.integer("submissions_per_minute", Site.submissions_per_minute, least=1),
        grace=top.number("grace", Site.grace, least=0, most=3600),
        poll=top.number("poll", Site.poll, least=0.05, most=10),
        patience=top.number("patience", 60.0 if is_batch else Site.patience, least=1, most=86400),
        batch=read_batch(top, str(scheduler)) if is_batch else None,
        endpoint=endpoint,
        auto=frozenset(key for key in ("gpus", "gpu_vendor", "workers") if top.data.get(key) in (None, "auto")),
    )
    top.finish()
    _check_beats(top, site)
    problems.raise_if_any()
    return site


def _found_vendor(vendor: str, *, nvidia: bool) -> str:
    """That of ``auto`` follows from the GPUs that nvidia-smi shows."""
    return vendor if vendor != "auto" else "nvidia" if nvidia else "none"


def _read_command(top: Section) -> str | None:
    """A name that is looked up on the worker, or a path."""
    command = top.text("container_command")
    return top.path("container_command") if command and os.sep in command else command


def _read_scratch(top: Section) -> str | None:
    scratch = top.text("scratch")
    if scratch and set(scratch) & set(",:"):
        top.wrong("scratch", scratch, "choose a path without ',' and ':', which containers cannot bind")
    elif scratch is not None and not scratch.startswith(("/", "$", "~")):
        top.wrong("scratch", scratch, "write an absolute path; it may begin with a variable of the worker")
    return scratch


def _check_beats(top: Section, site: Site) -> None:
    """A silence must outlast a few beats, or every trial counts as lost."""
    least = 2 * site.heartbeat_period
    if site.heartbeat_threshold < least:
        top.wrong("heartbeat_threshold", site.heartbeat_threshold, f"write at least twice the period: {least}")
    if site.patience < _LEAST_PATIENCE:
        top.wrong("patience", site.patience, f"write at least {_LEAST_PATIENCE:g}: a controller beats every 2 s")


def _read_gpus(top: Section, vendor: str, *, is_batch: bool) -> tuple[str, ...]:
    value = top.raw("gpus")
    if is_batch and value in (None, "auto"):
        what = "is missing" if value is None else "'auto' cannot be found out before a job runs"
        top.problems.add(top.at("gpus"), what, "write how many GPUs a job gets on a node, or their names")
        return ()
    if value is None or value == "auto":
        return visible_gpus() if vendor in ("auto", "nvidia") else ()
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1024:
        return tuple(map(str, range(value)))
    names = value if isinstance(value, list) else None
    if names is None or not all(isinstance(n, str | int) and not isinstance(n, bool) and str(n) for n in names):
        top.wrong("gpus", value, 'write auto, a number of GPUs, or a list of their names such as ["0", "1"]')
        return ()
    for reason in filter(None, (unusable_text(str(name)) for name in names)):
        top.problems.add(top.at("gpus"), f"{show(value)} {reason}", "remove that character")
    if odd := next((str(name) for name in names if re.search(r"[\s,]", str(name))), None):
        top.wrong("gpus", odd, 'write each name by itself, as in ["0", "1"]: gpus_per_trial gives a trial several')
    if len({str(n) for n in names}) < len(names):
        top.wrong("gpus", value, "name each GPU once: two workers on one would slow each other")
    return tuple(str(n) for n in names)


def _read_masks(top: Section) -> tuple[str | None, tuple[str, ...] | None]:
    mask, unset = top.text("gpu_mask"), top.texts("gpu_unset")
    for key, name in (*([("gpu_mask", mask)] if mask is not None else []), *(("gpu_unset", name) for name in unset)):
        if not re.fullmatch(r"[A-Za-z_]\w*", name, flags=re.ASCII):
            top.wrong(key, name, "write the name of an environment variable, such as CUDA_VISIBLE_DEVICES")
    return mask, tuple(unset) if "gpu_unset" in top.data else None


def _read_shares(top: Section, gpus: tuple[str, ...]) -> tuple[int, int]:
    """GPUs a trial, and trials a GPU; one of them is 1."""
    per_trial = top.integer("gpus_per_trial", 1, least=1)
    per_gpu = top.integer("trials_per_gpu", 1, least=1)
    if per_trial > 1 and per_gpu > 1:
        top.wrong("trials_per_gpu", per_gpu, "leave gpus_per_trial or trials_per_gpu at 1")
    if gpus and len(gpus) % per_trial:
        top.wrong("gpus_per_trial", per_trial, f"write a divisor of the number of GPUs, {len(gpus)}")
    return per_trial, per_gpu


def _read_workers(top: Section, slots: int, gpus: tuple[str, ...], without_gpu: int) -> int:
    if top.data.get("workers") == "auto":
        top.raw("workers")
        return slots or without_gpu
    workers = top.integer("workers", slots or without_gpu, least=1)
    if gpus and workers > max(slots, 1):
        remedy = f"write at most {slots}, one GPU for each worker, or set gpus or trials_per_gpu"
        top.problems.add(top.at("workers"), f"{workers} is more than the GPUs {show(list(gpus))}", remedy)
    return workers


def _read_address(top: Section, default: str) -> str:
    address = top.text("address", default)
    if address == "auto":
        return address
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        top.wrong("address", address, "write an IP address of this machine, or auto: Parsl waits minutes for a name")
        return default
