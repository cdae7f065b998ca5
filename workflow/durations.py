"""How long a training may take, learned from those that have ended. All of it is pure.

Seconds of a training depend on its hyperparameters (epochs, layers, batch size) over orders of magnitude. A linear
model of their logarithm is fitted to the trials so far, by ridge regression; what is asked for is an upper bound, since
a training that is cut off by the end of its block costs all of its time.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from workflow.trial import Trial, Value

LONGER = "set a longer walltime, let trainings go on from {checkpoint_dir}, or lower the time-out of train"
"""The remedy where a job is too short for a training."""

_ENOUGH = 12
"""Trainings from which a model is fitted; with fewer, the longest one counts."""

_LATEST = 2000
"""Trainings that a model is fitted to, at most."""

_MARGIN = 1.25
_DEVIATIONS = 2.5
"""Of the residuals, which are added to the prediction."""

_AFTER_A_CUT = 1.5
"""A training that was cut off is expected to take so many times what it had; where it may resume, it takes less."""

_RIDGE = 1e-2


@dataclass(frozen=True)
class Expectation:
    """A training will most probably end within ``seconds``; ``measured`` if trainings told so, not its time-out."""

    seconds: float
    measured: bool


@dataclass
class Durations:
    """Learns from trainings that ended by themselves (``learn``) and that were cut off (``cut``).

    ``timeout`` in seconds ends every training; None if none does.
    """

    timeout: float | None = None
    _samples: deque[tuple[Trial, float]] = field(default_factory=lambda: deque(maxlen=_LATEST))
    _learned: int = 0
    _cut: dict[int, float] = field(default_factory=dict)
    _model: _Model | None = None
    _fitted: int = 0

    def learn(self, trial: Trial, seconds: float) -> None:
        if seconds > 0:
            self._samples.append((trial, seconds))
            self._learned += 1

    def cut(self, trial: Trial, seconds: float) -> None:
        self._cut[trial.config_id] = max(seconds, self._cut.get(trial.config_id, 0.0))

    def expect(self, trial: Trial) -> Expectation | None:
        """None if nothing is known."""
        bound = self._bound(trial)
        if trial.config_id in self._cut:
            bound = max(bound or 0.0, _AFTER_A_CUT * self._cut[trial.config_id])
        known = [seconds for seconds in (bound, self.timeout) if seconds is not None]
        return Expectation(min(known), measured=bound is not None) if known else None

    def _bound(self, trial: Trial) -> float | None:
        if not self._samples:
            return None
        longest = max(seconds for _, seconds in self._samples)
        if len(self._samples) < _ENOUGH:
            return _MARGIN * longest
        if self._model is None or self._learned > 1.1 * self._fitted:
            self._model, self._fitted = _Model.fit(self._samples), self._learned
        return _MARGIN * min(self._model.predict(trial), 2 * longest)


@dataclass(frozen=True)
class _Model:
    """log(seconds) as a linear function of features: numbers scaled to 0..1, other values one column each."""

    scales: dict[str, tuple[float, float, bool]]
    columns: list[tuple[str, Value | None]]
    weights: npt.NDArray[np.float64]
    deviation: float

    @classmethod
    def fit(cls, samples: Sequence[tuple[Trial, float]]) -> _Model:
        params = [_params(trial) for trial, _ in samples]
        scales: dict[str, tuple[float, float, bool]] = {}
        columns: list[tuple[str, Value | None]] = []
        for name in dict.fromkeys(name for p in params for name in p):
            values = [p[name] for p in params if name in p]
            if all(_is_number(value) for value in values):
                scales[name] = _scale([float(value) for value in values])
                columns.append((name, None))
            else:
                columns += [(name, value) for value in dict.fromkeys(values)]
        model = cls(scales, columns, np.zeros(len(columns) + 1), 0.0)
        rows = np.array([model._features(p) for p in params])
        target = np.log([seconds for _, seconds in samples])
        weights = np.linalg.solve(rows.T @ rows + _RIDGE * np.eye(rows.shape[1]), rows.T @ target)
        freedom = max(1, len(samples) - np.linalg.matrix_rank(rows))
        deviation = math.sqrt(float(np.sum((rows @ weights - target) ** 2)) / freedom)
        return cls(scales, columns, weights, deviation)

    def predict(self, trial: Trial) -> float:
        """An upper bound, in seconds."""
        logarithm = float(np.dot(self._features(_params(trial)), self.weights)) + _DEVIATIONS * self.deviation
        return math.exp(min(logarithm, 50.0))

    def _features(self, params: dict[str, Any]) -> npt.NDArray[np.float64]:
        return np.array([1.0, *(self._feature(params, name, value) for name, value in self.columns)])

    def _feature(self, params: dict[str, Any], name: str, value: Value | None) -> float:
        given: Any = params.get(name)
        if name not in self.scales:
            return float(given == value)
        lower, upper, logarithmic = self.scales[name]
        if not _is_number(given) or upper == lower:
            return 0.0
        number = math.log(max(float(given), 1e-300)) if logarithmic else float(given)
        return min(2.0, max(-1.0, (number - lower) / (upper - lower)))


def _params(trial: Trial) -> dict[str, Any]:
    return {**trial.params, **({"fidelity": trial.fidelity} if trial.fidelity is not None else {})}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _scale(values: list[float]) -> tuple[float, float, bool]:
    """Least and greatest value, of the logarithms where values are positive and differ by more than tenfold."""
    lower, upper = min(values), max(values)
    if lower > 0 and upper > 10 * lower:
        return math.log(lower), math.log(upper), True
    return lower, upper, False
