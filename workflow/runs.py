"""``python -m workflow.runs``: the campaigns in a directory."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workflow.errors import EXIT_DONE, InputError
from workflow.rundir import whole_path
from workflow.terminal import run_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from workflow.report.snapshot import Snapshot

_COLUMNS = ("name", "state", "trials", "failed", "best", "started", "last record")


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    return run_command(lambda: _runs(args))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workflow.runs",
        description="List the campaigns in a directory, the latest one last.",
        epilog="exit codes: 0 they were listed, however they stand; 2 bad input",
        allow_abbrev=False,
    )
    parser.add_argument("directory", type=Path, nargs="?", default=Path("runs"), metavar="DIR", help="default: runs")
    parser.add_argument(
        "--json", action="store_true", help="print a JSON list, an object a run as status --json has it"
    )
    return parser


def _runs(args: argparse.Namespace) -> int:
    from workflow.report.watch import look_at_all, why_no_run

    directory = whole_path(args.directory)
    try:
        paths = sorted(path for path in directory.iterdir() if not why_no_run(path))
    except OSError as error:
        raise InputError(
            f"{directory}: cannot be read ({error.strerror})\n    -> name a directory with runs"
        ) from error
    found = look_at_all(paths)
    for unreadable in (each for each in found if isinstance(each, InputError)):
        print(f"warning: {unreadable}", file=sys.stderr)
    shots = sorted((each for each in found if not isinstance(each, InputError)), key=lambda shot: shot.last or 0.0)
    if args.json:
        print(json.dumps([shot.to_json() for shot in shots], indent=2, allow_nan=False))
    elif shots:
        _print(shots)
    else:
        print(f"no runs in {directory}")
    return EXIT_DONE


def _print(shots: Sequence[Snapshot]) -> None:
    from rich.table import Table

    from workflow.report.view import CONDITIONS, TerminalConsole

    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in _COLUMNS:
        table.add_column(column, justify="right" if column in ("trials", "failed", "best") else "left", overflow="fold")
    for shot in shots:
        state = f"[{CONDITIONS[shot.condition]}]{shot.condition}[/]"
        table.add_row(*_row(shot, state))
    TerminalConsole(highlight=False).print(table)


def _row(shot: Snapshot, state: str) -> list[Any]:
    trials = shot.trials
    of = f"/{trials.budget}" if trials.budget is not None else ""
    best = f"{shot.best.value:.6g}" if shot.best is not None else ""
    return [shot.name, state, f"{trials.done}{of}", str(trials.failed), best, _moment(shot.began), _moment(shot.last)]


def _moment(at: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at)) if at is not None else ""


if __name__ == "__main__":
    sys.exit(main())
