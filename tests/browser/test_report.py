"""Reports in a browser: every plot is drawn and answers, nothing is complained of, and nothing is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator

from tests.browser.chromium import Reader, chromium
from tests.conftest import ROOT
from tests.synthetic import run_of, write_run
from tests.unit.test_page import hostile_run
from workflow.report.history import Run, load_run
from workflow.report.page import page
from workflow.trial import Objective, Outcome

TABLE = ROOT / "scripts" / "bench" / "tables" / "igtd-ccle-large.csv"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run with failed, lost and stopped trials and a conditional hyperparameter, beside another one."""
    directory = tmp_path_factory.mktemp("runs")
    runs = [load_run(write_run(directory / f"run{trials}", trials, gpus=6)) for trials in (160, 50)]
    return written(directory, *runs)


def written(directory: Path, *runs: Run) -> Path:
    file = directory / "report.html"
    file.write_text(page(runs), encoding="utf-8")
    return file


def read(browser: Browser, file: Path, size: str = "desktop", scheme: str = "light") -> Reader:
    """A report of which every plot is drawn, and nothing was heard."""
    reader = Reader(browser, size, scheme)
    reader.open(file)
    reader.wait_for_plots()
    assert reader.heard == [] and reader.missing() == []
    return reader


def chart(reader: Reader, name: str) -> Locator:
    found = reader.page.locator(f"figure[data-chart={name}]")
    found.scroll_into_view_if_needed()
    return found


def drawing(figure: Locator) -> str:
    return figure.locator(".plot").inner_html()


OUTSIDE = """() => [...document.querySelectorAll("svg text")].filter((text) => {
    const box = text.getBoundingClientRect();
    return box.width && (box.left < -1 || box.right > innerWidth + 1);
}).map((text) => text.textContent)"""
"""Labels that are cut off by the window."""

OVERLAPPING = """() => [...document.querySelectorAll("figure:not([data-chart=parallel]) svg")].flatMap((svg) => {
    const boxes = [...svg.querySelectorAll("text")].map((text) => [text, text.getBoundingClientRect()]);
    return boxes.flatMap(([one, a], i) => boxes.slice(i + 1)
        .filter(([, b]) => a.left < b.right - 1 && b.left < a.right - 1)
        .filter(([, b]) => a.top < b.bottom - 3 && b.top < a.bottom - 3)
        .map(([other]) => `${one.textContent} and ${other.textContent}`));
})"""
"""Labels on labels, but for parallel coordinates, whose labels have a halo."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_a_report_is_readable(browser: Browser, report: Path, size: str, scheme: str) -> None:
    page = read(browser, report, size, scheme).page
    assert page.locator("figure[data-chart]").count() == 8
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is wider than the window"
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    assert page.evaluate(OUTSIDE) == [] and page.evaluate(OVERLAPPING) == []


def test_controls_draw_anew(browser: Browser, report: Path) -> None:
    reader = read(browser, report)
    for name, button in (("history", "cost"), ("history", "at"), ("history", "all"), ("comparison", "cost")):
        figure = chart(reader, name)
        before = drawing(figure)
        figure.locator(f"button[data-name={button}]").click()
        assert (
            drawing(figure) != before
            and figure.locator(f"button[data-name={button}]").get_attribute("aria-pressed") == "true"
        )
    pairs = chart(reader, "pairs")
    before = drawing(pairs)
    pairs.locator("select").first.select_option(label="batch_size")
    assert drawing(pairs) != before and reader.heard == []


def test_plots_tell_what_is_under_the_pointer(browser: Browser, report: Path) -> None:
    reader = read(browser, report)
    tip = reader.page.locator(".tip")
    for name in ("history", "generations", "slices", "pairs", "timeline", "comparison"):
        told = told_along(reader, chart(reader, name).locator("svg").first)
        assert any(word in told for word in ("trial", "generation", "run")), name
        reader.page.mouse.move(2, 2)
        assert not tip.is_visible()


def told_along(reader: Reader, plot: Locator) -> str:
    """The first that a plot tells where the pointer goes across it."""
    box, tip = plot.bounding_box(), reader.page.locator(".tip")
    assert box is not None
    for x in range(80, int(box["width"]) - 20, 25):
        for part in (0.4, 0.6, 0.8):
            reader.page.mouse.move(box["x"] + x, box["y"] + part * box["height"])
            if tip.is_visible():
                return tip.inner_text()
    return ""


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_dragging_along_an_axis_keeps_what_passes_there(browser: Browser, report: Path, size: str) -> None:
    reader = read(browser, report, size)
    figure = chart(reader, "parallel")
    grip = figure.locator(".grip").nth(1).bounding_box()
    assert grip is not None
    x, y = grip["x"] + grip["width"] / 2, grip["y"] + grip["height"] / 2
    reader.page.mouse.move(x, y)
    reader.page.mouse.down()
    reader.page.mouse.move(x, y + 60) if size == "desktop" else reader.page.mouse.move(x + 60, y)
    reader.page.mouse.up()
    kept, of = figure.locator(".said").inner_text().split(" trials")[0].split(" of ")
    assert 0 < int(kept) < int(of)
    figure.get_by_text("Keep all").click()
    assert (
        figure.locator(".said").inner_text().startswith(f"{of} of {of}")
        and not figure.get_by_text("Keep all").is_visible()
    )


def test_the_timeline_zooms(browser: Browser, report: Path) -> None:
    reader = read(browser, report)
    figure = chart(reader, "timeline")
    box, before = figure.locator("svg").bounding_box(), drawing(figure)
    assert box is not None
    reader.page.mouse.move(box["x"] + 300, box["y"] + 100)
    reader.page.mouse.down()
    reader.page.mouse.move(box["x"] + 500, box["y"] + 110)
    reader.page.mouse.up()
    assert drawing(figure) != before
    figure.get_by_text("Whole time").click()
    reader.page.mouse.move(2, 2)
    assert drawing(figure) == before


def test_plots_follow_the_window(browser: Browser, report: Path) -> None:
    reader = read(browser, report)
    reader.page.set_viewport_size({"width": 700, "height": 900})
    history = chart(reader, "history").locator("svg")
    reader.page.wait_for_function(
        "document.querySelector('figure[data-chart=history] svg').viewBox.baseVal.width < 700"
    )
    assert (history.bounding_box() or {"width": 0})["width"] <= 700 and reader.heard == []


def test_the_command_can_be_copied(browser: Browser, report: Path) -> None:
    reader = Reader(browser)
    reader.context.grant_permissions(["clipboard-read", "clipboard-write"])
    reader.open(report)
    reader.page.get_by_role("button", name="Copy").click()
    reader.page.get_by_text("Copied").wait_for()
    assert "/attempt-1/command.sh" in reader.page.evaluate("navigator.clipboard.readText()")
    assert "over the model that is there" in reader.page.locator("body").inner_text()


def test_paper_shows_every_plot_in_ink(browser: Browser, report: Path) -> None:
    reader = Reader(browser, scheme="dark")
    reader.open(report)
    reader.page.emulate_media(media="print")
    reader.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert reader.missing() == [] and not reader.page.locator("nav").is_visible()
    assert reader.page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 31, 36)"
    assert len(reader.page.pdf()) > 20_000 and reader.heard == []


def several_objectives() -> Run:
    values = [(1, 3), (2, 2), (3, 1), (3, 3), (2, 4)]
    outcomes = [Outcome(i, 1, "ok", a, {"b": b}, started=100.0 + i, ended=101.0 + i) for i, (a, b) in enumerate(values)]
    return run_of(*outcomes, objectives=(Objective("a"), Objective("b")))


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (hostile_run, "phone"), (hostile_run, "desktop"), (several_objectives, "phone"),
        (lambda: load_run(TABLE), "desktop"), (run_of, "phone"),
    ],
)  # fmt: skip
def test_reports_of_all_kinds_are_readable(
    browser: Browser, tmp_path: Path, make: Callable[[], Run], size: str
) -> None:
    reader = read(browser, written(tmp_path, make()), size)
    assert reader.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_what_is_requested_or_complained_of_is_heard(browser: Browser, tmp_path: Path) -> None:
    """The tests above would notice: a page that asks for something and whose script fails."""
    file = tmp_path / "bad.html"
    file.write_text("<!doctype html><img src='http://127.0.0.1:9/x.png'><script>missing()</script>")
    reader = Reader(browser)
    reader.open(file)
    assert {"request: http://127.0.0.1:9/x.png", "error: missing is not defined"} <= set(reader.heard)
