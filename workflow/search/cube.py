"""The space as a cube: configurations as rows of numbers, and the variation of such rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workflow.parameters import Parameter
from workflow.search.arrays import Array
from workflow.space import Genome, Space

Rows = Array
"""Shape (configurations, parameters): positions from 0 to 1, of categoricals the number of the element."""


class Cube:
    """The configurations of a space as ``Rows``; ``categorical`` (d,) tells which columns have no order.

    >>> from workflow.space_file import parse_space
    >>> entry = {"name": "rate", "type": "float", "lower": 1e-4, "upper": 1, "use_log_scale": True}
    >>> cube = Cube(parse_space([entry], "an example"))
    >>> cube.encode((0.01,)), cube.decode(np.array([0.25]))
    (array([0.5]), (0.001,))
    """

    sigmas: Sequence[float] = (0.02, 0.08, 0.25)
    """Steps of mutations, in parts of the range: near, middling and far ones."""

    mutation_rate = 0.3
    """The least share of a mutant's parameters that change."""

    scale_factors = 0.3, 0.9
    """The range of differential evolution's F, of which each child draws its own."""

    crossover_rate = 0.8
    """Differential evolution's CR."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.parameters = space.varying
        self.categorical = np.array([p.is_categorical for p in self.parameters], dtype=bool)
        self._sizes = np.array([max(1, len(list(p.values()))) if p.is_categorical else 1 for p in self.parameters])

    def encode(self, genome: Genome) -> Rows:
        """One row (d,). What does not exist has one place, so that the model sees no difference there."""
        pairs = zip(self.parameters, genome, strict=True)
        return np.array([_nowhere(p) if value is None else p.to_unit(value) for p, value in pairs])

    def decode(self, row: Rows) -> Genome:
        """The configuration whose part of the cube a row (d,) lies in."""
        values = (p.from_unit(float(position)) for p, position in zip(self.parameters, row, strict=True))
        return self.space.settle(tuple(values))

    def allowed(self, rows: Rows, others: Rows, rng: np.random.Generator) -> Rows:
        """``rows``, those that are not allowed moved towards one of the ``others``, which are, until they are.

        Filtered only, an elite at the border of what is allowed would have few children.
        """
        if not self.space.constraints:
            return rows
        chosen = rng.integers(len(others), size=len(rows))
        return np.array([self._allowed(row, others[other], rng) for row, other in zip(rows, chosen, strict=True)])

    def _allowed(self, row: Rows, other: Rows, rng: np.random.Generator) -> Rows:
        genome = self.decode(row)
        return row if self.space.allows(genome) else self.encode(self.space.towards(self.decode(other), genome, rng))

    def uniform(self, rng: np.random.Generator, count: int) -> Rows:
        """``count`` rows, drawn independently."""
        return self._place(rng.random((count, len(self.parameters))))

    def latin(self, rng: np.random.Generator, count: int) -> Rows:
        """A Latin hypercube of ``count`` rows: each parameter takes each of as many parts of its range once.

        After McKay, Beckman & Conover (1979).
        """
        parts = rng.permuted(np.tile(np.arange(count), (len(self.parameters), 1)), axis=1).T
        return self._place((parts + rng.random(parts.shape)) / count)

    def _place(self, positions: Rows) -> Rows:
        return np.where(self.categorical, np.floor(positions * self._sizes), positions)

    def mutate(self, rows: Rows, rng: np.random.Generator) -> Rows:
        """Each row with about a third of its parameters, and at least one, changed."""
        if rows.size == 0:
            return rows
        count, width = rows.shape
        chosen = rng.random(rows.shape) < max(self.mutation_rate, 1 / width)
        chosen[np.arange(count), rng.integers(width, size=count)] = True
        steps = rng.normal(size=rows.shape) * rng.choice(self.sigmas, size=(count, 1))
        moved = np.where(self.categorical, self.uniform(rng, count), _reflected(rows + steps))
        return np.where(chosen, moved, rows)

    def differ(self, rows: Rows, plus: Rows, minus: Rows, rng: np.random.Generator) -> Rows:
        """Differential evolution (Storn & Price 1997): F (plus - minus) added to each row, categoricals those of plus.

        All three have the same shape. A parameter is left as it is with probability 1 - CR.
        """
        factor = rng.uniform(*self.scale_factors, size=(len(rows), 1))
        moved = np.where(self.categorical, plus, _reflected(rows + factor * (plus - minus)))
        return np.where(rng.random(rows.shape) < self.crossover_rate, moved, rows)


def _nowhere(parameter: Parameter) -> float:
    return 0.0 if parameter.is_categorical else 0.5


def _reflected(positions: Rows) -> Rows:
    """Positions beyond the bounds, mirrored into them."""
    return 1.0 - np.abs(1.0 - np.mod(positions, 2.0))
