"""``python -m workflow.status``: how a campaign stands, by its files alone."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from workflow.errors import EXIT_DONE
from workflow.rundir import whole_path
from workflow.terminal import run_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from workflow.report.snapshot import Snapshot
    from workflow.report.watch import Watch

_INTERVAL, _PLAIN_INTERVAL = 2.0, 10.0
"""Seconds between two looks, in a terminal and elsewhere."""


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    return run_command(lambda: _status(args))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workflow.status",
        description="Show how a campaign stands, by its files alone: from wherever they can be read, at any time.",
        epilog="exit codes: 0 it was shown, however it stands; 2 bad input; 3 the output's disk is full",
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="the directory of a run")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--watch", action="store_true", help="follow it until it ends; Ctrl-C leaves it as it is")
    how.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _status(args: argparse.Namespace) -> int:
    from workflow.report.watch import Watch

    watch = Watch(whole_path(args.run))
    if args.json:
        print(json.dumps(watch.look().to_json(), indent=2, allow_nan=False), flush=True)
    elif args.watch:
        _follow(watch)
    else:
        _print(watch.look())
    return EXIT_DONE


def _print(shot: Snapshot) -> None:
    from workflow.report.view import TerminalConsole, View

    console = TerminalConsole(highlight=False)
    console.print(View(shot))
    for note in notes(shot):
        console.print(note, markup=False, soft_wrap=True)


def notes(shot: Snapshot) -> Iterator[str]:
    """What is to be known of the run beside its numbers: who leads it, or why nobody does and how to go on."""
    from workflow.journal import damage

    if shot.condition == "running":
        yield f"led by {shot.controller}"
    elif shot.condition == "new":
        yield "no controller has begun it yet"
    elif shot.condition == "interrupted":
        yield "it was interrupted" if shot.reason == "interrupted" else f"it ended early: {shot.reason}"
    elif shot.condition == "stale":
        yield f"its controller{f', {shot.controller},' if shot.controller else ''} is gone without a word"
    if shot.resume is not None:
        yield f"resume with: {shot.resume}"
    if damaged := damage(shot.damaged):
        yield damaged


def _follow(watch: Watch) -> None:
    """Until the run ends, or nobody leads it any more."""
    from rich.live import Live

    from workflow.report.view import TerminalConsole, View

    console = TerminalConsole(highlight=False)
    shot = watch.look()
    if not console.is_terminal:
        return _follow_plainly(watch, shot)
    try:
        with Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop") as live:
            while shot.condition in ("running", "new"):
                live.update(View(shot, console.size.height - 1), refresh=True)
                time.sleep(_INTERVAL)
                shot = watch.look()
    except KeyboardInterrupt:
        pass
    _print(shot)
    return None


def _follow_plainly(watch: Watch, shot: Snapshot) -> None:
    """A line whenever something has changed."""
    from workflow.report.snapshot import plain_line

    said = ""
    while shot.condition in ("running", "new"):
        if (line := plain_line(shot)) != said:
            print(line, flush=True)
        said = line
        time.sleep(_PLAIN_INTERVAL)
        shot = watch.look()
    print("\n".join([plain_line(shot), *notes(shot)]))


if __name__ == "__main__":
    sys.exit(main())
