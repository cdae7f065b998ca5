"""Numbers as people read them, the same way everywhere in a report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from workflow.trial import Outcome, Value

UNKNOWN = "\N{EN DASH}"
_SPACE = "\N{NO-BREAK SPACE}"
_DIGITS = 4
_KEPT = 6
"""Significant digits of what is shown, and of what a plot is drawn from."""


@dataclass(frozen=True)
class Unit:
    """``name`` in the plural, worth ``seconds``."""

    name: str
    seconds: float

    def show(self, seconds: float) -> str:
        return f"{number(seconds / self.seconds)} {self.name}"


_TIMES = (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))
_SHORT = {"hours": "h", "minutes": "min", "seconds": "s"}


def time_unit(seconds: float, of: str = "") -> Unit:
    """The largest unit in which a time is at least 1, as ``GPU-hours`` where it is the time ``of`` GPUs."""
    name, size = next((time for time in _TIMES if seconds >= time[1]), _TIMES[-1])
    return Unit(f"{of}-{name}" if of else name, size)


def charge(outcome: Outcome, trials_per_gpu: int = 1) -> float:
    """Seconds of all GPUs of an attempt together, of a shared one its share; its wall time without one."""
    return outcome.seconds * outcome.gpus / trials_per_gpu if outcome.gpus else outcome.seconds


def cost_unit(outcomes: Sequence[Outcome]) -> Unit:
    """What a campaign costs is counted in: GPU-hours, or the time of workers where there are no GPUs."""
    of = "GPU" if any(outcome.gpus for outcome in outcomes) else "worker"
    return time_unit(sum(map(charge, outcomes)), of)


def number(value: float | None) -> str:
    """Four significant digits, ``1.370e-5``; a dash for what is not known."""
    if value is None:
        return UNKNOWN
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    size = abs(value)
    if (float(value).is_integer() or size >= 1e3) and size < 1e6:
        return f"{value:,.0f}"
    if 1e-3 <= size < 1e3:
        return f"{value:#.{_DIGITS}g}"
    mantissa, _, exponent = f"{value:.{_DIGITS - 1}e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def percent(part: float) -> str:
    if abs(part) < 0.0005:
        return f"0{_SPACE}%"
    return f"{100 * part:.1f}{_SPACE}%" if abs(part) < 0.1 else f"{100 * part:.0f}{_SPACE}%"


def change(part: float) -> str:
    """A difference, with its sign."""
    return f"{100 * part:+.1f}{_SPACE}%"


def duration(seconds: float) -> str:
    unit = time_unit(seconds)
    return f"{number(seconds / unit.seconds)}{_SPACE}{_SHORT[unit.name]}"


def moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def plotted(value: Value | None) -> float | None:
    """A number of a plot, as JSON has it; None for what is no finite number."""
    if isinstance(value, str) or value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{_KEPT}g}")
