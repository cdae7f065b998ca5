"""Runs Parsl's pool of workers on one node: ``python pool.py FILE END COMMAND...``, standard library only.

FILE is a JSON object (see ``Pool``), END when the node's block ends in seconds since the epoch (0: never). The pool
gets its number of workers, and they what is theirs of the node's GPUs (see ``contract.BLOCK``). It ends with its
controller, as a stage does, or once it is drained and no stage runs.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import tempfile
import time

# Started by file path, with an interpreter that looks nowhere else; the end of the path, since nothing there may hide
# a module of the standard library.
sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from workflow.worker.contract import BLOCK
from workflow.worker.processes import new_token, read_bytes, unreaped
from workflow.worker.tree import Fence, Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypedDict

    from workflow.worker.contract import Controller

    class Pool(TypedDict):
        """How the workers of a node share its GPUs.

        ``gpus`` are the site's names for them; what the scheduler has put into ``mask`` goes before, where
        ``scheduled``. Files in ``drains`` tell a pool to end. Parsl's ``heartbeat_period`` is in seconds.
        """

        controller: Controller
        gpus: list[str]
        mask: str
        scheduled: bool
        gpus_per_trial: int
        trials_per_gpu: int
        workers: int
        drains: str
        grace: float
        heartbeat_period: float


POOL_TOKEN = "WORKFLOW_POOL"
"""The variable by which what a pool has started is found again if it is killed."""

_DRAINED = "it was drained"
_CRIPPLED = "a process of Parsl's pool of workers was killed, without which it cannot go on"

_HEARTBEATS = 3
"""Of Parsl's, for which a child of its pool may have ended unnoticed."""

_LONGEST_TMPDIR = 107 - len("/wf-12345678/pymp-12345678/listener-12345678")
"""Bytes of a directory in one of which multiprocessing can make its sockets (Linux: unix(7))."""


class NodePool(Tree):
    """Parsl's pool of workers on one node: gives each worker its GPUs, and ends with the controller or at a drain.

    Parsl's own pinning is not used: it writes numbers of its own over the scheduler's mask, on GPUs of other jobs.
    """

    def __init__(self, pool: Pool, end: float | None) -> None:
        super().__init__(Fence(pool["controller"]), poll=1.0, grace=pool["grace"])
        self.pool = pool
        self.started, self.end = time.time(), end
        self._ended: dict[int, float] = {}
        """Children of which Parsl's pool has taken no notice, and when each was first seen to have ended."""
        self.drain = os.path.join(pool["drains"], f"{socket.gethostname()}.{os.getpid()}")

    def run(self, command: list[str]) -> int:
        given = given_gpus(self.pool, os.environ)
        slots = shares(self.pool, given)
        if self.pool["gpus"] and not slots:
            wanted = f"a trial needs {self.pool['gpus_per_trial']}"
            print(f"{socket.gethostname()}: the scheduler gave this job the GPUs {given}, {wanted}", file=sys.stderr)
            return 1
        block = {"slots": slots, "gpus": given, "end": self.end, "started": self.started, "drain": self.drain}
        block["node"] = os.environ.get("SLURMD_NODENAME")
        block["tmpdir"] = os.environ.get("TMPDIR")
        temporary = _temporary_directory()
        env = {**os.environ, **temporary, BLOCK: json.dumps(block), POOL_TOKEN: new_token()}
        self.leash(POOL_TOKEN, env[POOL_TOKEN])
        workers, reason = len(slots) or self.pool["workers"], ""
        if not self.fence.broken() and not self.start([*command, f"--max_workers_per_node={workers}"], env):
            reason = self.watch()
        self.stop()
        self.unleash()
        for directory in temporary.values():
            shutil.rmtree(directory, ignore_errors=True)
        if reason == _CRIPPLED:
            print(f"{socket.gethostname()}: {reason}", file=sys.stderr)
        if reason == f"stopped: {_DRAINED}":
            return 0
        return 0 if self.status is None else os.waitstatus_to_exitcode(self.status) & 0xFF

    def interrupted(self) -> str:
        return super().interrupted() or (_DRAINED if os.path.exists(self.drain) and not self._busy() else "")

    def stalled(self) -> str:
        """Whether the process is gone through which Parsl's pool shares tasks with its workers.

        Without it the pool keeps the tasks that it has for ever, and goes on to send heartbeats. A worker that has
        ended is noticed within a heartbeat, and replaced.
        """
        now = time.monotonic()
        self._ended = {pid: self._ended.get(pid, now) for pid in unreaped(self.child)}
        longest = now - min(self._ended.values(), default=now)
        return _CRIPPLED if longest > _HEARTBEATS * self.pool["heartbeat_period"] else ""

    def _busy(self) -> bool:
        """Whether a stage runs below: each one has a supervisor, which is started by its file's path."""
        return any(b"/supervise.py" in read_bytes(f"/proc/{pid}/cmdline") for pid in self.alive())


def _temporary_directory() -> dict[str, str]:
    """A directory of the pool's own, as its variable: Parsl's pool ends by TERM, and leaves what multiprocessing made.

    The stages get the variable back as it was. /tmp takes the place of one whose sockets would have too long a path.
    """
    for place in (os.environ.get("TMPDIR") or "/tmp", "/tmp"):
        try:
            if len(os.fsencode(place)) <= _LONGEST_TMPDIR:
                return {"TMPDIR": tempfile.mkdtemp(prefix="wf-", dir=place)}
        except OSError:
            pass  # what it would hold is then left behind
    return {}


def given_gpus(pool: Pool, environ: Mapping[str, str]) -> list[str]:
    """The GPUs of this node that belong to this job, at most as many as the site names.

    A scheduler names whole GPUs also where the site names their tiles, as 0.1: those of the given ones are kept.
    """
    mask = environ.get(pool["mask"]) if pool["scheduled"] else None
    names = pool["gpus"] if mask is None else [name.strip() for name in mask.split(",")]
    if pool["gpus"] and all("." in name for name in pool["gpus"]) and all(name.isdigit() for name in names):
        names = [tile for tile in pool["gpus"] if tile.partition(".")[0] in names]
    return [name for name in names if name not in ("", "-1", "NoDevFiles")][: len(pool["gpus"])]


def shares(pool: Pool, given: list[str]) -> list[str]:
    """What each worker gets, in the order of their numbers: a name, or several with commas between."""
    size = pool["gpus_per_trial"]
    groups = [",".join(given[i : i + size]) for i in range(0, len(given) - size + 1, size)]
    return (groups * pool["trials_per_gpu"])[: pool["workers"]]


def main(argv: list[str]) -> int:
    with open(argv[0], encoding="utf-8") as file:
        return NodePool(json.load(file), float(argv[1]) or None).run(argv[2:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
