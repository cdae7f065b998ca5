"""Campaigns of the real code in virtual time, on the walltimes of published ones.

    python scripts/bench/simulation.py published --seeds 5   # beside the reference's campaigns
    python scripts/bench/simulation.py scale                 # 8 to 1,000 workers, steady and failing
    python scripts/bench/simulation.py million               # 10,000 workers, 1,000,000 trials
    python scripts/bench/simulation.py models                # how well the models predict, and how lucky losses were

``published`` and ``scale`` go on where their file of results (--out) ends, and print Markdown. Journals are written,
and synced, in the directory for temporary files: set TMPDIR to a file system in the memory, such as /dev/shm, since
the disk is not what is measured.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # small matrices: threads cost more than they give

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts"), str(ROOT / "scripts" / "bench")]

from simulated import comparison, published, scale  # noqa: E402


def main() -> None:
    args = parser().parse_args()
    args.command(args)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(required=True)
    beside = commands.add_parser("published", help="beside the reference's campaigns")
    beside.set_defaults(command=published_command)
    beside.add_argument("--seeds", type=int, default=5)
    beside.add_argument("--models", nargs="+", choices=list(published.MODELS), default=["kernel"])
    beside.add_argument("--tables", nargs="+", choices=published.names(), default=published.names())
    beside.add_argument("--out", type=Path, default=ROOT / "runs" / "published.jsonl")
    scaled = commands.add_parser("scale", help="utilization on many workers")
    scaled.set_defaults(command=scale_command)
    scaled.add_argument("--workers", nargs="+", type=int, default=[8, 100, 1000])
    scaled.add_argument("--searches", nargs="+", choices=list(scale.SEARCHES), default=list(scale.SEARCHES))
    scaled.add_argument("--tables", nargs="+", choices=published.names(), default=published.names())
    scaled.add_argument("--out", type=Path, default=ROOT / "runs" / "scale.jsonl")
    million = commands.add_parser("million", help="the largest campaign: its time and memory")
    million.set_defaults(command=lambda args: print(scale.largest(args.workers, args.trials)))
    million.add_argument("--workers", type=int, default=10_000)
    million.add_argument("--trials", type=int, default=1_000_000)
    models = commands.add_parser("models", help="how well the models predict")
    models.set_defaults(command=models_command)
    return top


def published_command(args: argparse.Namespace) -> None:
    for cell in comparison.run_all(args.tables, args.models, range(1, args.seeds + 1), args.out):
        print(cell, file=sys.stderr)
    print(comparison.table(comparison.read(args.out)))


def scale_command(args: argparse.Namespace) -> None:
    for cell in scale.run_all(args.tables, args.searches, args.workers, args.out):
        print(cell, file=sys.stderr)
    print(scale.table(scale.read(args.out)))


def models_command(args: argparse.Namespace) -> None:
    heads = "| campaign | model | R2 of the loss' logarithm | R2 of the walltime's | luck of the best published loss |"
    print(heads, "| --- " * 5 + "|", sep="\n")
    for name in published.names():
        for model in published.MODELS:
            campaign = published.read(name)
            fit, luck = published.cross_validated(campaign, model), published.Model(campaign, model).luck()
            print(f"| {name} | {model} | {fit.loss:.2f} | {fit.seconds:.2f} | {luck:.3f} |")


if __name__ == "__main__":
    main()
