"""What the supervisor costs: the same command as a bare Parsl bash_app and under ``workflow/supervise.py``, in one run.

    python scripts/bench/supervisor.py [--trials 60] [--rounds 5] [--workers 2]

For threads and for local HTEX, milliseconds a trial: time of a round x workers / trials. The rounds alternate, so that
a busy machine slows both alike.
"""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
import time
from pathlib import Path

import parsl
from measured import ROOT, Figure, arguments, show
from parsl import bash_app
from parsl.config import Config
from parsl.executors import HighThroughputExecutor, ThreadPoolExecutor
from parsl.providers import LocalProvider

sys.path.insert(0, str(ROOT))

from workflow.config.load import load_experiment
from workflow.config.strict import shipped
from workflow.lock import RunLock
from workflow.rundir import RunDir
from workflow.runner import ParslRunner
from workflow.site import find_site, load_site
from workflow.stages import Command

COMMAND = ("/bin/sh", "-c", "echo IMPROVE_RESULT val_loss: 0.5")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where Parsl's scripts are
    figures = []
    for name in ("threads", "htex"):
        with tempfile.TemporaryDirectory() as scratch:
            found = measure(name, args.trials, args.rounds, args.workers, Path(scratch))
        figures.append(Figure(f"a trial that does nothing on {name}", "ms", "bare", found))
    show(figures, args.json)


def measure(name: str, trials: int, rounds: int, workers: int, scratch: Path) -> dict[str, list[float]]:
    """Milliseconds a trial of each round, bare and supervised."""
    kernel = parsl.load(Config(executors=[executor(name, workers)], run_dir=str(scratch / "parsl"), usage_tracking=0))
    try:
        app = bash_app(data_flow_kernel=kernel)(lambda command: command)
        bare = shlex.join(COMMAND) + " > {directory}/model.log"
        lines = {"bare": bare, "supervised": supervised(scratch)}
        found: dict[str, list[float]] = {"bare": [], "supervised": []}
        for number in range(rounds + 1):  # the first round warms up
            for kind, line in lines.items():
                directories = [scratch / f"{kind}-{number}-{trial}" for trial in range(trials)]
                for directory in directories:
                    directory.mkdir()
                start = time.monotonic()
                futures = [app(line.replace("{directory}", str(directory))) for directory in directories]
                for future in futures:
                    future.result()
                if number:
                    found[kind].append(1000 * (time.monotonic() - start) * workers / trials)
        return found
    finally:
        kernel.cleanup()
        parsl.clear()


def supervised(scratch: Path) -> str:
    """The command under the supervisor, as the runner writes it."""
    lock = RunLock(scratch / "controller.lock")
    lock.acquire()
    experiment = load_experiment(shipped("configs") / "demo.yaml", {})
    runner = ParslRunner(load_site(find_site("local"), {}), experiment, RunDir(scratch), lock)
    command = Command("train", COMMAND, {}, "{directory}")
    return str(runner._payload(runner._spec(command, 0, 1, "benchmark", frozenset(), None)))


def executor(name: str, workers: int) -> ThreadPoolExecutor | HighThroughputExecutor:
    if name == "threads":
        return ThreadPoolExecutor(max_threads=workers)
    return HighThroughputExecutor(
        address="127.0.0.1", max_workers_per_node=workers, cores_per_worker=1e-3, provider=LocalProvider(max_blocks=1)
    )


if __name__ == "__main__":
    main()
