"""Trials a second of the real campaign, beside bare Parsl bash_apps of the same command, in one run.

    python scripts/bench/throughput.py [--trials 200] [--rounds 5] [--workers 2] [--seconds 0.1] [--pools threads htex]

``campaign`` is the loop, the search and the journal over bash_apps without the supervisor; ``supervised`` is all that a
user gets. Each trial is a shell command that sleeps for ``--seconds``; the rounds go in turn.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from measured import Figure, arguments, in_turn, show
from pools import POOLS, App, bare_app

from workflow.campaign import Campaign, Plan
from workflow.config.load import load_experiment
from workflow.durations import Expectation
from workflow.journal import Journal, campaign_record
from workflow.lock import RunLock
from workflow.rundir import RunDir
from workflow.runner import StageRunner
from workflow.search import SearchSettings, make_search
from workflow.site import find_site, load_site
from workflow.space_file import parse_space
from workflow.state import Inputs
from workflow.trial import Outcome, Trial

SPACE = [{"name": "x", "type": "float", "lower": 0, "upper": 1}]
EXPERIMENT = """
model: {{scripts: {scripts}, data_dir: {scripts}}}
stages: {{train: {{}}}}
space: [{{name: x, type: float, lower: 0, upper: 1}}]
objective: {{metric: val_loss, mode: min}}
search: {{strategy: random, evaluations: {trials}}}
"""


class Silent:
    """Nobody looks on."""

    def changed(self, campaign: Campaign) -> None: ...

    def say(self, text: str) -> None: ...


class BareRunner:
    """Each training is a bash_app of the command; its value is the hyperparameter."""

    in_allocation = keeps_checkpoints = has_ends = False
    node_count = 1
    notes: Sequence[str] = ()

    def __init__(self, app: App, command: str, workers: int) -> None:
        self._app, self._command = app, command
        self.in_flight = workers + 2

    def train(self, trial: Trial, attempt: int, avoid: frozenset[str], expected: Expectation | None) -> Future[Outcome]:
        outcome: Future[Outcome] = Future()
        began = time.time()
        ended = Outcome(trial.id, attempt, "ok", float(trial.params["x"]), started=began, ended=began, host="here")
        self._app(self._command).add_done_callback(lambda done: outcome.set_result(ended))
        return outcome

    def inputs(self, record: object) -> Inputs:
        return Inputs()

    def recall(self, trial: Trial) -> None: ...

    def attempts(self, stage: str) -> Iterable[tuple[int, int]]:
        return ()

    def recover(self, stage: str, attempts: object) -> list[Outcome]:
        return []

    def image_change(self) -> str:
        return ""

    out_of_time = failure = image_change


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.1)
    parser.add_argument("--pools", nargs="+", choices=POOLS, default=POOLS)
    args = parser.parse_args()
    show([measure(name, args) for name in args.pools], args.json)


def measure(name: str, args: Any) -> Figure:
    with tempfile.TemporaryDirectory() as text, bare_app(name, args.workers, Path(text)) as app:
        kinds = {
            "bare Parsl": lambda: bare(app, args), "campaign": lambda: campaign(app, args, Path(text)),
            "supervised": lambda: supervised(name, args, Path(text)),
        }  # fmt: skip
        found = in_turn(args.rounds, kinds)
    return Figure(f"throughput on {name}, {args.workers} workers", "trials a second", "bare Parsl", found)


def bare(app: App, args: Any) -> float:
    start = time.monotonic()
    for future in [app(f"sleep {args.seconds}") for _ in range(args.trials)]:
        future.result()
    return args.trials / (time.monotonic() - start)


def campaign(app: App, args: Any, scratch: Path) -> float:
    settings = SearchSettings(strategy="random", evaluations=args.trials)
    path = scratch / "journal.jsonl"
    path.unlink(missing_ok=True)
    journal = Journal(path)
    start = time.monotonic()
    journal.append(campaign_record({}, {}))
    search = make_search(parse_space(SPACE, "benchmark"), settings)
    runner: Any = BareRunner(app, f"sleep {args.seconds}", args.workers)
    Campaign(Plan(False, False, "min"), search, journal, runner, Silent()).run()
    seconds = time.monotonic() - start
    assert len(journal.state.outcomes) == args.trials
    journal.close()
    return args.trials / seconds


def supervised(name: str, args: Any, scratch: Path) -> float:
    """From the first attempt's submission to the last outcome, without the start of the pool."""
    run = RunDir(scratch / "run")
    shutil.rmtree(run.path, ignore_errors=True)
    run.path.mkdir()
    scripts = scratch / "model"
    scripts.mkdir(exist_ok=True)
    (scripts / "train.sh").write_text(f"#!/bin/sh\nsleep {args.seconds}\necho IMPROVE_RESULT val_loss: 0.5\n")
    (scripts / "train.sh").chmod(0o755)
    path = scratch / "experiment.yaml"
    path.write_text(EXPERIMENT.format(scripts=scripts, trials=args.trials))
    experiment = load_experiment(path, {})
    kind = "local-threads" if name == "threads" else "local"
    site = load_site(find_site(kind), {"workers": args.workers})
    lock, journal = RunLock(run.lock), Journal(run.journal)
    lock.acquire()
    journal.append(campaign_record({}, {}))
    with StageRunner(site, experiment, run, lock) as runner:
        Campaign(Plan(False, False, "min"), experiment.make_search(), journal, runner, Silent()).run()
    lock.release()
    ended = [outcome for outcome in journal.state.outcomes.values() if outcome.ended and outcome.started]
    journal.close()
    warm = sorted(ended, key=lambda outcome: outcome.ended or 0.0)[args.workers :]
    return len(warm) / (max(o.ended or 0.0 for o in ended) - min(o.started or 0.0 for o in warm))


if __name__ == "__main__":
    main()
