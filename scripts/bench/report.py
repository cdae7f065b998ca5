"""What a report of many trials costs to write and to open, and its size, beside plain JSON and an empty page.

    python scripts/bench/report.py [--trials 10000] [--rounds 5]

Needs Chromium (scripts/install_test_parts.sh chromium). Opened is a report whose first plot is drawn; the others follow
while it is read. A trial has three records or more in the journal.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from measured import Figure, arguments, in_turn, show
from playwright.sync_api import Browser

from tests.browser.chromium import Reader, chromium
from tests.synthetic import write_run
from workflow.report.history import load_run
from workflow.report.page import page
from workflow.rundir import RunDir

EMPTY = "<!DOCTYPE html><title>empty</title>"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        scratch = Path(text)
        run = write_run(scratch / "run", args.trials)
        show([*written(run, args.rounds), opened(run, args.rounds)], args.json)


def written(run: Path, rounds: int) -> list[Figure]:
    """Leaves the report in ``run``."""
    report, journal = RunDir(run).report, RunDir(run).journal
    kinds: dict[str, Callable[[], object]] = {
        "json.loads": lambda: [json.loads(line) for line in journal.open("rb")],
        "load_run": lambda: load_run(run),
        "load_run and page": lambda: report.write_text(page([load_run(run)]), encoding="utf-8"),
    }
    seconds = in_turn(rounds, {name: partial(_seconds, work) for name, work in kinds.items()})
    sizes = {"journal": [journal.stat().st_size / 1e6], "report": [report.stat().st_size / 1e6]}
    return [Figure("writing a report", "s", "json.loads", seconds), Figure("size of a report", "MB", "journal", sizes)]


def opened(run: Path, rounds: int) -> Figure:
    empty, report = run / "empty.html", RunDir(run).report
    empty.write_text(EMPTY)
    with chromium() as browser:
        kinds = {
            "an empty page": partial(_open, browser, empty),
            "its first plot": partial(_open, browser, report),
            "all plots": partial(_open, browser, report, whole=True),
        }
        return Figure("opening a report", "s", "an empty page", in_turn(rounds, kinds))


def _open(browser: Browser, file: Path, *, whole: bool = False) -> float:
    """Seconds in a window of its own."""
    reader = Reader(browser)
    start = time.monotonic()
    reader.open(file)
    if whole:
        reader.wait_for_plots()
    seconds = time.monotonic() - start
    reader.context.close()
    return seconds


def _seconds(work: Callable[[], object]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


if __name__ == "__main__":
    main()
