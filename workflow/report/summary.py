"""What a report begins with: what became of a run, its numbers, its winner."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from workflow.config.initial import cell, cells
from workflow.errors import printable, shortened
from workflow.finals import doubt, optimism
from workflow.journal import damage
from workflow.ranking import best as best_of_search
from workflow.ranking import finalists_of, hall_of_fame
from workflow.report import logs
from workflow.report.figures import Analysis, until_best
from workflow.report.history import Run
from workflow.report.markup import Html, element, foreign, joined, sentence, table
from workflow.report.tables import counts
from workflow.report.units import UNKNOWN, change, duration, moment, number, percent
from workflow.trial import Outcome
from workflow.worker import contract

_HALL_OF_FAME = 10
_WIDEST = 40
"""Characters of a value in a table of many columns."""

_OVERWRITES = "It trains in the trial's own directory, over the model that is there: to keep that, copy it first."


def title(run: Run) -> str:
    return foreign(str(run.experiment.get("name") or run.name))


def summary(analysis: Analysis) -> Html:
    """The heading, what became of the run, and its numbers."""
    run = analysis.run
    about = [f"{run.objective.metric} {run.objective.mode}", _strategy(run), _site(run), _when(run)]
    head = element("p", foreign(" · ".join(part for part in about if part)), class_="about")
    tiles = element("div", *(_tile(*entry) for entry in _numbers(analysis)), class_="tiles")
    return joined(element("h1", title(run)), head, element("p", _state(run), class_="state"), tiles)


def _strategy(run: Run) -> str:
    strategy = (run.experiment.get("search") or {}).get("strategy")
    return f"strategy {strategy}" if strategy else ""


def _site(run: Run) -> str:
    return f"site {run.site['name']}" if run.site.get("name") else ""


def _when(run: Run) -> str:
    if not run.controllers:
        return ""
    first, last = moment(run.controllers[0].began), moment(run.controllers[-1].last)
    return f"{first} to {last[11:] if first[:10] == last[:10] else last}"


def _state(run: Run) -> str:
    if not run.has_clock:
        told = "Read from a table, which tells neither when nor where its trials ran"
        guessed = f", nor whether more is better: {run.objective} is taken by its name" if run.is_mode_guessed else ""
        return f"{told}{guessed}."
    lost = damage(run.damaged)
    return " ".join(filter(None, [_progress(run), f"{lost}." if lost else ""]))


def _progress(run: Run) -> str:
    waiting = len(run.state.unfinished)
    if run.state.ended:
        return f"Complete. {waiting} trials that were asked for did not end." if waiting else "Complete."
    at = f", its last record of {moment(run.controllers[-1].last)}" if run.controllers else ""
    open_trials = f"; {waiting} trials had not ended" if waiting else ""
    return f"Not complete: it is running still, or was interrupted{at}{open_trials}."


def _tile(label: str, value: str, note: str) -> Html:
    parts = (element("dt", label), element("dd", value, class_="value"), element("dd", note, class_="note"))
    return element("dl", *parts, class_="tile")


def _numbers(analysis: Analysis) -> Iterator[tuple[str, str, str]]:
    run, unit, spent = analysis.run, analysis.unit, analysis.cost
    count, until = counts(run.state), until_best(run)
    yield _best_tile(run)
    yield "trials", number(len(run.outcomes)), _by_end(count)
    yield unit.name, number(spent.total / unit.seconds), f"in {number(len(run.attempts))} attempts"
    if until is not None and spent.total:
        yield "until the best", number(until / unit.seconds), f"{unit.name}, {percent(until / spent.total)} of all"
    if run.has_clock and run.state.elapsed:
        controllers = len(run.controllers)
        yield "wall time", duration(run.state.elapsed), f"of {controllers} controllers" if controllers > 1 else ""
    if spent.utilization is not None:
        yield "utilization", percent(spent.utilization), "of the workers' time"


def _best_tile(run: Run) -> tuple[str, str, str]:
    """Of the winner, which need not have the search's best value."""
    best, ranked = run.best, finalists_of(run.state, run.objective.mode)
    metric, value = foreign(run.objective.metric), number(best.value if best else None)
    if best is None:
        return f"best {metric}", value, "no trial succeeded"
    if ranked and ranked[0].mean is not None:
        return f"winner's {metric}", value, f"trial {best.trial_id}; mean of its re-runs {number(ranked[0].mean)}"
    return f"best {metric}", value, f"trial {best.trial_id}"


def _by_end(count: Mapping[str, int]) -> str:
    names = {"ok": "ok", "failed": "failed", "stopped": "stopped early"}
    return ", ".join(f"{number(count[kind])} {name}" for kind, name in names.items() if count[kind])


# -- winner ----------------------------------------------------------------------------------------------------------


def winner(analysis: Analysis) -> Html:
    run, best = analysis.run, analysis.run.best
    if best is None:
        return sentence("No trial has succeeded, so there is no winner.")
    params = run.trials[best.trial_id].params
    rows = [[foreign(name), element("code", foreign(cell(params[name])))] for name in run.varying if name in params]
    left = element("div", element("h3", f"Hyperparameters of trial {best.trial_id}"), table(["name", "value"], rows))
    right = element("div", element("h3", "Scores"), *_scores(run, best))
    scored = element("div", left, right, class_="columns")
    return joined(scored, *_finals(run), _reproduction(run, best), _best_trials(analysis))


def _finals(run: Run) -> Iterator[Html]:
    """The finalists by their re-runs, once these have ended."""
    ranked, mode = finalists_of(run.state, run.objective.mode), run.objective.mode
    if run.state.finals and not ranked:
        yield sentence("The finalists have not all been trained again yet, so the search's best stands here for now.")
    if not ranked:
        return
    numbers = [[f.outcome.value, f.mean, f.std, len(f.reruns), f.failed] for f in ranked]
    rows = [[str(f.outcome.trial_id), *map(number, each)] for f, each in zip(ranked, numbers, strict=True)]
    header = ["finalist", "in the search", "mean of re-runs", "standard deviation", "re-runs", "failed"]
    yield element("h3", "Finalists, trained again")
    yield table(header, rows, numbers=range(1, 6))
    found = best_of_search(run.state, mode)
    luck = optimism(ranked, found.value, mode) if found is not None and found.value is not None else None
    told = "The mean of the re-runs, by which nothing was chosen, decides who wins."
    if luck is not None and luck > 0:
        told += f" The search's best value is better than the winner's mean by {number(luck)}: so much of it was luck."
    yield element("p", doubt(ranked) or told, class_="note")


def _scores(run: Run, best: Outcome) -> Iterator[Html]:
    infer = run.state.stage_outcomes.get("infer")
    scored = infer is not None and infer.kind == "ok" and infer.trial_id == best.trial_id
    test: Mapping[str, float] = infer.metrics if infer is not None and scored else {}
    metric = run.objective.metric
    known: dict[str, float | None] = {metric: best.value, **best.metrics}
    names = dict.fromkeys([*known, *test])
    rows = [[foreign(name), number(known.get(name)), number(test.get(name))] for name in names]
    yield table(["score", "validation", "test"], rows, numbers=(1, 2))
    yield element("p", _from_validation(known, test) if test else "The winner has not met the test set.", class_="note")


def _from_validation(validation: Mapping[str, float | None], test: Mapping[str, float]) -> str:
    """What a choice by validation scores flatters itself by."""
    both = [(name, validation[name], test[name]) for name in test if validation.get(name)]
    told = [f"{foreign(n)} {change((t - v) / abs(v))}" for n, v, t in both if v and math.isfinite(t / v)]
    differences = f" From validation to test: {', '.join(told)}." if told else ""
    return f"The winner was chosen by validation scores, which flatters them; the test set was met once.{differences}"


def _reproduction(run: Run, best: Outcome) -> Html:
    if run.files is None:
        return sentence("A table does not tell the command with which its trials ran.")
    directory = Path(run.directory_of(best))
    script = logs.command(directory)
    line = f"bash {shlex.quote(printable(str(directory / contract.COMMAND)))}"
    parts = [element("h3", "Run it again"), _copyable(line), element("p", _OVERWRITES, class_="note")]
    if script:
        whole = element("pre", element("code", script))
        parts.append(element("details", element("summary", "What the script runs"), whole))
    return joined(*parts)


def _copyable(text: str) -> Html:
    button = element("button", "Copy", type="button", class_="copy")
    return element("div", element("pre", element("code", text)), button, class_="copyable")


def _best_trials(analysis: Analysis) -> Html:
    fame = hall_of_fame(analysis.run.state, analysis.run.objective.mode, _HALL_OF_FAME)
    return joined(element("h3", "The best configurations"), trials_table(analysis, fame))


def trials_table(analysis: Analysis, outcomes: Sequence[Outcome]) -> Html:
    """A row for each, with all objectives and hyperparameters."""
    run = analysis.run
    further = [objective.metric for objective in run.objectives[1:]]
    header = ["trial", run.objective.metric, *further, "duration", *run.varying]
    rows = [
        [
            str(outcome.trial_id),
            number(outcome.value),
            *(number(outcome.metrics.get(name)) for name in further),
            duration(outcome.seconds),
            *map(foreign, _short_cells(run, outcome)),
        ]
        for outcome in outcomes
    ]
    first = 3 + len(further)
    numeric = {first + place for place, axis in enumerate(analysis.axes) if axis.is_numeric}
    return table(list(map(foreign, header)), rows, numbers={*range(1, first), *numeric})


def _short_cells(run: Run, outcome: Outcome) -> Iterator[str]:
    params = run.trials[outcome.trial_id].params
    for name, text in zip(run.varying, cells(params, run.varying), strict=True):
        value = params.get(name)
        yield number(value) if isinstance(value, float) else shortened(text, _WIDEST) or UNKNOWN
