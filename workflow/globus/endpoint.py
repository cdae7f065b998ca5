"""The keys of a site behind Globus Compute, and where a run lies there: no file of it can be seen from here."""

from __future__ import annotations

import importlib
import json
import posixpath
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workflow.config.strict import Section
from workflow.rundir import RunDir

ENDPOINT_SCHEDULER = "globus_compute"

INSTALL_SDK = "pip install 'globus-compute-sdk>=4.19,<5'"

_DAY = 86400.0
_KEYS = ("endpoint", "user_endpoint_config", "endpoint_directory", "queue_timeout")


@dataclass(frozen=True)
class Endpoint:
    """A Globus Compute endpoint.

    ``id`` is its UUID; ``directory``, an absolute path there, holds the runs. ``config`` is what a multi-user endpoint
    takes from its users. ``queue_timeout`` is the longest time in seconds that a stage may wait for a worker.
    """

    id: str
    directory: str
    config: Mapping[str, Any] | None = None
    queue_timeout: float = _DAY

    @property
    def is_placeholder(self) -> bool:
        """Whether it is the one of the shipped site file, which is nobody's."""
        return uuid.UUID(self.id).int == 0

    def run(self, run: RunDir) -> RunDir:
        """The run as the endpoint's workers see it."""
        return RunDir(Path(self.directory, run.name))


def sdk_trouble() -> str:
    """Why the SDK cannot be used here; empty if it can."""
    try:
        importlib.import_module("globus_compute_sdk")
    except ImportError as error:
        return f"Globus Compute's SDK cannot be used here ({error})"
    return ""


def read_endpoint(top: Section, scheduler: str | None) -> Endpoint | None:
    """The keys of a site file; None for another scheduler. Every problem goes to the section's problems."""
    if scheduler != ENDPOINT_SCHEDULER:
        for key in _KEYS:
            if top.raw(key) is not None:
                top.problems.add(top.at(key), f"means nothing to this scheduler ({scheduler})", "take it out")
        return None
    _refuse_gpus(top)
    timeout = top.duration("queue_timeout", _DAY)
    return Endpoint(_read_id(top), _read_directory(top), _read_config(top), timeout)


def endpoint_data(endpoint: Endpoint | None) -> dict[str, Any]:
    """What ``read_endpoint`` reads back to the same."""
    if endpoint is None:
        return {}
    values = (endpoint.id, endpoint.config, endpoint.directory, endpoint.queue_timeout)
    return {key: value for key, value in zip(_KEYS, values, strict=True) if value is not None}


def _refuse_gpus(top: Section) -> None:
    if (value := top.raw("gpus")) not in (None, "auto", 0, []):
        top.wrong("gpus", value, "leave it out: each worker of the endpoint has its own mask; 0 if there are none")


def _read_id(top: Section) -> str:
    text = top.text("endpoint")
    remedy = "write the endpoint's UUID, as globus-compute-endpoint list shows it"
    if text is None:
        top.problems.add(top.at("endpoint"), "is missing", remedy)
        return ""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        top.wrong("endpoint", text, remedy)
        return ""


def _read_directory(top: Section) -> str:
    text = top.text("endpoint_directory")
    remedy = "write an absolute path of the endpoint's machine, without variables and ~"
    if text is None:
        top.problems.add(top.at("endpoint_directory"), "is missing", remedy)
    elif not text.startswith("/") or "$" in text:
        top.wrong("endpoint_directory", text, remedy)
    return posixpath.normpath(text or "/")


def _read_config(top: Section) -> Mapping[str, Any] | None:
    value = top.raw("user_endpoint_config")
    if value is None or (isinstance(value, dict) and _is_json(value)):
        return value
    top.wrong("user_endpoint_config", value, "write 'key: value' lines that JSON can carry")
    return None


def _is_json(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
