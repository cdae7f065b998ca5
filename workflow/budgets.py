"""What ends a campaign beside its number of trials: GPU-hours, wall time, a value of the objective.

All of it follows from the journal's state, so that a resume finds what the campaign before it found.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from workflow.errors import listing
from workflow.trial import Outcome, loss_of

if TYPE_CHECKING:  # status uses budgets, and must not wait for numpy
    from workflow.search import Search
    from workflow.state import State


class Spent(Protocol):
    """What has been used up, in seconds of GPUs and of wall time: the journal's state, or a tally of it."""

    @property
    def charged(self) -> float: ...

    @property
    def elapsed(self) -> float: ...


@dataclass(frozen=True)
class Use:
    """How much of a budget is used: as a part of it, and as text."""

    part: float
    text: str


@dataclass(frozen=True)
class Budgets:
    """None where there is no such budget; ``wall_time`` is in seconds, ``target`` in the metric's own unit.

    ``gpus`` says whether trials have any: else ``gpu_hours`` are hours of workers. A GPU that ``trials_per_gpu`` share
    counts once.
    """

    gpu_hours: float | None = None
    wall_time: float | None = None
    target: float | None = None
    metric: str = ""
    mode: str = "min"
    gpus: bool = True
    trials_per_gpu: int = 1

    @property
    def limits(self) -> list[str]:
        found = []
        if self.gpu_hours is not None:
            found.append(f"{self.gpu_hours:g} {self.unit}")
        if self.wall_time is not None:
            found.append(f"{clock(self.wall_time)} of wall time")
        if self.target is not None:
            found.append(f"{self.metric} {'<=' if self.mode == 'min' else '>='} {self.target:g}")
        return found

    def uses(self, spent: Spent) -> list[Use]:
        """Of the budgets that are used up bit by bit; a target is none of them."""
        found = []
        if self.gpu_hours is not None:
            hours = self.hours(spent)
            found.append(Use(hours / self.gpu_hours, f"{hours:.4g}/{self.gpu_hours:g} {self.unit}"))
        if self.wall_time is not None:
            text = f"{clock(spent.elapsed)}/{clock(self.wall_time)} of wall time"
            found.append(Use(spent.elapsed / self.wall_time, text))
        return found

    def hours(self, spent: Spent) -> float:
        """What counts against ``gpu_hours``, in its unit."""
        return spent.charged / (self.trials_per_gpu if self.gpus else 1) / 3600

    def reached(self, state: State) -> str:
        """Which one has been reached; empty while none has."""
        if used_up := [use.text for use in self.uses(state) if use.part >= 1]:
            return f"{listing(used_up)} are used"
        if self.target is None:
            return ""
        met = [outcome.trial_id for outcome in state.improvements[self.mode] if self._is_met(outcome)]
        return f"trial {met[0]} has reached the target, {self.limits[-1]}" if met else ""

    def meets_target(self, value: float) -> bool:
        if self.target is None:
            return False
        return loss_of(value, self.mode) <= loss_of(self.target, self.mode)

    def cut(self, search: Search, state: State) -> str:
        """Which one ended the search before it was done; empty if it was, and while no budget has been reached."""
        reason = self.reached(state)
        return reason if reason and (not search.done or state.unfinished) else ""

    @property
    def unit(self) -> str:
        return "GPU-hours" if self.gpus else "worker-hours"

    def _is_met(self, outcome: Outcome) -> bool:
        return outcome.kind == "ok" and outcome.value is not None and self.meets_target(outcome.value)


def clock(seconds: float) -> timedelta:
    """A time as people read it: ``h:mm:ss``, with days in front where there are any."""
    return timedelta(seconds=round(seconds))
