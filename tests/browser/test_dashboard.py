"""An exported study in optuna-dashboard."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chromium import chromium
from tests.conftest import eventually
from tests.exported import RECORDS, SPACE
from tests.recorded import recorded
from workflow import load_run
from workflow.report.exports import export

PATIENCE = 60
"""Seconds that only a failure uses up."""


@pytest.fixture
def dashboard(tmp_path: Path) -> Iterator[str]:
    """The address of a study in a dashboard that has just been started, on this machine's loopback interface."""
    export(load_run(recorded(tmp_path / "study", SPACE, RECORDS)), "optuna")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    program = Path(sys.executable).with_name("optuna-dashboard")
    command = [program, tmp_path / "study" / "optuna.log", "--host", "127.0.0.1", "--port", port]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            yield f"http://127.0.0.1:{port}/dashboard/studies/0"
        finally:
            server.terminate()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def test_an_exported_study_opens_in_the_dashboard(dashboard: str) -> None:
    expect.set_options(timeout=1000 * PATIENCE)
    with chromium() as browser:
        page = browser.new_page()
        heard = complaints(page)
        assert eventually(lambda: answers(dashboard), PATIENCE)
        read_study(page, dashboard)
    assert heard == []


def complaints(page: Page) -> list[str]:
    """Fills with what the page says in error and asks of other machines."""
    heard: list[str] = []
    page.on("console", lambda message: heard.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda request: None if is_local(request.url) else heard.append(request.url))
    return heard


def is_local(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "data:", "blob:"))


def read_study(page: Page, address: str) -> None:
    page.goto(address)
    best = page.locator(".MuiCard-root", has_text="Best Trial (number=3)")
    expect(best).to_contain_text("0.25")
    expect(best).to_contain_text("momentum: 0.9")
    expect(page.locator(".js-plotly-plot", has_text="val_loss").first).to_be_visible()
    page.get_by_role("link", name="Trials (List)").click()
    expect(page.get_by_text("6 Trials", exact=True)).to_be_visible()
    for number, state in enumerate(("Complete", "Pruned", "Fail", "Complete", "Running", "Waiting")):
        expect(page.locator("li", has_text=f"Trial {number}")).to_contain_text(state)
