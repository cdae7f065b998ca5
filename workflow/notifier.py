"""Delivers notifications in the background: whatever becomes of one, the campaign goes on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from email.message import Message
from http.client import HTTPException
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from workflow import __version__
from workflow.config.notify import NotifySettings
from workflow.errors import printable, shortened

_TIMEOUT = 10.0
"""Seconds that a command or a server has."""

_PATIENCE = 12.0
"""Seconds for which the end of a campaign waits for all that is under way."""


class Notifier:
    """Sends events to whom the settings name, each on a thread of its own. Use as a context manager.

    ``warn`` hears of the first delivery of each way that fails, never of an address.
    """

    def __init__(self, settings: NotifySettings | None, warn: Callable[[str], None]) -> None:
        self._settings = settings
        self._warn = warn
        self._lock = threading.Lock()
        self._told: set[str] = set()
        self._threads: list[threading.Thread] = []
        self._processes: set[subprocess.Popen[bytes]] = set()

    def __enter__(self) -> Notifier:
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for what is under way, for a limited time or until Ctrl-C, and end commands that still run."""
        deadline = time.monotonic() + _PATIENCE
        with contextlib.suppress(KeyboardInterrupt):
            for thread in self._threads:
                thread.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            for process in self._processes:
                _kill(process)

    def wants(self, event: str) -> bool:
        return self._settings is not None and event in self._settings.events

    def send(self, event: str, text: str, details: Mapping[str, Any]) -> None:
        """Returns at once. ``details`` are JSON; ``text`` is a sentence."""
        if self._settings is None or not self.wants(event):
            return
        text = printable(text)
        payload = json.dumps({"event": event, "text": text, **details}).encode()
        if self._settings.command:
            command = self._settings.command
            self._start("command", event, lambda: self._run(command, payload, event, text))
        if address := self._settings.address:
            self._start("webhook", event, lambda: _post(address, payload))

    def _start(self, way: str, event: str, deliver: Callable[[], str]) -> None:
        thread = threading.Thread(target=self._deliver, args=(way, event, deliver), name=f"notify-{way}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _deliver(self, way: str, event: str, deliver: Callable[[], str]) -> None:
        try:
            problem = deliver()
        except Exception as error:  # of any kind: an exception's text may hold the address
            problem = type(error).__name__
        with self._lock:
            first = way not in self._told
            self._told |= {way} if problem else set()
        if problem and first:
            self._warn(f"warning: notify.{way}: {event} was not delivered: {problem}")

    def _run(self, command: tuple[str, ...], payload: bytes, event: str, text: str) -> str:
        """Why the command failed; empty if it did not. Files in place of pipes: nobody can make this thread wait."""
        variables = {**os.environ, "WORKFLOW_EVENT": event, "WORKFLOW_TEXT": text}
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as errors:
            given.write(payload)
            given.seek(0)
            process = subprocess.Popen(
                command, stdin=given, stdout=subprocess.DEVNULL, stderr=errors, env=variables, start_new_session=True
            )
            with self._lock:
                self._processes.add(process)
            try:
                code = process.wait(_TIMEOUT)
            except subprocess.TimeoutExpired:
                _kill(process)
                process.wait()
                return f"it took longer than {_TIMEOUT:g} s"
            finally:
                with self._lock:
                    self._processes.discard(process)
            return f"exit code {code}{_last_line(errors)}" if code else ""


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a command and what it has left in its session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _last_line(file: IO[bytes]) -> str:
    file.seek(0)
    lines = printable(file.read(4000).decode(errors="replace")).splitlines()
    return f": {shortened(lines[-1])}" if lines else ""


class _NoRedirects(HTTPRedirectHandler):
    """What is sent goes where the user said, or nowhere."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> Request | None:
        return None


def _post(address: str, payload: bytes) -> str:
    """Why the server did not take it; empty if it did."""
    headers = {"Content-Type": "application/json", "User-Agent": f"workflow/{__version__}"}
    request = Request(address, payload, headers, method="POST")
    try:
        with build_opener(_NoRedirects).open(request, timeout=_TIMEOUT):
            return ""
    except HTTPError as error:
        return f"the server answered {error.code}"
    except URLError as error:
        return f"the server cannot be reached ({_reason(error.reason)})"
    except (OSError, HTTPException) as error:
        return f"the server did not answer ({_reason(error)})"


def _reason(error: object) -> str:
    """Without an exception's own text, which may hold the address."""
    return getattr(error, "strerror", None) or type(error).__name__
