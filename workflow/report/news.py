"""What a campaign's user is told while away: its first success, and how it ended."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from workflow.campaign import Campaign, Interrupted
from workflow.errors import WorkflowError
from workflow.notifier import Notifier
from workflow.ranking import winner_of
from workflow.report.tables import Table, counts, summary_json
from workflow.rundir import RunDir
from workflow.trial import Outcome

_OF_THE_SUMMARY = (
    "best_trial", "best_value", "best_directory", "test_scores", "search_best_value", "optimism", "trials",
    "wall_seconds", "message",
)  # fmt: skip


class News:
    """Tells the notifier of what happens to one campaign, in this controller's time."""

    def __init__(self, notifier: Notifier, campaign: Campaign, table: Table, run: RunDir, site: str) -> None:
        self._notifier = notifier
        self._campaign = campaign
        self._table = table
        self._run = run
        self._site = site
        self._waits = notifier.wants("first_success") and self._success() is None

    def look(self) -> None:
        """To be called after every change."""
        if self._waits and (outcome := self._success()) is not None:
            self._waits = False
            text = (
                f"trial {outcome.trial_id} is the first to succeed, {self._table.objective.metric} {outcome.value:.6g}"
            )
            self._send("first_success", text, {"trial": outcome.trial_id, "value": outcome.value})

    @contextmanager
    def of_failure(self) -> Iterator[None]:
        """Tell of whatever ends what is inside before its end."""
        try:
            yield
        except BaseException as error:
            self.failed(_reason(error))
            raise

    def failed(self, reason: str) -> None:
        self._send("failure", f"stopped: {reason}", {"reason": reason})

    def ended(self) -> None:
        state, winner = self._campaign.state, winner_of(self._campaign.state, self._table.objective.mode)
        if winner is None:
            return self.failed("no trial succeeded")
        best = f"best {self._table.objective.metric} {winner.value:.6g} (trial {winner.trial_id})"
        number = counts(state)
        return self._send("end", f"done, {best}, {number['ok']} trials succeeded, {number['failed']} failed", {})

    def _success(self) -> Outcome | None:
        """The first training of this run that succeeded."""
        ended = (o for o in self._campaign.state.outcomes.values() if o.kind == "ok" and not o.source)
        return next(ended, None)

    def _send(self, event: str, text: str, details: dict[str, Any]) -> None:
        if not self._notifier.wants(event):
            return
        known = json.loads(summary_json(self._table, self._campaign.state, self._campaign.search, self._run))
        about = {
            "run": self._run.name,
            "directory": str(self._run.path),
            "site": self._site,
            "host": socket.gethostname(),
            "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "metric": self._table.objective.metric,
            "mode": self._table.objective.mode,
        }
        chosen = {key: known[key] for key in _OF_THE_SUMMARY if known.get(key) not in (None, "")}
        self._notifier.send(event, f"{self._run.name}: {text}", {**about, **chosen, **details})


def _reason(error: BaseException) -> str:
    """In one line."""
    if isinstance(error, Interrupted | KeyboardInterrupt):
        return "interrupted"
    text = str(error).partition("\n")[0]
    return text if isinstance(error, WorkflowError) else f"{type(error).__name__}: {text}"
