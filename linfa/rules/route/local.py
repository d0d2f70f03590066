"""Local losses: every hidden layer answers to a head of its own."""

from dataclasses import dataclass
from typing import ClassVar, final

from linfa.rules.edge import Edge
from linfa.rules.route.base import Route


@final
@dataclass(frozen=True)
class Local(Route):
    """Greedy layer-wise learning: a linear head C_l = B_l^T reads the output off h_l, delta_l = C_l^T (C_l h_l - y).

    The edge carries the error of its own head, and the plasticity that gives B the transposed update, Kolen-Pollack, is
    then the head's gradient descent.  No signal crosses layers (Nokland & Eidnes 2019; the linear form is ours).

    >>> Local().edges(3)
    (Edge(activity=1, source=3), Edge(activity=2, source=3))
    """

    backward: ClassVar[bool] = False
    error_driven: ClassVar[bool] = False

    def edges(self, depth):
        return tuple(Edge(cut, depth) for cut in range(1, depth))

    @property
    def single_layer(self):
        return False

    def teach(self, carriers, matrices, activities, target):
        carried = {c.edge.activity: c.back(activities[c.edge.activity]) - target for c in carriers}
        errors = {c.edge.activity: c.carry(carried[c.edge.activity]) for c in carriers}
        return errors | {len(matrices): activities[-1] - target}, carried
