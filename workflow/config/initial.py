"""Initial populations from files."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from workflow.config.strict import is_there, read_yaml
from workflow.errors import Problems, listing, show
from workflow.parameters import Constant
from workflow.rundir import RunDir
from workflow.search import Earlier
from workflow.space import Genome, Space
from workflow.trial import Objective, Params, Value, likely_mode, loss_of

_SOURCE = "earlier run"
"""A column that no hyperparameter can be mistaken for: names hold no blank."""


def read_initial(path: Path, space: Space, size: int) -> list[Params]:
    """Configurations from a CSV of hyperparameters, or the best ones from an earlier run's directory.

    Columns that are no hyperparameter are ignored. At most ``size`` distinct rows are taken, in the file's order or,
    for a run, best first by its own objective. Raises InputError with all values that are outside the space.
    """
    from_run = is_there(path, directory=True)
    file = RunDir(path).hpo_csv if from_run else path
    problems = Problems(str(file))
    rows = read_csv(file, problems)
    if from_run:
        mode = objectives_of(path)[0].mode
        rows = _best_first([row for row in rows if row.get("result")], mode, problems)
    missing = [p.name for p in space.varying if rows and p.name not in rows[0]]
    if missing:
        problems.fail("header", f"has no column {listing(missing)}", "add one column for each hyperparameter")
    for row in rows:
        if None in row:
            problems.add(
                f"line {row['_line']}", "has more cells than the header", "put values that hold a comma in quotes"
            )
    chosen: dict[Genome, Params] = {}
    for row in rows:
        params = _read_row(row, space, problems)
        if params is not None:
            chosen.setdefault(space.genome(params), params)
    if not rows and from_run:
        problems.add("", "has no trial that succeeded", "name another run, or a CSV of hyperparameters")
    elif not rows:
        problems.add("", "has no row", "write one configuration a line below the header")
    problems.raise_if_any()
    return list(chosen.values())[:size]


def read_earlier(paths: Sequence[Path], space: Space, objective: Objective) -> tuple[list[Earlier], list[str]]:
    """Results of earlier runs, by their directories or as CSV files, and warnings of those that were left out.

    Those are the ones outside the space: an earlier run may have searched another one. A column that ``write_earlier``
    has added tells the runs of a file apart. ``objective`` is this experiment's (see ``searched_by``). Raises
    InputError for a file that lacks a hyperparameter or results.
    """
    found: list[Earlier] = []
    warnings: list[str] = []
    for number, path in enumerate(paths):
        results, left_out = _read_results(path, space, objective, number)
        found += results
        warnings += left_out
    return found, warnings


def _read_results(path: Path, space: Space, objective: Objective, number: int) -> tuple[list[Earlier], list[str]]:
    """Those of one run or file, the ``number``th."""
    run, mode = run_of(path), searched_by(path, objective).mode
    file = RunDir(run).hpo_csv if run is not None else path
    problems = Problems(f"search.warm_start: {file}")
    rows = read_csv(file, problems)
    missing = [name for name in (*(p.name for p in space.varying), "result") if rows and name not in rows[0]]
    if missing or not rows:
        what = f"has no column {listing(missing)}" if missing else "has no row"
        problems.fail("header" if missing else "", what, "name runs that have searched these hyperparameters")
    whole = _whole_trainings(run, rows) if run is not None else rows
    ranked = _best_first([row for row in whole if row["result"]], "min", problems)
    known = sorted((row for row in ranked if math.isfinite(float(row["result"]))), key=lambda row: int(row["_line"]))
    found, outside = [], Problems(str(file))
    for row in known:
        source = row.get(_SOURCE) or ""
        if (params := _read_row(row, space, outside)) is not None:
            result = loss_of(float(row["result"]), mode)
            found.append(Earlier(params, result, int(source) if source.isdecimal() else number))
    warnings = [] if known else [f"search.warm_start: {file}: none of {len(rows)} trials has a result"]
    if left_out := len(known) - len(found):
        warnings.append(f"search.warm_start: {file}: {left_out} of {len(known)} results are outside the space")
    return found, warnings


def _whole_trainings(run: Path, rows: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """Without those of a lower fidelity, whose results are no measure of a configuration."""
    search = read_yaml(RunDir(run).experiment, "experiment of that run").get("search")
    fidelity = search.get("fidelity") if isinstance(search, dict) else None
    if not isinstance(fidelity, dict):
        return rows
    name, most = str(fidelity.get("parameter")), str(fidelity.get("max"))
    return [row for row in rows if name not in row or float(row[name] or most) >= float(most)]


def write_earlier(path: Path, space: Space, mode: str, earlier: Sequence[Earlier]) -> None:
    """The CSV that ``read_earlier`` reads back to the same results."""
    names = [p.name for p in space.varying]
    rows = [[*cells(e.params, names), repr(loss_of(e.loss, mode)), str(e.source)] for e in earlier]
    lines = map(csv_line, [[*names, "result", _SOURCE], *rows])
    path.write_text("".join(lines), encoding="utf-8", newline="")


def _read_row(row: Mapping[str, Any], space: Space, problems: Problems) -> Params | None:
    """The configuration of a row, or None with what is wrong; cells of what does not exist in it do not matter."""
    values: dict[str, Value] = {}
    found = Problems(problems.file)
    for parameter in space.by_dependence:
        text = "" if isinstance(parameter, Constant) else row[parameter.name] or ""
        try:
            if space.exists(parameter.name, values):
                values[parameter.name] = parameter.parse(text)
        except ValueError as error:
            place = f"line {row['_line']}: {parameter.name}"
            found.add(place, f"{show(text)} is not in the space", f"write {error}")
    params = space.in_order(values)
    for constraint in () if found else list(space.violated(params)):
        found.add(f"line {row['_line']}", f"does not meet {show(constraint.text)}", "change or remove this line")
    problems.extend(found)
    return None if found else params


def run_of(path: Path) -> Path | None:
    """The directory of the run that is meant, by itself or by its hpo.csv; None for another file."""
    if is_there(path, directory=True):
        return path
    run = RunDir(path.parent)
    return run.path if path == run.hpo_csv and is_there(run.journal) else None


def searched_by(path: Path, own: Objective) -> Objective:
    """What a run, or a file with results, was searched for. Raises InputError.

    A run says so itself. A file that is of another metric than ``own`` tells no mode: that goes by the metric's name.
    """
    if (run := run_of(path)) is not None:
        return objectives_of(run)[0]
    metrics = {metric for row in read_csv(path, Problems(str(path))) if (metric := row.get("metric"))}
    if len(metrics) != 1 or own.metric in metrics:
        return own
    (metric,) = metrics
    return Objective(metric, likely_mode(metric))


def objectives_of(path: Path) -> tuple[Objective, ...]:
    """What a run's directory says that it searched for, at least one. Raises InputError."""
    file = RunDir(path).experiment
    data = read_yaml(file, "experiment of that run")
    objective = data.get("objective") or data.get("objectives")
    entries = [objective] if isinstance(objective, dict) else []
    if isinstance(objective, list):
        entries = [dict(zip(("metric", "mode"), str(entry).split(), strict=False)) for entry in objective]
    found = [(entry.get("metric"), entry.get("mode")) for entry in entries]
    known = [Objective(metric, mode) for metric, mode in found if isinstance(metric, str) and mode in ("min", "max")]
    if not found or len(known) < len(found):
        Problems(str(file)).fail("objective", f"is {show(objective)}", "name the directory of a run, or a CSV file")
    return tuple(known)


def read_csv(file: Path, problems: Problems) -> list[dict[str, Any]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle)
            return [{**row, "_line": reader.line_num} for row in reader]
    except OSError as error:
        problems.fail("", f"cannot be read ({error.strerror})", "give a CSV of hyperparameters or a run's directory")
    except (UnicodeDecodeError, csv.Error) as error:
        problems.fail("", f"is not a CSV file: {error}", "save it as UTF-8 with commas")


def _best_first(rows: list[dict[str, Any]], mode: str, problems: Problems) -> list[dict[str, Any]]:
    ranked = []
    for row in rows:
        try:
            ranked.append((loss_of(float(row["result"]), mode), row["_line"], row))
        except ValueError:
            problems.add(f"line {row['_line']}: result", f"{show(row['result'])} is not a number", "mend or clear it")
    problems.raise_if_any()
    return [row for *_, row in sorted(ranked, key=lambda entry: entry[:2])]


def write_initial(path: Path, space: Space, initial: Sequence[Params]) -> None:
    """The CSV that ``read_initial`` reads back to the same configurations."""
    names = [p.name for p in space.varying]
    rows = [names, *(cells(params, names) for params in initial)]
    path.write_text("".join(csv_line(row) for row in rows), encoding="utf-8", newline="")


def csv_line(cells: Sequence[str]) -> str:
    """A line of a CSV file that ends in a newline; the writer's own line end makes it quote a carriage return too."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue()[:-2] + "\n"


def cells(params: Params, names: Iterable[str]) -> list[str]:
    """One row; the cell of a hyperparameter that does not exist in this configuration is empty."""
    return [cell(params[name]) if name in params else "" for name in names]


def cell(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)
