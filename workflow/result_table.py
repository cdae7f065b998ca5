"""The columns of a result table (``hpo.csv``) beside those of the hyperparameters."""

from __future__ import annotations

PLACE = ("iteration", "sample")
RESULT = ("metric", "result", "walltime")
PARETO = "pareto"
"""1 for a trial that no other one dominates, where there are several objectives."""

_FURTHER = "result_"


def further_column(metric: str) -> str:
    """The column with the results by a further objective."""
    return f"{_FURTHER}{metric}"


def further_metrics(header: list[str]) -> tuple[str, ...]:
    return tuple(name.removeprefix(_FURTHER) for name in header if name.startswith(_FURTHER))


def is_own(name: str) -> bool:
    """Whether a column is none of a hyperparameter's."""
    return name in (*PLACE, *RESULT, PARETO) or name.startswith(_FURTHER)
