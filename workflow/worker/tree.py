"""A process and all that it starts, watched and ended together, at the latest with its controller."""

from __future__ import annotations

import errno
import os
import signal
import time

from workflow.worker.processes import (
    adopt_orphans,
    dated,
    descendants,
    die_with_parent,
    marked,
    memory,
    signal_all,
    still_there,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from workflow.worker.contract import Controller

_SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


class Fence:
    """Tells whether the controller that sent this trial still lives."""

    def __init__(self, controller: Controller | None) -> None:
        self.controller = controller
        self._seen = ""
        self._changed = time.monotonic()

    def broken(self) -> str:
        """Why the trial has to stop; empty while the controller lives."""
        if self.controller is None:
            return ""
        try:
            with open(self.controller["lock"], encoding="utf-8") as file:
                text = file.read()
        except FileNotFoundError:
            return "the controller has ended"
        except OSError:
            text = self._seen  # a file system's hiccup is no news
        if text and self.controller["nonce"] not in text:
            return "another controller has taken over"
        now = time.monotonic()
        if text != self._seen:
            self._seen, self._changed = text, now
        if now - self._changed > self.controller["patience"]:
            return f"the controller has not moved for {self.controller['patience']:g} s"
        return ""


class Tree:
    """A process and all that it starts, watched and stopped together.

    This process becomes the subreaper of the tree, so that children that called setsid belong to it, too.
    """

    def __init__(self, fence: Fence, poll: float, grace: float) -> None:
        self.fence = fence
        self.poll = poll
        self.grace = grace
        self.parent = os.getppid()
        self.child = 0
        self.status: int | None = None
        self.leash_pid = 0
        self._leash_pipe = -1
        self._leashed: tuple[str, str] | None = None
        self._told = b""
        self.peak_memory = 0
        self._next_sample = 0.0
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        die_with_parent(signal.SIGTERM)
        adopt_orphans()

    def start(self, argv: list[str], env: dict[str, str], directory: str | None = None, log: int | None = None) -> str:
        """Start the process, with ``log`` as its output; the reason if it cannot be started."""
        receive, send = os.pipe()
        supervisor = os.getpid()
        self.child = os.fork()
        if self.child == 0:
            try:
                os.setsid()
                die_with_parent(signal.SIGKILL)
                if os.getppid() != supervisor:
                    os._exit(1)
                for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and exec keeps that
                    signal.signal(number, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_SETMASK, ())
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                if log is not None:
                    os.dup2(log, 1)
                    os.dup2(log, 2)
                if directory is not None:
                    os.chdir(directory)
                os.execvpe(argv[0], argv, env)
            except BaseException as error:
                os.write(send, _why_not_started(error, argv[0]).encode())
            finally:
                os._exit(127)
        os.close(send)
        with os.fdopen(receive, "rb") as pipe:
            return pipe.read().decode(errors="replace")

    def watch(self, timeout: float | None = None) -> str:
        """Wait until the process ends or has to be stopped; returns what ended it."""
        deadline = None if timeout is None else time.monotonic() + timeout
        next_look = time.monotonic()
        while True:
            self._reap()
            if self.status is not None:
                return "exit"
            self._keep_leashed()
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return f"timeout after {timeout:g} s"
            if now >= next_look:
                next_look = now + self.poll
                self.beat()
                self.sample()
                if reason := self.interrupted():
                    return self._stopped(f"stopped: {reason}")
                if reason := self.stalled():
                    return self._stopped(reason)
            wake = next_look if deadline is None else min(next_look, deadline)
            info = signal.sigtimedwait(_SIGNALS, max(0.0, wake - time.monotonic()))
            if info is not None and info.si_signo != signal.SIGCHLD:
                reason = self.interrupted() or f"signal {signal.Signals(info.si_signo).name}"
                return self._stopped(f"stopped: {reason}")

    def stop(self) -> None:
        """TERM, TERM again, then KILL to the whole tree; returns when nothing of it is left.

        The second TERM is for runtimes that lose the first one while they start.
        """
        start = time.monotonic()
        sent = 0
        next_beat = start
        while processes := self.alive():
            now = time.monotonic()
            if now - start >= self.grace:
                signal_all(processes, signal.SIGKILL)
            elif now - start >= sent * self.grace / 2:
                sent += 1
                signal_all(processes, signal.SIGTERM)
            if now >= next_beat:
                next_beat = now + self.poll
                self.beat()
            signal.sigtimedwait({signal.SIGCHLD}, 0.02)

    def beat(self) -> None:
        """Show that the tree is watched."""

    def stalled(self) -> str:
        """Why the tree counts as hung; empty if it doesn't."""
        return ""

    def sample(self) -> None:
        """Note the tree's processes and memory, at intervals that keep this below a hundredth of a processor."""
        now, used = time.monotonic(), time.process_time()
        if now >= self._next_sample:
            processes = self.alive()
            self.peak_memory = max(self.peak_memory, memory(processes))
            self._tell_leash(processes)
            self._next_sample = now + 100 * (time.process_time() - used)

    def interrupted(self) -> str:
        """Why the tree has to stop; empty if it need not."""
        return "its worker died" if os.getppid() != self.parent else self.fence.broken()

    def _stopped(self, reason: str) -> str:
        """A process that ended by itself in the meantime has ended, not been stopped: its work counts."""
        self._reap()
        return "exit" if self.status is not None else reason

    def leash(self, variable: str, token: str) -> None:
        """Start the process that ends the tree should this one be killed.

        It waits at a pipe of which only this process holds the other end. It ends what has the variable in its
        environment, and what it was last told of: a process may have cleared its environment.
        """
        self._leashed = variable, token
        receive, self._leash_pipe = os.pipe()
        self.leash_pid = os.fork()
        if self.leash_pid == 0:
            try:
                os.setsid()
                os.close(self._leash_pipe)
                told = _last_line(receive)
                while processes := {*marked(f"{variable}={token}".encode()), *still_there(told)}:
                    signal_all(sorted(processes), signal.SIGKILL)
                    time.sleep(0.02)
            finally:
                os._exit(0)
        os.close(receive)
        os.set_blocking(self._leash_pipe, False)
        if self._told:
            os.write(self._leash_pipe, self._told)

    def _keep_leashed(self) -> None:
        """Start that process again if it was killed: this one may be the next."""
        if self._leashed is not None and not self.leash_pid:
            os.close(self._leash_pipe)
            self.leash(*self._leashed)

    def _tell_leash(self, processes: list[int]) -> None:
        line = b" ".join(filter(None, map(dated, processes))) + b"\n"
        if self._leash_pipe >= 0 and line != self._told:
            try:
                os.write(self._leash_pipe, line)
                self._told = line
            except OSError:
                pass  # it is gone, or lags behind

    def unleash(self) -> None:
        """End that process: the tree has ended."""
        if self._leashed is None:
            return
        if self.leash_pid:
            os.kill(self.leash_pid, signal.SIGKILL)
            os.waitpid(self.leash_pid, 0)
        os.close(self._leash_pipe)
        self.leash_pid, self._leash_pipe, self._leashed = 0, -1, None

    def alive(self) -> list[int]:
        self._reap()
        return [pid for pid in descendants(os.getpid()) if pid != self.leash_pid]

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.child:
                self.status = status
            elif pid == self.leash_pid:
                self.leash_pid = 0


def _why_not_started(error: BaseException, program: str) -> str:
    reason = (isinstance(error, OSError) and error.strerror) or str(error)
    if isinstance(error, FileNotFoundError) and os.path.exists(program):
        return "the interpreter that its first line names is missing, or that line ends in a carriage return (CRLF)"
    if isinstance(error, OSError) and error.errno == errno.ENOEXEC:
        return f"{reason}: its first line has to name an interpreter, as #!/bin/bash does"
    return reason if os.sep in program else f"{reason}: it is not on the worker's PATH"


def _last_line(pipe: int) -> bytes:
    """The last whole line that comes through a pipe until its other end is closed."""
    last = rest = b""
    while received := os.read(pipe, 1 << 16):
        *lines, rest = (rest + received).split(b"\n")
        last = lines[-1] if lines else last
    return last
