"""A journal of many trials that ended, for the benchmarks that read one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

from measured import ROOT  # noqa: F401

from workflow.journal import Journal, campaign_record
from workflow.state import Record
from workflow.trial import Outcome, Trial

PLAIN = "import json, sys\nfor line in open(sys.argv[1], 'rb'):\n    json.loads(line)\n"
"""The baseline of what reads a journal."""
NODES, SECONDS = 8, 600.0


def write(path: Path, trials: int) -> None:
    """In a process of its own, lest those that are measured begin with its memory."""
    writer = get_context("spawn").Process(target=_write, args=(path, trials))
    writer.start()
    writer.join()
    print(f"journal of {trials} trials, {path.stat().st_size / 2**20:.0f} MiB")


def _write(path: Path, trials: int) -> None:
    journal = Journal(path)
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
        yield {"type": "outcome", "outcome": _outcome(number, rng, start).to_json()}


def _outcome(number: int, rng: random.Random, start: float) -> Outcome:
    end, host = start + SECONDS * rng.random(), f"node{number % NODES:02d}"
    if rng.random() < 0.05:
        evidence = f"exit code {rng.randint(1, 3)}; last line: no"
        return Outcome(number, 1, "failed", started=start, ended=end, host=host, evidence=evidence, cause="model")
    scores = {name: rng.random() for name in ("mse", "rmse", "pcc", "scc", "r2")}
    return Outcome(number, 1, "ok", scores["mse"], scores, start, end, end - start, host, "0", 2**30)
