"""Trains many small neural networks of one shape at once, for the tables of complete grids.

The networks of a group share the architecture, the batch order and the optimizer's kind, and differ in numbers such as
the learning rate; so one numpy operation serves all of them. Adam: Kingma & Ba 2015, algorithm 1; dropout: Srivastava
et al. 2014 (inverted, so that evaluation needs no scaling); cosine decay: Loshchilov & Hutter 2017, equation 5.
"""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

EPOCHS = (1, 3, 9, 27, 81)
"""Where the learning curves are read."""

CAP = 10.0
"""Largest loss of a finite training; classes' log loss, or squared error in units of the target's variance."""


@dataclass(frozen=True)
class Data:
    """Standardised inputs (samples, features) and one-hot or standardised targets (samples, outputs)."""

    train_x: Floats
    train_y: Floats
    valid_x: Floats
    valid_y: Floats
    classes: bool


@dataclass(frozen=True)
class Shape:
    """What the networks of a group have in common."""

    width: int = 32
    layers: int = 1
    batch_size: int = 32
    activation: str = "relu"
    optimizer: str = "adam"


@dataclass(frozen=True)
class Numbers:
    """What differs between the networks of a group: arrays of one length, the number of networks."""

    learning_rate: Floats
    weight_decay: Floats
    dropout: Floats
    momentum: Floats
    init_scale: Floats
    cosine: Floats
    """1 with cosine decay of the learning rate, 0 without."""


class Group:
    """Networks of one shape in training."""

    def __init__(self, data: Data, shape: Shape, numbers: Numbers, rng: np.random.Generator) -> None:
        self.data, self.shape, self.numbers, self.rng = data, shape, numbers, rng
        self.count = len(numbers.learning_rate)
        self._make_weights()
        self._first, self._second = np.zeros_like(self.flat), np.zeros_like(self.flat)
        self._step = 0
        self._steps = EPOCHS[-1] * max(1, len(data.train_x) // shape.batch_size)

    def _make_weights(self) -> None:
        """All weights are views of one array (networks, weights), which the optimizer updates at once."""
        inner = [self.shape.width] * self.shape.layers
        sizes = [self.data.train_x.shape[1], *inner, self.data.train_y.shape[1]]
        pairs = list(itertools.pairwise(sizes))
        total = sum((a + 1) * b for a, b in pairs)
        self.flat = np.zeros((self.count, total), np.float32)
        self.gradient = np.zeros_like(self.flat)
        self.weights, self.gradients = self._views(self.flat, pairs), self._views(self.gradient, pairs)
        for weight, _ in self.weights:
            deviation = self.numbers.init_scale / math.sqrt(weight.shape[1])
            weight[:] = deviation[:, None, None] * self.rng.standard_normal(weight.shape[1:], np.float32)

    def _views(self, flat: Floats, pairs: list[tuple[int, int]]) -> list[tuple[Floats, Floats]]:
        views, start = [], 0
        for a, b in pairs:
            middle, end = start + a * b, start + (a + 1) * b
            views.append((flat[:, start:middle].reshape(-1, a, b), flat[:, middle:end].reshape(-1, 1, b)))
            start = end
        return views

    def epoch(self) -> None:
        order = self.rng.permutation(len(self.data.train_x))
        size = self.shape.batch_size
        for start in range(0, len(order) - size + 1, size):
            chosen = order[start : start + size]
            self._backward(self.data.train_x[chosen], self.data.train_y[chosen])
            self._update()

    def losses(self) -> Floats:
        """The validation losses; at most ``CAP``, nan for a network whose weights overflowed."""
        output = self._forward(self.data.valid_x, None)[-1]
        if self.data.classes:
            loss = -(self.data.valid_y * np.log(np.maximum(_softmax(output), 1e-6))).sum(2).mean(1)
        else:
            loss = ((output - self.data.valid_y) ** 2).mean((1, 2))
        loss[~np.isfinite(self.flat).all(1)] = np.nan
        return np.minimum(loss, np.float32(CAP))

    def _forward(self, x: Floats, masks: list[Floats] | None) -> list[Floats]:
        """The activations of every layer, the inputs first; ``masks`` are those of dropout."""
        values = [x]
        for number, (weight, bias) in enumerate(self.weights):
            value = values[-1] @ weight
            value += bias
            if number < self.shape.layers:
                value = np.maximum(value, 0, out=value) if self.shape.activation == "relu" else np.tanh(value)
                if masks:
                    value *= masks[number]
            values.append(value)
        return values

    def _masks(self, batch: int) -> list[Floats]:
        if not self.numbers.dropout.any():
            return []
        keep = 1 - self.numbers.dropout[:, None, None]
        drawn = self.rng.random((self.shape.layers, batch, self.shape.width), np.float32)
        return [(d < keep) / keep for d in drawn]

    def _backward(self, x: Floats, y: Floats) -> None:
        masks = self._masks(len(x))
        values = self._forward(x, masks)
        delta = ((_softmax(values[-1]) if self.data.classes else values[-1]) - y) / len(x)
        for number in reversed(range(len(self.weights))):
            weight, bias = self.gradients[number]
            np.matmul(values[number].swapaxes(-1, -2), delta, out=weight)
            bias[:] = delta.sum(1, keepdims=True)
            if number:
                delta = delta @ self.weights[number][0].swapaxes(1, 2)
                mask = masks[number - 1] if masks else None
                delta *= self._slope(values[number], mask)

    def _slope(self, value: Floats, mask: Floats | None) -> Floats:
        """The derivative of the (masked) activation, from its value."""
        if self.shape.activation == "relu":
            return (value > 0).astype(np.float32) if mask is None else (value > 0) * mask
        if mask is None:
            return 1 - value**2
        plain = np.divide(value, mask, out=np.zeros_like(value), where=mask > 0)
        return (1 - plain**2) * mask

    def _update(self) -> None:
        numbers = self.numbers
        progress = self._step / self._steps
        self._step += 1
        decay = 1 - numbers.cosine * (0.5 - 0.5 * math.cos(math.pi * progress))
        rate = (numbers.learning_rate * decay)[:, None]
        momentum = numbers.momentum[:, None]
        self._first *= momentum
        if self.shape.optimizer == "sgd":
            self._first += self.gradient
            move = self._first
        else:
            self._first += (1 - momentum) * self.gradient
            self._second *= np.float32(0.999)
            self._second += np.float32(0.001) * np.square(self.gradient)
            root = np.sqrt(self._second / np.float32(1 - 0.999**self._step))
            root += np.float32(1e-8)
            move = self._first / root
            move /= 1 - momentum**self._step
        self.flat -= rate * move
        self.flat *= 1 - rate * numbers.weight_decay[:, None]


def train(data: Data, shape: Shape, numbers: Numbers, seed: int) -> tuple[Floats, float]:
    """Learning curves (networks, ``EPOCHS``), and processor seconds that one network took."""
    curves = np.full((len(numbers.learning_rate), len(EPOCHS)), np.nan, np.float32)
    begin = time.process_time()
    with np.errstate(all="ignore"):
        group = Group(data, shape, numbers, np.random.default_rng(seed))
        for epoch in range(1, EPOCHS[-1] + 1):
            group.epoch()
            if epoch in EPOCHS:
                curves[:, EPOCHS.index(epoch)] = group.losses()
    return curves, (time.process_time() - begin) / group.count


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
