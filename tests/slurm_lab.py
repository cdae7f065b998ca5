"""A real Slurm of several nodes on one machine, whose nodes can be crashed, frozen and restarted."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.conftest import eventually

REMEDY = "run scripts/install_test_parts.sh slurm"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "unshare", "setpriv")

_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
_NS_GET_PARENT = 0xB702  # ioctl_ns(2)
_PORTS = range(17000, 32000)  # below the ephemeral ones: nobody takes a daemon's port while it is down
_LONGEST_DIRECTORY = 70  # sockets lie below it, whose paths may have 107 characters

_CELL = """
[ "$PPID" = "$0" ] || exit 1  # the parent died before its death was a signal
exec unshare --uts --pid --mount-proc --fork --kill-child=SIGKILL bash -c "$@"
"""
_INIT = """
hostname "$0" && mount --bind "$1" /etc/hosts || exit 1
"${@:2}"
exit $?  # keeps bash from becoming the daemon: an init has to reap orphans, or pgid tracking takes them for alive
"""


class LabError(RuntimeError):
    """The lab does not do what it was asked for; the message ends with what the daemon or the client said."""


class Job(NamedTuple):
    """A line of squeue: ``state`` in its long form (``RUNNING``), ``nodes`` as a host list (``n[1-2]``)."""

    id: str
    state: str
    name: str
    nodes: str


class SlurmLab:
    """A Slurm of nodes n1, n2, ... with munge, ports and state of its own, in a new or empty ``directory``; needs root.

        with SlurmLab(tmp_path / "lab") as lab:
            lab.run("sbatch", "--gpus-per-node=2", "job.sh")
            subprocess.run(["squeue"], env={**os.environ, **lab.env})

    Each daemon runs in a PID namespace and under a host name of its own. One signal is a node's power failure, and the
    kernel ends the whole lab with the thread that started it, also after a kill -9 of that thread's process. The nodes
    share the machine's file system, /tmp included, and its network: n1 and n2 resolve to 127.0.0.1 on the nodes.

    Partition ``gpu`` is the default one and has no limit; jobs in it have 10 minutes unless they say more. With
    ``short_minutes`` there is also ``short``, with that MaxTime. As Slurm does by default, it takes jobs that ask for
    more, and never starts them. A job can be queried for ``min_job_age`` seconds after its end.

    What a job sees of its GPUs (Slurm 22.05; ``--gpus-per-node=N`` and ``--gres=gpu:N`` alike):

    - The script, on the first node: CUDA_VISIBLE_DEVICES, ROCR_VISIBLE_DEVICES, GPU_DEVICE_ORDINAL, ZE_AFFINITY_MASK
      and SLURM_JOB_GPUS, all with the same list, SLURM_GPUS_ON_NODE with its length, and SLURM_GPUS_PER_NODE if that
      was the option. No SLURM_STEP_GPUS.
    - An srun step: the same masks, each node's own, and SLURM_STEP_GPUS with the same list. But SLURM_JOB_GPUS is a
      copy of the first node's on every node.
    - Numbers are those of the node's /dev/nvidiaN: beside a job that holds 0 and 1, a job gets 2,3. That is so because
      no cgroup hides the other GPUs; sites with ConstrainDevices count from 0 in every job.
    - A job without GPUs has none of these variables, and nothing keeps it off the GPUs.

    No variable tells when the job will end: ask ``squeue --noheader --format=%e --jobs=$SLURM_JOB_ID``.
    """

    def __init__(
        self,
        directory: Path,
        *,
        nodes: int = 2,
        gpus: int = 4,
        cores: int = 16,
        min_job_age: int = 300,
        short_minutes: int | None = None,
    ) -> None:
        self.directory = directory.absolute()
        if len(str(self.directory)) > _LONGEST_DIRECTORY or set(str(self.directory)) & set(" ,#=%[]"):
            raise ValueError(f"directory of the lab: {directory}: needs at most {_LONGEST_DIRECTORY} plain characters")
        self.nodes = tuple(f"n{number}" for number in range(1, nodes + 1))
        self.gpus, self.cores = gpus, cores
        self.min_job_age = min_job_age
        self.short_minutes = short_minutes
        # All that a client needs: the configuration names the ports and munge's socket.
        self.env = {"SLURM_CONF": str(self.directory / "slurm.conf")}
        self._ports = _Ports(nodes + 1)
        self._cells: dict[str, _Cell] = {}

    # -- start and end -------------------------------------------------------------------------------------------------

    def __enter__(self) -> SlurmLab:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when all nodes are idle."""
        if os.geteuid() != 0:
            raise LabError("only root can start nodes in namespaces")
        missing = [program for program in PROGRAMS if not shutil.which(program, path=_PATH)]
        if missing:
            raise LabError(f"no {', '.join(missing)} here: {REMEDY}")
        if self._cells:
            raise LabError("the lab is running already")
        try:
            self._write_files()
            self._start_munged()
            self.start_controller()
            for node in self.nodes:
                self._start_node(node)
            for node in self.nodes:
                self._wait_registered(node)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends all daemons and jobs at once; the files stay, for a look at ``directory/log``."""
        for name in list(self._cells):
            self._kill(name)
        self._ports.close()

    # -- clients -------------------------------------------------------------------------------------------------------

    def run(self, *argv: str, timeout: float = 30, cwd: Path | None = None) -> str:
        """The output of a client command, which sees nothing of a Slurm that the tests themselves may run in."""
        env = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "SBATCH", "SQUEUE"))}
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, cwd=cwd, env=env | self.env)
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{' '.join(argv)}: no answer in {timeout:g} s; see {self.directory}/log") from error
        if done.returncode != 0:
            raise LabError(
                f"{' '.join(argv)}: exit code {done.returncode}: {done.stderr.strip() or done.stdout.strip()}"
            )
        return done.stdout

    def jobs(self, *, ended: bool = False) -> list[Job]:
        """The queue, array tasks one by one; with ``ended`` also the jobs of the last ``min_job_age`` seconds."""
        states = ["--states=all"] if ended else []
        lines = self.run("squeue", "--noheader", "--array", "--format=%i|%T|%N|%j", *states).splitlines()
        return [Job(id, state, name, nodes) for id, state, nodes, name in (line.split("|", 3) for line in lines)]

    def wait_idle(self, timeout: float = 30) -> None:
        """Until the queue is empty and every node is idle."""
        self._wait("ctl", lambda: not self.jobs() and self._all_idle(), timeout)

    # -- faults --------------------------------------------------------------------------------------------------------

    def crash(self, node: str, *, noticed: bool = False) -> None:
        """A power failure: all processes of the node die at once. Returns when they are gone.

        The controller finds out after about 25 s, or now if ``noticed``: the node is DOWN, its jobs end as NODE_FAIL or
        are queued again. If the node is back earlier, jobs older than 20 s end then, and younger ones stay RUNNING
        without a process for about a minute, until the controller asks the node what it runs.
        """
        self._cell(node)
        self._kill(node)
        if noticed:
            self.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=crash")

    def restart(self, node: str, timeout: float = 60) -> None:
        """Boots the node, crashed or not; returns when the controller, if one runs, has it in its service."""
        self._kill(node)
        booted = int(time.time())
        self._start_node(node)
        if "ctl" in self._cells:
            self._wait_registered(node, since=booted, timeout=timeout)

    def freeze(self, node: str) -> None:
        """The node hangs: all of its processes are stopped. The controller calls it down after about 25 s.

        Then its jobs are lost, and it is back in service about 30 s after a thaw.
        """
        self._cell(node).signal_all(signal.SIGSTOP)

    def thaw(self, node: str) -> None:
        self._cell(node).signal_all(signal.SIGCONT)

    def stop_controller(self, timeout: float = 30) -> None:
        """slurmctld saves its state and ends: jobs go on, clients try for 9 s and fail (``scontrol ping`` at once).

        A job that ends meanwhile counts as RUNNING until its node tells the next slurmctld.
        """
        cell = self._cell("ctl")
        self.run("scontrol", "shutdown", "slurmctld")
        if not eventually(cell.ended, timeout):
            raise LabError(f"slurmctld has not ended in {timeout:g} s; {cell.tail()}")
        self._kill("ctl")

    def start_controller(self, timeout: float = 60) -> None:
        """Starts slurmctld on the state that it has saved, if any."""
        self._start("ctl", "slurmctld", "-D", "-f", self.env["SLURM_CONF"])
        self._wait("ctl", lambda: "is UP" in self.run("scontrol", "ping"), timeout)

    def node_pids(self, node: str) -> list[int]:
        """The host's ids of the node's processes, also of slurmd and of those in jobs' containers."""
        return self._cells[node].pids() if node in self._cells else []

    def all_pids(self) -> list[int]:
        """Those of every part of the lab, on the nodes and beside them."""
        return [pid for cell in self._cells.values() for pid in [*cell.outside(), *cell.pids()]]

    def recover(self, timeout: float = 60) -> None:
        """Everything up again, whatever happened to it, and the queue empty."""
        if not self._runs("ctl"):
            self._kill("ctl")
            self.start_controller()
        for node in self.nodes:
            if self._runs(node):
                self.thaw(node)
            else:
                self.restart(node)
        self.run("scancel", "--user=root")
        self.wait_idle(timeout)

    # -- the parts -----------------------------------------------------------------------------------------------------

    def _write_files(self) -> None:
        for name in ("dev", "log", "run", "spool/ctl", *(f"spool/{node}" for node in self.nodes)):
            (self.directory / name).mkdir(parents=True)
        for number in range(self.gpus):
            _make_device(self.directory / "dev" / f"nvidia{number}", 195, number)
        key = self.directory / "run" / "munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(128))
        names = " ".join(["ctl", *self.nodes])
        (self.directory / "hosts").write_text(f"{Path('/etc/hosts').read_text()}\n127.0.0.1 {names}\n")
        (self.directory / "slurm.conf").write_text(self.slurm_conf())
        (self.directory / "gres.conf").write_text(self.gres_conf())

    def slurm_conf(self) -> str:
        lines = [_CONF.format(lab=self.directory, port=self._ports.numbers[0], min_job_age=self.min_job_age)]
        for node, port in zip(self.nodes, self._ports.numbers[1:], strict=True):
            lines.append(
                f"NodeName={node} NodeAddr=127.0.0.1 Port={port} Sockets=1 CoresPerSocket={self.cores}"
                f" ThreadsPerCore=1 RealMemory=16000 Gres=gpu:fake:{self.gpus} State=UNKNOWN"
            )
        lines.append("PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=10 State=UP")
        if self.short_minutes is not None:
            lines.append(f"PartitionName=short Nodes=ALL MaxTime={self.short_minutes} State=UP")
        return "\n".join(lines) + "\n"

    def gres_conf(self) -> str:
        return f"Name=gpu Type=fake File={self.directory}/dev/nvidia[0-{self.gpus - 1}]\n"

    def _start_munged(self) -> None:
        run = self.directory / "run"
        files = {"key": "munge.key", "pid": "munged.pid", "seed": "munged.seed", "log": "munged.log"}
        options = [f"--{kind}-file={run / name}" for kind, name in files.items()]
        options += [f"--socket={run / 'munge.socket'}", "--origin=127.0.0.1"]
        # force: the directories above are private, which is as it should be where only root is a client.
        self._start("munged", "munged", "--foreground", "--force", *options)
        self._wait("munged", (run / "munge.socket").exists, 60)

    def _start_node(self, node: str) -> None:
        self._start(node, "slurmd", "-D", "-N", node, "-f", self.env["SLURM_CONF"])

    def _start(self, name: str, *argv: str) -> None:
        if name in self._cells:
            raise LabError(f"{name} is running already")
        log = self.directory / "log" / f"{name}.log"
        self._cells[name] = _Cell(name, [str(self.directory / "hosts"), *argv], self.env, log)

    def _kill(self, name: str) -> None:
        cell = self._cells.pop(name, None)
        if cell is not None:
            cell.kill()

    def _runs(self, name: str) -> bool:
        return name in self._cells and not self._cells[name].ended()

    def _cell(self, name: str) -> _Cell:
        if name not in self._cells:
            raise LabError(f"{name} is not running (running: {', '.join(self._cells) or 'nothing'})")
        return self._cells[name]

    def _wait_registered(self, node: str, since: float = 0, timeout: float = 60) -> None:
        def registered() -> bool:
            fields = self._node_fields(node)
            started = fields["SlurmdStartTime"]
            return (
                fields["State"] in ("IDLE", "MIXED", "ALLOCATED")
                and started not in ("None", "Unknown")
                and datetime.fromisoformat(started).timestamp() >= since
            )

        self._wait(node, registered, timeout)

    def _node_fields(self, node: str) -> dict[str, str]:
        words = self.run("scontrol", "--oneliner", "show", "node", node).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def _all_idle(self) -> bool:
        return all(self._node_fields(node)["State"] == "IDLE" for node in self.nodes)

    def _wait(self, name: str, condition: Callable[[], bool], timeout: float) -> None:
        """Waits for what only a living daemon brings about; a client that fails meanwhile is tried again."""
        cell = self._cell(name)
        said = ""

        def come() -> bool:
            nonlocal said
            if cell.ended():
                raise _Ended
            try:
                return condition()
            except LabError as error:
                said = f"; {error}"
                return False

        try:
            if not eventually(come, timeout):
                raise LabError(f"{name} is not ready after {timeout:g} s{said}; {cell.tail()}")
        except _Ended:
            raise LabError(f"{name} has ended; {cell.tail()}") from None


class _Ended(Exception):
    pass


_CONF = """\
ClusterName=lab
SlurmctldHost=ctl(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={lab}/run/munge.socket,cred_expire=10
CredType=cred/munge
MpiDefault=none
MailProg=/bin/true
StateSaveLocation={lab}/spool/ctl
SlurmdSpoolDir={lab}/spool/%n
SlurmctldPidFile={lab}/run/slurmctld.pid
SlurmdPidFile={lab}/run/%n.pid
# linuxproc loses orphans, and cgroup renumbers GPUs
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,bf_interval=2,sched_interval=5
# more cores and memory than the machine has
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
SlurmdTimeout=10
KillWait=5
MinJobAge={min_job_age}
InactiveLimit=0
WaitTime=0
UnkillableStepTimeout=20
GresTypes=gpu
"""


class _Cell:
    """A daemon as the init's only child in a PID namespace; ends with the thread that made it."""

    def __init__(self, name: str, argv: list[str], env: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as file:
            self._unshare = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "bash", "-c", _CELL, str(os.getpid()), _INIT, name, *argv],
                env={"PATH": _PATH, "HOME": "/root", "LANG": "C.UTF-8", **env},
                cwd=log.parent,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,  # a Ctrl-C for the tests is not one for the daemon
            )
        self._init = self._namespace = 0
        if not eventually(self._find_init, 60):
            self._unshare.kill()
            raise LabError(f"{name} does not start; {self.tail()}")

    def _find_init(self) -> bool:
        try:
            self._init = psutil.Process(self._unshare.pid).children()[0].pid
            self._namespace = Path(f"/proc/{self._init}/ns/pid").stat().st_ino
        except (psutil.NoSuchProcess, IndexError, FileNotFoundError):
            return self.ended()
        return True

    def ended(self) -> bool:
        return self._unshare.poll() is not None

    def outside(self) -> list[int]:
        return [] if self.ended() else [self._unshare.pid]

    def pids(self) -> list[int]:
        return [pid for pid in psutil.pids() if _inside(pid, self._namespace)]

    def signal_all(self, number: signal.Signals) -> None:
        """Again and again: what is about to be stopped may still fork."""
        stopped = number == signal.SIGSTOP
        if not eventually(lambda: self._signal_once(number, stopped), 60):
            raise LabError(f"processes {self.pids()} do not take {number.name}")

    def _signal_once(self, number: signal.Signals, stopped: bool) -> bool:
        """Whether all processes were as the signal makes them."""
        done = True
        for pid in self.pids():
            try:
                status = psutil.Process(pid).status()
                if status != psutil.STATUS_ZOMBIE and (status == psutil.STATUS_STOPPED) != stopped:
                    done = False
                    os.kill(pid, number)
            except (psutil.NoSuchProcess, ProcessLookupError):
                continue
        return done

    def kill(self) -> None:
        """Returns when all processes of the namespace are gone: init's death waits for theirs."""
        if not self.ended():
            os.kill(self._init, signal.SIGKILL)
        self._unshare.wait(timeout=30)

    def tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-15:]
        return "\n  ".join([f"the end of {self.log}:", *lines])


class _Ports:
    """TCP ports that no other lab of this machine takes, be they in use just now or not."""

    def __init__(self, count: int) -> None:
        self.numbers: list[int] = []
        self._claims: list[socket.socket] = []
        for number in random.sample(_PORTS, len(_PORTS)):
            if len(self.numbers) == count:
                return
            if self._claim(number):
                self.numbers.append(number)
        self.close()
        raise LabError(f"no {count} free ports from {_PORTS.start} to {_PORTS.stop}")

    def _claim(self, number: int) -> bool:
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0slurm-lab-port-{number}")  # an abstract address: the kernel frees it at our death
            with socket.socket() as probe:
                probe.bind(("", number))
        except OSError:
            claim.close()
            return False
        self._claims.append(claim)
        return True

    def close(self) -> None:
        for claim in self._claims:
            claim.close()


def _make_device(path: Path, major: int, minor: int) -> None:
    """Slurm takes GPUs whose file is no device, but then sets no CUDA_VISIBLE_DEVICES."""
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(major, minor))


def _inside(pid: int, namespace: int) -> bool:
    """Whether a process is in a PID namespace or in one below it."""
    try:
        file = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY)
    except OSError:  # it has ended, or may do more than this process: then it is not ours
        return False
    while True:
        try:
            if os.fstat(file).st_ino == namespace:
                return True
            parent = fcntl.ioctl(file, _NS_GET_PARENT)
        except PermissionError:  # it is not below ours
            return False
        finally:
            os.close(file)
        file = parent
