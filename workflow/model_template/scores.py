"""The scores of predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
NAMES = ("mse", "rmse", "pcc", "scc", "r2")


def score(y_true: Array, y_pred: Array) -> dict[str, float]:
    """Return the scores NAMES of two vectors of shape (rows,), computed in double precision.

    pcc is Pearson's and scc Spearman's correlation. A score that is undefined is nan: the correlations of a constant,
    and every score as soon as one prediction is not finite, for training has then diverged.
    """
    y_true, y_pred = y_true.astype(np.float64), y_pred.astype(np.float64)
    if not np.isfinite(y_pred).all():
        return dict.fromkeys(NAMES, float("nan"))
    mse = np.mean((y_true - y_pred) ** 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        pcc, scc = _correlation(y_true, y_pred), _correlation(_ranks(y_true), _ranks(y_pred))
        r2 = 1.0 - mse / np.var(y_true)
    return {name: float(value) for name, value in zip(NAMES, (mse, np.sqrt(mse), pcc, scc, r2), strict=True)}


def _correlation(a: Array, b: Array) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a @ b) / np.sqrt((a @ a) * (b @ b)))


def _ranks(values: Array) -> Array:
    """Return ranks from 1; equal values share the mean of theirs."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray(last - (counts - 1) / 2.0)[group]
