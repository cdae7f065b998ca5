"""Parsl's data-flow kernel: begun with its log in a run's directory, and ended within a limited time."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from parsl.config import Config
from parsl.dataflow.dflow import DataFlowKernel

from workflow.cluster.executors import plain_alias
from workflow.cluster.parsl_log import log_to, quietly
from workflow.disk import make_directory, with_remedy
from workflow.errors import SiteError

_CLEAN_UP_TIMEOUT = 30.0


class Kernel:
    """Parsl for one run on a site; it keeps its files in ``directory``, with the log of ``packages``."""

    def __init__(self, site_name: str, directory: Path, packages: tuple[str, ...] = ("parsl",)) -> None:
        self.site_name = site_name
        self.directory = directory
        self.flow: DataFlowKernel | None = None
        """Parsl's; None before the start."""
        self._packages = packages
        self._end_log: Callable[[], None] = lambda: None
        self._alias: Path | None = None

    def start(self, configure: Callable[[Path], Config]) -> DataFlowKernel:
        """Parsl by the configuration for its directory, of which ``configure`` gets a name that Parsl can carry.

        On the main thread. Raises SiteError; ``close`` is due all the same.
        """
        make_directory(self.directory)
        self._end_log = log_to(self.directory / "parsl.log", self._packages)
        try:
            alias, self._alias = plain_alias(self.directory)
            self.flow = DataFlowKernel(configure(alias))
        except SiteError as error:
            raise SiteError(f"site {self.site_name}: {error}") from error
        except Exception as error:
            said = f"site {self.site_name}: Parsl cannot start: {error}; see {self.directory}"
            raise SiteError(with_remedy(said)) from error
        return self.flow

    def clean_up(self) -> None:
        """Let Parsl end, which can wait for ever for a worker: here it has a limited time."""
        if self.flow is not None:
            cleaner = threading.Thread(target=quietly, args=(self.flow.cleanup,), daemon=True)
            cleaner.start()
            cleaner.join(_CLEAN_UP_TIMEOUT)

    def close(self) -> None:
        """Take the log and the directory's other name away."""
        self._end_log()
        if self._alias is not None:
            shutil.rmtree(self._alias, ignore_errors=True)
