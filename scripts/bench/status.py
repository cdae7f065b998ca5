"""What ``workflow.status`` costs on a large journal, beside reading the same lines as plain JSON, in one run.

    python scripts/bench/status.py [--trials 100000] [--rounds 3]

Writes such a journal of ended trials into a temporary directory, then runs the command and ``json.loads`` of every line
as processes of their own, in turn, so that a busy machine slows both alike.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

from measured import ROOT, Figure, arguments, show

sys.path.insert(0, str(ROOT))

from workflow.journal import Journal, campaign_record
from workflow.rundir import RunDir
from workflow.state import Record
from workflow.trial import Outcome, Trial

PLAIN = "import json, sys\nfor line in open(sys.argv[1], 'rb'):\n    json.loads(line)\n"
NODES, SECONDS = 8, 600.0
UNITS = ("s", "s of a processor", "peak MiB")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--trials", type=int, default=100_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run = RunDir(Path(scratch))
        writer = get_context("spawn").Process(
            target=write, args=(run, args.trials)
        )  # whose memory others don't start with
        writer.start()
        writer.join()
        print(f"journal of {args.trials} trials, {run.journal.stat().st_size / 2**20:.0f} MiB")
        commands = {
            "json.loads": [sys.executable, "-c", PLAIN, str(run.journal)],
            "status": [sys.executable, "-m", "workflow.status", scratch],
        }
        found: dict[str, list[tuple[float, ...]]] = {name: [] for name in commands}
        for _ in range(args.rounds):
            for name, command in commands.items():
                found[name].append(measure(command))
    title = f"status of {args.trials} trials"
    values = [{name: [each[part] for each in of] for name, of in found.items()} for part in range(len(UNITS))]
    show([Figure(title, unit, "json.loads", each) for unit, each in zip(UNITS, values, strict=True)], args.json)


def write(run: RunDir, trials: int) -> None:
    journal = Journal(run.journal)
    journal.append(*records(trials))
    journal.close()


def records(trials: int) -> Iterator[Record]:
    rng = random.Random(1)
    yield campaign_record({"objective": {"metric": "val_loss", "mode": "min"}}, {"workers": NODES, "site": "local"})
    for number in range(trials):
        params = {
            "learning_rate": 10 ** rng.uniform(-6, -2), "num_layers": rng.randint(1, 9), "dropout": rng.random(),
            "batch_size": 2 ** rng.randint(4, 9), "optimizer": rng.choice(("Adam", "SGD", "RMSprop")), "epochs": 100,
        }  # fmt: skip
        start = number // NODES * SECONDS
        yield {"type": "asked", "trial": Trial(number, number, params, parents=(number, number)).to_json()}
        yield {"type": "attempt", "trial": number, "attempt": 1}
        yield {"type": "outcome", "outcome": outcome(number, rng, start).to_json()}


def outcome(number: int, rng: random.Random, start: float) -> Outcome:
    end, host = start + SECONDS * rng.random(), f"node{number % NODES:02d}"
    if rng.random() < 0.05:
        evidence = f"exit code {rng.randint(1, 3)}; last line: no"
        return Outcome(number, 1, "failed", started=start, ended=end, host=host, evidence=evidence, cause="model")
    scores = {name: rng.random() for name in ("mse", "rmse", "pcc", "scc", "r2")}
    return Outcome(number, 1, "ok", scores["mse"], scores, start, end, end - start, host, "0", 2**30)


def measure(command: list[str]) -> tuple[float, float, float]:
    """Wall time and processor time in seconds, and peak memory in MiB, of a process."""
    start = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[1:3]} ended with exit code {process.returncode}")
    return time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**10


if __name__ == "__main__":
    main()
