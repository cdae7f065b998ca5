"""What an ask and a tell take, and the memory of a search, by the number of trials, beside other packages' searches.

    python scripts/bench/asks.py [--trials 100 1000 10000] [--rounds 5]

Each search runs in a process of its own, on one space of 9 mixed hyperparameters, with 8 trials pending. Optuna's TPE
is the baseline, as far as it goes in reasonable time.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections import deque
from functools import partial
from typing import Any

from measured import Figure, arguments, in_turn, parts, run, show
from search_bench.optimizers import Setting, entries
from search_bench.simulate import Finished, Optimizer

from workflow.search.base import keyed_rng
from workflow.space import Space
from workflow.space_file import parse_space
from workflow.trial import Params

SEARCHES = ("random", "simple", "mu_plus_lambda", "async", "optuna_tpe", "deap_published", "pymoo_ga")
MOST = {"optuna_tpe": 10_000}
"""Trials of those whose time grows with the square of their number."""
PENDING = 8
SPACE: list[dict[str, Any]] = [
    *({"name": f"rate{n}", "type": "float", "lower": 1e-6, "upper": 1e-1, "use_log_scale": True} for n in range(2)),
    *({"name": f"share{n}", "type": "float", "lower": 0.0, "upper": 0.9} for n in range(2)),
    *({"name": f"size{n}", "type": "int", "lower": 1, "upper": 512} for n in range(2)),
    {"name": "batch", "type": "ordered", "element_type": "int", "values": [16, 32, 64, 128, 256, 512]},
    {"name": "kind", "type": "categorical", "element_type": "string", "values": ["a", "b", "c"]},
    {"name": "skip", "type": "logical"},
]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--searches", nargs="+", default=list(SEARCHES))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one[0], int(args.one[1]))))
        return
    figures = []
    known = entries()
    for trials in args.trials:
        names = [name for name in args.searches if not known[name].missing and trials <= MOST.get(name, trials)]
        baseline = "optuna_tpe" if "optuna_tpe" in names else names[0]
        found = in_turn(args.rounds, {name: partial(in_process, name, trials) for name in names})
        times, memory = parts(found)
        figures.append(Figure(f"ask and tell of {trials} trials", "ms a trial", baseline, times))
        figures.append(Figure(f"memory of {trials} trials", "MiB", baseline, memory))
    show(figures, args.json)


def in_process(name: str, trials: int) -> tuple[float, float]:
    milliseconds, mib = json.loads(run(__file__, "--one", name, str(trials)).output)
    return milliseconds, mib


def measure(name: str, trials: int) -> tuple[float, float]:
    """Milliseconds a trial, and MiB that this process grew by."""
    space = parse_space(SPACE, "benchmark")
    optimizer = entries()[name].make(Setting(space, PENDING, trials, 0))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = drive(optimizer, space, trials)
    return 1000 * seconds / trials, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def drive(optimizer: Optimizer, space: Space, trials: int) -> float:
    """Seconds in ask and tell, of trials that end in the order of their asks."""
    seconds, asked = 0.0, 0
    pending = deque[tuple[int, Params]]()
    for _ in range(trials):
        while len(pending) < PENDING and asked < trials:
            start = time.perf_counter()
            params = optimizer.ask(asked)
            seconds += time.perf_counter() - start
            if params is None:
                break
            pending.append((asked, params))
            asked += 1
        key, params = pending.popleft()
        finished = Finished(key, params, loss(space, params, key), float(key), key + 1.0)
        start = time.perf_counter()
        optimizer.tell(finished)
        seconds += time.perf_counter() - start
    return seconds


def loss(space: Space, params: Params, number: int) -> float:
    """A bowl with noise."""
    units = [p.to_unit(params[p.name]) for p in space.varying if not p.is_categorical]
    return sum((unit - 0.3) ** 2 for unit in units) + 0.01 * float(keyed_rng(0, number).normal())


if __name__ == "__main__":
    main()
