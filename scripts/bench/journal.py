"""The journal beside plain files: appends, replay and memory, and a resume of its search, in one run.

    python scripts/bench/journal.py [--trials 33000] [--appends 500] [--rounds 5]

A trial has three records. Appends are measured one record at a time, each with its fsync, beside a write and an fsync
of the same bytes; replay beside json.loads of every line, each in a process of its own.
"""

from __future__ import annotations

import os
import tempfile
import time
from functools import partial
from pathlib import Path

import journals
from measured import Figure, arguments, in_turn, parts, run, show

from workflow.journal import Journal

REPLAY = (
    "import sys\nfrom pathlib import Path\nfrom workflow.journal import Journal\nJournal(Path(sys.argv[1])).close()\n"
)
RESUME = """
import sys
from pathlib import Path
from workflow.journal import Journal
from workflow.search import SearchSettings, make_search
from workflow.space_file import parse_space
space = [
    {"name": "learning_rate", "type": "float", "lower": 1e-6, "upper": 1e-2, "use_log_scale": True},
    {"name": "num_layers", "type": "int", "lower": 1, "upper": 9},
    {"name": "dropout", "type": "float", "lower": 0, "upper": 1},
    {"name": "batch_size", "type": "ordered", "element_type": "int", "values": [16, 32, 64, 128, 256, 512]},
    {"name": "optimizer", "type": "categorical", "element_type": "string", "values": ["Adam", "SGD", "RMSprop"]},
    {"name": "epochs", "type": "constant", "value": 100},
]
state = Journal(Path(sys.argv[1])).state
settings = SearchSettings(strategy="async", evaluations=10**7)
search = make_search(parse_space(space, "benchmark"), settings)
for trial in state.trials.values():
    search.restore(trial, state.outcomes.get(trial.id))
assert search.ask() is not None
"""

PEAK = """
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--trials", type=int, default=33_000)
    parser.add_argument("--appends", type=int, default=500)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        scratch = Path(text)
        show([appends(scratch, args.appends, args.rounds), *replays(scratch, args.trials, args.rounds)], args.json)


def appends(scratch: Path, count: int, rounds: int) -> Figure:
    """In turn, so that a busy disk slows both alike."""
    found: dict[str, list[float]] = {"write and fsync": [], "Journal.append": []}
    for number in range(rounds):
        journal = Journal(scratch / f"appended-{number}.jsonl")
        batch = list(journals.records(count // 3))
        start = time.monotonic()
        for record in batch:
            journal.append(record)
        found["Journal.append"].append(len(batch) / (time.monotonic() - start))
        journal.close()
        lines = journal.path.read_bytes().splitlines(keepends=True)
        with (scratch / f"plain-{number}").open("ab", buffering=0) as file:
            start = time.monotonic()
            for line in lines:
                file.write(line)
                os.fsync(file.fileno())
            found["write and fsync"].append(len(lines) / (time.monotonic() - start))
    return Figure("appends", "records a second", "write and fsync", found)


def replays(scratch: Path, trials: int, rounds: int) -> list[Figure]:
    path = scratch / "journal.jsonl"
    journals.write(path, trials)
    programs = {"json.loads": journals.PLAIN, "replay": REPLAY, "resume of async": RESUME}
    found = in_turn(rounds, {name: partial(replay, program, path) for name, program in programs.items()})
    seconds, memory = parts(found)
    title = f"{3 * trials} records of {trials} trials"
    return [Figure(title, "s", "json.loads", seconds), Figure(title, "peak MiB", "json.loads", memory)]


def replay(program: str, path: Path) -> tuple[float, float]:
    """Seconds, and MiB at the peak as the process itself sees it, which is not that of its parent."""
    ran = run("-c", program + PEAK, path)
    return ran.seconds, int(ran.output) / 1024


if __name__ == "__main__":
    main()
