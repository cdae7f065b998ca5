"""Whether failures tell of a broken site or set-up, and not of the trials. All of it is pure.

As long as no trial has succeeded, nothing has shown that site and model work. Failures that would be data in a working
campaign are then taken back, and the campaign stops, to be resumed once what is broken has been mended.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from workflow.errors import SetupError, SiteError
from workflow.trial import Outcome

_LOST_TRIALS = 3
"""Trials without a success beside them that were lost for good, after which the site counts as broken."""


@dataclass(frozen=True)
class Verdict:
    """What stops the campaign, and the trials whose outcomes are taken back. ``witness`` is the last of these."""

    error: type[SiteError | SetupError]
    text: str
    trials: tuple[int, ...]
    witness: Outcome


def verdict(outcomes: Mapping[int, Outcome], same_failures: int, *, at_end: bool = False) -> Verdict | None:
    """What the final outcomes, by trial id, say about site and set-up; None as long as they may be data.

    The first ``same_failures`` trials (0: any number) that all failed alike tell of a broken set-up: the first that
    were asked for, not the first that ended, among which quick failures are many. Trials that were lost for good tell
    of a broken site, a few of them at any time, a single one ``at_end`` of the search.
    """
    if any(outcome.kind == "ok" for outcome in outcomes.values()):
        return None
    lost = [outcome for _, outcome in sorted(outcomes.items()) if outcome.cause == "infrastructure"]
    if len(lost) >= (1 if at_end else _LOST_TRIALS):
        what = "a trial was" if len(lost) == 1 else f"{len(lost)} trials were"
        return _verdict(SiteError, f"{what} lost again and again, and none has succeeded: {lost[-1].evidence}", lost)
    first = [outcomes[number] for number in range(same_failures) if number in outcomes]
    if 0 < same_failures == len(first) and len({signature(outcome) for outcome in first}) == 1:
        text = f"the first {same_failures} trials failed alike, whatever their hyperparameters: {first[-1].evidence}"
        return _verdict(SetupError, text, first)
    return None


def _verdict(error: type[SiteError | SetupError], text: str, outcomes: list[Outcome]) -> Verdict:
    return Verdict(error, text, tuple(outcome.trial_id for outcome in outcomes), outcomes[-1])


def signature(outcome: Outcome) -> str:
    """What failures have in common that differ in numbers and addresses alone."""
    return re.sub(r"0x[0-9a-fA-F]+|[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", "#", outcome.evidence)
