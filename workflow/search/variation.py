"""Crossover and mutation of the generational searches, to offspring that the space's constraints allow."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from workflow.space import Genome, Space

_ATTEMPTS = 20
"""At an offspring that is allowed."""


@dataclass(frozen=True)
class Variation:
    """The operators on genomes, which draw from the ``rng`` that they are given and from nothing else.

    ``cx_indpb`` and ``mut_indpb`` are the probabilities for each hyperparameter to change places, and to mutate by its
    own rule (``Parameter.mutate``).

    >>> from workflow.space_file import parse_space
    >>> entries = [{"name": name, "type": "int", "lower": 0, "upper": 9} for name in ("a", "b")]
    >>> variation = Variation(parse_space(entries, "an example"), cx_indpb=1.0, mut_indpb=0.0)
    >>> rng = np.random.default_rng(1)
    >>> variation.crossed((1, 2), (3, 4), rng)
    ((3, 4), (1, 2))
    >>> variation.mutated((1, 2), rng)
    (1, 2)
    """

    space: Space
    cx_indpb: float = 0.5
    mut_indpb: float = 0.5

    def draw(self, rng: np.random.Generator) -> Genome:
        """Any allowed genome. Raises StopIteration where none is found, which no space that was read has."""
        return next(itertools.chain(self.space.draws(rng), self.space.rest(rng)))

    def crossed(self, first: Genome, second: Genome, rng: np.random.Generator) -> tuple[Genome, ...]:
        """Two offspring that are allowed."""
        return self._allowed(lambda: self.cross(first, second, rng), rng)

    def mutated(self, genome: Genome, rng: np.random.Generator) -> Genome:
        """An offspring that is allowed."""
        (mutant,) = self._allowed(lambda: (self.mutate(genome, rng),), rng)
        return mutant

    def cross(self, first: Genome, second: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
        """Uniform crossover: each hyperparameter changes places with probability ``cx_indpb``."""
        swap = rng.random(len(first)) < self.cx_indpb
        pairs = [(b, a) if s else (a, b) for a, b, s in zip(first, second, swap, strict=True)]
        return tuple(a for a, _ in pairs), tuple(b for _, b in pairs)

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        """Each hyperparameter that exists mutates with probability ``mut_indpb``."""
        chosen = rng.random(len(genome)) < self.mut_indpb
        varied = zip(self.space.varying, genome, chosen, strict=True)
        return tuple(p.mutate(value, rng) if c and value is not None else value for p, value, c in varied)

    def _allowed(self, vary: Callable[[], tuple[Genome, ...]], rng: np.random.Generator) -> tuple[Genome, ...]:
        """The offspring of ``vary``, which is tried again while one is not allowed; at last draws replace such ones.

        What exists in an offspring and not in the parent that gave it is drawn.
        """
        for _ in range(_ATTEMPTS):
            genomes = tuple(self.space.settle(genome, rng) for genome in vary())
            if all(map(self.space.allows, genomes)):
                return genomes
        return tuple(genome if self.space.allows(genome) else self.draw(rng) for genome in genomes)
