"""Makes the pictures of the README, of real campaigns.

    python scripts/pictures.py report [--output docs/report.png]
    python scripts/pictures.py live [--trials 30] [--output docs/live.svg]

``report`` runs the demo and photographs parts of its report; it needs Chromium (scripts/install_test_parts.sh).
``live`` draws what workflow.status shows of the demo, once so many of its trials have ended.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import TerminalTheme

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from workflow.report.history import load_run  # noqa: E402
from workflow.report.page import page  # noqa: E402
from workflow.report.snapshot import Snapshot  # noqa: E402
from workflow.report.view import View  # noqa: E402
from workflow.report.watch import Watch, why_no_run  # noqa: E402

HIDDEN = (
    "nav, section:not(#history, #parallel, #importance, #timeline),"
    " #importance figcaption, #importance h3, #importance h3 ~ *"
)
"""What the picture of the report leaves out."""

COLUMNS = 84

THEME = TerminalTheme(
    (24, 27, 33),
    (212, 216, 222),
    [(24, 27, 33), (224, 108, 117), (152, 195, 121), (229, 192, 123), (97, 175, 239), (198, 120, 221), (86, 182, 194),
     (171, 178, 191)],
    [(75, 82, 99), (224, 108, 117), (152, 195, 121), (229, 192, 123), (97, 175, 239), (198, 120, 221), (86, 182, 194),
     (255, 255, 255)],
)  # fmt: skip

FORMAT = re.sub(r"\s*(@font-face {{.*?}}|<!--.*?-->)", "", CONSOLE_SVG_FORMAT, flags=re.S)
"""Rich's own, without fonts of the network."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pictures = parser.add_subparsers(dest="picture", required=True)
    report = pictures.add_parser("report", help="the report")
    report.add_argument("--output", type=Path, default=ROOT / "docs" / "report.png")
    live = pictures.add_parser("live", help="the live view")
    live.add_argument("--trials", type=int, default=30)
    live.add_argument("--output", type=Path, default=ROOT / "docs" / "live.svg")
    args = parser.parse_args()
    args.output.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "demo"
        if args.picture == "report":
            photograph(report_of_demo(run), args.output)
        else:
            draw(demo_after(args.trials, run), args.output)


def begin_demo(run: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "workflow.run", "--site", "local", "--quiet", "--output", str(run)]
    return subprocess.Popen(command, cwd=ROOT)


def report_of_demo(run: Path) -> Path:
    if code := begin_demo(run).wait():
        raise SystemExit(f"the demo ended with exit code {code}")
    file = run / "report.html"
    file.write_text(page([load_run(run)]), encoding="utf-8")
    return file


def photograph(report: Path, path: Path) -> None:
    from tests.browser.chromium import Reader, chromium  # which the other picture does without

    with chromium() as browser:
        reader = Reader(browser)
        reader.page.set_viewport_size({"width": 920, "height": 900})
        reader.open(report)
        reader.wait_for_plots()
        reader.page.add_style_tag(content=f"{HIDDEN} {{ display: none !important; }} main {{ padding-bottom: 1rem; }}")
        reader.page.screenshot(path=path, full_page=True)


def demo_after(trials: int, run: Path) -> Snapshot:
    """The demo once so many of its trials have ended and as many run as can; it is stopped then."""
    controller = begin_demo(run)
    try:
        while why_no_run(run):
            time.sleep(0.1)
        watch = Watch(run)
        while (shot := watch.look()).trials.done < trials or not all(each.last for each in shot.running[:2]):
            time.sleep(0.2)
        return shot
    finally:
        controller.terminate()
        controller.wait()


def draw(shot: Snapshot, path: Path) -> None:
    console = Console(width=COLUMNS, record=True, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(View(shot))
    title = f"python -m workflow.run  {shot.name}"
    path.write_text(console.export_svg(title=title, theme=THEME, code_format=FORMAT, unique_id="live"))


if __name__ == "__main__":
    main()
