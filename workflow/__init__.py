"""Hyperparameter optimization of containerized models on Parsl.

The command line is the main entrance: ``python -m workflow.run --site local``. For notebooks:

    from workflow import load_run

    run = load_run("runs/demo")
    run.best, run.front, run.frame()
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would cost some milliseconds of every trial
    from typing import Any

    from workflow.report.history import Run, load_run

__all__ = ["Run", "__version__", "load_run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """The public names, when they are first used: no command line waits for what it doesn't need."""
    if name not in __all__:
        raise AttributeError(f"module 'workflow' has no attribute {name!r}")
    from workflow.report import history

    return getattr(history, name)
