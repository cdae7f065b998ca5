"""Early stopping: whether a training is hopeless beside the others of its campaign. All of it is pure.

``median`` is the median stopping rule of Google Vizier (Golovin et al. 2017): a trial is stopped at a step if its best
value by then is strictly worse than the median of the running averages of other trials up to that step.
``percentile`` compares it with their best values instead, and lets the best ``percentile`` percent go on: it also stops
what a median of averages, which lag behind falling losses, lets pass.

Vizier takes completed trials only. Here the others are all trials of the campaign that have reported at that step or
beyond, also those that still run or were stopped there: they reported up to it under the same conditions, and where
there are as many workers as trials, no other would ever be known in time.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from workflow.errors import Problems, did_you_mean, show
from workflow.trial import Curve, loss_of

RULES = ("median", "percentile")
_GROUPS = ("step", "value")


@dataclass(frozen=True)
class StoppingSettings:
    """When trainings are stopped early.

    ``grace`` is the first step, as the model counts them, at which one may be, once ``min_trials`` others reached it.
    ``percentile`` is the share of trials that go on under the rule of that name. ``pattern`` is a regular expression
    with the groups ``step`` and ``value``; None for that of ``curves.default_pattern``.
    """

    rule: str = "median"
    percentile: float = 50.0
    grace: int = 5
    min_trials: int = 5
    pattern: str | None = None

    def check(self, problems: Problems) -> None:
        """Add what is out of range to ``problems``."""
        if self.rule not in RULES:
            problems.add("early_stopping.rule", f"{self.rule!r} is not a rule", did_you_mean(self.rule, RULES))
        if not 0 < self.percentile < 100:
            what = f"{self.percentile:g} is no share of trials that go on"
            problems.add("early_stopping.percentile", what, "write a number between 0 and 100")
        elif self.rule == "median" and self.percentile != StoppingSettings.percentile:
            what = f"{self.percentile:g} means nothing to the rule median"
            problems.add("early_stopping.percentile", what, "leave it out, or write rule: percentile")
        for key, least in (("grace", 0), ("min_trials", 1)):
            if getattr(self, key) < least:
                what = f"{getattr(self, key)} is below {least}"
                problems.add(f"early_stopping.{key}", what, f"write at least {least}")
        if self.pattern is not None and (reason := _unusable(self.pattern)):
            remedy = r"write it as 'Epoch (?P<step>\d+).* val_loss=(?P<value>[-+.\w]+)', in single quotes"
            problems.add("early_stopping.pattern", f"{show(self.pattern)} {reason}", remedy)


def _unusable(pattern: str) -> str:
    """Why a pattern cannot be used; empty if it can."""
    try:
        groups = re.compile(pattern).groupindex
    except (re.error, OverflowError, RecursionError) as error:
        return f"is no regular expression ({error})"
    missing = [f"(?P<{name}>...)" for name in _GROUPS if name not in groups]
    return f"lacks the group {' and '.join(missing)}" if missing else ""


@dataclass
class _History:
    """What a trial has reported, to be minimised: at each step the mean and the least of all values so far."""

    steps: list[int] = field(default_factory=list)
    totals: list[float] = field(default_factory=list)
    bests: list[float] = field(default_factory=list)

    def add(self, step: int, value: float) -> None:
        """Take a finite value. Steps that are not beyond the last one replace it: the training began anew there."""
        while self.steps and self.steps[-1] >= step:
            for each in (self.steps, self.totals, self.bests):
                each.pop()
        if math.isfinite(value):
            self.steps.append(step)
            self.totals.append(value + (self.totals[-1] if self.totals else 0.0))
            self.bests.append(min(value, self.best))

    @property
    def best(self) -> float:
        return self.bests[-1] if self.bests else math.inf

    def at(self, step: int) -> int | None:
        """Index of the last report up to a step; None for a trial that has none, or has not reached it."""
        if not self.steps or self.steps[-1] < step or self.steps[0] > step:
            return None
        return bisect_right(self.steps, step) - 1


class EarlyStopping:
    """Takes the intermediate values of trials and tells which are hopeless.

    Its answers follow from the reports and their order alone. A value that is not finite counts for nothing in
    comparisons with others; a trial that has had no other value by the end of its grace is hopeless.
    """

    def __init__(self, settings: StoppingSettings, metric: str, mode: str) -> None:
        self.settings = settings
        self.metric = metric
        self._mode = mode
        self._histories: dict[int, _History] = {}

    def note(self, trial_id: int, step: int, value: float) -> _History:
        """Take a value after which the trial is not to be judged, since a later one is known."""
        history = self._histories.setdefault(trial_id, _History())
        history.add(step, loss_of(value, self._mode))
        return history

    def report(self, trial_id: int, step: int, value: float) -> str:
        """Why the trial, which has this value now, is hopeless; empty if it may go on."""
        history = self.note(trial_id, step, value)
        if step < self.settings.grace:
            return ""
        others = self._others(trial_id, step)
        if len(others) < self.settings.min_trials:
            return ""
        threshold = quantile(sorted(others), self.settings.percentile / 100)
        return self._evidence(history.best, step, threshold, len(others)) if history.best > threshold else ""

    def settle(self, trial_id: int, curve: Curve) -> None:
        """Take what is known for good of a trial that has ended, in the place of its reports."""
        self._histories[trial_id] = _History()
        for step, value in curve:
            self.note(trial_id, step, value)

    def _others(self, trial_id: int, step: int) -> list[float]:
        """What the trial is compared with: a number for each other trial that has reached the step."""
        found = []
        for number, history in self._histories.items():
            if number != trial_id and (index := history.at(step)) is not None:
                average = history.totals[index] / (index + 1)
                found.append(average if self.settings.rule == "median" else history.bests[index])
        return found

    def _evidence(self, best: float, step: int, threshold: float, count: int) -> str:
        shown = f"{loss_of(best, self._mode):.6g}" if math.isfinite(best) else "nan"
        what = "median" if self.settings.rule == "median" else f"{self.settings.percentile:g} % percentile"
        than = f"the {what} {loss_of(threshold, self._mode):.6g} of {count} trials"
        return f"{self.metric} {shown} at best by step {step} is worse than {than}"


def quantile(values: Sequence[float], share: float) -> float:
    """Of sorted values, between two of them on the line that joins them; at 0.5 it is the median."""
    position = share * (len(values) - 1)
    lower = math.floor(position)
    upper = min(lower + 1, len(values) - 1)
    return values[lower] + (position - lower) * (values[upper] - values[lower])
