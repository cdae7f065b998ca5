"""Leads one run: owns its lock, journal and signals, and drives the campaign on a site."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from types import FrameType
from typing import Any

from workflow.campaign import Campaign, Interrupted, Plan
from workflow.config.experiment import Experiment
from workflow.config.load import load_experiment
from workflow.disk import make_directory, write_text
from workflow.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_NO_SUCCESS, InputError, SiteError, WorkflowError, listing
from workflow.finals import doubt
from workflow.image import ImageError, ImageWatch
from workflow.journal import Journal, campaign_record, differences
from workflow.lock import RunLock
from workflow.notifier import Notifier
from workflow.provenance import identity, provenance
from workflow.ranking import finalists_of, winner_of
from workflow.report.news import News
from workflow.report.progress import Progress
from workflow.report.tables import (
    Table,
    counts,
    finals_lines,
    front_lines,
    lines,
    model_directory,
    write_tables,
)
from workflow.report.tally import Outline, Tally
from workflow.rundir import RunDir
from workflow.runner import StageRunner
from workflow.search import MOST_TRIALS, WITHOUT_GENERATIONS, GeneticSearch
from workflow.site import Site

_TABLES_INTERVAL = 10.0


def control(
    experiment: Experiment,
    site: Site,
    run: RunDir,
    *,
    quiet: bool,
    accept_image: bool = False,
    end: float | None = None,
) -> int:
    """Begin or resume the campaign in ``run``; returns the exit code.

    ``end`` is when the allocation ends in which this process runs, in seconds since the epoch.

    Raises WorkflowError. The journal and the tables are up to date in any case.
    """
    progress = Progress(run, Tally(), quiet=quiet)
    lock = RunLock(run.lock)
    lock.acquire(progress.say)
    try:
        with closing(_open_journal(run, lock, progress)) as journal:
            _check_definition(experiment, site, run, journal)
            about = _provenance(experiment, site, journal, progress, accept_image=accept_image)
            _keep_definition(experiment, site, run)
            runner = StageRunner(site, experiment, run, lock, end=end, say=progress.say)
            if site.endpoint is None and about.get("image"):
                runner.image = ImageWatch(about["image"])
            with Notifier(experiment.notify, progress.say) as notifier:
                lead = _Lead(experiment, site, run, runner, journal, progress)
                return lead.to_the_end(about, notifier)
    except KeyboardInterrupt as error:  # where the campaign isn't there yet that hears of signals: an image is read
        raise KeyboardInterrupt(_resume_hint(run)) from error
    finally:
        lock.release()


def _open_journal(run: RunDir, lock: RunLock, progress: Progress) -> Journal:
    try:
        journal = Journal(run.journal, progress.tally.apply, lock.check)
    except OSError as error:
        raise SiteError(f"{run.journal}: cannot be opened ({error.strerror}); mend it, then resume") from error
    for note in journal.notes:
        print(f"warning: {note}", file=sys.stderr)
    return journal


def _check_definition(experiment: Experiment, site: Site, run: RunDir, journal: Journal) -> None:
    """Refuse to resume a run by another definition, or below what it has asked for; warn where it cannot be told."""
    header = journal.state.header
    before = header["fingerprint"] if header is not None else _definition_on_disk(site, run)
    if before is not None:
        found = list(differences(before, experiment.fingerprint()))
        if found:
            changes = "\n    ".join(found)
            raise InputError(
                f"{run.journal}: the run was begun with another definition:\n    {changes}\n"
                "    -> undo the change to resume it, or begin a new run"
            )
        _check_budget(experiment, journal)
    if header is None and journal.state.trials:
        print(f"warning: {run.journal}: its first record is gone; the definition is taken as it is", file=sys.stderr)


def _definition_on_disk(site: Site, run: RunDir) -> dict[str, Any] | None:
    """What trials that lie on the disk were run by, where the journal's beginning is gone; None if there are none."""
    if not any(run.path.glob("trials/*/attempt-*")):
        return None
    return load_experiment(run.experiment, {}, remote=site.endpoint is not None).fingerprint()


def _provenance(
    experiment: Experiment, site: Site, journal: Journal, progress: Progress, *, accept_image: bool
) -> dict[str, Any]:
    """What this controller runs with; refused where the image isn't the one that the results so far came from."""
    before = journal.state.latest
    try:
        about = provenance(experiment.model, site, before, progress.say)
    except ImageError as error:
        raise error.as_input(experiment.model.image) from error
    results = any(outcome.kind == "ok" for outcome in journal.state.outcomes.values())
    was, now = identity(before), identity(about)
    if not results or accept_image or was is None or now is None or was[0] == now[0]:
        return about
    if about.get("scripts") and before.get("scripts"):  # they are mended in place, as images are not
        print(f"warning: the results so far came from {was[1]}, this is {now[1]}", file=sys.stderr)
    else:
        raise InputError(
            f"model: the results so far came from {was[1]}, this is {now[1]}\n"
            "    -> put the old one back, or go on with this one by --accept-image"
        )
    return about


def _check_budget(experiment: Experiment, journal: Journal) -> None:
    """A budget may grow; one below what was asked already is refused before anything starts."""
    reached = max((trial.generation or 0 for trial in journal.state.trials.values()), default=0)
    if reached > experiment.search.num_iterations and experiment.search.strategy not in WITHOUT_GENERATIONS:
        raise InputError(
            f"search.num_iterations: {experiment.search.num_iterations} is below generation {reached}, "
            f"which the run has begun\n    -> write at least {reached}"
        )


def _keep_definition(experiment: Experiment, site: Site, run: RunDir) -> None:
    """What was changed at a resume holds for the next one too."""
    write_text(run.experiment, experiment.to_yaml())
    write_text(run.site, site.to_yaml())


class _Lead:
    """One campaign on its site, from its first record to its last."""

    def __init__(
        self, experiment: Experiment, site: Site, run: RunDir, runner: StageRunner, journal: Journal, progress: Progress
    ) -> None:
        self.experiment = experiment
        self.site = site
        self.run = run
        self.runner = runner
        self.journal = journal
        self.progress = progress
        self.search = experiment.make_search()
        self.budgets = experiment.budgets(gpus=bool(site.gpus), trials_per_gpu=site.trials_per_gpu)
        plan = Plan(
            "preprocess" in experiment.stages, "infer" in experiment.stages, experiment.objective.mode,
            experiment.max_attempts, experiment.same_failures, experiment.stages["train"].timeout, self.budgets,
            experiment.finalists,
        )  # fmt: skip
        stopping = experiment.early_stopping_rule()
        self.campaign = Campaign(plan, self.search, journal, runner, progress, stopping)
        self.table = Table(
            experiment.varying, experiment.objectives, experiment.search.population_size, site.capacity,
            runner.arguments, runner.there, self.budgets,
        )  # fmt: skip
        self.writer = _TableWriter(run, self.table, journal.lost)

    def to_the_end(self, about: dict[str, Any], notifier: Notifier) -> int:
        """Run the campaign, ``about`` which its first record tells; returns the exit code. Raises WorkflowError."""
        news = News(notifier, self.campaign, self.table, self.run, self.site.name)

        def refresh(campaign: Campaign) -> None:
            self.writer.now_and_then(campaign)
            news.look()

        self.progress.refresh = refresh
        if not self.experiment.model.data_dir and self.site.endpoint is None:
            make_directory(self.run.data)
        self.progress.say(self._first_line)
        try:
            with news.of_failure():
                with _signals(self.campaign, self.progress):
                    _begin(self.journal, self.experiment, {**about, "outline": self._outline.to_json()})
                    with self.runner, self.progress:
                        self.campaign.run()
                self.writer.write(self.campaign)
        except (Interrupted, WorkflowError) as error:
            return self._end_early(error)
        news.ended()
        return _conclude(self.campaign, self.table, self.run, self.progress)

    @property
    def _first_line(self) -> str:
        finalists = self.experiment.finalists.size
        finals = f"; then {finalists} trainings of the best" if finalists else ""
        limits = listing([f"at most {self.search.budget} trials", *self.budgets.limits]) + finals
        return f"run {self.run.path} on site {self.site.name}, {self.site.capacity} workers, {limits}"

    @property
    def _outline(self) -> Outline:
        settings, objective = self.experiment.search, self.experiment.objective
        return Outline(
            objective.metric,
            objective.mode,
            self.experiment.varying,
            self.search.budget if self.search.budget < MOST_TRIALS else None,
            settings.num_iterations if settings.strategy not in WITHOUT_GENERATIONS else None,
            settings.trials_without_generations if settings.fidelity else None,
            settings.fidelity.max if settings.fidelity else None,
            self.site.workers if self.site.endpoint is None else None,
            self.budgets,
        )

    def _end_early(self, error: Interrupted | WorkflowError) -> int:
        """Keep all that is needed to go on, and say how. Raises the error, unless the user wanted the end."""
        with suppress(SiteError):  # a full disk: the first error is the one to show
            self.journal.append({"type": "ended", "complete": False, "reason": str(error) or "interrupted"})
            self.writer.write(self.campaign)
        if self.runner.remains:
            print(self.runner.remains, file=sys.stderr)
        if isinstance(error, Interrupted):
            print(f"interrupted; {_resume_hint(self.run)}", file=sys.stderr)
            return EXIT_INTERRUPTED
        if isinstance(error, InputError):
            raise error
        raise type(error)(f"{error}\n    -> {_resume_hint(self.run)}") from error


def _begin(journal: Journal, experiment: Experiment, about: dict[str, Any]) -> None:
    if journal.state.header is None:
        journal.append(campaign_record(experiment.fingerprint(), about))
    else:
        journal.append({"type": "resumed", **about})


def _resume_hint(run: RunDir) -> str:
    if not run.path.is_dir():
        return "if the run's directory was moved, go on with it there: python -m workflow.run --resume NEW_PLACE"
    return f"resume with: {run.resume_command}"


class _TableWriter:
    """``lost`` tells why the run no longer is this controller's."""

    def __init__(self, run: RunDir, table: Table, lost: Callable[[], str]) -> None:
        self.run = run
        self.table = table
        self.lost = lost
        self._next = time.monotonic() + _TABLES_INTERVAL

    def now_and_then(self, campaign: Campaign) -> None:
        """At an interval that keeps the writing itself below a hundredth of the time."""
        start = time.monotonic()
        if start >= self._next:
            self.write(campaign)
            self._next = time.monotonic() + max(_TABLES_INTERVAL, 100 * (time.monotonic() - start))

    def write(self, campaign: Campaign) -> None:
        if reason := self.run.gone or self.lost():
            raise SiteError(reason)
        write_tables(self.run, self.table, campaign.state, campaign.search)


@contextmanager
def _signals(campaign: Campaign, progress: Progress) -> Iterator[None]:
    """Ctrl-C once drains, twice stops; TERM and HUP stop, since KILL may follow."""

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        second = campaign.draining
        campaign.interrupt(now=second)
        _tell(progress, "stopping now" if second else f"{_waits_for(campaign)}; Ctrl-C again stops now")

    def on_terminate(number: int, frame: FrameType | None) -> None:
        campaign.interrupt(now=True)
        _tell(progress, f"{signal.Signals(number).name}: stopping now")

    handlers = {signal.SIGINT: on_interrupt, signal.SIGTERM: on_terminate, signal.SIGHUP: on_terminate}
    heard = [number for number in handlers if signal.getsignal(number) is not signal.SIG_IGN]  # nohup, a shell's &
    before = {number: signal.signal(number, handlers[number]) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _waits_for(campaign: Campaign) -> str:
    if campaign.stage is not None:
        return f"waiting for {campaign.stage} to end"
    running = [str(trial.id) for trial in list(campaign.running.values())]
    return f"waiting for the trials that have begun to end (of {listing(running[:20])})" if running else "ending"


def _tell(progress: Progress, text: str) -> None:
    """Print from a signal handler, which may have interrupted a print."""
    if not progress.notify(text):
        with suppress(OSError):  # a terminal that was closed
            os.write(sys.stderr.fileno(), f"\n{text}\n".encode())


def _conclude(campaign: Campaign, table: Table, run: RunDir, progress: Progress) -> int:
    state, search = campaign.state, campaign.search
    winner = winner_of(state, table.objective.mode)
    if winner is None:
        first = next(iter(state.outcomes.values()), None)
        why = f"; the first one: {first.evidence}" if first else ""
        print(f"error: no trial succeeded{why}\n    -> see {run.path / 'trials'}", file=sys.stderr)
        return EXIT_NO_SUCCESS
    number = counts(state)
    infer = state.stage_outcomes.get("infer")
    progress.say(f"\nbest {table.objective.metric}: {winner.value!r} (trial {winner.trial_id})")
    progress.say(f"    {lines(state.trials[winner.trial_id].params, table.varying)}")
    progress.say(f"    model: {model_directory(table.there or run, winner)}")
    if infer is not None and infer.metrics:
        progress.say("    test: " + ", ".join(f"{name}={value:.6g}" for name, value in infer.metrics.items()))
    for line in (*finals_lines(table, state), *front_lines(table, state)):
        progress.say(line)
    if reason := doubt(finalists_of(state, table.objective.mode)):
        progress.say(f"warning: finalists: {reason}\n    -> check finalists.seed_argument")
    lost = number["lost_attempts"]
    stopped = f"{number['stopped']} stopped early, " if number["stopped"] else ""
    ended = f"{number['ok']} trials succeeded, {stopped}{number['failed']} failed"
    progress.say(f"{ended}, {lost} attempts were lost and ran again")
    if number["reused"]:
        progress.say(f"{number['reused']} of them were taken from earlier runs")
    if isinstance(search, GeneticSearch):
        progress.say(_generations(search))
    if message := table.budgets.cut(search, state) or search.message:
        progress.say(f"the search ended early: {message}")
    if number["unfinished"]:
        progress.say(f"{number['unfinished']} trials that were asked for did not end; a larger budget runs them")
    progress.say(f"results: {run.hpo_csv}, {run.best}, {run.summary}")
    progress.say(f"to see them: python -m workflow.report {shlex.quote(str(run.path))}")
    return EXIT_DONE


def _generations(search: GeneticSearch) -> str:
    rows = ["generation  nevals         avg         std         min         max"]
    for row in search.statistics:
        numbers = "".join(f"{value:12.5g}" for value in (row.avg, row.std, row.min, row.max))
        rows.append(f"{row.generation:>10}{row.nevals:>8}{numbers}")
    return "\n".join(rows)
