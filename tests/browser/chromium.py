"""A headless Chromium that reads reports, and hears every complaint and every request."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}

_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


_FIGURES = "[...document.querySelectorAll('figure[data-chart]')]"


@contextmanager
def chromium() -> Iterator[Browser]:
    """Of Debian's package, with a profile of its own."""
    program = shutil.which("chromium")
    assert program, "no chromium: run scripts/install_test_parts.sh"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Reader:
    """A window of a size ("desktop" or "phone") in a colour scheme. ``heard`` is all that must not happen."""

    def __init__(self, browser: Browser, size: str = "desktop", scheme: str = "light", *, pixels: int = 1) -> None:
        phone = size == "phone"
        self.context = browser.new_context(
            viewport=SIZES[size], color_scheme=scheme, is_mobile=phone, has_touch=phone, device_scale_factor=pixels
        )
        self.page: Page = self.context.new_page()
        self.heard: list[str] = []
        self.page.on("console", lambda message: self.heard.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.heard.append(f"error: {error}"))
        self.page.on("request", lambda request: self._note_request(request.url))

    def _note_request(self, url: str) -> None:
        if url != self.page.url and not url.startswith("file:"):
            self.heard.append(f"request: {url}")

    def open(self, file: Path) -> None:
        """Returns once the first plot is drawn, if the report has one."""
        self.page.goto(file.as_uri())
        figures = self.page.locator("figure[data-chart]")
        if figures.count():
            figures.first.locator("svg").first.wait_for()

    def wait_for_plots(self) -> None:
        """Until all of them are drawn, which the page does by itself."""
        self.page.wait_for_function(f"() => {_FIGURES}.every((figure) => figure.querySelector('svg'))")

    def missing(self) -> list[str]:
        """Charts in whose place nothing is drawn."""
        empty = "(figure) => !figure.querySelector('svg :is(path, rect, circle)')"
        return self.page.evaluate(f"() => {_FIGURES}.filter({empty}).map((figure) => figure.dataset.chart)")
