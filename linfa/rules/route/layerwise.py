"""Layer after layer: delta_l = B_l delta_(l+1)."""

from dataclasses import dataclass
from typing import final

from linfa.rules.edge import Edge
from linfa.rules.route.base import Route


@final
@dataclass(frozen=True)
class Layerwise(Route):
    """The error descends one layer at a time, as in backprop, FA, sign symmetry, Kolen-Pollack and LDFA.

    >>> Layerwise().edges(3)
    (Edge(activity=1, source=2), Edge(activity=2, source=3))
    """

    def edges(self, depth):
        return tuple(Edge(cut, cut + 1) for cut in range(1, depth))

    @property
    def single_layer(self):
        return True
