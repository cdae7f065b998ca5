"""``python -m workflow.export``: a run in the formats of other tools."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from workflow.errors import EXIT_DONE
from workflow.journal import damage
from workflow.report.exports import FORMATS, export
from workflow.report.history import load_run
from workflow.terminal import run_command


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    return run_command(lambda: _export(args))


def _export(args: argparse.Namespace) -> int:
    run = load_run(args.run)
    if damaged := damage(run.damaged):
        print(f"warning: {damaged}", file=sys.stderr)
    print(export(run, args.format, args.output))
    return EXIT_DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workflow.export",
        description="Write a run, also one that is under way, in a format that other tools read.",
        epilog="exit codes: 0 done; 2 bad input, or a package is missing; 3 the disk doesn't take it",
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="directory of a run, or a table such as hpo.csv")
    parser.add_argument(
        "--format", required=True, choices=FORMATS, help="csv and parquet: all attempts; others: trials"
    )
    parser.add_argument(
        "--output", metavar="FILE", help="a file that doesn't exist, or an MLflow store or URI; by default in RUN_DIR"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
