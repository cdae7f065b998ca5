"""Trials and how their attempts ended, as columns with types: for tables and data frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from workflow.config.initial import cell, csv_line
from workflow.errors import InputError, did_you_mean, show
from workflow.parameters import Number, Parameter
from workflow.trial import Outcome, Trial, Value

Cell = Value | datetime | None

PARAMETER, METRIC = "params_", "metrics_"
"""What the names of columns of hyperparameters and of metrics begin with, so that they differ from all others."""

_TRIAL = {"trial": int, "attempt": int, "config_id": int, "generation": int, "fidelity": float, "parents": str}
_RESULT = {"kind": str, "cause": str, "value": float}
_COURSE = {
    "started": datetime, "ended": datetime, "seconds": float, "host": str, "gpu": str, "gpu_seconds": float,
    "peak_memory": int, "evidence": str, "directory": str, "final": bool,
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """``type`` is int, float, bool, str or datetime (in UTC); each of the values is of it, or None."""

    name: str
    type: type
    values: Sequence[Cell]


@dataclass(frozen=True)
class Row:
    """An attempt that ended, or a trial of which none did (without an ``outcome``).

    ``trial`` is None where the record of it is lost; ``final`` tells whether this is how the trial ended.
    """

    trial_id: int
    trial: Trial | None
    outcome: Outcome | None
    final: bool
    directory: str = ""
    gpu_seconds: float = 0.0


def columns_of(rows: Sequence[Row], types: Mapping[str, type], *, clock: bool) -> list[Column]:
    """One column for each property, hyperparameter (``types`` of those that are searched) and metric.

    Without a ``clock`` outcomes tell how long they took, but not when, where and on what.
    """
    metrics = sorted({name for row in rows if row.outcome is not None for name in row.outcome.metrics})
    parameters = {PARAMETER + name: kind for name, kind in types.items()}
    schema = {**_TRIAL, **parameters, **_RESULT, **{METRIC + name: float for name in metrics}, **_COURSE}
    cells = [{**_trial_cells(row, types), **_outcome_cells(row, clock)} for row in rows]
    return [Column(name, kind, [_as(kind, each.get(name)) for each in cells]) for name, kind in schema.items()]


def _trial_cells(row: Row, names: Iterable[str]) -> dict[str, Any]:
    known = {"trial": row.trial_id, "final": row.final}
    if (trial := row.trial) is None:
        return known
    parameters = {PARAMETER + name: trial.params.get(name) for name in names}
    parents = " ".join(map(str, trial.parents)) or None
    of_search = {"config_id": trial.config_id, "generation": trial.generation, "fidelity": trial.fidelity}
    return {**known, **of_search, "parents": parents, **parameters}


def _outcome_cells(row: Row, clock: bool) -> dict[str, Any]:
    if (outcome := row.outcome) is None:
        return {}
    found: dict[str, Any] = {
        "attempt": outcome.attempt, "kind": outcome.kind, "cause": outcome.cause or None, "value": outcome.value,
        "seconds": None if outcome.started is None else outcome.seconds, "evidence": outcome.evidence or None,
        **{METRIC + name: value for name, value in outcome.metrics.items()},
    }  # fmt: skip
    return {**found, **_place_cells(row, outcome)} if clock else found


def _place_cells(row: Row, outcome: Outcome) -> dict[str, Any]:
    return {
        "started": moment(outcome.started), "ended": moment(outcome.ended), "host": outcome.host or None,
        "gpu": outcome.gpu, "gpu_seconds": row.gpu_seconds, "peak_memory": outcome.peak_memory or None,
        "directory": row.directory or None,
    }  # fmt: skip


def moment(seconds: float | None) -> datetime | None:
    """A time in seconds since the epoch."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _as(kind: type, value: Cell) -> Cell:
    if value is None or kind is datetime:
        return value
    return text_of(value) if kind is str else kind(value)


def text_of(value: Cell) -> str:
    """As tables have it, without the halves of surrogate pairs that no file takes."""
    if value is None:
        return ""
    text = value.isoformat() if isinstance(value, datetime) else cell(value)
    return text.encode(errors="replace").decode()


def type_of(parameter: Parameter) -> type:
    """Of the values of a hyperparameter that is searched."""
    if isinstance(parameter, Number):
        return int if parameter.integer else float
    return common_type(parameter.values())


def common_type(values: Iterable[Value]) -> type:
    """One that can hold all the values; float where there is none, or a whole number is longer than 64 bits."""
    known = set(values)
    kinds = {type(value) for value in known}
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in known if isinstance(value, int)):
        return int
    if kinds <= {int, float}:
        return float
    return bool if kinds == {bool} else str


def to_csv(columns: Sequence[Column]) -> str:
    """Times in UTC by ISO 8601, logical values as true and false; the cell of what is not known is empty."""
    rows = zip(*(map(text_of, column.values) for column in columns), strict=True)
    return "".join(map(csv_line, [[text_of(column.name) for column in columns], *rows]))


def to_frame(columns: Sequence[Column], library: str) -> Any:
    """A data frame of ``pandas`` or ``polars``, whose types know null. Raises InputError if the library is missing."""
    makers = {"pandas": _to_pandas, "polars": _to_polars}
    if library not in makers:
        raise InputError(
            f"library: {show(library)} is no library of data frames\n    -> {did_you_mean(library, [*makers])}"
        )
    try:
        return makers[library](columns)
    except ImportError as error:
        raise InputError(f"{library}: is not installed ({error})\n    -> pip install {library}") from error


def _to_pandas(columns: Sequence[Column]) -> Any:
    import pandas as pd

    dtypes = {int: "Int64", float: "float64", bool: "boolean", str: "string", datetime: "datetime64[us, UTC]"}
    return pd.DataFrame({each.name: pd.Series(each.values, dtype=dtypes[each.type]) for each in columns})


def _to_polars(columns: Sequence[Column]) -> Any:
    import polars as pl

    dtypes = {
        int: pl.Int64(),
        float: pl.Float64(),
        bool: pl.Boolean(),
        str: pl.String(),
        datetime: pl.Datetime("us", "UTC"),
    }
    return pl.DataFrame([pl.Series(each.name, each.values, dtypes[each.type]) for each in columns])
