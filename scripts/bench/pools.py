"""Parsl's pools for the benchmarks that compare with bare bash_apps."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import parsl
from parsl import bash_app
from parsl.config import Config
from parsl.executors import HighThroughputExecutor, ThreadPoolExecutor
from parsl.providers import LocalProvider

App = Callable[[str], "Future[int]"]
POOLS = ("threads", "htex")


def find_programs() -> None:
    """Put Parsl's scripts on PATH, which are not where no virtual environment is active."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


@contextmanager
def bare_app(name: str, workers: int, scratch: Path) -> Iterator[App]:
    """A bash_app of a command line, on a pool of ``POOLS``, once its workers are there."""
    find_programs()
    kernel = parsl.load(Config(executors=[_executor(name, workers)], run_dir=str(scratch / "parsl"), usage_tracking=0))
    try:
        app = bash_app(data_flow_kernel=kernel)(os.fspath)  # the command as it is, by what workers can import
        app("true").result()
        yield app
    finally:
        kernel.cleanup()
        parsl.clear()


def _executor(name: str, workers: int) -> ThreadPoolExecutor | HighThroughputExecutor:
    if name == "threads":
        return ThreadPoolExecutor(max_threads=workers)
    return HighThroughputExecutor(
        address="127.0.0.1", max_workers_per_node=workers, cores_per_worker=1e-3, provider=LocalProvider(max_blocks=1)
    )
