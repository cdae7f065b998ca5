"""How long a user waits: for help, for a dry run, and for the first trial on local workers, beside what others need.

    python scripts/bench/startup.py [--rounds 5]

The baselines are an empty Python program, and a bare program of Parsl's that runs one bash_app on local workers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measured import Figure, arguments, run, show

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
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where Parsl's scripts are
    waits: dict[str, list[float]] = {}
    firsts: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as text:
        for number in range(args.rounds):
            scratch = Path(text, str(number))
            scratch.mkdir()
            waits.setdefault("python -c pass", []).append(run("-c", "pass")[0])
            waits.setdefault("--help", []).append(run("-m", "workflow.run", "--help")[0])
            dry = ("-m", "workflow.run", "--site", "local", "--dry-run", "--output", scratch / "dry")
            waits.setdefault("--dry-run", []).append(run(*dry)[0])
            firsts.setdefault("bare Parsl", []).append(first_bare(scratch))
            firsts.setdefault("workflow.run", []).append(first_trial(scratch))
    show(
        [
            Figure("answer", "s", "python -c pass", waits),
            Figure("first command on a local worker", "s", "bare Parsl", firsts),
        ],
        args.json,
    )


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
    start, output = time.time(), scratch / "run"
    settings = ("search.num_iterations=1", "search.population_size=2", "finalists.count=0")
    words = [word for setting in settings for word in ("--set", setting)]
    run("-m", "workflow.run", "--site", "local", "--quiet", "--output", output, *words)
    return min(json.loads(path.read_text())["started"] for path in output.rglob("attempt-1/result.json")) - start


if __name__ == "__main__":
    main()
