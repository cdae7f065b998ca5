"""``python -m workflow.runs``: the campaigns in a directory."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from workflow.errors import EXIT_DONE, InputError, printable
from workflow.rundir import whole_path, why_no_run
from workflow.terminal import run_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from workflow.report.snapshot import Snapshot

_COLUMNS = ("name", "state", "trials", "failed", "best", "started", "last record")

_SPARED = ("started", "last record", "failed")
"""Columns for which there may be no room, the one that goes first at the beginning."""

_WIDEST = 10_000


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    return run_command(lambda: _runs(args))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workflow.runs",
        description="List the campaigns in a directory, the latest one last.",
        epilog="exit codes: 0 they were listed, however they stand; 2 bad input; 3 the output's disk is full",
        allow_abbrev=False,
    )
    parser.add_argument("directory", type=Path, nargs="?", default=Path("runs"), metavar="DIR", help="default: runs")
    parser.add_argument(
        "--json", action="store_true", help="print a JSON list, an object a run as status --json has it"
    )
    return parser


def _runs(args: argparse.Namespace) -> int:
    from workflow.report.watch import look_at_all

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
        print(json.dumps([shot.to_json() for shot in shots], indent=2, allow_nan=False), flush=True)
    elif shots:
        _print(shots)
    else:
        print(f"no runs in {directory}")
    return EXIT_DONE


def _print(shots: Sequence[Snapshot]) -> None:
    """In a narrow terminal with fewer columns; elsewhere a line for each run, however long, for programs."""
    from workflow.report.view import TerminalConsole

    console = TerminalConsole(highlight=False, markup=False)
    roomy = console.options.update(max_width=_WIDEST)
    for number in range(len(_SPARED) + 1):
        columns = [column for column in _COLUMNS if column not in _SPARED[:number]]
        table = _table(shots, columns, console.width // 3 if console.is_terminal else None)
        width = console.measure(table, options=roomy).maximum
        if width <= console.width or not console.is_terminal:
            break
    console.width = console.width if console.is_terminal else width
    console.print(table)


def _table(shots: Sequence[Snapshot], columns: Sequence[str], longest_name: int | None) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, justify="right" if column in ("trials", "failed", "best") else "left", overflow="fold")
    table.columns[0].max_width = longest_name
    for shot in shots:
        row = _row(shot)
        table.add_row(*(row[column] for column in columns))
    return table


def _row(shot: Snapshot) -> dict[str, str | Text]:
    """By column."""
    from rich.text import Text

    from workflow.report.view import CONDITIONS

    of = f"/{shot.trials.budget}" if shot.trials.budget is not None else ""
    found = shot.winner or shot.best
    return {
        "name": " ".join(printable(shot.name).split("\n")),
        "state": Text(shot.condition, CONDITIONS[shot.condition]),
        "trials": f"{shot.trials.done}{of}",
        "failed": str(shot.trials.failed),
        "best": f"{found.value:.6g}" if found is not None else "",
        "started": _moment(shot.began),
        "last record": _moment(shot.last),
    }


def _moment(at: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at)) if at is not None else ""


if __name__ == "__main__":
    sys.exit(main())
