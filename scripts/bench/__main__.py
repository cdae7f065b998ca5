"""All benchmarks, one after the other: each prints its tables.

    python scripts/bench [NAME ...] [--full]

Reduced, they take a few minutes on two cores. ``--full`` repeats what the README's tables were made with: some hours,
``search`` some days; it and ``simulation`` go on where their results in runs/ end. What else each can do, it says by
``python scripts/bench/NAME.py --help``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

REDUCED = {
    "startup": ["--rounds 1"],
    "supervisor": ["--trials 20 --rounds 2"],
    "throughput": ["--trials 40 --rounds 1"],
    "asks": ["--trials 100 --rounds 1"],
    "journal": ["--trials 3000 --rounds 2"],
    "status": ["--trials 10000 --rounds 2"],
    "report": ["--trials 1000 --rounds 2"],
    "simulation": [
        "published --seeds 1 --tables lgbm-ccle-large --out {scratch}/published.jsonl",
        "scale --workers 8 --tables lgbm-ccle-large --out {scratch}/scale.jsonl",
        "million --workers 100 --trials 1000",
    ],
    "search": ["run --reduced"],
}
FULL = {
    **{name: [""] for name in REDUCED},
    "journal": ["--trials 100000"],
    "simulation": ["published --seeds 10", "scale", "million", "models"],
    "search": [
        "run peers --seeds 4", "table peers runs/peers.jsonl",
        "run ablations --seeds 4", "table ablations runs/ablations.jsonl",
        "run objectives --seeds 5", "table objectives runs/objectives.jsonl",
        "run robust --seeds 6", "table robust runs/robust.jsonl",
        "fidelity --seeds 20",
    ],
}  # fmt: skip


def main() -> int:
    """Exit code 1 if one of them failed; the others still run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones (all): {', '.join(REDUCED)}")
    parser.add_argument("--full", action="store_true", help="with the counts of the README's tables")
    args = parser.parse_args()
    if unknown := sorted(set(args.names) - REDUCED.keys()):
        parser.error(f"no benchmark is named {', '.join(unknown)}; there are {', '.join(REDUCED)}")
    lines = FULL if args.full else REDUCED
    with tempfile.TemporaryDirectory() as scratch:
        codes = [_run(name, line.format(scratch=scratch)) for name in args.names or lines for line in lines[name]]
    return int(any(codes))


def _run(name: str, arguments: str) -> int:
    program = HERE.parent / "bench_search.py" if name == "search" else HERE / f"{name}.py"
    print(f"== {program.relative_to(ROOT)} {arguments}", flush=True)
    return subprocess.run([sys.executable, program, *arguments.split()], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
