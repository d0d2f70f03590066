"""The abstract route."""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from linfa.algebra import T
from linfa.rules.edge import Edge


class Carrier(NamedTuple):
    """An edge with what it stores: carries a signal (..., n_e, N) to an activity, (..., n_h, N).

    Args:
        edge: the edge.
        carry: signal -> delivered signal, B signal, taken back through the normalisation of the activity.
        back: activity -> B^T activity (..., n_e, N), what a head that shares the edge's weights reads out.
    """

    edge: Edge
    carry: Callable
    back: Callable


@dataclass(frozen=True)
class Route(abc.ABC):
    """Says which edges a network has and which signals they carry.

    The base carries errors down: a hidden cut without an edge receives its exact error from the layer above.
    """

    backward: ClassVar[bool] = True
    """Whether every edge carries the error of a higher cut down, as in backprop; theories ask for it."""
    error_driven: ClassVar[bool] = True
    """Whether every teaching signal is linear in the output error."""
    settles: ClassVar[bool] = True
    """Whether every teaching signal carries an error that learning makes vanish, and so comes to an end itself."""
    lam = 0.0
    """Weight of what the weights descend besides their teaching signals, see `penalty`; 0 for nothing."""

    @abc.abstractmethod
    def edges(self, depth: int) -> tuple[Edge, ...]:
        """The feedback edges of a depth-L network, by increasing cut."""

    def claims(self, rule) -> tuple:
        """What holds of a rule on this route, whatever its feedback; see `linfa.rules.claims`."""
        return ()

    @property
    @abc.abstractmethod
    def single_layer(self) -> bool:
        """Whether every edge spans a single layer at every depth."""

    def teach(self, carriers, matrices, activities, target, through) -> tuple[dict[int, Any], dict[int, Any]]:
        """The teaching signals of a batch.

        Args:
            carriers: one `Carrier` for each edge.
            matrices: W_1 .. W_L.
            activities: h_0 .. h_L, (..., n_l, N).
            target: (..., n_L, N).
            through: by hidden cut, dLoss/dh_l -> the error at the output of W_l, the exact derivative of the
                normalisation of h_l; the identity in a plain network.

        Returns:
            By cut 1 .. L the teaching signal delta_l (..., n_l, N), on cut L dLoss/dy; and by the cut of each edge what
            it carried (..., n_e, N).
        """
        depth, by_cut = len(matrices), {carrier.edge.activity: carrier for carrier in carriers}
        errors, carried = {depth: activities[-1] - target}, {}
        for cut in range(depth - 1, 0, -1):
            if cut in by_cut:
                edge, carry, _ = by_cut[cut]
                carried[cut] = errors[edge.source]
                errors[cut] = carry(carried[cut])
            else:
                errors[cut] = through[cut](T(matrices[cut]) @ errors[cut + 1])
        return errors, carried

    def penalty(self, carriers, matrices, activities, errors, carried) -> tuple[dict[int, Any], dict[int, Any]]:
        """Further gradients, of what is no loss at the output of a layer: they have no teaching signal.

        Args:
            carriers, matrices, activities: as for `teach`.
            errors, carried: what it returned.

        Returns:
            By layer 1 .. L what adds to the gradient of W_l, (..., n_l, n_(l-1)), and by the cut of each edge what adds
            to its E[carried activity^T], (..., n_e, n_h); nothing for those that are left out.
        """
        return {}, {}
