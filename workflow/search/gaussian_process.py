"""A Gaussian process on mixed parameters, fitted by maximum a posteriori.

The kernel is Matern-5/2 with a length for each ordered parameter, times exp(-theta) for each categorical one that
differs. Numbers of equations are those of Rasmussen & Williams 2006.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from workflow.search.arrays import Array, Mask

_JITTER = 1e-8
_STEPS = 40
"""Of the optimizer, for a fit."""


class GaussianProcess:
    """Of values with mean 0 and variance 1, at rows of which ``categorical`` (d,) tells the columns without order.

    ``fit`` finds ``parameters`` by values, ``condition`` says what values to predict from; both may be called again.
    Raises numpy.linalg.LinAlgError where no fit is possible.

    >>> rows = np.linspace(0, 1, 20)[:, None]
    >>> values = np.sin(6 * rows[:, 0])
    >>> model = GaussianProcess(np.array([False]))
    >>> model.fit(rows, values)
    >>> model.condition(rows, values, pending=np.empty((0, 1)))
    >>> mean, deviation = model.predict(np.array([[0.33]]))
    >>> bool(abs(mean[0] - np.sin(6 * 0.33)) < 0.05), deviation.shape
    (True, (1,))
    """

    def __init__(self, categorical: Mask) -> None:
        self.categorical = categorical
        ordered, unordered = int((~categorical).sum()), int(categorical.sum())
        # A priori the logarithms of lengths, of thetas, and of the variances of signal and noise are normal. Lengths
        # grow with the root of their number, as distances do (Hvarfner et al. 2024).
        length = np.log(0.4) + 0.5 * np.log(max(1, ordered))
        self._means = np.concatenate([np.full(ordered, length), np.full(unordered, np.log(0.5)), [0.0, np.log(1e-2)]])
        self._deviations = np.concatenate([np.ones(ordered + unordered), [0.7, 1.5]])
        self._bounds = [*[(-4.0, 3.0)] * ordered, *[(-6.0, 3.0)] * unordered, (-3.0, 3.0), (-11.0, 0.0)]
        self.parameters = self._means.copy()

    def fit(self, rows: Array, values: Array) -> None:
        """The parameters for ``values`` (n,) at ``rows`` (n, d), from the last ones on."""
        ordered, unordered = rows[:, ~self.categorical].T, rows[:, self.categorical].T
        squares = (ordered[:, :, None] - ordered[:, None, :]) ** 2
        unequal = (unordered[:, :, None] != unordered[:, None, :]).astype(float)
        found = minimize(
            self._loss, self.parameters, args=(squares, unequal, values), jac=True, method="L-BFGS-B",
            bounds=self._bounds, options={"maxiter": _STEPS},
        )  # fmt: skip
        if not np.all(np.isfinite(found.x)):
            raise np.linalg.LinAlgError("the fit did not end")
        self.parameters = found.x

    def _loss(self, parameters: Array, squares: Array, unequal: Array, values: Array) -> tuple[float, Array]:
        """Negative log posterior, but for constants, and its gradient (eq. 2.30 and 5.9, with the prior).

        ``squares`` (ordered, n, n) are differences of ordered columns, squared, and ``unequal`` (unordered, n, n) is 1
        where a categorical column differs.
        """
        lengths, thetas, signal, noise = self._split(parameters)
        distance = np.sqrt(5 * np.tensordot(lengths**-2, squares, 1) + 1e-12)
        decay = signal * np.exp(-distance - np.tensordot(thetas, unequal, 1))
        kernel = (1 + distance + distance**2 / 3) * decay
        size = len(values)
        try:
            lower = cholesky(kernel + (noise + _JITTER) * np.eye(size), lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            return 1e10, np.zeros_like(parameters)
        inverse = cho_solve((lower, True), np.eye(size), check_finite=False)
        weights = inverse @ values
        loss = 0.5 * values @ weights + np.log(np.diag(lower)).sum()
        outer = np.outer(weights, weights) - inverse
        slope = outer * (5 / 3) * (1 + distance) * decay
        gradient = np.concatenate(
            [
                -0.5 * np.tensordot(squares, slope, 2) * lengths**-2,
                0.5 * np.tensordot(unequal, outer * kernel, 2) * thetas,
                [-0.5 * (outer * kernel).sum(), -0.5 * noise * np.trace(outer)],
            ]
        )
        away = (parameters - self._means) / self._deviations
        return float(loss + 0.5 * away @ away), gradient + away / self._deviations

    def _split(self, parameters: Array) -> tuple[Array, Array, float, float]:
        ordered = int((~self.categorical).sum())
        values = np.exp(parameters)
        return values[:ordered], values[ordered:-2], float(values[-2]), float(values[-1])

    def condition(self, rows: Array, values: Array, pending: Array) -> None:
        """Predict from ``values`` (n,) at ``rows`` (n, d).

        Rows that are ``pending`` (m, d) narrow the variance, which needs no values, and leave the mean.
        """
        self._rows, self._all = rows, np.vstack([rows, pending])
        noise = self._split(self.parameters)[-1] + _JITTER
        kernel = self.covariance(self._all, self._all) + noise * np.eye(len(self._all))
        self._lower = cholesky(kernel, lower=True, check_finite=False)
        own = self._lower[: len(rows), : len(rows)]
        self._weights = cho_solve((own, True), values, check_finite=False)

    def predict(self, rows: Array) -> tuple[Array, Array]:
        """Mean and standard deviation (without noise) at ``rows``, each of shape (n,). After ``condition``.

        Equations 2.25 and 2.26, by algorithm 2.1.
        """
        kernel = self.covariance(self._all, rows)
        mean = self._weights @ kernel[: len(self._rows)]
        half = solve_triangular(self._lower, kernel, lower=True, check_finite=False)
        variance = self._split(self.parameters)[2] - (half**2).sum(axis=0)
        return mean, np.sqrt(np.maximum(variance, 1e-12))

    def covariance(self, rows: Array, others: Array) -> Array:
        """Of the values at ``rows`` (n, d) with those at ``others`` (m, d), without noise: shape (n, m), eq. 4.17."""
        lengths, thetas, signal, _ = self._split(self.parameters)
        a, b = rows[:, ~self.categorical] / lengths, others[:, ~self.categorical] / lengths
        squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * a @ b.T
        distance = np.sqrt(5 * np.maximum(squares, 0.0))
        unlike = np.zeros_like(distance)
        for theta, column in zip(thetas, np.flatnonzero(self.categorical), strict=True):
            unlike += theta * (rows[:, column][:, None] != others[:, column][None, :])
        kernel: Array = signal * (1 + distance + distance**2 / 3) * np.exp(-distance - unlike)
        return kernel
