"""How long a user waits: for help, for a dry run, and for the first trial on local workers, beside what others need.

    python scripts/bench/startup.py [--rounds 5]

The baselines are an empty Python program, and a bare program of Parsl's that runs one bash_app on local workers.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from measured import Figure, arguments, in_turn, run, show
from pools import find_programs

BARE = """
import sys, parsl
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider
workers = HighThroughputExecutor(address="127.0.0.1", max_workers_per_node=2, cores_per_worker=1e-3,
                                 provider=LocalProvider(init_blocks=1, max_blocks=1))
with parsl.load(Config(executors=[workers], run_dir=sys.argv[1], usage_tracking=0)):
    parsl.bash_app(lambda: "true")().result()
    print("done", flush=True)
"""


def main() -> None:
    args = arguments(__doc__).parse_args()
    find_programs()
    with tempfile.TemporaryDirectory() as text:
        dry = ("-m", "workflow.run", "--site", "local", "--dry-run", "--output", Path(text, "dry"))
        answers = {"python -c pass": ("-c", "pass"), "--help": ("-m", "workflow.run", "--help"), "--dry-run": dry}
        waits = in_turn(args.rounds, {name: partial(wait, *words) for name, words in answers.items()})
        kinds = {"bare Parsl": lambda: first_bare(Path(text)), "workflow.run": lambda: first_trial(Path(text))}
        firsts = in_turn(args.rounds, kinds)
    show(
        [
            Figure("answer", "s", "python -c pass", waits),
            Figure("first command on a local worker", "s", "bare Parsl", firsts),
        ],
        args.json,
    )


def wait(*words: str | Path) -> float:
    return run(*words).seconds


def first_bare(scratch: Path) -> float:
    """Seconds until a bare bash_app has ended."""
    start = time.monotonic()
    command = [sys.executable, "-c", BARE, scratch / "parsl"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()
        return time.monotonic() - start


def first_trial(scratch: Path) -> float:
    """Seconds until the first stage of the demo has begun on its worker, by the workers' own clock."""
    start, output = time.time(), Path(tempfile.mkdtemp(dir=scratch), "run")
    settings = ("search.num_iterations=1", "search.population_size=2", "finalists.count=0")
    words = [word for setting in settings for word in ("--set", setting)]
    run("-m", "workflow.run", "--site", "local", "--quiet", "--output", output, *words)
    return min(json.loads(path.read_text())["started"] for path in output.rglob("attempt-1/result.json")) - start


if __name__ == "__main__":
    main()
