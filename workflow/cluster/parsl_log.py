"""Parsl's log, and its like, in a file of the run."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable
from pathlib import Path


class LogFile(logging.FileHandler):
    """A full disk costs the log and nothing else; an error here would stop Parsl's own callbacks for ever."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing: the journal is what reports a full disk."""

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


def log_to(path: Path, packages: Iterable[str] = ("parsl",)) -> Callable[[], None]:
    """The packages' warnings into a file of the run; what is returned ends that.

    At INFO Parsl's log costs more than the submission itself.
    """
    handler = LogFile(path, delay=True)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    loggers = list(map(logging.getLogger, packages))
    for logger in loggers:
        logger.propagate = False
        logger.addHandler(handler)

    def end() -> None:
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()

    return end


def quietly(action: Callable[[], object]) -> None:
    try:
        action()
    except Exception:  # of Parsl's: one step that fails must not keep the next from ending processes
        logging.getLogger("parsl").exception("clean-up")
