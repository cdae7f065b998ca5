"""What ``workflow.status`` costs on a large journal, beside reading the same lines as plain JSON, in one run.

    python scripts/bench/status.py [--trials 100000] [--rounds 5]

Writes such a journal of ended trials into a temporary directory, then runs the command and ``json.loads`` of every line
as processes of their own, in turn.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import journals
from measured import Figure, Ran, arguments, in_turn, parts, run, show

UNITS = ("s", "s of a processor", "peak MiB")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--trials", type=int, default=100_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        journal = Path(scratch, "journal.jsonl")
        journals.write(journal, args.trials)
        kinds = {
            "json.loads": lambda: costs(run("-c", journals.PLAIN, journal)),
            "status": lambda: costs(run("-m", "workflow.status", scratch)),
        }
        found = parts(in_turn(args.rounds, kinds))
    title = f"status of {args.trials} trials"
    show([Figure(title, unit, "json.loads", each) for unit, each in zip(UNITS, found, strict=True)], args.json)


def costs(ran: Ran) -> tuple[float, float, float]:
    return ran.seconds, ran.processor, ran.peak


if __name__ == "__main__":
    main()
