"""What a report says beside its plots, section by section."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workflow.config.initial import cell
from workflow.remedies import remedy
from workflow.report import logs
from workflow.report.axes import axes_of
from workflow.report.figures import KIND_NAMES, Analysis, Cost, Influence, Kind, cost, until_best
from workflow.report.history import Run
from workflow.report.importance import BELIEVABLE, FEWEST
from workflow.report.markup import Content, Html, chart, element, foreign, joined, sentence, table
from workflow.report.summary import trials_table, winner
from workflow.report.tables import counts
from workflow.report.units import UNKNOWN, cost_unit, duration, moment, number, percent
from workflow.triage import signature
from workflow.trial import Outcome, spoken

_LEAST_SHARE = 0.02
"""Of an interaction that is named: smaller ones may be the estimate's noise."""

_GROUPS, _NAMED = 12, 12
"""Kinds of failure that are shown, and trials of each that are named."""


@dataclass(frozen=True)
class Section:
    """``name`` is its anchor."""

    name: str
    title: str
    body: Html
    short: str = ""
    """Its title in the navigation, if that is another one."""

    def html(self) -> Html:
        heading = element("h2", self.title)
        return element("section", heading, self.body, id=self.name)


def sections(analysis: Analysis, runs: Sequence[Run]) -> Iterator[Section]:
    """Of the run that is analysed, and a comparison where there are several ``runs``."""
    run = analysis.run
    if runs[1:]:
        yield Section("comparison", "Comparison", _comparison(runs))
    yield Section("winner", "Winner", winner(analysis))
    yield Section("history", "Optimization history", _history(analysis), "History")
    if run.objectives[1:]:
        yield Section("front", "Pareto front", _front(analysis), "Front")
    yield Section("generations", "Generations", _generations(analysis))
    yield Section("parallel", "Parallel coordinates", _parallel(analysis), "Parallel")
    yield Section("slices", "Hyperparameters one by one", _slices(analysis), "Slices")
    yield Section("importance", "Importance", _importance(analysis))
    yield Section("timeline", "Worker timeline", _timeline(analysis), "Timeline")
    yield Section("cost", "Cost", _cost(analysis))
    yield Section("failures", "Failures", _failures(run))
    yield Section("settings", "Space and settings", _settings(run), "Settings")


# -- plots -----------------------------------------------------------------------------------------------------------


_NO_VALUE = "No trial has a result yet, so there is nothing to show."


def _history(analysis: Analysis) -> Html:
    if not analysis.has_values:
        return sentence(_NO_VALUE)
    return chart("history", "Each mark is a trial, failed ones at the foot; the line is the best so far.")


def _generations(analysis: Analysis) -> Html:
    if not analysis.has_values:
        return sentence(_NO_VALUE)
    trials = analysis.run.trials.values()
    by = "generation" if all(trial.generation for trial in trials) else "part of the trials, as they ended"
    note = f"Results by {by}: a box from the lower to the upper quartile, the median in it, whiskers to the extremes."
    rows = [
        [g["label"], number(g["trials"]), number(g["without"]), *map(number, g["quartiles"] or [None] * 5)]
        for g in analysis.groups
    ]
    header = ["trials" if "part" in by else "generation", "number", "without a result"]
    header += ["least", "lower quartile", "median", "upper quartile", "greatest"]
    numbers = element("details", element("summary", "Numbers"), table(header, rows, numbers=range(1, 8)))
    return joined(chart("generations", note), numbers)


def _parallel(analysis: Analysis) -> Html:
    if not analysis.axes:
        return sentence("No hyperparameter varies.")
    if not analysis.has_values:
        return sentence(_NO_VALUE)
    note = "A line for each trial, the stronger the better. Drag along an axis to keep the trials that pass there."
    return chart("parallel", note)


def _slices(analysis: Analysis) -> Html:
    if not analysis.axes:
        return sentence("No hyperparameter varies.")
    if not analysis.has_values:
        return sentence(_NO_VALUE)
    return chart("slices", "Results by each hyperparameter; later trials are stronger, the ring is the winner.")


def _front(analysis: Analysis) -> Html:
    run = analysis.run
    names = foreign(", ".join(map(str, run.objectives)))
    if not run.front:
        return sentence(f"No trial has a result for all objectives ({names}).")
    note = f"{len(run.front)} trials that no other one beats in everything ({names}); the others are pale."
    shown = element("details", element("summary", "Trials of the front"), trials_table(analysis, run.front))
    return joined(chart("pareto", note), shown)


# -- importances -----------------------------------------------------------------------------------------------------


def _importance(analysis: Analysis) -> Html:
    parts, influence, found = list[Html](), analysis.influence, analysis.influence.found
    if found is None:
        parts.append(sentence(_why_no_importance(influence)))
    elif not found.believable:
        text = (
            f"A model of {found.trials} trials predicts unseen configurations with R² = {found.r2:.2f}. Below"
            f" {BELIEVABLE} it is not to be believed, so no importance is shown; more trials may help."
        )
        parts.append(sentence(text))
    else:
        parts += [chart("importance", _importance_note(found.r2, found.trials, influence.trials)), *_pairs(influence)]
    if influence.fixed:
        text = f"The same in all successful trials, so without a share: {foreign(', '.join(influence.fixed))}."
        parts.append(element("p", text, class_="note"))
    if analysis.has_values and len(analysis.axes) > 1:
        parts += [
            element("h3", "Two at a time"),
            chart("pairs", "Trials by two hyperparameters, the stronger the better."),
        ]
    return joined(*parts)


def _why_no_importance(influence: Influence) -> str:
    if influence.trials < FEWEST:
        return f"Importances need at least {FEWEST} successful trials; there are {influence.trials}."
    if not influence.axes:
        return "No hyperparameter differs between the successful trials."
    return "The results are the same, or too much alike for a model of them."


def _importance_note(r2: float, used: int, of: int) -> str:
    trials = f"{used} of {number(of)} trials" if used < of else f"{used} trials"
    return (
        "Shares of the variance of the results' ranks over the whole space: by a hyperparameter alone, and in addition"
        " by its interactions with others. From a Gaussian process (functional ANOVA by Sobol' indices) on"
        f" {trials}, which predicts unseen configurations with R² = {r2:.2f} (cross-validated; below {BELIEVABLE} it"
        " would not be shown)."
    )


def _pairs(influence: Influence) -> Iterator[Html]:
    assert influence.found is not None
    strongest = sorted(influence.found.pairs, key=lambda pair: -pair[2])[:5]
    names = influence.axes
    rows = [
        [foreign(f"{names[i]} \N{MULTIPLICATION SIGN} {names[j]}"), percent(share)]
        for i, j, share in strongest
        if share >= _LEAST_SHARE
    ]
    if rows:
        yield element("h3", "Interactions")
        yield table(["hyperparameters", "share of the variance"], rows, numbers=(1,))


# -- time and cost ---------------------------------------------------------------------------------------------------


def _timeline(analysis: Analysis) -> Html:
    if analysis.timeline is None:
        clock = analysis.run.has_clock
        return sentence("No attempt has started yet." if clock else "The table does not tell when its trials ran.")
    spent = analysis.cost
    idle = ""
    if spent.available is not None and spent.utilization is not None:
        free = max(0.0, spent.available - spent.wall)
        busy = percent(spent.utilization)
        idle = f" The workers were busy for {busy} of their time, and idle for {duration(free)} in all."
    note = f"A bar for each attempt, by node and GPU; a pale lane is idle.{idle}"
    return chart("timeline", note)


def _cost(analysis: Analysis) -> Html:
    spent, unit, until = analysis.cost, analysis.unit, until_best(analysis.run)
    if not spent.total:
        return sentence("Nothing has been spent yet.")
    kinds = [kind for kind in KIND_NAMES if spent.attempts.get(kind)]
    rows = [_cost_row(spent, kind, unit.seconds) for kind in kinds]
    rows.append(["all", number(sum(spent.attempts.values())), number(spent.total / unit.seconds), percent(1.0)])
    shown = table(["attempts that", "number", unit.name, "share"], rows, numbers=(1, 2, 3), class_="totals")
    bar = element(
        "div", *(_share(spent, kind) for kind in kinds), class_="shares", role="img", aria_label="shares of the cost"
    )
    told = [bar, shown]
    if until is not None:
        text = f"The best trial ended after {unit.show(until)}, {percent(until / spent.total)} of all that was spent."
        told.append(element("p", text, class_="note"))
    return joined(*told)


def _cost_row(spent: Cost, kind: Kind, unit: float) -> list[Content]:
    swatch = element("span", class_=f"swatch {kind}")
    name = joined(swatch, Html(KIND_NAMES[kind]))
    seconds = spent.by_kind[kind]
    return [name, number(spent.attempts[kind]), number(seconds / unit), percent(seconds / spent.total)]


def _share(spent: Cost, kind: Kind) -> Html:
    part = spent.by_kind[kind] / spent.total
    return element(
        "span", class_=f"share {kind}", style=f"flex-grow:{part:.6f}", title=f"{KIND_NAMES[kind]}: {percent(part)}"
    )


# -- failures --------------------------------------------------------------------------------------------------------


def _failures(run: Run) -> Html:
    groups = _alike(run)
    if not groups:
        return sentence("Nothing failed, and no attempt was lost.")
    rest = len(groups) - _GROUPS
    more = [element("p", f"{rest} further kinds of failure are left out.", class_="note")] if rest > 0 else []
    return joined(*(_failure(run, group) for group in groups[:_GROUPS]), *more)


def _alike(run: Run) -> list[list[Outcome]]:
    """Failures and losses that have more than numbers in common, the most frequent ones first."""
    found = defaultdict[tuple[str, str], list[Outcome]](list)
    for outcome in run.attempts:
        if outcome.kind in ("failed", "lost"):
            found[outcome.kind, signature(outcome)].append(outcome)
    return sorted(found.values(), key=lambda group: (-len(group), group[0].trial_id))


def _failure(run: Run, group: Sequence[Outcome]) -> Html:
    first = group[0]
    times = f"{number(len(group))} attempt{'s' if len(group) > 1 else ''} {first.kind}"
    why = foreign(first.evidence) or "no result was written"
    named = [spoken(outcome.trial_id) for outcome in group[:_NAMED]]
    trials = f"{', '.join(named).capitalize()}" + (f" and {len(group) - _NAMED} more" if len(group) > _NAMED else "")
    parts = [element("p", f"{trials}. {_cure(first)}".strip(), class_="note")]
    tail = logs.tail(run.files.trial_attempt(first.trial_id, first.attempt)) if run.files else ""
    if tail:
        title = f"The end of the log of {spoken(first.trial_id)}, attempt {first.attempt}"
        parts.append(element("details", element("summary", title), element("pre", element("code", tail))))
    head = element("h3", element("span", class_=f"swatch {first.kind}"), f"{times}: {why}")
    return element("article", head, *parts)


def _cure(outcome: Outcome) -> str:
    known = remedy(outcome.evidence)
    return f"Remedy: {known}." if known else ""


# -- settings --------------------------------------------------------------------------------------------------------


def _settings(run: Run) -> Html:
    parts = [element("h3", "Space"), _space(run)]
    for name, settings in (("Experiment", run.experiment), ("Site", run.site)):
        if settings:
            rows = [[foreign(key), element("code", foreign(value))] for key, value in flat(settings)]
            parts.append(element("details", element("summary", name), table(["key", "value"], rows)))
    if run.controllers:
        parts.append(element("details", element("summary", "Controllers"), _controllers(run)))
    return joined(*parts)


def _space(run: Run) -> Html:
    if run.space is None:
        axes = [
            [foreign(a.name), foreign(", ".join(a.labels) or f"{number(a.lower)} to {number(a.upper)}")]
            for a in axes_of(run)
        ]
        return table(["name", "values in the table"], axes)
    rows = []
    for entry in run.space.entries:
        rest = ", ".join(f"{key}: {_text(value)}" for key, value in entry.items() if key not in ("name", "type"))
        rows.append([foreign(str(entry.get("name", ""))), foreign(str(entry.get("type", ""))), foreign(rest)])
    return table(["name", "type", "settings"], rows)


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as lines: ``search.seed``, ``1``."""
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{name}.")
        else:
            yield name, _text(value)


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(each)}" for key, each in value.items()) or "none"
    if value is None:
        return UNKNOWN
    return cell(value) if isinstance(value, bool | int | float | str) else str(value)


_ABOUT = ("host", "package", "commit", "workers", "command")


def _controllers(run: Run) -> Html:
    rows = [
        [moment(each.began), moment(each.last), *(foreign(_text(each.about.get(key))) for key in _ABOUT)]
        for each in run.controllers
    ]
    return table(["began", "last record", *_ABOUT], rows)


# -- several runs ----------------------------------------------------------------------------------------------------


def _comparison(runs: Sequence[Run]) -> Html:
    unit = cost_unit([outcome for run in runs for outcome in run.attempts])
    best = f"best {foreign(runs[0].objective.metric)}"
    header = ["run", "strategy", "trials", "failed", best, unit.name, "until the best"]
    rows = [_compared(run, unit.seconds) for run in runs]
    names = ", ".join(foreign(run.name) for run in runs)
    drawn = chart("comparison", f"The best value so far of {names}.")
    shown = drawn if any(run.best for run in runs) else sentence(_NO_VALUE)
    parts = [table(header, rows, numbers=range(2, 7), class_="runs"), shown]
    if differing := _differing(runs):
        parts += [
            element("h3", "Settings that differ"),
            table(["setting", *(foreign(run.name) for run in runs)], differing),
        ]
    parts.append(element("p", f"All that follows is of {foreign(runs[0].name)}.", class_="note"))
    return joined(*parts)


def _compared(run: Run, unit: float) -> list[Content]:
    best, until = run.best, until_best(run)
    strategy = (run.experiment.get("search") or {}).get("strategy")
    return [
        foreign(run.name),
        foreign(_text(strategy)),
        number(len(run.outcomes)),
        number(counts(run.state)["failed"]),
        number(best.value if best else None),
        number(cost(run).total / unit),
        number(until / unit if until is not None else None),
    ]


def _differing(runs: Sequence[Run]) -> list[list[Content]]:
    settings = [dict([*flat(run.experiment), *flat(run.site, "site.")]) for run in runs]
    keys = dict.fromkeys(key for each in settings for key in each)
    found = [(key, [each.get(key, UNKNOWN) for each in settings]) for key in keys]
    return [[foreign(key), *map(foreign, values)] for key, values in found if len(set(values)) > 1]
