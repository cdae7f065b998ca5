"""What a training costs, by its hyperparameters: they decide about durations over orders of magnitude."""

from __future__ import annotations

import numpy as np

from workflow.search.arrays import Array, Mask

_RIDGE = 0.1


class Cost:
    """The logarithm of seconds as a quadratic function of ordered columns and the values of categorical ones.

    Fitted by ridge regression. ``categorical`` (d,) tells which columns have no order. A quarter or less of the
    variance of published campaigns' walltimes remains unexplained by their hyperparameters (README, "Campaigns in
    simulated time").

    >>> rows = np.linspace(0, 1, 20)[:, None]
    >>> cost = Cost(np.array([False]))
    >>> cost.fit(rows, np.exp(rows[:, 0]))
    >>> cost.predict(np.array([[0.5]])).round(1)
    array([0.5])
    """

    def __init__(self, categorical: Mask) -> None:
        self._categorical = categorical
        self._values: list[tuple[int, float]] = []
        self._weights: Array = np.zeros(0)
        self._mean = 0.0

    def fit(self, rows: Array, seconds: Array) -> None:
        """``rows`` (n, d); only positive ``seconds`` (n,) count."""
        rows, logarithms = rows[seconds > 0], np.log(seconds[seconds > 0])
        columns = np.flatnonzero(self._categorical)
        self._values = [(int(column), float(value)) for column in columns for value in np.unique(rows[:, column])]
        self._mean = float(logarithms.mean()) if len(logarithms) else 0.0
        features = self._features(rows)
        squares = features.T @ features + _RIDGE * np.eye(features.shape[1])
        self._weights = np.asarray(np.linalg.solve(squares, features.T @ (logarithms - self._mean)), dtype=float)

    def predict(self, rows: Array) -> Array:
        """The logarithm of seconds at ``rows``, of shape (n,)."""
        logarithms: Array = self._mean + self._features(rows) @ self._weights
        return logarithms

    def _features(self, rows: Array) -> Array:
        ordered = rows[:, ~self._categorical] - 0.5
        equal = [rows[:, column] == value for column, value in self._values]
        return np.column_stack([np.ones(len(rows)), ordered, ordered**2, *equal]).astype(float)
