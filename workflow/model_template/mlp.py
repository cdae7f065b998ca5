"""A multilayer perceptron for regression, its optimizers and its learning-rate warm-up, in numpy.

All parameters live in one flat vector and every layer is a view into it, so that an optimizer needs a few
operations on one vector however many layers there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Layer = tuple[Array, Array]


class MLP:
    """Maps x of shape (rows, sizes[0]) to predictions of shape (rows,); ReLU between the layers, none at the end.

    `sizes` holds the width of the input, of every hidden layer and of the output, which is 1. `params` is the flat
    vector of all weights and biases: of the length that `count_params` gives, and changed in place by an optimizer.
    """

    def __init__(self, sizes: Sequence[int], params: Array) -> None:
        self.sizes = list(sizes)
        self.params = params
        self._layers = _views(self.sizes, params)
        self._gradient = np.zeros_like(params)
        self._gradient_layers = _views(self.sizes, self._gradient)

    @classmethod
    def initialise(cls, sizes: Sequence[int], rng: np.random.Generator, dtype: type = np.float32) -> MLP:
        """Draw hidden weights from N(0, 2 / fan_in), biases zero (He et al. 2015, equation 10).

        The output layer starts at zero (as in Zhang et al. 2019, Fixup): the network first predicts the mean of a
        standardised target, so that the loss tells of the hyperparameters and not of a lucky draw.
        """
        model = cls(sizes, np.zeros(count_params(sizes), dtype))
        for weights, _ in model._layers[:-1]:
            weights[:] = rng.normal(0.0, np.sqrt(2.0 / weights.shape[0]), weights.shape)
        return model

    def predict(self, x: Array) -> Array:
        """Return the predictions, of shape (rows,)."""
        return self._forward(x)[-1][:, 0]

    def loss_and_gradient(self, x: Array, y: Array) -> tuple[float, Array]:
        """Return the mean squared error over the rows and its gradient, of the shape of `params`.

        The gradient is a buffer that the next call overwrites.
        """
        activations = self._forward(x)
        error = activations[-1] - y[:, None]
        self._backward(activations, error * (2.0 / len(y)))
        return float(np.mean(error * error)), self._gradient

    def _forward(self, x: Array) -> list[Array]:
        activations = [x]
        for weights, bias in self._layers:
            z = activations[-1] @ weights
            z += bias
            if len(activations) < len(self._layers):
                np.maximum(z, 0.0, out=z)
            activations.append(z)
        return activations

    def _backward(self, activations: list[Array], delta: Array) -> None:
        """Fill the gradient; delta is the loss's derivative by the output of a layer, at first the last one."""
        for i in reversed(range(len(self._layers))):
            grad_weights, grad_bias = self._gradient_layers[i]
            np.matmul(activations[i].T, delta, out=grad_weights)
            np.sum(delta, axis=0, out=grad_bias)
            if i:
                delta = delta @ self._layers[i][0].T
                delta *= activations[i] > 0.0


def count_params(sizes: Sequence[int]) -> int:
    """Return the number of weights and biases of a network with these layer widths."""
    return sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))


def _views(sizes: Sequence[int], flat: Array) -> list[Layer]:
    """Cut the flat vector into weights of shape (n_in, n_out) and biases of shape (n_out,), without copying."""
    layers, start = [], 0
    for n_in, n_out in pairwise(sizes):
        middle, end = start + n_in * n_out, start + (n_in + 1) * n_out
        layers.append((flat[start:middle].reshape(n_in, n_out), flat[middle:end]))
        start = end
    return layers


class Optimizer(Protocol):
    def step(self, params: Array, gradient: Array, learning_rate: float) -> None:
        """Change params in place."""


class Adam:
    """Kingma & Ba 2015, Algorithm 1, in the faster order given at the end of its section 2."""

    beta1, beta2, epsilon = 0.9, 0.999, 1e-8

    def __init__(self, params: Array) -> None:
        self.m, self.v, self.t = np.zeros_like(params), np.zeros_like(params), 0

    def step(self, params: Array, gradient: Array, learning_rate: float) -> None:
        self.t += 1
        self.m += (1.0 - self.beta1) * (gradient - self.m)
        self.v += (1.0 - self.beta2) * (gradient * gradient - self.v)
        rate = learning_rate * (1.0 - self.beta2**self.t) ** 0.5 / (1.0 - self.beta1**self.t)
        params -= rate * self.m / (np.sqrt(self.v) + self.epsilon)


class SGD:
    """Gradient descent with classical momentum: Sutskever et al. 2013, equations 1 and 2."""

    momentum = 0.9

    def __init__(self, params: Array) -> None:
        self.velocity = np.zeros_like(params)

    def step(self, params: Array, gradient: Array, learning_rate: float) -> None:
        self.velocity *= self.momentum
        self.velocity -= learning_rate * gradient
        params += self.velocity


class RMSprop:
    """Tieleman & Hinton 2012 (Neural Networks for Machine Learning, lecture 6.5)."""

    decay, epsilon = 0.9, 1e-8

    def __init__(self, params: Array) -> None:
        self.mean_square = np.zeros_like(params)

    def step(self, params: Array, gradient: Array, learning_rate: float) -> None:
        self.mean_square += (1.0 - self.decay) * (gradient * gradient - self.mean_square)
        params -= learning_rate * gradient / (np.sqrt(self.mean_square) + self.epsilon)


OPTIMIZERS: dict[str, Callable[[Array], Optimizer]] = {"Adam": Adam, "SGD": SGD, "RMSprop": RMSprop}

WARMUP_SHARE = 0.1
_WARMUPS: dict[str, Callable[[float], float]] = {
    "none": lambda t: 1.0,
    "linear": lambda t: t,
    "quadratic": lambda t: t * t,
    "exponential": lambda t: 100.0 ** (t - 1.0),
}
WARMUP_TYPES = tuple(_WARMUPS)


def warmup_factor(kind: str, step: int, total_steps: int) -> float:
    """Return the factor for the learning rate at a step (0-based): at most 1, which it reaches after a tenth of them.

    With t running to 1 over this tenth: linear is t, quadratic t^2, exponential 100^(t - 1), none always 1.
    """
    return _WARMUPS[kind](min(1.0, (step + 1) / max(1.0, WARMUP_SHARE * total_steps)))
