"""Live progress of a running campaign: one line in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from workflow.budgets import Use
from workflow.campaign import Campaign, best
from workflow.config import Experiment
from workflow.report.tables import counts
from workflow.search import WITHOUT_GENERATIONS

_PLAIN_INTERVAL, _LIVE_INTERVAL = 10.0, 0.25
"""Seconds between two lines, since a line reads all trials."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Say nothing more; rich's own answer is to end the program."""
        self.quiet = True


class Progress:
    """Shows trials done, running and failed, the best value so far, the generation and the time left.

    ``refresh`` is called at every change; it may write files at its own pace.
    """

    def __init__(self, workers: int, experiment: Experiment, *, quiet: bool = False) -> None:
        self.console = _Console(highlight=False, soft_wrap=True)
        self.mode = experiment.objective.mode
        self.workers = workers
        generational = experiment.search.strategy not in WITHOUT_GENERATIONS
        self.generations = experiment.search.num_iterations if generational else None
        self.fidelity = experiment.search.fidelity
        self.evaluations = experiment.search.trials_without_generations
        self.quiet = quiet
        self.refresh: Callable[[Campaign], None] = lambda campaign: None
        self._live: Live | None = None
        self._shown = -_PLAIN_INTERVAL
        self._campaign: Campaign | None = None

    def __enter__(self) -> Progress:
        if self.console.is_terminal and not self.quiet:
            self._live = Live(Text(""), console=self.console, refresh_per_second=4, transient=True)
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            with suppress(OSError):
                self._live.__exit__(kind, error, trace)
            self._live = None
        if self._campaign is not None:
            self.say(self._line(self._campaign))

    def say(self, text: str) -> None:
        """Print a line; a reader that went away (a closed pipe or terminal, a full disk) must not end a campaign."""
        if self.quiet:
            return
        try:
            self.console.print(text, markup=False)
        except OSError:
            self.quiet = True

    def changed(self, campaign: Campaign) -> None:
        self.refresh(campaign)
        now = time.monotonic()
        interval = _PLAIN_INTERVAL if self._live is None else _LIVE_INTERVAL
        if self.quiet or not campaign.state.trials or now - self._shown < interval:
            return
        self._campaign, self._shown = campaign, now
        if self._live is not None:
            self._live.update(Text(self._line(campaign), no_wrap=True, overflow="ellipsis"))
        else:
            self.say(self._line(campaign))

    def _line(self, campaign: Campaign) -> str:
        state = campaign.state
        number = counts(state)
        done = number["ok"] + number["failed"] + number["stopped"]
        budget = max(len(state.trials) if campaign.search.done else campaign.search.budget, done)
        running = min(len(campaign.running), self.workers)
        total, part = f"/{budget}", done / budget if budget else 1.0
        if self.fidelity is not None:
            smaller = sum(state.trials[i].fidelity or 0.0 for i in state.outcomes if i in state.trials)
            worth = smaller / self.fidelity.max
            total, part = f" (worth {worth:.1f}/{self.evaluations})", worth / self.evaluations
        parts = [f"{done}{total} trials, {running} running, {number['failed']} failed"]
        if number["stopped"]:
            parts[0] += f", {number['stopped']} stopped early"
        if self.generations is not None:
            generation = max((t.generation or 0 for t in state.trials.values()), default=0)
            parts.insert(0, f"gen {generation}/{self.generations}")
        if ended := sum(rerun in state.rerun_outcomes for rerun in state.finals):
            parts.append(f"{ended}/{len(state.finals)} re-runs")
        budgets = campaign.plan.budgets
        nearest = max([Use(part, ""), *budgets.uses(state)], key=lambda use: use.part)
        if nearest.text:
            parts.append(nearest.text)
        if (winner := best(state, self.mode)) is not None and winner.value is not None:
            target = f", target {budgets.target:g}" if budgets.target is not None else ""
            parts.append(f"best {winner.value:.6g} (#{winner.trial_id}){target}")
        if done and not campaign.search.done and not budgets.reached(state):
            so_far = sum(last - first for first, last in state.spans)  # with all that passes between trials
            parts.append(f"{timedelta(seconds=round(so_far * max(0.0, 1 - nearest.part) / nearest.part))} left")
        return " | ".join(parts)
