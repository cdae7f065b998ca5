"""Parsl's data-flow kernel: begun with its log in a run's directory, and ended within a limited time."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from parsl.config import Config
from parsl.dataflow.dflow import DataFlowKernel

from workflow.cluster.executors import leads_to, plain_alias
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
        self._aliases = directory / "aliases"
        """Names the temporary directories with other names of this one, for the next controller if one is killed."""
        self._holders: list[Path] = []
        """Those of this controller and the ones before it: a later one's are not its to remove."""

    def start(self, configure: Callable[[Path], Config]) -> DataFlowKernel:
        """Parsl by the configuration for its directory, of which ``configure`` gets a name that Parsl can carry.

        On the main thread. Raises SiteError; ``close`` is due all the same.
        """
        make_directory(self.directory)
        self._end_log = log_to(self.directory / "parsl.log", self._packages)
        try:
            if self._aliases.exists():
                self._holders += map(Path, self._aliases.read_text().splitlines())
            alias, holder = plain_alias(self.directory)
            if holder is not None:
                self._holders.append(holder)
                with self._aliases.open("a") as file:
                    file.write(f"{holder}\n")
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
        """Take the log and the directory's other names away."""
        self._end_log()
        for holder in self._holders:
            if leads_to(holder, self.directory):
                shutil.rmtree(holder, ignore_errors=True)
        if self._holders:
            with contextlib.suppress(OSError):
                named = self._aliases.read_text().splitlines(keepends=True)
                self._aliases.write_text("".join(line for line in named if Path(line.rstrip()) not in self._holders))
