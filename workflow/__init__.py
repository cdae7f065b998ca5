"""Hyperparameter optimization of containerized models on Parsl.

The command line is the main entrance: ``python -m workflow.run --site local``. For notebooks:

    from workflow import load_run

    run = load_run("runs/demo")
    run.best, run.front, run.frame()
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would cost some milliseconds of every trial
    from types import FrameType
    from typing import Any, NoReturn

    from workflow.report.history import Run, load_run

__all__ = ["Run", "__version__", "load_run"]
__version__ = "0.1.0"


def _end(number: int, frame: FrameType | None) -> NoReturn:
    os.write(2, b"interrupted\n")
    os._exit(130)


if sys.argv[:1] == ["-m"] and any(word.removeprefix("-m").startswith(f"{__name__}.") for word in sys.orig_argv[1:]):
    # One of the command lines. Its imports take a second, in which a signal is no error; terminal takes them over.
    for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(_number) is not signal.SIG_IGN:
            signal.signal(_number, _end)


def __getattr__(name: str) -> Any:
    """The public names, when they are first used: no command line waits for what it doesn't need."""
    if name not in __all__:
        raise AttributeError(f"module 'workflow' has no attribute {name!r}")
    from workflow.report import history

    return getattr(history, name)
