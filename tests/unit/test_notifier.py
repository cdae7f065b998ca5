"""Deliveries to real commands and to a real server on this machine, also where those are broken."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import eventually
from workflow import notifier as module
from workflow.config.notify import NotifySettings
from workflow.notifier import Notifier


class Hook(ThreadingHTTPServer):
    """Answers with ``status`` after ``event`` is set; keeps what it got."""

    daemon_threads = True

    def __init__(self, status: int = 200) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = status
        self.answers = threading.Event()
        self.answers.set()
        self.got: list[tuple[str, str, dict[str, Any]]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/sEcReT"


class _Handler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.got.append((self.path, self.headers["Content-Type"], body))
        self.server.answers.wait(20)
        self.send_response(self.server.status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def do_GET(self) -> None:
        self.server.got.append((self.path, "", {}))

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    with Hook() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("HOOK", server.address)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield server
        server.answers.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMEOUT", 20.0)
    monkeypatch.setattr(module, "_PATIENCE", 30.0)


def send(settings: NotifySettings | None, *events: str) -> list[str]:
    """What the user is warned of, once everything has ended."""
    said: list[str] = []
    with Notifier(settings, said.append) as notifier:
        for event in events:
            notifier.send(event, f"{event}: it is so", {"best_value": 0.5})
    assert "sEcReT" not in str(said)
    return said


def script(text: str, *words: str) -> NotifySettings:
    return NotifySettings((sys.executable, "-c", text, *words))


def test_a_webhook_gets_the_event(hook: Hook) -> None:
    assert send(NotifySettings(webhook="HOOK"), "end") == []
    assert hook.got == [("/sEcReT", "application/json", {"event": "end", "text": "end: it is so", "best_value": 0.5})]


def test_a_command_gets_the_event(tmp_path: Path) -> None:
    code = "import os, sys; open(sys.argv[1], 'w').write(sys.stdin.read() + '|' + os.environ['WORKFLOW_EVENT'] + '|' + "
    settings = script(f"{code}os.environ['WORKFLOW_TEXT'])", str(tmp_path / "told"))
    assert send(settings, "failure") == []
    told, event, text = (tmp_path / "told").read_text().split("|")
    assert json.loads(told) == {"event": "failure", "text": text, "best_value": 0.5}
    assert (event, text) == ("failure", "failure: it is so")


def test_only_what_is_wanted_is_sent(hook: Hook) -> None:
    settings = NotifySettings(webhook="HOOK", events=("first_success",))
    assert send(settings, "end", "first_success", "failure") == []
    assert [body["event"] for *_, body in hook.got] == ["first_success"]
    assert send(None, "end") == []


@pytest.mark.parametrize("status", [404, 500, 302])
def test_a_server_that_refuses_is_told_once(hook: Hook, status: int) -> None:
    """Also one that sends elsewhere: nobody else gets what is sent."""
    hook.status = status
    (warning,) = send(NotifySettings(webhook="HOOK"), "first_success", "end")
    assert warning.startswith("warning: notify.webhook: ") and f"the server answered {status}" in warning
    assert [path for path, *_ in hook.got] == ["/sEcReT"] * 2


def test_a_server_that_hangs_delays_nothing(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMEOUT", 3.0)
    hook.answers.clear()
    said: list[str] = []
    with Notifier(NotifySettings(webhook="HOOK"), said.append) as notifier:
        notifier.send("end", "", {})
        assert said == []
    assert said == ["warning: notify.webhook: end was not delivered: the server did not answer (TimeoutError)"]


def test_nobody_there_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", "http://127.0.0.1:1/sEcReT")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (warning,) = send(NotifySettings(webhook="HOOK"), "end")
    assert "the server cannot be reached (Connection refused)" in warning


def test_what_an_exception_says_of_an_address_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", "http://127.0.0.1/sEcReT and more")
    (warning,) = send(NotifySettings(webhook="HOOK"), "end")
    assert "InvalidURL" in warning


def test_a_command_that_fails_is_told_with_its_last_words() -> None:
    (warning,) = send(script("import sys; print('no', file=sys.stderr); sys.exit('such list: \\033[1mme')"), "end")
    assert warning == "warning: notify.command: end was not delivered: exit code 1: such list: me"


def test_a_command_that_is_gone_by_now_is_a_warning(tmp_path: Path) -> None:
    (warning,) = send(NotifySettings((str(tmp_path / "gone"),)), "end", "failure")
    assert "FileNotFoundError" in warning


def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    text = "import os, subprocess, sys, time; child = subprocess.Popen(['sleep', '60']); "
    text += "open(sys.argv[1], 'w').write(f'{os.getpid()} {child.pid}'); time.sleep(60)"
    module._TIMEOUT = 6.0
    (warning,) = send(script(text, str(pids)), "end")
    assert "it took longer than 6 s" in warning
    assert eventually(lambda: not any(map(_is_alive, pids.read_text().split())), 10)


def test_the_end_waits_for_a_limited_time(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMEOUT", 30.0)
    monkeypatch.setattr(module, "_PATIENCE", 3.0)
    hook.answers.clear()
    began = time.monotonic()
    settings = NotifySettings((sys.executable, "-c", "import time; time.sleep(60)"), "HOOK")
    assert send(settings, "end", "failure") == []
    assert time.monotonic() - began < 25
    children = psutil.Process(os.getpid()).children(recursive=True)
    assert eventually(lambda: not any("time.sleep(60)" in " ".join(_words(child)) for child in children), 10)


def _is_alive(pid: str) -> bool:
    return psutil.pid_exists(int(pid)) and psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []
