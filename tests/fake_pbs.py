"""A fake OpenPBS 23.06.06 on one machine: commands that answer like the recorded server, and jobs that really run.

The recordings under tests/pbs/recordings were made on a real server; where a function names one (``errors.txt``), its
answers are equal to that recording up to ids, times, hosts and users. What was not recorded follows the PBS guides and
says so. An option that neither covers is refused loudly, so that no test can rest on an invented answer.

    with FakePbs(tmp_path, poll=0.2, kill_delay=0.5) as pbs:
        os.environ["PATH"] = f"{pbs.bin}:{os.environ['PATH']}"

One server process keeps the state; the commands are its clients. Every job runs below a shepherd, a child of the server
that adopts the job's orphans (PR_SET_CHILD_SUBREAPER), so that no process of a job can leave it. The server ends all of
them and itself once its standard input closes, which also happens when the test is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import getopt
import getpass
import itertools
import json
import os
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

VERSION = "23.06.06"
COMMANDS = ("qsub", "qstat", "qdel", "qselect", "pbsnodes", "mpiexec")
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"
"""What the login shell of a job had in lifecycle.txt, between two entries for PBS's own commands."""
QSUB_OPTIONS = "A:e:j:k:l:m:M:N:o:p:P:q:r:S:v:VW:z"
USAGE = """\
usage: qsub [-a date_time] [-A account_string] [-c interval]
	[-C directive_prefix] [-e path] [-f ] [-h ] [-I [-X]] [-j oe|eo] [-J X-Y[:Z]]
	[-k keep] [-l resource_list] [-m mail_options] [-M user_list]
	[-N jobname] [-o path] [-p priority] [-P project] [-q queue] [-r y|n]
	[-R o|e|oe] [-S path] [-u user_list] [-W otherattributes=value...]
	[-v variable_list] [-V ] [-z] [script | -- command [arg1 ...]]
       qsub --version
"""

Attributes = dict[str, Any]
"""Name to text, or to another such dict, in PBS's order."""


@dataclass(frozen=True)
class Queue:
    """Walltimes in seconds; the values of ``debug`` agree with errors.txt and qstat-plain.txt."""

    enabled: bool = True
    default_walltime: int | None = None
    max_walltime: int | None = None


QUEUES = {"workq": Queue(), "debug": Queue(True, 600, 3600), "prod": Queue(enabled=False)}


@dataclass(frozen=True)
class Settings:
    """The site. Times in seconds; the recorded server's were about 10 for ``poll`` and for ``kill_delay``."""

    hosts: tuple[str, ...] = ("x3005c0s7b0n0", "x3005c0s7b1n0")
    ncpus: int = 16
    ngpus: int = 4
    history: bool = True
    poll: float = 0.2
    """How often a running job's use is updated and its walltime checked."""
    kill_delay: float = 1.0
    """From TERM to KILL."""
    history_duration: float | None = None
    """After this time a finished job leaves the history; None: only by ``forget``."""
    node_fail_requeue: float = 1.0
    """From the loss of a host to the requeue of its jobs (PBS's default is 310)."""
    queue_delay: float = 0.0
    """The least time in state Q."""
    server: str = "login1"
    user: str = ""
    """Whose jobs they are in the answers; the caller's name if empty."""
    default_queue: str = "debug"
    queues: dict[str, Queue] = field(default_factory=lambda: dict(QUEUES))
    resources: tuple[str, ...] = ()
    """Names that the site adds for ``-l`` and ``select``, such as filesystems."""
    gpu_hook: bool = False
    """Whether jobs get CUDA_VISIBLE_DEVICES from a hook of the site; the recorded server had none."""
    first_only: bool = False
    """Whether ``qstat -F json`` prints the first of several jobs only, which OpenPBS's newest is said to do."""
    acl_roots: bool = True
    """Whether root may submit, which errors-root.txt shows to be off by default."""


class Refused(Exception):
    """A command ends with this exit code and message. ``rc`` is PBS's error number modulo 256."""

    def __init__(self, rc: int, stderr: str) -> None:
        super().__init__(stderr)
        self.rc, self.stderr = rc, stderr


# qsub's arguments --------------------------------------------------------------------------------------------------


@dataclass
class Call:
    """One run of a command."""

    command: str
    argv: list[str]
    cwd: str = ""
    env: dict[str, str] = field(default_factory=dict)
    stdin: str = ""


@dataclass
class Request:
    """What a qsub asks for, after its arguments and the script's directives."""

    options: dict[str, str] = field(default_factory=dict)
    resources: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    inherit: bool = False
    script: str = ""
    command: str = ""
    """Of ``qsub -- command``: instead of a script."""
    default_name: str = "STDIN"

    def take(self, options: list[tuple[str, str]], env: dict[str, str]) -> None:
        """Adds options; those taken first win, as the command line does over directives."""
        for flag, value in options:
            if flag == "-l":
                for name, amount in split_list(value).items():
                    self.resources.setdefault(name, amount)
            elif flag == "-v":
                for name, text in split_list(value, env).items():
                    self.variables.setdefault(name, text)
            elif flag == "-N":
                self.options.setdefault(flag, checked_name(value))
            else:
                self.inherit |= flag == "-V"
                self.options.setdefault(flag, value)


def split_list(text: str, env: dict[str, str] | None = None) -> dict[str, str]:
    """``A=1,B="x,y"`` as a dict. A name without a value is looked up in ``env`` (``-v NAME``)."""
    lexer = shlex.shlex(text, posix=True)
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = ",", True, ""
    pairs = [item.partition("=") for item in lexer]
    return {name: value if equals else (env or {}).get(name, "") for name, equals, value in pairs if name}


def checked_name(name: str) -> str:
    """errors.txt: digits may come first, blanks and slashes may not occur; 230 characters at most."""
    if not re.fullmatch(r"[A-Za-z0-9_.+-]+", name):
        raise Refused(2, "qsub: illegal -N value\n" + USAGE)
    if len(name) > 230:
        raise Refused(2, "qsub: Job name is too long \n")
    return name


def getopts(arguments: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    try:
        return getopt.getopt(arguments, QSUB_OPTIONS)
    except getopt.GetoptError as error:
        raise Refused(2, f"qsub: not known to the fake: {error}\n" + USAGE) from error


def directives(script: str) -> Iterator[str]:
    """The texts behind ``#PBS`` before the first command."""
    for line in script.splitlines():
        if line.startswith("#PBS"):
            yield line.removeprefix("#PBS").strip()
        elif line.strip() and not line.lstrip().startswith("#"):
            return


def parse_directive(text: str) -> list[tuple[str, str]]:
    """odd-paths.txt: a word that belongs to no option, as the rest of a path with a blank, is an error."""
    try:
        options, operands = getopts(shlex.split(text))
    except (ValueError, Refused):
        options, operands = [], [text]
    if operands:
        raise Refused(1, f"qsub: directive error: {text} \n")
    return options


def parse_qsub(call: Call) -> Request:
    request = Request()
    options, operands = getopts(call.argv)
    request.take(options, call.env)
    if "--" in call.argv:
        request.command = shlex.join(operands)
        return request
    if operands:
        request.default_name = Path(operands[0]).name
        request.script = read_script(Path(call.cwd, operands[0]))
    else:
        request.script = call.stdin
    for text in directives(request.script):
        request.take(parse_directive(text), call.env)
    return request


def read_script(path: Path) -> str:
    try:
        return path.read_text(errors="surrogateescape")
    except OSError as error:
        raise Refused(1, f"qsub: script file:: {error.strerror}\n") from error


def bad_value(resource: str = "") -> Refused:
    return Refused(166, f"qsub: Illegal attribute or resource value{resource and f' Resource_List.{resource}'}\n")


def seconds_of(walltime: str) -> int:
    """``[[HH:]MM:]SS`` (errors.txt: 90 is accepted, 1:2:3:4 is not)."""
    parts = walltime.split(":")
    if len(parts) > 3 or not all(part.isascii() and part.isdigit() for part in parts):
        raise bad_value("walltime")
    return sum(int(part) * 60**power for power, part in enumerate(reversed(parts)))


def clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest:02}"


Chunk = dict[str, str]


def parse_select(text: str) -> list[Chunk]:
    """``2:ncpus=4+1`` as one dict a chunk; only the form is checked, as qsub itself does."""
    chunks: list[Chunk] = []
    for group in text.split("+"):
        words = group.split(":")
        count = int(words.pop(0)) if words[0].isascii() and words[0].isdigit() else 1
        if not all(re.fullmatch(r"\w+=.+", word) for word in words) or count < 1:
            raise bad_value("select")
        chunks += [dict(word.split("=", 1) for word in words) for _ in range(count)]
    return chunks


INTEGERS = ("ncpus", "ngpus", "mpiprocs", "ompthreads")
STRINGS = ("mem", "host", "vnode", "arch")


def check_chunks(chunks: list[Chunk], site: tuple[str, ...]) -> None:
    """errors.txt: what the server refuses, without the name of the attribute."""
    for name, value in itertools.chain.from_iterable(chunk.items() for chunk in chunks):
        if name not in (*INTEGERS, *STRINGS, *site):
            raise Refused(187, f"qsub: Unknown resource: {name}\n")
        if name in INTEGERS and not value.isdigit():
            raise bad_value()


def check_resources(resources: dict[str, str], site: tuple[str, ...]) -> None:
    known = ("walltime", "select", "place", *INTEGERS, *STRINGS, *site)
    for name in resources:
        if name not in known:
            raise Refused(187, f"qsub: Unknown resource Resource_List.{name}\n")
        if "select" in resources and name in (*INTEGERS, *STRINGS):
            message = f'"-lresource=" cannot be used with "select" or "place", resource is: {name}'
            raise Refused(5, f"qsub: {message}\n")
    if "place" in resources and "select" not in resources:
        raise Refused(7, 'qsub: Cannot have "place" without "select"\n')
    if not re.fullmatch(r"(free|pack|v?scatter)(:(excl|exclhost|shared))?", resources.get("place", "free")):
        raise bad_value("place")


# Jobs --------------------------------------------------------------------------------------------------------------


@dataclass
class Place:
    """A chunk on a host; ``index`` is its number among the chunks there, shown in exec_host."""

    host: str
    index: int
    chunk: Chunk
    gpus: tuple[int, ...] = ()
    """Which of the host's it has, for ``gpu_hook``."""

    def amount(self, resource: str) -> int:
        return int(self.chunk.get(resource, 0))

    def exec_host(self) -> str:
        """lifecycle.txt has ``/0*4``, history-off.txt ``/0`` for one cpu."""
        ncpus = self.amount("ncpus")
        return f"{self.host}/{self.index}" + (f"*{ncpus}" if ncpus != 1 else "")

    def exec_vnode(self) -> str:
        shown = {name: value for name, value in self.chunk.items() if name in ("mem", "ncpus", "ngpus")}
        return f"({self.host}:" + ":".join(f"{name}={value}" for name, value in shown.items()) + ")"


@dataclass
class Run:
    """One start of a job, in the time of ``time.time``."""

    places: list[Place]
    start: float
    next_poll: float
    shepherd: int = 0
    session: int = 0
    """The job's shell, known since the first poll."""
    walltime_used: int = 0
    killing: str = ""
    """Why its processes are being ended: qdel or walltime."""
    kill_at: float | None = None
    lost_host: str = ""
    lost_at: float = 0.0
    over: bool = False
    exit_at: float = 0.0
    stageout: int = 1

    def exec_vnode(self) -> str:
        return "+".join(place.exec_vnode() for place in self.places)


@dataclass
class Job:
    number: int
    server: str
    owner: str
    queue: str
    request: Request
    chunks: list[Chunk]
    workdir: str
    arguments: str
    limits: dict[str, str] = field(default_factory=dict)
    """Resource_List."""
    variables: dict[str, str] = field(default_factory=dict)
    """Variable_List."""
    environment: dict[str, str] = field(default_factory=dict)
    state: str = "Q"
    substate: int = 10
    ctime: float = field(default_factory=time.time)
    mtime: float = field(default_factory=time.time)
    comment: str = ""
    run: Run | None = None
    run_count: int = 0
    exit_status: int | None = None
    ended: float = 0.0

    @property
    def id(self) -> str:
        return f"{self.number}.{self.server}"

    @property
    def name(self) -> str:
        return self.request.options.get("-N", self.request.default_name)

    @property
    def rerunable(self) -> bool:
        return self.request.options.get("-r", "y") != "n"

    @property
    def joined(self) -> str:
        return self.request.options.get("-j", "n")

    def walltime(self) -> int | None:
        return seconds_of(self.limits["walltime"]) if "walltime" in self.limits else None

    def output(self, flag: str) -> Path:
        """Where ``-o`` or ``-e`` goes: relative to the directory of qsub, a host in front is dropped."""
        path = re.sub(r"^[^/:]+:", "", self.request.options.get(flag, ""))
        return Path(self.workdir, path or f"{self.name}.{flag[1]}{self.number}")

    def direct(self, flag: str) -> bool:
        """``-k doe`` writes the output where it belongs while the job runs."""
        keep = self.request.options.get("-k", "n")
        return "d" in keep and flag[1] in keep

    def change(self, state: str, substate: int) -> None:
        self.state, self.substate, self.mtime = state, substate, time.time()

    def attributes(self) -> Attributes:
        """All that ``qstat -f`` shows, in its order (lifecycle.txt, queued-json.txt); None is left out."""
        found = {**self._head(), **self._requested(), **self._times(), **self._tail()}
        return {name: value for name, value in found.items() if value is not None}

    def _head(self) -> Attributes:
        return {
            "Job_Name": self.name,
            "Job_Owner": f"{self.owner}@{self.server}",
            "resources_used": self._used(),
            "job_state": self.state,
            "queue": self.queue,
            "server": self.server,
            "Account_Name": self.request.options.get("-A"),
            "Checkpoint": "u",
            "ctime": time.ctime(self.ctime),
            "Error_Path": f"{self.server}:{self.output('-e')}",
            "exec_host": "+".join(place.exec_host() for place in self.run.places) if self.run else None,
            "exec_vnode": self.run.exec_vnode() if self.run else None,
        }

    def _requested(self) -> Attributes:
        return {
            "Hold_Types": "n",
            "Join_Path": self.joined,
            "Keep_Files": self.request.options.get("-k", "n"),
            "Mail_Points": self.request.options.get("-m", "a"),
            "mtime": time.ctime(self.mtime),
            "Output_Path": f"{self.server}:{self.output('-o')}",
            "Priority": self.request.options.get("-p", "0"),
            "qtime": time.ctime(self.ctime),
            "Rerunable": str(self.rerunable),
            "Resource_List": self.limits,
        }

    def _times(self) -> Attributes:
        """history-off.txt: a job that ended before the first poll never shows its session."""
        run = self.run
        return {
            "stime": time.ctime(run.start) if run else None,
            "obittime": time.ctime(self.ended) if run and self.state == "F" else None,
            "session_id": str(run.session) if run and run.session else None,
            "Shell_Path_List": self.request.options.get("-S"),
            "jobdir": self.environment["HOME"] if run and (run.session or run.over) else None,
            "substate": str(self.substate),
        }

    def _tail(self) -> Attributes:
        finished = self.state == "F"
        return {
            "Variable_List": self.variables,
            "comment": self.comment or None,
            "etime": time.ctime(self.ctime),
            "run_count": str(self.run_count) if self.run_count else None,
            "Stageout_status": str(self.run.stageout) if self.run and finished else None,
            "Exit_status": str(self.exit_status) if self.exit_status is not None else None,
            "Submit_arguments": self.arguments,
            "history_timestamp": str(int(self.ended)) if finished else None,
            "project": self.request.options.get("-P", "_pbs_project_default"),
            "Submit_Host": self.server,
        }

    def _used(self) -> Attributes | None:
        """Nothing is known before the first poll (env-json.txt); the fake does not measure cpu and memory."""
        if not self.run or not (self.run.session or self.run.over):
            return None
        return {
            "cpupercent": "0",
            "cput": "00:00:00",
            "mem": "0kb",
            "ncpus": self.limits["ncpus"],
            "vmem": "0kb",
            "walltime": clock(self.run.walltime_used),
        }


# Answers -----------------------------------------------------------------------------------------------------------

NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
"""env-json.txt: a text that JSON reads as a number is printed as one (1e5, 12345), but not 007, 0x10 and true."""


def json_lines(key: str, value: Any, depth: int) -> str:
    """PBS's own layout: four blanks a level, none after a colon, and an empty dict on two lines (pbsnodes.txt)."""
    pad = "    " * depth
    if isinstance(value, dict):
        inner = ",\n".join(json_lines(name, entry, depth + 1) for name, entry in value.items())
        return f'{pad}"{key}":{{\n{inner}{inner and chr(10)}{pad}}}'
    shown = value if NUMBER.fullmatch(value) else json.dumps(value, ensure_ascii=False)
    return f"{pad}{json.dumps(key)}:{shown}"


def json_answer(server: str, kind: str, entries: Attributes) -> str:
    """lifecycle.txt: without entries the kind is left out, and so is the final newline."""
    head = {"timestamp": str(int(time.time())), "pbs_version": VERSION, "pbs_server": server}
    found = {**head, kind: entries} if entries else head
    lines = [json_lines(name, value, 1) for name, value in found.items()]
    return "{\n" + ",\n".join(lines) + "\n}" + ("\n" if entries else "")


def text_job(job: Job) -> str:
    lines = [f"Job Id: {job.id}"]
    for name, value in job.attributes().items():
        if name == "Variable_List":
            lines.append(wrapped(name, ",".join(f"{key}={entry}" for key, entry in value.items())))
        elif isinstance(value, dict):
            lines += [wrapped(f"{name}.{key}", entry) for key, entry in value.items()]
        else:
            lines.append(wrapped(name, value))
    return "\n".join(lines) + "\n\n"


def wrapped(name: str, value: str) -> str:
    """qstat's own line breaks (lifecycle.txt): before an item that does not fit in 78 columns, or within it."""
    column = len(name) + 7
    out = [f"    {name} = "]
    for position, item in enumerate(value.split(",")):
        if position:
            out.append(",")
        if column + len(item) < 78:
            out.append(item)
            column += len(item)
            continue
        if position:
            out.append("\n\t")
            column = 9
        for letter in item:
            out.append(letter)
            column += 1
            if column > 78:
                out.append("\n\t")
                column = 8
    return "".join(out)


LISTING = f"""\
Job id            Name             User              Time Use S Queue
{"-" * 16}  {"-" * 16} {"-" * 16}  {"-" * 8} - {"-" * 5}
"""


def listing(jobs: Iterable[Job]) -> str:
    """qstat-plain.txt; without jobs not even the head is printed."""
    lines = []
    for job in jobs:
        used = job.attributes().get("resources_used", {"cput": "0"})["cput"]
        head = f"{job.id[:17]:17} {job.name[:16]:16} {job.owner[:16]:16}"
        lines.append(f"{head}  {used:>8} {job.state} {job.queue[:16]:16}\n")
    return LISTING + "".join(lines) if lines else ""


# Processes ---------------------------------------------------------------------------------------------------------

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _CLONE_NEWUTS = 1, 36, 0x04000000


def parents() -> dict[int, int]:
    """Every living process and its parent."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                stat = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                if stat[0] not in "ZX":
                    found[int(entry.name)] = int(stat[1])
    return found


def descendants(root: int) -> list[int]:
    """All living processes below ``root``, parents first."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents().items():
        children.setdefault(parent, []).append(pid)
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found[1:]


def send(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def kill_all_below() -> None:
    """KILL to everything below this process until it has no child left: a process may fork while it is killed."""
    with contextlib.suppress(ChildProcessError):
        while True:
            send(descendants(os.getpid()), signal.SIGKILL)
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
            time.sleep(0.01)


def become_shepherd(parent: int, host: str) -> None:
    """Adopts orphans, ends with ``parent`` and takes the host's name, where the user may do that."""

    def parent_may_be_gone(*_: Any) -> None:
        if os.getppid() != parent:
            kill_all_below()
            os._exit(1)

    signal.signal(signal.SIGTERM, parent_may_be_gone)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    parent_may_be_gone()
    if _LIBC.unshare(_CLONE_NEWUTS) == 0:
        socket.sethostname(host)


def reap_all(top: int, report: Callable[[int], Any]) -> None:
    """Waits for every process below this one, and reports how ``top`` ended as soon as it has."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.wait()
            if pid == top:
                report(status)


def forked(function: Callable[[], None]) -> int:
    """The pid of a child that runs the function and nothing else, without sockets: a client waits for their end."""
    pid = os.fork()
    if pid:
        return pid
    os.closerange(3, 1024)
    try:
        function()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


@dataclass(frozen=True)
class Spool:
    """Names every file of the fake."""

    directory: Path

    @property
    def bin(self) -> Path:
        return self.directory / "bin"

    @property
    def home(self) -> Path:
        return self.directory / "home"

    @property
    def log(self) -> Path:
        return self.directory / "server.log"

    @property
    def settings(self) -> Path:
        return self.directory / "settings.json"

    def down(self, host: str) -> Path:
        """Exists while the host is lost, so that mpiexec cannot reach it."""
        return self.directory / "down" / host

    def script(self, job: str) -> Path:
        return self.directory / "jobs" / f"{job}.SC"

    def gpus(self, job: str) -> Path:
        """The mask of each host, if the site has a hook for it."""
        return self.directory / "jobs" / f"{job}.gpus"

    def start(self, job: str) -> Path:
        """What the job's login shell reads: the name of the script, as PBS does it."""
        return self.directory / "jobs" / f"{job}.start"

    def status(self, job: str) -> Path:
        return self.directory / "jobs" / f"{job}.status"

    def nodefile(self, job: str) -> Path:
        return self.directory / "aux" / job

    def output(self, job: str, flag: str) -> Path:
        return self.directory / "spool" / f"{job}.{'OU' if flag == '-o' else 'ER'}"

    def tmpdir(self, job: str) -> Path:
        return self.directory / "tmp" / f"pbs.{job}"

    def tasks(self, job: str) -> Path:
        """Shepherds of mpiexec's ranks, as files named HOST:PID."""
        return self.directory / "tasks" / job

    def make(self) -> None:
        for name in ("bin", "home", "down", "jobs", "aux", "spool", "tmp", "tasks"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)


def hooked(spool: Spool, job: str, host: str) -> dict[str, str]:
    """What a site's hook adds to the environment of the job's processes on this host.

    As PBS's own hook for control groups: nothing where the job has no GPU.
    """
    path = spool.gpus(job)
    mask = json.loads(path.read_text()).get(host) if path.exists() else None
    return {"CUDA_VISIBLE_DEVICES": mask} if mask else {}


def run_top_shell(job: Job, spool: Spool, outputs: tuple[Path, Path]) -> None:
    """The shepherd of a job: starts its login shell and reports the status once that ends.

    The shell reads the name of the script, which it runs as a child: a TERM to all ends the shell even where the
    script traps it, hence Exit_status 271 after qdel.
    """
    assert job.run
    become_shepherd(os.getppid(), job.run.places[0].host)
    files = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) for path in outputs]
    shell, home = job.request.options.get("-S", "/bin/bash"), job.environment["HOME"]
    env = job.environment | hooked(spool, job.id, job.run.places[0].host)
    with spool.start(job.id).open() as start:
        options: dict[str, Any] = {"stdin": start, "stdout": files[0], "stderr": files[1], "cwd": home}
        top = subprocess.Popen([shell], start_new_session=True, env=env, **options)
    reap_all(top.pid, lambda status: write_whole(spool.status(job.id), str(status)))


def write_whole(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.rename(path)


# The server --------------------------------------------------------------------------------------------------------


@dataclass
class Answer:
    rc: int | None = 0
    """None: there is no answer, and the command hangs."""
    stdout: str = ""
    stderr: str = ""

    def error(self, rc: int, line: str) -> None:
        self.rc = rc
        self.stderr += line + "\n"


class Server:
    """Queue, scheduler and moms in one loop; nothing here blocks for long."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        self.settings, self.spool = settings, Spool(directory)
        self.jobs: dict[str, Job] = {}
        self.number = 0
        self.fails: dict[str, list[Answer]] = {}
        self.unanswered: list[socket.socket] = []
        self.scheduling = True
        self.changed = {host: time.time() for host in settings.hosts}

    # -- clients

    def answer(self, call: Call) -> Answer:
        if self.fails.get(call.command):
            return self.fails[call.command].pop(0)
        try:
            answer: Answer = getattr(self, f"on_{call.command}")(call)
        except Refused as refused:
            return Answer(refused.rc, "", refused.stderr)
        return answer

    def on_control(self, call: Call) -> Answer:
        """The switches of FakePbs."""
        method, *arguments = json.loads(call.stdin)
        return Answer(stdout=json.dumps(getattr(self, f"control_{method}")(*arguments)))

    def control_jobs(self) -> Attributes:
        return {job.id: {**job.attributes(), "pids": self.pids(job)} for job in self.jobs.values()}

    def control_forget(self, job: str) -> None:
        del self.jobs[job]

    def control_fail_next(self, command: str, times: int, rc: int | None, stderr: str, stdout: str) -> None:
        self.fails.setdefault(command, []).extend(Answer(rc, stdout, stderr) for _ in range(times))

    def control_schedule(self, on: bool) -> None:
        self.scheduling = on

    def control_restore_host(self, host: str) -> None:
        self.spool.down(host).unlink()
        self.changed[host] = time.time()

    # -- qsub

    def on_qsub(self, call: Call) -> Answer:
        """errors.txt: the forms that qsub itself checks take no id, all that the server refuses do."""
        request = parse_qsub(call)
        if "walltime" in request.resources:
            seconds_of(request.resources["walltime"])
        chunks = parse_select(request.resources["select"]) if "select" in request.resources else None
        number, self.number = self.number, self.number + 1
        job = self.new_job(number, request, chunks, call)
        spooled = self.spool.script(job.id)
        spooled.write_text(request.script, errors="surrogateescape")
        spooled.chmod(0o700)
        self.jobs[job.id] = job
        self.schedule()
        return Answer(stdout=job.id + "\n")

    def new_job(self, number: int, request: Request, chunks: list[Chunk] | None, call: Call) -> Job:
        if os.getuid() == 0 and not self.settings.acl_roots:
            raise Refused(175, "qsub: Bad UID for job execution\n")
        queue = self.checked_queue(request.options.get("-q", self.settings.default_queue))
        check_resources(request.resources, self.settings.resources)
        chunks = chunks or [{name: request.resources[name] for name in INTEGERS if name in request.resources}]
        check_chunks(chunks, self.settings.resources)
        owner = self.settings.user or getpass.getuser()
        job = Job(number, self.settings.server, owner, queue, request, chunks, call.cwd, " ".join(call.argv))
        job.limits = self.limits(queue, request.resources, chunks)
        job.variables = variable_list(request, call, queue, self.settings.server)
        job.environment = self.environment(job, call.env if request.inherit else {})
        return job

    def checked_queue(self, name: str) -> str:
        queue = self.settings.queues.get(name)
        if queue is None:
            raise Refused(170, "qsub: Unknown queue\n")
        if not queue.enabled:
            raise Refused(173, "qsub: Queue is not enabled\n")
        return name

    def limits(self, queue: str, asked: dict[str, str], chunks: list[Chunk]) -> dict[str, str]:
        """Resource_List: sums over the chunks and defaults, by name."""
        for chunk in chunks:
            chunk.setdefault("ncpus", "1")
        sums = {name: str(sum(int(chunk.get(name, 0)) for chunk in chunks)) for name in ("ncpus", "ngpus", "mpiprocs")}
        found = {name: total for name, total in sums.items() if any(name in chunk for chunk in chunks)}
        found |= {"nodect": str(len(chunks)), "place": asked.get("place", "free" if "select" in asked else "pack")}
        found["select"] = select_text(asked.get("select"), chunks)
        found |= {name: asked[name] for name in (*STRINGS, *self.settings.resources) if name in asked}
        walltime = self.walltime(self.settings.queues[queue], asked.get("walltime"))
        return dict(sorted({**found, **({} if walltime is None else {"walltime": clock(walltime)})}.items()))

    def walltime(self, queue: Queue, asked: str | None) -> int | None:
        found = queue.default_walltime if asked is None else seconds_of(asked)
        if found is not None and queue.max_walltime is not None and found > queue.max_walltime:
            raise Refused(188, "qsub: Job violates queue and/or server resource limits\n")
        return found

    def environment(self, job: Job, inherited: dict[str, str]) -> dict[str, str]:
        """lifecycle.txt: nothing of the submitter's environment but what ``-v`` and ``-V`` ask for."""
        home, ncpus = str(self.spool.home), job.chunks[0]["ncpus"]
        pbs = {"JOBID": job.id, "JOBNAME": job.name, "JOBDIR": home, "QUEUE": job.queue, "ENVIRONMENT": "PBS_BATCH"}
        pbs |= {"JOBCOOKIE": uuid.uuid4().hex.upper(), "MOMPORT": "15003", "NODENUM": "0", "TASKNUM": "1"}
        pbs["NODEFILE"] = str(self.spool.nodefile(job.id))
        return {
            "PATH": f"{self.spool.bin}:{PATH}:{self.spool.bin}",
            "MANPATH": ":/opt/pbs/share/man",
            **{name: value for name, value in inherited.items() if not name.startswith("PBS_")},
            **job.variables,
            "HOME": home,
            "LOGNAME": job.owner,
            "USER": job.owner,
            "SHELL": "/bin/bash",
            "ENVIRONMENT": "BATCH",
            "NCPUS": ncpus,
            "OMP_NUM_THREADS": job.chunks[0].get("ompthreads", ncpus),
            "TMPDIR": str(self.spool.tmpdir(job.id)),
            **{f"PBS_{name}": value for name, value in pbs.items()},
        }

    # -- qstat, qdel, pbsnodes

    def on_qstat(self, call: Call) -> Answer:
        flags, words = flags_of(call, "fxHF:")
        if flags.get("-F", "json") != "json" or ("-F" in flags and "-f" not in flags):
            raise Refused(2, "qstat: not known to the fake: -F needs -f and json\n")
        answer = Answer()
        found = self.chosen(words, "-x" in flags or "-H" in flags, answer)
        if "-F" in flags:
            found = found[:1] if self.settings.first_only and len(words) > 1 else found
            shown = {job.id: job.attributes() for job in found}
            answer.stdout = json_answer(self.settings.server, "Jobs", shown)
        else:
            answer.stdout = "".join(map(text_job, found)) if "-f" in flags else listing(found)
        return answer

    def chosen(self, words: list[str], past: bool, answer: Answer) -> list[Job]:
        """The jobs that qstat shows; known ids are shown beside unknown ones (json-multi.txt)."""
        if past and not self.settings.history:
            for word in words or [""]:
                id = self.full_id(word) if word else ""
                answer.stderr += f"qstat: PBS is not configured to maintain job history {id}\n"
            return []
        if not words:
            return [job for job in self.jobs.values() if past or job.state != "F"]
        return [job for word in words if (job := self.shown(word, past, answer))]

    def shown(self, word: str, past: bool, answer: Answer) -> Job | None:
        id = self.full_id(word)
        job = self.jobs.get(id)
        if not job:
            answer.error(153, f"qstat: Unknown Job Id {id}")
        elif job.state == "F" and not past:
            answer.error(35, f"qstat: {id} Job has finished, use -x or -H to obtain historical job information")
            return None
        return job

    def on_qdel(self, call: Call) -> Answer:
        """queued-json.txt and qdel-mixed.txt; the exit code is that of the last error.

        The refusal in state E was not recorded: it is PBSE_BADSTATE, 15016, and its text.
        """
        flags, words = flags_of(call, "W:x")
        answer = Answer()
        for word in words:
            job = self.jobs.get(self.full_id(word))
            if not job:
                answer.error(153, f"qdel: Unknown Job Id {word}")
            elif job.state == "F" and "-x" in flags:
                del self.jobs[job.id]
            elif job.state == "F":
                answer.error(35, f"qdel: Job has finished {job.id}")
            elif job.state == "E":
                answer.error(168, f"qdel: Request invalid for state of job {job.id}")
            else:
                self.delete(job, force=flags.get("-W") == "force")
        return answer

    def on_qselect(self, call: Call) -> Answer:
        """qstat-plain.txt and queued-json.txt: the ids of the jobs that are not over, by user and by state."""
        flags, words = flags_of(call, "u:s:")
        if words:
            raise Refused(2, "qselect: not known to the fake: operands\n")
        users = [user.partition("@")[0] for user in flags["-u"].split(",")] if "-u" in flags else None
        jobs = [job for job in self.jobs.values() if job.state in flags.get("-s", "QRE") and job.state != "F"]
        return Answer(stdout="".join(f"{job.id}\n" for job in jobs if users is None or job.owner in users))

    def full_id(self, word: str) -> str:
        return word if "." in word else f"{word}.{self.settings.server}"

    def on_pbsnodes(self, call: Call) -> Answer:
        flags, words = flags_of(call, "avF:")
        if flags.get("-F", "json") != "json":
            raise Refused(2, "pbsnodes: not known to the fake: only -F json\n")
        unknown = [word for word in words if word not in self.settings.hosts]
        if unknown:
            raise Refused(1, f"pbsnodes: Unknown node {unknown[0]}\n")
        nodes = {host: self.node(host) for host in words or self.settings.hosts}
        if "-F" in flags:
            shown = {host: json_node(node) for host, node in nodes.items()}
            return Answer(stdout=json_answer(self.settings.server, "nodes", shown))
        return Answer(stdout="".join(text_node(host, node) for host, node in nodes.items()))

    def node(self, host: str) -> Attributes:
        """pbsnodes.txt, recorded without jobs; ``jobs``, job-busy and down are from the guides."""
        used = {name: sum(place.amount(name) for _, place in self.placed(host)) for name in ("ncpus", "ngpus")}
        size = {"ncpus": str(self.settings.ncpus), "ngpus": str(self.settings.ngpus)}
        state = "job-busy" if used["ncpus"] >= self.settings.ncpus else "free"
        return {
            "head": {"Mom": host, "Port": "15002", "pbs_version": VERSION, "ntype": "PBS"},
            "state": "down" if self.spool.down(host).exists() else state,
            "jobs": ", ".join(f"{job.id}/{place.index}" for job, place in self.placed(host)),
            "resources_available": {"arch": "linux", "host": host, "mem": "24683656kb", **size, "vnode": host},
            "resources_assigned": {name: str(amount) for name, amount in used.items()},
            "changed": self.changed[host],
        }

    # -- scheduling

    def placed(self, host: str) -> list[tuple[Job, Place]]:
        running = [(job, job.run) for job in self.jobs.values() if job.run and job.state in "RE"]
        return [(job, place) for job, run in running for place in run.places if place.host == host]

    def schedule(self) -> None:
        """In the order of submission; a job that does not fit does not hold the others (qstat-plain.txt)."""
        waiting = [job for job in self.jobs.values() if job.state == "Q"] if self.scheduling else []
        for job in waiting:
            if time.time() - job.ctime < self.settings.queue_delay:
                continue
            places = self.places(job)
            if places:
                self.start(job, places)
            else:
                job.comment = self.reason(job)

    def places(self, job: Job) -> list[Place] | None:
        """Where the chunks go: placement.txt has the first host that fits unless they are scattered."""
        up = [host for host in self.settings.hosts if not self.spool.down(host).exists()]
        if not job.limits["place"].startswith("pack"):
            return self.fit(job, up)
        return next((found for host in up if (found := self.fit(job, [host]))), None)

    def fit(self, job: Job, hosts: list[str]) -> list[Place] | None:
        places: list[Place] = []
        for chunk in job.chunks:
            host = next((host for host in hosts if self.has_room(host, chunk, job, places)), None)
            if host is None:
                return None
            beside = [place for _, place in self.placed(host)] + [place for place in places if place.host == host]
            places.append(self.beside(beside, host, chunk))
        return places

    def beside(self, others: list[Place], host: str, chunk: Chunk) -> Place:
        """A chunk's place with the first number and the first GPUs that no other has there."""
        indices = {place.index for place in others}
        taken = {gpu for place in others for gpu in place.gpus}
        free = [gpu for gpu in range(self.settings.ngpus) if gpu not in taken]
        index = next(number for number in itertools.count() if number not in indices)
        return Place(host, index, chunk, tuple(free[: int(chunk.get("ngpus", 0))]))

    def has_room(self, host: str, chunk: Chunk, job: Job, mine: list[Place]) -> bool:
        place = job.limits["place"]
        others = self.placed(host)
        here = [placed for placed in mine if placed.host == host]
        if (here and "scatter" in place) or (others and "excl" in place) or chunk.get("host", host) != host:
            return False
        if any("excl" in other.limits["place"] for other, _ in others):
            return False
        used = here + [other for _, other in others]
        size = {"ncpus": self.settings.ncpus, "ngpus": self.settings.ngpus}
        return all(sum(p.amount(name) for p in used) + int(chunk.get(name, 0)) <= size[name] for name in size)

    def reason(self, job: Job) -> str:
        """queued-json.txt for requests that no empty machine could hold; the other texts are from the guides."""
        hosts = len(self.settings.hosts)
        for name, size in (("ncpus", self.settings.ncpus), ("ngpus", self.settings.ngpus)):
            asked, total = int(job.limits.get(name, 0)), size * hosts
            if asked > total or any(int(chunk.get(name, 0)) > size for chunk in job.chunks):
                return f"Can Never Run: Insufficient amount of resource: {name} (R: {asked} A: {total} T: {total})"
        if "scatter" in job.limits["place"]:
            if len(job.chunks) > hosts:
                return "Can Never Run: Not enough total nodes available"
            return "Not Running: Not enough free nodes available"
        total = hosts * self.settings.ncpus
        used = sum(place.amount("ncpus") for host in self.settings.hosts for _, place in self.placed(host))
        numbers = f"(R: {job.limits['ncpus']} A: {total - used} T: {total})"
        return f"Not Running: Insufficient amount of resource: ncpus {numbers}"

    def start(self, job: Job, places: list[Place]) -> None:
        now = time.time()
        job.run = Run(places, now, now + self.settings.poll)
        job.run_count += 1
        job.comment = time.strftime("Job run at %a %b %d at %H:%M on ", time.localtime(now)) + job.run.exec_vnode()
        job.change("R", 41)
        lines = [place.host for place in places for _ in range(int(place.chunk.get("mpiprocs", 1)))]
        self.spool.nodefile(job.id).write_text("".join(f"{host}\n" for host in lines))
        if self.settings.gpu_hook:
            self.spool.gpus(job.id).write_text(json.dumps(masks(places)))
        self.spool.tmpdir(job.id).mkdir(exist_ok=True)
        self.spool.tasks(job.id).mkdir(exist_ok=True)
        self.spool.status(job.id).unlink(missing_ok=True)
        self.spool.start(job.id).write_text((job.request.command or shlex.quote(str(self.spool.script(job.id)))) + "\n")
        outputs = (self.written(job, "-o"), self.written(job, "-e"))
        job.run.shepherd = forked(lambda: run_top_shell(job, self.spool, outputs))

    def written(self, job: Job, flag: str) -> Path:
        """The file that the job writes to, delivered at its end unless ``-k`` makes it the final one."""
        if job.joined != "n":
            flag = f"-{job.joined[0]}"
        final = self.destination(job, flag)
        return final if job.direct(flag) and final.parent.is_dir() else self.spool.output(job.id, flag)

    def destination(self, job: Job, flag: str) -> Path:
        """A directory gets the file JOBID.OU or JOBID.ER (User's Guide, "Paths for Output and Error Files")."""
        path = job.output(flag)
        return path / self.spool.output(job.id, flag).name if path.is_dir() else path

    # -- running jobs

    def advance(self) -> None:
        for job in list(self.jobs.values()):
            if job.state == "R" and job.run:
                self.advance_running(job, job.run)
            elif job.state == "E" and job.run and time.time() >= job.run.exit_at:
                self.finish(job, job.run)
            elif job.state == "F" and time.time() - job.ended > (self.settings.history_duration or 1e9):
                del self.jobs[job.id]
        self.schedule()

    def advance_running(self, job: Job, run: Run) -> None:
        now = time.time()
        if run.lost_host:
            self.advance_lost(job, run)
            return
        if self.spool.status(job.id).exists() and not run.killing:
            send(self.pids(job), signal.SIGKILL)  # what the job's shell left behind
        if run.kill_at and now >= run.kill_at:
            send(self.pids(job), signal.SIGKILL)
        if os.waitpid(run.shepherd, os.WNOHANG)[0]:
            self.processes_gone(job, run)
        elif now >= run.next_poll:
            self.poll(job, run)

    def pids(self, job: Job) -> list[int]:
        return descendants(job.run.shepherd) if job.run and job.state == "R" else []

    def poll(self, job: Job, run: Run) -> None:
        """walltime.txt: use is known and the limit checked only now, by whole seconds."""
        now = time.time()
        run.next_poll = now + self.settings.poll
        run.walltime_used = int(now - run.start)
        limit = job.walltime()
        if not run.session:
            run.session = next(iter(self.pids(job)), run.shepherd)
            job.change("R", 42)
        if limit is not None and run.walltime_used > limit and not run.killing:
            with self.written(job, "-e").open("a") as stderr:
                stderr.write(f"=>> PBS: job killed: walltime {run.walltime_used} exceeded limit {limit}\n")
            self.terminate(job, run, "walltime")

    def terminate(self, job: Job, run: Run, why: str) -> None:
        """TERM to every process, and KILL later to those that are left."""
        run.killing = why
        run.kill_at = time.time() + self.settings.kill_delay
        send(self.pids(job), signal.SIGTERM)

    def delete(self, job: Job, force: bool) -> None:
        """Returns at once; ``force`` sends KILL without TERM (history-off.txt: 265)."""
        run = job.run
        if not run:
            job.comment = f"{job.comment} and terminated".strip()
            self.end(job, 91)
            return
        if run.killing != "qdel":
            job.comment += f" and terminated by {job.owner}@{job.server}"
        if force:
            run.killing, run.kill_at = "qdel", time.time()
            send(self.pids(job), signal.SIGKILL)
        elif run.killing != "qdel":
            self.terminate(job, run, "qdel")

    def processes_gone(self, job: Job, run: Run) -> None:
        run.over = True
        run.walltime_used = int(time.time() - run.start)
        job.exit_status = -29 if run.killing == "walltime" else self.status(job)
        delivered = self.deliver(job)
        run.stageout = int(delivered)
        run.exit_at = time.time() + self.settings.poll * (0.1 if delivered else 5)
        job.change("E", 51)
        shutil.rmtree(self.spool.tmpdir(job.id), ignore_errors=True)

    def status(self, job: Job) -> int:
        """Of the login shell: its exit code, or 256 and the number of the signal that ended it."""
        try:
            status = int(self.spool.status(job.id).read_text())
        except FileNotFoundError:
            status = signal.SIGKILL
        return 256 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)

    def deliver(self, job: Job) -> bool:
        """odd-paths.txt: mode 0600; what cannot be copied stays in the spool and holds the job in E for a while."""
        done = True
        for flag in ("-o", "-e"):
            source = self.spool.output(job.id, flag)
            if self.written(job, flag) == source:
                try:
                    shutil.copyfile(source, self.destination(job, flag))
                    self.destination(job, flag).chmod(0o600)
                    source.unlink()
                except OSError:
                    done = False
        return done

    def finish(self, job: Job, run: Run) -> None:
        """lifecycle.txt and walltime.txt: the comment says how it ended."""
        endings = {"walltime": " and exceeded resource walltime", "qdel": ""}
        job.comment += endings.get(run.killing, " and failed" if job.exit_status else " and finished")
        self.end(job, 91 if run.killing == "qdel" else 93 if job.exit_status else 92)

    def end(self, job: Job, substate: int) -> None:
        job.change("F", substate)
        job.ended = time.time()
        if not self.settings.history:
            del self.jobs[job.id]

    # -- lost hosts

    def control_crash_host(self, host: str) -> None:
        """KILL to all that runs there. Ranks elsewhere end when their mpiexec is gone."""
        self.spool.down(host).touch()
        self.changed[host] = time.time()
        for job, _ in self.placed(host):
            if job.run and job.state == "R" and not job.run.lost_host:
                job.run.lost_host, job.run.lost_at = host, time.time()
                send(self.pids_on(job, job.run, host), signal.SIGKILL)

    def pids_on(self, job: Job, run: Run, host: str) -> list[int]:
        """Those below the shepherds of ranks on this host, and all but those on others if the job's shell runs here."""
        ranks: dict[bool, set[int]] = {True: set(), False: set()}
        for path in self.spool.tasks(job.id).iterdir():
            name, _, rank = path.name.partition(":")
            ranks[name == host] |= {int(rank), *descendants(int(rank))}
        primary = run.places[0].host == host
        return [pid for pid in self.pids(job) if pid in ranks[True] or (primary and pid not in ranks[False])]

    def advance_lost(self, job: Job, run: Run) -> None:
        """Until the server gives the host up, the job seems to run.

        Administrator's Guide, node_fail_requeue: after that time a rerunable job is requeued if its primary host is
        lost. Another host's loss ends the job; that it does so by KILL is an assumption, nothing of this was recorded.
        """
        if time.time() < run.lost_at + self.settings.node_fail_requeue:
            return
        send(self.pids(job), signal.SIGKILL)
        if not os.waitpid(run.shepherd, os.WNOHANG)[0]:
            return
        if run.lost_host == run.places[0].host and job.rerunable:
            job.run = None
            job.change("Q", 10)
            for flag in ("-o", "-e"):
                self.spool.output(job.id, flag).unlink(missing_ok=True)
        else:
            self.processes_gone(job, run)
            job.exit_status = job.exit_status or 256 + signal.SIGKILL


def masks(places: list[Place]) -> dict[str, str]:
    """All GPUs of a job on each host."""
    found: dict[str, list[int]] = {}
    for place in places:
        found.setdefault(place.host, []).extend(place.gpus)
    return {host: ",".join(map(str, sorted(gpus))) for host, gpus in found.items()}


def flags_of(call: Call, known: str) -> tuple[dict[str, str], list[str]]:
    """Options, also behind operands, and operands."""
    try:
        found, words = getopt.gnu_getopt(call.argv, known)
    except getopt.GetoptError as error:
        raise Refused(2, f"{call.command}: not known to the fake: {error}\n") from error
    return dict(found), words


def select_text(asked: str | None, chunks: list[Chunk]) -> str:
    """As asked for; ``1:ncpus=1`` if nothing was (history-off.txt), and each chunk has its cpus."""
    if asked is None:
        return "1:" + ":".join(f"{name}={value}" for name, value in chunks[0].items())
    return "+".join(group if "ncpus=" in group else f"{group}:ncpus=1" for group in asked.split("+"))


def variable_list(request: Request, call: Call, queue: str, server: str) -> dict[str, str]:
    """env-json.txt: ``-v`` comes before queue and host, and ``-V`` added nothing to what was shown.

    Whether that job had the submitter's environment was not recorded; qsub's manual says so.
    """
    names = ("HOME", "LANG", "LOGNAME", "PATH", "MAIL", "SHELL", "TZ")
    found = {f"PBS_O_{name}": call.env[name] for name in names if name in call.env}
    found |= {"PBS_O_WORKDIR": call.cwd, "PBS_O_SYSTEM": os.uname().sysname, **request.variables}
    return found | {"PBS_O_QUEUE": queue, "PBS_O_HOST": server}


def json_node(node: Attributes) -> Attributes:
    """pbsnodes.txt: what is not assigned is left out, times are seconds."""
    assigned = {name: amount for name, amount in node["resources_assigned"].items() if amount != "0"}
    return {
        **node["head"],
        "state": node["state"],
        "pcpus": str(os.cpu_count()),
        **({"jobs": node["jobs"]} if node["jobs"] else {}),
        "resources_available": node["resources_available"],
        "resources_assigned": assigned,
        "resv_enable": "True",
        "sharing": "default_shared",
        "license": "l",
        "last_state_change_time": str(int(node["changed"])),
    }


def text_node(host: str, node: Attributes) -> str:
    assigned = {"accelerator_memory": "0kb", "hbmem": "0kb", "mem": "0kb", "naccelerators": "0"}
    assigned |= {"ncpus": node["resources_assigned"]["ncpus"]}
    if node["resources_assigned"]["ngpus"] != "0":
        assigned |= {"ngpus": node["resources_assigned"]["ngpus"]}
    found = {**node["head"], "state": node["state"], "pcpus": str(os.cpu_count())}
    found |= {"jobs": node["jobs"]} if node["jobs"] else {}
    found |= {f"resources_available.{name}": value for name, value in node["resources_available"].items()}
    found |= {f"resources_assigned.{name}": value for name, value in {**assigned, "vmem": "0kb"}.items()}
    found |= {"resv_enable": "True", "sharing": "default_shared", "license": "l"}
    found["last_state_change_time"] = time.ctime(node["changed"])
    return f"{host}\n" + "".join(f"     {name} = {value}\n" for name, value in found.items()) + "\n"


def serve(directory: Path) -> None:
    """Until standard input closes or the parent is gone; then everything below this process is killed."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    parent = os.getppid()
    os.chdir(directory)
    server = Server(directory, load_settings(Spool(directory).settings.read_text()))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("socket")  # relative: an absolute path could be too long for a socket
    listener.listen(64)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    try:
        while os.getppid() == parent:
            ready = select.select([listener, sys.stdin], [], [], 0.03)[0]
            if sys.stdin in ready:
                break
            if listener in ready:
                serve_client(server, listener.accept()[0])
            server.advance()
    finally:
        kill_all_below()


def serve_client(server: Server, connection: socket.socket) -> None:
    """A client that dies or hangs must not stop the others."""
    connection.settimeout(5)
    with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
        stack.enter_context(connection)
        call = Call(**json.loads(read_all(connection)))
        try:
            answer = server.answer(call)
        except Exception:  # a bug of the fake: the client's test shows it, and the server lives on
            answer = Answer(99, "", f"fake_pbs: {traceback.format_exc()}")
        if answer.rc is None:
            stack.pop_all()  # it stays open until the server ends, and the client with it
            server.unanswered.append(connection)
            return
        connection.sendall(json.dumps(asdict(answer)).encode())


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def load_settings(text: str) -> Settings:
    data: dict[str, Any] = json.loads(text)
    data["queues"] = {name: Queue(**queue) for name, queue in data["queues"].items()}
    lists: dict[str, Any] = {name: tuple(value) for name, value in data.items() if isinstance(value, list)}
    return Settings(**{**data, **lists})


# Clients -----------------------------------------------------------------------------------------------------------


def ask(directory: Path, call: Call) -> Answer:
    with socket.socket(socket.AF_UNIX) as connection:
        here = os.open(directory, os.O_PATH)
        try:
            connection.connect(f"/proc/self/fd/{here}/socket")  # the path itself could be too long for a socket
        finally:
            os.close(here)
        connection.sendall(json.dumps(asdict(call)).encode())
        connection.shutdown(socket.SHUT_WR)
        if text := read_all(connection):
            return Answer(**json.loads(text))
        raise ConnectionResetError("the fake's server has ended")


_CLIENT = """\
import json, os, socket, sys
directory, command, options, *argv = sys.argv[1:]

def reads_script():
    if command != "qsub" or "--" in argv:
        return False
    import getopt
    try:
        return not getopt.getopt(argv, options)[1]
    except getopt.GetoptError:  # for the server to refuse
        return False

call = {"command": command, "argv": argv, "cwd": os.getcwd(), "env": dict(os.environ)}
call["stdin"] = sys.stdin.read() if reads_script() else ""
try:
    with socket.socket(socket.AF_UNIX) as connection:
        here = os.open(directory, os.O_PATH)
        connection.connect(f"/proc/self/fd/{here}/socket")
        connection.sendall(json.dumps(call).encode())
        connection.shutdown(socket.SHUT_WR)
        text = b"".join(iter(lambda: connection.recv(65536), b""))
        if not text:
            raise ConnectionResetError(0, "Connection reset by peer")
    answer = json.loads(text)
except OSError as error:
    answer = {"rc": 255, "stdout": "", "stderr": f"{error.strerror}\\n{command}: cannot connect to server\\n"}
sys.stdout.write(answer["stdout"])
sys.stderr.write(answer["stderr"])
sys.exit(answer["rc"])
"""
"""A command: its own small program, since importing this file takes three times as long as all the rest."""


_MPIEXEC_VALUES = {
    "-n", "-np", "--np", "--hostfile", "-hostfile", "-f", "--ppn", "-ppn", "--depth", "-d", "--bind-to", "--cpu-bind",
}  # fmt: skip


def parse_mpiexec(argv: list[str]) -> tuple[dict[str, str], list[str]]:
    """Options of Open MPI and PALS, which all take a value here, and the command."""
    options: dict[str, str] = {}
    words = list(argv)
    while words and words[0].startswith("-"):
        flag = words.pop(0)
        if flag not in _MPIEXEC_VALUES or not words:
            sys.exit(f"mpiexec: not known to the fake: {flag}")
        options[flag] = words.pop(0)
    return options, words


def mpiexec(directory: Path, argv: list[str]) -> int:
    """Runs the command on the hostfile's lines in turn; if a rank fails, the others are killed, as Open MPI does."""
    options, command = parse_mpiexec(argv)
    hostfile = next((options[flag] for flag in ("--hostfile", "-hostfile", "-f") if flag in options), None)
    hosts = Path(hostfile or os.environ["PBS_NODEFILE"]).read_text().split()
    count = int(next((options[flag] for flag in ("-n", "-np", "--np") if flag in options), len(hosts)))
    spool, job = Spool(directory), os.environ["PBS_JOBID"]
    signal.signal(signal.SIGTERM, lambda *_: send(descendants(os.getpid()), signal.SIGTERM))
    ranks = [start_rank(spool, job, hosts[rank % len(hosts)], command) for rank in range(count)]
    for _ in ranks:
        code = exit_code(os.wait()[1])
        if code:
            kill_all_below()
            return code
    return 0


def exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def start_rank(spool: Spool, job: str, host: str, command: list[str]) -> int:
    if spool.down(host).exists() or host not in spool.nodefile(job).read_text().split():
        print(f"mpiexec: cannot reach {host}", file=sys.stderr)
        command = ["/bin/false"]
    parent = os.getpid()

    def rank() -> None:
        become_shepherd(parent, host)
        (spool.tasks(job) / f"{host}:{os.getpid()}").touch()
        top = subprocess.Popen(command, env={**os.environ, **hooked(spool, job, host)})
        statuses: list[int] = []
        reap_all(top.pid, statuses.append)
        os._exit(exit_code(statuses[0]))

    return forked(rank)


def main(role: str, directory: str, argv: list[str]) -> None:
    if role == "serve":
        serve(Path(directory))
    else:
        sys.exit(mpiexec(Path(directory), argv))


# For tests ---------------------------------------------------------------------------------------------------------

_PROGRAM = "import sys;sys.path.insert(0,sys.argv[1]);import fake_pbs;fake_pbs.main(*sys.argv[2:4],sys.argv[4:])"
"""Imports this file rather than running it, so that it is compiled only once."""


class FakePbs:
    """A running fake in ``directory``; keywords are those of ``Settings``.

    ``bin`` holds the commands, ``home`` is the home of the jobs' user.
    """

    def __init__(self, directory: str | Path, **settings: Any) -> None:
        self.settings = Settings(**settings)
        self.spool = Spool(Path(directory).resolve())
        self.bin, self.home = self.spool.bin, self.spool.home
        self._server: subprocess.Popen[str] | None = None

    def __enter__(self) -> FakePbs:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self.spool.make()
        self.spool.settings.write_text(json.dumps(asdict(self.settings)))
        for command in COMMANDS:
            script = self.bin / command
            script.write_text(f'#!/bin/sh\nexec {shlex.join(self._call(command))} "$@"\n')
            script.chmod(0o755)
        with self.spool.log.open("w") as log:
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
            self._server = subprocess.Popen(self._call("serve"), text=True, start_new_session=True, **pipes)
        assert self._server.stdout
        if self._server.stdout.readline() != "ready\n":
            raise RuntimeError(f"the fake's server did not start: {self.spool.log.read_text()}")

    def _call(self, role: str) -> list[str]:
        directory = str(self.spool.directory)
        if role in ("serve", "mpiexec"):
            return [sys.executable, "-IS", "-c", _PROGRAM, str(Path(__file__).parent), role, directory]
        return [sys.executable, "-IS", "-c", _CLIENT, directory, role, QSUB_OPTIONS]

    @property
    def pid(self) -> int:
        """Of the server, from which all jobs descend."""
        assert self._server
        return self._server.pid

    def stop(self) -> None:
        """Ends the server and every process of every job. What the server had to complain about is raised."""
        if self._server is None:
            return
        server, self._server = self._server, None
        assert server.stdin and server.stdout
        server.stdin.close()
        server.wait(30)
        server.stdout.close()
        if complaint := self.spool.log.read_text():
            raise RuntimeError(complaint)

    def fail_next(self, command: str, times: int, rc: int | None, stderr: str = "", stdout: str = "") -> None:
        """The next ``times`` calls of the command end like this, without effect; with None as ``rc`` they hang."""
        self._control("fail_next", command, times, rc, stderr, stdout)

    def forget(self, job: str) -> None:
        """The job leaves the server, as a finished one does when its history expires."""
        self._control("forget", job)

    def crash_host(self, host: str) -> None:
        """Kills all that runs on the host; see ``Server.advance_lost`` for what becomes of its jobs."""
        self._control("crash_host", host)

    def restore_host(self, host: str) -> None:
        self._control("restore_host", host)

    def schedule(self, on: bool) -> None:
        """Whether queued jobs may start."""
        self._control("schedule", on)

    def jobs(self) -> dict[str, Attributes]:
        """All jobs of the server: their attributes as texts, and ``pids``, their living processes."""
        found: dict[str, Attributes] = self._control("jobs")
        return found

    def until(self, job: str, state: str, seconds: float = 60) -> Attributes:
        """Waits for a state and returns the attributes then."""
        deadline = time.monotonic() + seconds
        while (found := self.jobs()[job])["job_state"] != state:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{job} is {found['job_state']}, not {state}: {found}")
            time.sleep(0.02)
        return found

    def _control(self, method: str, *arguments: Any) -> Any:
        answer = ask(self.spool.directory, Call("control", [], stdin=json.dumps([method, *arguments])))
        if answer.rc:
            raise RuntimeError(answer.stderr)
        return json.loads(answer.stdout)
