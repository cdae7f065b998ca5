"""Makes the pictures of the README, of real campaigns.

    python scripts/pictures.py report [--output docs/report.png]

``report`` runs the demo and photographs parts of its report; it needs Chromium (scripts/install_test_parts.sh).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.browser.chromium import Reader, chromium  # noqa: E402
from workflow.report.history import load_run  # noqa: E402
from workflow.report.page import page  # noqa: E402

HIDDEN = (
    "nav, section:not(#history, #parallel, #importance, #timeline),"
    " #importance figcaption, #importance h3, #importance h3 ~ *"
)
"""What the picture of the report leaves out."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pictures = parser.add_subparsers(dest="picture", required=True)
    report = pictures.add_parser("report", help="the report")
    report.add_argument("--output", type=Path, default=ROOT / "docs" / "report.png")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        photograph(report_of_demo(Path(scratch) / "demo"), args.output)


def report_of_demo(run: Path) -> Path:
    command = [sys.executable, "-m", "workflow.run", "--site", "local", "--quiet", "--output", str(run)]
    subprocess.run(command, cwd=ROOT, check=True)
    file = run / "report.html"
    file.write_text(page([load_run(run)]), encoding="utf-8")
    return file


def photograph(report: Path, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    with chromium() as browser:
        reader = Reader(browser)
        reader.page.set_viewport_size({"width": 920, "height": 900})
        reader.open(report)
        reader.wait_for_plots()
        reader.page.add_style_tag(content=f"{HIDDEN} {{ display: none !important; }} main {{ padding-bottom: 1rem; }}")
        reader.page.screenshot(path=path, full_page=True)


if __name__ == "__main__":
    main()
