"""The bash_app by which Parsl runs stages, and the line of text that it gets of each."""

from __future__ import annotations

import builtins
import json
import os
import shlex
import sys
import threading
import types
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from parsl import bash_app
from parsl.dataflow.dflow import DataFlowKernel

from workflow import supervise
from workflow.cluster.executors import LABEL
from workflow.errors import InputError
from workflow.site import Site
from workflow.worker import contract

_MAX_COMMAND = 120_000
"""Bytes of one bash command: Linux refuses an argument of 128 KiB and more."""


def command_app(site: Site, kernel: DataFlowKernel) -> Callable[[str], Future[Any]]:
    """An app that runs a line of text on a worker of the site."""
    pinned = site.scheduler == "threads" and site.gpus
    app: Callable[[str], Future[Any]] = bash_app(data_flow_kernel=kernel, executors=[LABEL])(
        _pinning(site) if pinned else _by_value()
    )
    return app


def command_line(spec: contract.Spec) -> str:
    """What the app gets of a stage. Raises InputError for one that no command line can carry."""
    words = [sys.executable, "-I", "-S", str(Path(supervise.__file__)), json.dumps(spec)]
    errors = shlex.quote(f"{spec['directory']}/{contract.ERRORS}")
    line = f"exec {shlex.join(words)} 2>{errors}"
    check_length(spec["title"], line)
    return line


def check_length(title: str, line: str) -> None:
    """Raises InputError for a command line that is too long for Linux."""
    size = len(os.fsencode(line))
    if size > _MAX_COMMAND:
        raise InputError(
            f"{title}: its command line has {size} bytes\n    -> stay below {_MAX_COMMAND}: pass large values as a file"
        )


def _command(command: str) -> str:
    return command


def _by_value() -> types.FunctionType:
    """A bash_app's function that travels by value: workers then need Parsl, but not this package."""
    function = types.FunctionType(_command.__code__, {"__builtins__": builtins}, "stage")
    function.__module__ = "__main__"
    return function


def _pinning(site: Site) -> Callable[[str], str]:
    """The app's function on Parsl's thread executor, which pins nothing: a GPU for each of its numbered threads."""

    def stage(command: str) -> str:
        number = int(threading.current_thread().name.rpartition("_")[2])
        return f"export {site.mask}={shlex.quote(site.gpus[number])}; {command}"

    return stage
