"""What the benchmarks share: measurements in turn beside a baseline, as a table and as JSON.

Whoever imports it can import the package, the tests' parts and those of the search benchmark.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

T = TypeVar("T")


@dataclass(frozen=True)
class Figure:
    """Repeated measurements of several things in one ``unit``, told as ratios to the one that ``baseline`` names."""

    name: str
    unit: str
    baseline: str
    values: Mapping[str, Sequence[float]]

    @property
    def ratios(self) -> dict[str, float | None]:
        """The median of each over that of the baseline; None where that is too little to be measured."""
        base = statistics.median(self.values[self.baseline])
        return {name: statistics.median(values) / base if base else None for name, values in self.values.items()}

    def table(self) -> str:
        ratios = self.ratios
        width = max(map(len, self.values)) + 2
        lines = [f"{self.name}, {self.unit}: median (range), ratio to {self.baseline}"]
        for name, values in self.values.items():
            spread = f"({min(values):.4g} to {max(values):.4g})"
            lines.append(f"  {name:{width}}{statistics.median(values):>10.4g} {spread:<24}{_told(ratios[name]):>8}")
        return "\n".join(lines)


def _told(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.3g}"


def arguments(text: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="a file for the results, with the machine")
    return parser


def show(figures: Sequence[Figure], path: Path | None) -> None:
    for figure in figures:
        print(figure.table(), flush=True)
    if path is not None:
        results = [{**vars(figure), "ratios": figure.ratios} for figure in figures]
        path.write_text(json.dumps({"machine": machine(), "figures": results}, indent=1) + "\n")


def in_turn(rounds: int, kinds: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
    """What each returns, round by round, so that a busy machine slows all alike."""
    found: dict[str, list[T]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, measure in kinds.items():
            found[name].append(measure())
    return found


def parts(found: Mapping[str, Sequence[Sequence[float]]]) -> list[dict[str, list[float]]]:
    """Measurements of several quantities at once, told by quantity."""
    count = len(next(iter(found.values()))[0])
    return [{name: [each[part] for each in values] for name, values in found.items()} for part in range(count)]


def machine() -> dict[str, Any]:
    processor = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = [int(line.split()[1]) >> 20 for line in _lines("/proc/meminfo") if line.startswith("MemTotal")]
    return {
        "processor": processor[0] if processor else platform.machine(), "cores": os.cpu_count(),
        "memory_gib": memory[0] if memory else None, "python": platform.python_version(),
    }  # fmt: skip


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


@dataclass(frozen=True)
class Ran:
    """What a process took: seconds, seconds of a processor, and MiB at its peak; and what it printed."""

    seconds: float
    processor: float
    peak: float
    output: str


def run(*arguments: str | Path) -> Ran:
    """A Python process. Its peak is no lower than this process' own. Raises SystemExit where it fails."""
    start = time.monotonic()
    command = [sys.executable, *map(str, arguments)]
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)[:200]} ended with exit code {process.returncode}")
    return Ran(time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**10, output)
