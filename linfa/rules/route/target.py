"""Targets instead of errors: delta_l = -B_l y."""

from dataclasses import dataclass
from typing import ClassVar, final

from linfa.rules.edge import Edge
from linfa.rules.route.base import Route


@final
@dataclass(frozen=True)
class Target(Route):
    """The target is broadcast to every hidden cut before the output is known, as in DRTP (Frenkel et al. 2021).

    The linear version, with the target itself in place of its sign, is ours; the output layer learns from its error.

    >>> Target().edges(3)
    (Edge(activity=1, source=3), Edge(activity=2, source=3))
    """

    backward: ClassVar[bool] = False
    error_driven: ClassVar[bool] = False
    settles: ClassVar[bool] = False

    def edges(self, depth):
        return tuple(Edge(cut, depth) for cut in range(1, depth))

    @property
    def single_layer(self):
        return False

    def teach(self, carriers, matrices, activities, target, through):
        carried = {carrier.edge.activity: -target for carrier in carriers}
        errors = {carrier.edge.activity: carrier.carry(-target) for carrier in carriers}
        return errors | {len(matrices): activities[-1] - target}, carried
