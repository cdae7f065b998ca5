"""Whether failures tell of a broken site or set-up, and not of the trials. All of it is pure.

As long as no trial has succeeded, nothing has shown that site and model work. Failures that would be data in a working
campaign are then taken back, and the campaign stops, to be resumed once what is broken has been mended.
"""

from __future__ import annotations

import re
import statistics
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from workflow.errors import SetupError, SiteError
from workflow.remedies import remedy
from workflow.trial import Outcome
from workflow.worker.contract import NOT_STARTED

_LOST_TRIALS = 3
"""Trials without a success beside them that were lost for good, after which the site counts as broken."""

_STRIKES = 3
"""Trials that failed quickly on a node and succeeded elsewhere, after which it is shunned."""

_QUICK = 60.0
"""Seconds; a failure that took longer, or more than a quarter of what a success takes, is too dear to be repeated."""

_LATEST = 1000
"""Successes by which a failure is quick or not."""

_HANDED_BACK = 3
"""Times that a node handed a trial back which had failed on it; then there is no other node, and it may run there."""

_PATIENCE = 30
"""The same where another node is known, which may be busy for long; and for a shunned one, on which it never runs."""


@dataclass(frozen=True)
class Verdict:
    """What stops the campaign, and the trials whose outcomes are taken back, of which ``witness`` is one."""

    error: type[SiteError | SetupError]
    text: str
    remedy: str
    trials: tuple[int, ...]
    witness: Outcome


def verdict(outcomes: Mapping[int, Outcome], same_failures: int, *, at_end: bool = False) -> Verdict | None:
    """What the final outcomes, by trial id, say about site and set-up; None as long as they may be data.

    The first ``same_failures`` trials (0: any number) that all failed alike tell of a broken set-up: the first that
    were asked for, not the first that ended, among which quick failures are many. Trials that were lost for good tell
    of a broken site, a few of them at any time, a single one ``at_end`` of the search.
    """
    if any(outcome.trained for outcome in outcomes.values()):
        return None
    lost = [outcome for _, outcome in sorted(outcomes.items()) if outcome.cause == "infrastructure"]
    if len(lost) >= (1 if at_end else _LOST_TRIALS):
        what = "a trial was" if len(lost) == 1 else f"{len(lost)} trials were"
        text = f"{what} lost again and again, and none has succeeded: {lost[-1].evidence}"
        what_helps = "check the site: its workers, their memory, its scheduler's messages"
        return _verdict(SiteError, text, what_helps, lost[-1], lost)
    first = [outcomes[number] for number in range(same_failures) if number in outcomes]
    if 0 < same_failures == len(first) and len({signature(outcome) for outcome in first}) == 1:
        alike = [outcome for _, outcome in sorted(outcomes.items()) if signature(outcome) == signature(first[0])]
        text = f"the first {same_failures} trials failed alike, whatever their hyperparameters: {first[-1].evidence}"
        known = remedy(first[-1].evidence) or "check image, scripts, data and arguments"
        what_helps = f"{known}; if this is normal, go on with --set same_failures=0"
        return _verdict(SetupError, text, what_helps, first[-1], alike)
    return None


def _verdict(
    error: type[SiteError | SetupError], text: str, remedy: str, witness: Outcome, outcomes: list[Outcome]
) -> Verdict:
    return Verdict(error, text, remedy, tuple(outcome.trial_id for outcome in outcomes), witness)


class Nodes:
    """Tells a node on which trials fail from trials that fail: by what the same trials do elsewhere.

    A quick failure on a site of several nodes is doubted once: the trial runs again on another node. If it fails there
    too, it is the trial's failure. If it succeeds, that counts against the node, until a trial succeeds on it; a node
    with ``_STRIKES`` of these is shunned. A trial that was lost on a node runs again on another one, if that takes it
    at once: a block that was cancelled is not its node's fault.

    ``several`` says whether the site has more than one node; else nothing is doubted and no node avoided.
    """

    def __init__(self, *, several: bool) -> None:
        self.several = several
        self.shunned: dict[str, str] = {}
        """Why, for each node that gets no trial any more."""
        self._doubted: dict[int, Outcome] = {}
        self._lost_on: dict[int, str] = {}
        self._handed_back: Counter[int] = Counter()
        self._strikes: dict[str, list[Outcome]] = {}
        self._working: set[str] = set()
        """Nodes on which a trial has succeeded."""
        self._seconds: deque[float] = deque(maxlen=_LATEST)
        """What the last successes took."""

    def doubt(self, outcome: Outcome) -> Outcome:
        """``outcome``, or that of an attempt that the node is blamed for until the trial has failed elsewhere."""
        failed = outcome.cause == "setup" or (outcome.kind, outcome.cause) == ("failed", "model")
        if not self.several or not failed or outcome.trial_id in self._doubted or not self._is_quick(outcome):
            return outcome
        self._doubted[outcome.trial_id] = outcome
        evidence = f"failed quickly on {outcome.host}, to be confirmed elsewhere: {outcome.evidence}"
        return replace(outcome, kind="lost", cause="node", evidence=evidence)

    def avoided(self, trial_id: int) -> frozenset[str]:
        """Nodes on which the trial's next attempt shall not run."""
        avoided = set(self.shunned)
        doubted = self._doubted.get(trial_id)
        bad = doubted.host if doubted else ""
        others = self._working - {bad} - self.shunned.keys()
        if self._handed_back[trial_id] < (_PATIENCE if others else _HANDED_BACK):
            avoided.add(bad)
        if not self._handed_back[trial_id]:
            avoided.add(self._lost_on.get(trial_id, ""))
        return frozenset(avoided - {""})

    def learn(self, outcome: Outcome) -> str | None:
        """Take an outcome; returns the node that is to be shunned from now on.

        Raises SiteError once only shunned nodes are left.
        """
        if outcome.kind == "deferred" and outcome.host:
            self._handed_back[outcome.trial_id] += 1
            if outcome.host in self.shunned and self._handed_back[outcome.trial_id] >= _PATIENCE:
                raise SiteError(f"only nodes on which trials fail are left: {self.shunned[outcome.host]}")
        if self.several and outcome.cause == "infrastructure":
            self._lost_on[outcome.trial_id] = outcome.host
        if outcome.kind != "ok":
            return None
        self._seconds.append(outcome.seconds)
        self._working.add(outcome.host)
        self._strikes.pop(outcome.host, None)
        failed = self._doubted.get(outcome.trial_id)
        if failed is None or failed.host == outcome.host or failed.host in self.shunned:
            return None
        strikes = self._strikes.setdefault(failed.host, [])
        strikes.append(failed)
        if len(strikes) < _STRIKES:
            return None
        trials = ", ".join(str(strike.trial_id) for strike in strikes)
        why = f"trials {trials} failed quickly on {failed.host} and succeeded elsewhere: {failed.evidence}"
        self.shunned[failed.host] = why
        return failed.host

    def _is_quick(self, outcome: Outcome) -> bool:
        typical = statistics.median_high(self._seconds) if self._seconds else 4 * _QUICK
        return outcome.seconds < min(typical / 4, _QUICK) or outcome.cause == "setup"


class ShortBlocks:
    """Tells blocks in which no trial fits: by several in a row that handed back what had waited for them.

    One that had idled before is no such block: another one would have had the time. ``pools`` is how many of them, one
    a node, tell enough.
    """

    def __init__(self, pools: int) -> None:
        self._enough = pools
        self._ran: set[str] = set()
        self._handed_back: dict[str, str] = {}
        """The last evidence by pool."""

    def learn(self, result: Mapping[str, Any], submitted: float) -> None:
        """Take the result of a stage that was submitted at a time (seconds since the epoch), and ran in a pool."""
        pool, back = result["pool"], result["ended_by"].startswith(NOT_STARTED)
        if not back:
            self._ran.add(pool)
            self._handed_back.clear()
        elif result.get("block_ends") and pool not in self._ran and submitted < result["block"].get("started", 0.0):
            self._handed_back[pool] = result["ended_by"]

    @property
    def evidence(self) -> str:
        """How the last trial came back; empty as long as trials may fit."""
        return list(self._handed_back.values())[-1] if len(self._handed_back) >= self._enough else ""


def signature(outcome: Outcome) -> str:
    """What failures have in common that differ in numbers and addresses alone."""
    return re.sub(r"0x[0-9a-fA-F]+|[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", "#", outcome.evidence)
