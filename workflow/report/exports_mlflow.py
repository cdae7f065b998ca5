"""A run as an experiment of MLflow's, in a local file or at a tracking server."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # an export talks to the store alone
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # seven take minutes, without a word

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from workflow.config.initial import cell
from workflow.errors import InputError, SiteError
from workflow.report.history import Run
from workflow.trial import Outcome, Trial, Value

_STATUS = {"ok": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
"""What SQLite says of a full disk: the second is that of a quota, or of a broken disk."""

_PAGE = 1000
_LONGEST = 5000
"""Characters of a parameter or a tag, which MLflow limits."""


def write(run: Run, uri: str) -> None:
    """Add the trials that have ended to the experiment of the run's name, but for those that it has.

    Raises InputError if that is another run's, or the store cannot be used; SiteError if its disk doesn't take it.
    """
    with _refusing(uri):
        client = MlflowClient(uri)
        experiment = _experiment(client, run)
        known = dict(_known(client, experiment))
        for trial, outcome in run.ended():
            if trial.id in known and known[trial.id][1] != str(outcome.attempt):  # taken back, or cut off
                client.delete_run(known.pop(trial.id)[0])
            if trial.id not in known:
                _add(client, experiment, run, trial, outcome)


def make(file: Path, name: Path) -> None:
    """Make an empty store in a file that is not there yet; messages call it ``name``. Raises as ``write`` does."""
    with _refusing(str(name)):
        MlflowClient(f"sqlite:///{file}").search_experiments(max_results=1)


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    """What a store raises as InputError, or as SiteError where its disk is full."""
    for each in ("mlflow", "alembic"):
        logging.getLogger(each).setLevel(logging.WARNING)
    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:
        if said := _said_of_disk(error):
            raise SiteError(f"{name}: cannot be written ({said})\n    -> make room, or check the disk") from error
        raise InputError(f"{name}: {error}\n    -> check the store") from error


def _said_of_disk(error: BaseException | None) -> str:
    """SQLite's own words, if they are of its disk; empty otherwise."""
    while error is not None:
        if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _FULL:
            return str(error)
        error = error.__cause__
    return ""


def _experiment(client: MlflowClient, run: Run) -> str:
    found = client.get_experiment_by_name(run.name)
    if found is None:
        return str(client.create_experiment(run.name, tags={"run": str(run.path)}))
    if found.tags.get("run") != str(run.path) or found.lifecycle_stage != "active":
        what = f"holds an experiment {run.name!r} that is not this run's, or was deleted"
        raise InputError(f"{client.tracking_uri}: {what}\n    -> name another store by --output, or rename that one")
    return str(found.experiment_id)


def _known(client: MlflowClient, experiment: str) -> Iterator[tuple[int, tuple[str, str]]]:
    """The MLflow run of each trial, and the attempt that it tells of: none where an export was cut off in it."""
    token = None
    while token != "":
        page = client.search_runs([experiment], max_results=_PAGE, page_token=token)
        for each in page:
            tags = each.data.tags
            if "trial" in tags and "attempt" in tags:
                is_whole = each.info.status in _STATUS.values()  # which is written last
                yield int(tags["trial"]), (each.info.run_id, tags["attempt"] if is_whole else "")
        token = page.token or ""


def _add(client: MlflowClient, experiment: str, run: Run, trial: Trial, outcome: Outcome) -> None:
    begin = round(1000 * (outcome.started or 0.0)) or 1  # 0 would be the present
    end = begin + round(1000 * outcome.seconds)
    tags = {"mlflow.source.type": "JOB", **_texts(_about(run, trial, outcome))}
    entry = client.create_run(experiment, begin, tags, run_name=f"{run.name} {trial.id}")
    params = [Param(_key(name), text) for name, text in _texts(trial.params).items()]
    client.log_batch(entry.info.run_id, list(_metrics(run, outcome, begin, end)), params)
    client.set_terminated(entry.info.run_id, _STATUS[outcome.kind], end)


def _about(run: Run, trial: Trial, outcome: Outcome) -> dict[str, Any]:
    parents = " ".join(map(str, trial.parents))
    found = {
        "trial": trial.id, "attempt": outcome.attempt, "config_id": trial.config_id, "generation": trial.generation,
        "fidelity": trial.fidelity, "parents": parents, "evidence": outcome.evidence, "cause": outcome.cause,
        "host": outcome.host, "gpu": outcome.gpu, "directory": run.directory_of(outcome),
    }  # fmt: skip
    return {name: value for name, value in found.items() if value not in (None, "")}


def _metrics(run: Run, outcome: Outcome, begin: int, end: int) -> Iterator[Metric]:
    """The learning curve by its steps, then the scores at the last of them: MLflow shows the latest of equals."""
    name = run.objective.metric
    last = outcome.curve[-1][0] if outcome.curve else 0
    yield from (Metric(_key(name), value, begin, step) for step, value in outcome.curve)
    scores = dict(outcome.metrics) | ({name: outcome.value} if outcome.value is not None else {})
    scores |= {"seconds": outcome.seconds, "gpu_seconds": run.gpu_seconds(outcome), "peak_memory": outcome.peak_memory}
    yield from (Metric(_key(each), float(value), end, last) for each, value in scores.items())


def _texts(values: Mapping[str, Value]) -> dict[str, str]:
    return {name: cell(value)[:_LONGEST] for name, value in values.items()}


def _key(name: str) -> str:
    """A name with the characters only that MLflow takes."""
    return re.sub(r"[^\w.\- /]", "_", name)
