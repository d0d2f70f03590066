"""The error enters at the input: delta_l = W_l .. W_1 F e."""

from dataclasses import dataclass
from typing import ClassVar, final

from linfa.rules.edge import Edge
from linfa.rules.route.base import Route


@final
@dataclass(frozen=True)
class Modulated(Route):
    """The error is carried to the input by F (n_0, n_L) and travels forward through the network, as in PEPITA.

    The difference between a second forward pass with input x - F e and the first is the teaching signal (Dellaferrera &
    Kreiman 2022), to first order in F.  For small F this is feedback W_l .. W_1 F that adapts to the weights below,
    the view of Srinivasan et al. (2023); known, re-derived from the abstract.

    >>> Modulated().edges(3)
    (Edge(activity=0, source=3),)
    """

    backward: ClassVar[bool] = False

    def edges(self, depth):
        return (Edge(0, depth),) if depth > 1 else ()

    @property
    def single_layer(self):
        return False

    def teach(self, carriers, matrices, activities, target, through):
        depth, error = len(matrices), activities[-1] - target
        errors, carried = {depth: error}, {}
        for edge, carry, _ in carriers:
            carried[edge.activity] = error
            signal = carry(error)
            for cut in range(1, depth):
                errors[cut] = signal = matrices[cut - 1] @ signal
        return errors, carried
