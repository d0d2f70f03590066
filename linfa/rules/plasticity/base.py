"""The abstract plasticity."""

import abc
from dataclasses import dataclass
from typing import ClassVar

from linfa.rules.edge import Moments


@dataclass(frozen=True)
class Plasticity(abc.ABC):
    """Velocity of what an edge stores, from a handful of small matrices."""

    reads: ClassVar[tuple[str, ...]] = ()
    """Which of the `Moments` it needs."""
    directions = None
    """How many random directions a step of descent shows the edge's forward map; None for their expectation."""
    factors: ClassVar[tuple[int, ...]] = (1, 2)
    """Numbers of stored factors that it knows how to move."""
    proportional: ClassVar[bool] = False
    """Whether its velocity grows with the loss by itself, v(c G, c^2 C, J) = c v(G, C, J) for c > 0; one that is not is
    told by what a loss is multiplied."""

    @property
    def continuous(self) -> bool:
        """Whether nothing is sampled, so that descent converges to the flow at first order."""
        return self.directions is None

    @abc.abstractmethod
    def velocity(self, stored: tuple, moments: Moments) -> tuple:
        """d/dt of every stored matrix; None for one that stays as it is."""

    @abc.abstractmethod
    def learns(self, stored: int) -> tuple[bool, ...]:
        """Which of that many stored matrices move."""

    @abc.abstractmethod
    def claims(self, rule) -> tuple:
        """What holds of a rule that learns its feedback this way; see `linfa.rules.claims`."""
