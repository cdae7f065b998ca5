"""What the supervisor costs: the same command as a bare Parsl bash_app and under ``workflow/supervise.py``, in one run.

    python scripts/bench/supervisor.py [--trials 60] [--rounds 5] [--workers 2]

For threads and for local HTEX, milliseconds a trial: time of a round x workers / trials. The rounds alternate, so that
a busy machine slows both alike.
"""

from __future__ import annotations

import shlex
import tempfile
import time
from functools import partial
from pathlib import Path

from measured import Figure, arguments, in_turn, show
from pools import POOLS, App, bare_app

from workflow.cluster.apps import command_line
from workflow.config.load import load_experiment
from workflow.config.strict import shipped
from workflow.lock import RunLock
from workflow.rundir import RunDir
from workflow.runner import StageRunner
from workflow.site import find_site, load_site
from workflow.stages import Command

COMMAND = ("/bin/sh", "-c", "echo IMPROVE_RESULT val_loss: 0.5")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    figures = []
    for name in POOLS:
        with tempfile.TemporaryDirectory() as scratch:
            found = measure(name, args.trials, args.rounds, args.workers, Path(scratch))
        figures.append(Figure(f"a trial that does nothing on {name}", "ms", "bare", found))
    show(figures, args.json)


def measure(name: str, trials: int, rounds: int, workers: int, scratch: Path) -> dict[str, list[float]]:
    """Milliseconds a trial of each round, bare and supervised."""
    lines = {"bare": shlex.join(COMMAND) + " > {directory}/model.log", "supervised": supervised(scratch)}
    with bare_app(name, workers, scratch) as app:
        kinds = {kind: partial(seconds, app, line, trials, scratch) for kind, line in lines.items()}
        found = in_turn(rounds + 1, kinds)  # the first round warms up
    return {kind: [1000 * each * workers / trials for each in values[1:]] for kind, values in found.items()}


def seconds(app: App, line: str, trials: int, scratch: Path) -> float:
    """Of so many trials, each in a directory of its own."""
    directories = [tempfile.mkdtemp(dir=scratch) for _ in range(trials)]
    start = time.monotonic()
    for future in [app(line.replace("{directory}", directory)) for directory in directories]:
        future.result()
    return time.monotonic() - start


def supervised(scratch: Path) -> str:
    """The command under the supervisor, as a campaign sends it."""
    lock = RunLock(scratch / "controller.lock")
    lock.acquire()
    experiment = load_experiment(shipped("configs") / "demo.yaml", {})
    runner = StageRunner(load_site(find_site("local"), {}), experiment, RunDir(scratch), lock)
    command = Command("train", COMMAND, {}, "{directory}")
    return command_line(runner._spec(command, 0, 1, "benchmark", frozenset(), None))


if __name__ == "__main__":
    main()
