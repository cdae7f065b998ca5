"""``python -m workflow.report``: one HTML file that shows a run, or compares several."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from workflow.config.strict import is_there
from workflow.disk import disk_remedy, replace_text
from workflow.errors import EXIT_DONE, InputError, SiteError
from workflow.report.history import Run, load_run
from workflow.report.page import page
from workflow.rundir import RunDir
from workflow.terminal import run_command


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return run_command(lambda: _report(args))


def _report(args: argparse.Namespace) -> int:
    runs = [load_run(path) for path in args.runs]
    output = _beside(runs[0]) if args.output is None else _place(args.output)
    text = page(runs)
    try:
        replace_text(output, text)
    except OSError as error:
        raise SiteError(f"{output}: cannot be written ({error.strerror})\n    -> {disk_remedy(error)}") from error
    print(output)
    return EXIT_DONE


def _place(output: str) -> Path:
    """Where a report goes: into the file that a link points to. Raises InputError for a directory or device."""
    path = Path(output).expanduser().resolve()
    if is_there(path) and not path.is_file():
        raise InputError(f"--output {output}: is no file\n    -> name the file to be written")
    return path


def _beside(run: Run) -> Path:
    """In the run's directory, or with the name of its table."""
    return RunDir(run.path).report if run.files else run.path.with_suffix(".html")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workflow.report",
        description="Write a report of a run, which may be running still, and compare it with others.",
        epilog="exit codes: 0 done; 2 bad input; 3 the disk doesn't take it",
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="a run's directory, or a table of the form of hpo.csv"
    )
    parser.add_argument("--output", metavar="FILE", help="the file to write (default: report.html in the first run)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
