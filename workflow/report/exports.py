"""A run in the formats of other tools."""

from __future__ import annotations

import importlib
import io
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from workflow.config.strict import is_there
from workflow.disk import disk_remedy
from workflow.errors import InputError, SiteError
from workflow.report.columns import to_csv, to_frame
from workflow.report.history import Run

FORMATS: Mapping[str, str] = {
    "csv": "outcomes.csv", "parquet": "outcomes.parquet", "optuna": "optuna.log", "mlflow": "mlflow.db",
}  # fmt: skip
"""What the file of each format is called by default; it lies in the run's directory, or beside the table."""


def export(run: Run, kind: str, output: str | None = None) -> str:
    """Write a run in one of the ``FORMATS``; returns a line that says where it is and what opens it.

    The default file is replaced, an ``output`` that exists is not; an MLflow store, which may also be a URI, is added
    to. Raises InputError, also where a package is missing, or SiteError if the disk doesn't take it.
    """
    place = _default(run, kind) if output is None else Path(output).expanduser().absolute()
    if kind == "mlflow":
        return _export_to_store(run, output) if output is not None and "://" in output else _export_to_file(run, place)
    if output is not None and is_there(place):
        raise InputError(f"--output {output}: exists already\n    -> remove it, or choose another name")
    try:
        _write(run, kind, place)
    except OSError as error:
        raise _unwritable(place, error) from error
    if kind == "optuna":
        return f"{len(run.trials)} trials in {place}; look at them with: optuna-dashboard {shlex.quote(str(place))}"
    return f"{len(run.attempts)} attempts of {len(run.trials)} trials in {place}"


def _unwritable(place: Path, error: OSError) -> SiteError:
    return SiteError(f"{place}: cannot be written ({error.strerror})\n    -> {disk_remedy(error)}")


def _export_to_file(run: Run, place: Path) -> str:
    """Into MLflow's file, in a directory that takes one: else MLflow tries for minutes, without a word.

    A new file appears with all its tables: MLflow can't go on with one that was cut off before.
    """
    mlflow, target = _module("mlflow"), place.resolve()
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as directory:
            if not is_there(target):
                draft = Path(directory, target.name)
                mlflow.make(draft, place)
                draft.replace(target)
    except OSError as error:
        raise _unwritable(place, error) from error
    return _export_to_store(run, f"sqlite:///{place}")


def _export_to_store(run: Run, uri: str) -> str:
    _module("mlflow").write(run, uri)
    what_shows = f"mlflow ui --backend-store-uri {shlex.quote(uri)}"
    return f"{len(run.outcomes)} trials that have ended in {uri}; look at them with: {what_shows}"


def _default(run: Run, kind: str) -> Path:
    name = FORMATS[kind]
    return run.path.with_name(f"{run.path.stem}-{name}") if run.files is None else run.files.export(name)


def _write(run: Run, kind: str, place: Path) -> None:
    """At once, so that a reader never sees half of it. Raises OSError."""
    draft = place.with_name(f".{place.name}.new")
    try:
        draft.unlink(missing_ok=True)
        if kind == "csv":
            draft.write_text(to_csv(run.columns(attempts=True)), encoding="utf-8", newline="")
        elif kind == "parquet":
            whole = io.BytesIO()  # polars hides what a file's write raises
            to_frame(run.columns(attempts=True), "polars").write_parquet(whole)
            draft.write_bytes(whole.getbuffer())
        else:
            _module("optuna").write(run, draft)
        draft.replace(place)
    finally:
        draft.unlink(missing_ok=True)


def _module(extra: str) -> ModuleType:
    """What writes the format of an optional package. Raises InputError if that is missing."""
    try:
        return importlib.import_module(f"workflow.report.exports_{extra}")
    except ImportError as error:
        remedy = f'in the clone: pip install ".[{extra}]"'
        raise InputError(
            f"--format {extra}: needs packages that are not installed ({error})\n    -> {remedy}"
        ) from error
