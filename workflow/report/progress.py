"""Live progress of a running campaign: a view in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import TracebackType

from rich.live import Live
from rich.text import Text

from workflow.campaign import Campaign
from workflow.report.attempts import Attempts
from workflow.report.snapshot import Snapshot, Surroundings, plain_line, snapshot
from workflow.report.tally import Tally
from workflow.report.view import TerminalConsole, View
from workflow.rundir import RunDir

_PLAIN_INTERVAL, _LIVE_INTERVAL = 10.0, 1.0
"""Seconds between two lines, and between two views."""

_PAUSE = 20
"""Times that a view took, until the next one: the files of what runs may lie on a slow disk."""

_SPARE = 4
"""Lines of the terminal that a view leaves to what was said before."""


class Progress:
    """Shows how the campaign in ``run`` stands, by the ``tally`` that hears the records of its journal.

    ``refresh`` is called at every change; it may write files at its own pace.
    """

    def __init__(self, run: RunDir, tally: Tally, *, quiet: bool = False) -> None:
        self.console = TerminalConsole(highlight=False)
        self.run = run
        self.tally = tally
        self.quiet = quiet
        self.refresh: Callable[[Campaign], None] = lambda campaign: None
        self._attempts = Attempts(run)
        self._live: Live | None = None
        self._next = 0.0
        self._campaign: Campaign | None = None
        self._notices: SimpleQueue[str] = SimpleQueue()

    def __enter__(self) -> Progress:
        if self.console.is_terminal and not self.quiet:
            self._live = Live(
                Text(""), console=self.console, auto_refresh=False, transient=True, vertical_overflow="crop"
            )
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            with suppress(OSError):
                self._live.__exit__(kind, error, trace)
            self._live = None
        self._say_notices()
        if self._campaign is not None:
            self.say(plain_line(self._snapshot(self._campaign, looking=False)))

    def say(self, text: str) -> None:
        """Print a line; a reader that went away (a closed pipe or terminal, a full disk) must not end a campaign."""
        if self.quiet and not text.startswith("warning: "):
            return
        try:
            self.console.print(text, markup=False, soft_wrap=True)
        except OSError:
            self.quiet = True

    def notify(self, text: str) -> bool:
        """Take a line from a signal handler, for the next change; False where there is no view that it would garble."""
        if self._live is None:
            return False
        self._notices.put(text)
        return True

    def changed(self, campaign: Campaign) -> None:
        self.refresh(campaign)
        self._say_notices()
        begun = time.monotonic()
        if self.quiet or begun < self._next or not (self._live or self.tally.asked):
            return
        self._campaign = campaign
        if self._live is None:
            self.say(plain_line(self._snapshot(campaign, looking=False)))
            self._next = begun + _PLAIN_INTERVAL
        else:
            self._draw(self._live, campaign)
            self._next = time.monotonic() + max(_LIVE_INTERVAL, _PAUSE * (time.monotonic() - begun))

    def _draw(self, live: Live, campaign: Campaign) -> None:
        view = View(self._snapshot(campaign, looking=True), max(1, self.console.size.height - _SPARE))
        try:
            live.update(view, refresh=True)
        except OSError:
            self.quiet = True

    def _snapshot(self, campaign: Campaign, *, looking: bool) -> Snapshot:
        """``looking`` into the files of what runs."""
        now, trials = time.time(), campaign.state.trials
        signs, words = self._attempts.look(self.tally, now) if looking else ({}, {})
        around = Surroundings(self.run.name, str(self.run.path), now, True, signs=signs, words=words)
        return snapshot(self.tally, around, lambda trial: trials[trial].params)

    def _say_notices(self) -> None:
        with suppress(Empty):
            while True:
                self.say(self._notices.get_nowait())
