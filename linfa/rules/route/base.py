"""The abstract route."""

import abc
from dataclasses import dataclass

from linfa.rules.edge import Edge


@dataclass(frozen=True)
class Route(abc.ABC):
    """Says which edges a network has.  A hidden cut without an edge receives its exact error from the layer above."""

    @abc.abstractmethod
    def edges(self, depth: int) -> tuple[Edge, ...]:
        """The feedback edges of a depth-L network, by increasing cut."""

    @property
    @abc.abstractmethod
    def single_layer(self) -> bool:
        """Whether every edge spans a single layer at every depth."""
