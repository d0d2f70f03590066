"""Broadcast: delta_l = B_l e for every hidden cut."""

from dataclasses import dataclass
from typing import final

from linfa.rules.edge import Edge
from linfa.rules.route.base import Route


@final
@dataclass(frozen=True)
class Direct(Route):
    """One error is broadcast to every cut below it, as in DFA.

    Args:
        exact_top: number of layers at the top that are backpropagated exactly before the broadcast.  0 broadcasts the
            output error (DFA, Nokland 2016); 1 broadcasts the error at the input of the last layer, the choice of the
            released code of LDFA's direct variant (Hanut & Kadmon, arXiv 2502.20580).

    >>> Direct().edges(3)
    (Edge(activity=1, source=3), Edge(activity=2, source=3))
    >>> Direct(exact_top=1).edges(3)
    (Edge(activity=1, source=2),)
    """

    exact_top: int = 0

    def __post_init__(self):
        if self.exact_top < 0:
            raise ValueError(f"exact_top is a number of layers, at least 0; got {self.exact_top}")

    def edges(self, depth):
        source = depth - self.exact_top
        return tuple(Edge(cut, source) for cut in range(1, source))

    @property
    def single_layer(self):
        return False
