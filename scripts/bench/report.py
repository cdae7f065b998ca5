"""What a report of many trials costs: seconds to write and to open it, and its size.

    python scripts/bench/report.py [--trials 10000]

Needs Chromium (scripts/install_test_parts.sh chromium). Opened is a report whose first plot is drawn; the others follow
while it is read.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.browser.chromium import Reader, chromium  # noqa: E402
from tests.synthetic import write_run  # noqa: E402
from workflow.report.history import load_run  # noqa: E402
from workflow.report.page import page  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run = write_run(Path(scratch) / "run", args.trials)
        start = time.monotonic()
        loaded = load_run(run)
        read = time.monotonic()
        file = Path(scratch) / "report.html"
        file.write_text(page([loaded]), encoding="utf-8")
        print(f"{args.trials} trials, a journal of {(run / 'journal.jsonl').stat().st_size / 1e6:.1f} MB")
        print(f"loading the run    {read - start:6.2f} s")
        print(f"writing the report {time.monotonic() - read:6.2f} s, {file.stat().st_size / 1e6:.2f} MB")
        opened(file)


def opened(file: Path) -> None:
    with chromium() as browser:
        reader = Reader(browser)
        start = time.monotonic()
        reader.open(file)
        print(f"opening it         {time.monotonic() - start:6.2f} s")
        reader.wait_for_plots()
        print(f"all plots          {time.monotonic() - start:6.2f} s")


if __name__ == "__main__":
    main()
