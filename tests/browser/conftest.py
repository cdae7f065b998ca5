"""A real browser, which sees this machine alone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, sync_playwright

_FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """A page of Chromium with an empty profile; what it says in error, or asks of other machines, fails the test."""
    chromium = shutil.which("chromium")
    assert chromium, "no chromium: run scripts/install_test_parts.sh"
    complaints: list[str] = []
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path / "profile", executable_path=chromium, args=_FLAGS, viewport={"width": 1400, "height": 1000}
        )
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: None if _is_local(request.url) else complaints.append(request.url))
        yield page
        context.close()
    assert complaints == []


def _is_local(url: str) -> bool:
    return urlsplit(url).scheme in ("file", "data", "blob") or urlsplit(url).hostname == "127.0.0.1"
