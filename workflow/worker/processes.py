"""Processes of this machine, by what the kernel tells of them: who lives, who descends from whom, what they use."""

from __future__ import annotations

import ctypes
import os
import socket
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def die_with_parent(number: int) -> None:
    """Let the kernel send this process a signal when its parent ends."""
    _prctl(_PR_SET_PDEATHSIG, number)


def adopt_orphans() -> None:
    """Make this process the parent of what its descendants leave behind, wherever that has gone."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def descendants(root: int) -> Iterator[int]:
    """Process ids below ``root`` that have not ended."""
    children: dict[int, list[int]] = {}
    for pid, parent, ended in _process_table():
        if not ended:
            children.setdefault(parent, []).append(pid)
    waiting = [root]
    while waiting:
        for pid in children.get(waiting.pop(), ()):
            yield pid
            waiting.append(pid)


def unreaped(parent: int) -> list[int]:
    """Children of a process that have ended, of which it has taken no notice yet."""
    return [pid for pid, above, ended in _process_table() if ended and above == parent]


def _process_table() -> Iterator[tuple[int, int, bool]]:
    """Process ids, those of their parents, and whether they have ended (zombies)."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    state, parent = file.read().rpartition(b")")[2].split()[:2]
            except OSError:
                continue
            yield int(name), int(parent), state in (b"Z", b"X")


def memory(processes: Iterable[int]) -> int:
    """Bytes of memory that processes have in all: what each has of its own, and the most that one shares."""
    own = shared = 0
    for pid in processes:
        try:
            with open(f"/proc/{pid}/statm", encoding="ascii") as file:
                _, resident, common, *_ = map(int, file.read().split())
        except (OSError, ValueError):
            continue
        own, shared = own + resident - common, max(shared, common)
    return (own + shared) * os.sysconf("SC_PAGE_SIZE")


def _cgroup_files(names: tuple[str, str]) -> Iterator[str]:
    """Texts of a file of this process's memory cgroup and those above it, by its name in cgroups v1 and v2."""
    for line in read_text("/proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            root, name = "/sys/fs/cgroup/memory", names[0]
        elif number == "0":
            root, name = "/sys/fs/cgroup", names[1]
        else:
            continue
        while path != "/":
            yield read_text(f"{root}{path}/{name}")
            path = os.path.dirname(path)
        yield read_text(f"{root}/{name}")


def memory_limit() -> int | None:
    """Bytes that this process's tree can have: the tightest limit of its cgroups, and the machine's memory."""
    limits = [int(text) for text in _cgroup_files(("memory.limit_in_bytes", "memory.max")) if text.strip().isdigit()]
    machine = [int(line.split()[1]) * 1024 for line in read_text("/proc/meminfo").splitlines() if "MemTotal" in line]
    return min([*limits, *machine], default=None)


def oom_kills() -> int:
    """Processes that the kernel has killed for want of memory, in this cgroup or, where that isn't known, here."""
    for text in (*_cgroup_files(("memory.oom_control", "memory.events")), read_text("/proc/vmstat")):
        for line in text.splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def read_text(path: str) -> str:
    return read_bytes(path).decode(errors="replace")


def read_bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def new_token() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{time.time_ns()}"


def identity(pid: int) -> dict[str, Any]:
    """What ``is_alive`` needs to know of a process: host, namespace of process ids, id and time of its start."""
    return {"host": socket.gethostname(), "namespace": namespace(), "pid": pid, "started": start_time(pid)}


def is_alive(process: Mapping[str, Any]) -> bool | None:
    """Whether a process lives; None if that can't be known from here, as on another host or of an unreadable file."""
    if process.get("host") != socket.gethostname() or process.get("namespace") != namespace():
        return None
    pid = process.get("pid")
    if not isinstance(pid, int):
        return None
    started = start_time(pid)
    return started is not None and started == process.get("started")


def namespace() -> str:
    """Process ids mean the same only within one boot and one namespace of process ids."""
    try:
        return f"{read_text('/proc/sys/kernel/random/boot_id').strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def start_time(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; None if there is no such process, or only its zombie."""
    fields = read_bytes(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return fields[19].decode() if fields and fields[0] not in (b"Z", b"X") else None


def dated(pid: int) -> bytes:
    """A process id with the time of its start, which tells it from a later one of that number; empty if it is gone."""
    started = start_time(pid)
    return f"{pid}:{started}".encode() if started else b""


def still_there(told: bytes) -> list[int]:
    """Those processes that a line names and that live, with all that descends from them."""
    named = [int(each.partition(b":")[0]) for each in told.split() if dated(int(each.partition(b":")[0])) == each]
    return [*named, *(pid for root in named for pid in descendants(root))]


def marked(variable: bytes) -> list[int]:
    """Processes of this machine with that in their environment."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    if variable in file.read().split(b"\0"):
                        found.append(int(name))
            except OSError:
                continue
    return found


def signal_all(processes: list[int], number: int) -> None:
    for pid in processes:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass
