"""Gradient descent of the factors on their distance from the transposed forward map."""

from dataclasses import dataclass
from typing import ClassVar, final

from linfa.algebra import T
from linfa.rules.claims import Conserved
from linfa.rules.plasticity.base import Plasticity
from linfa.theory import invariants


@final
@dataclass(frozen=True)
class Normative(Plasticity):
    """Descent on 1/2 ||J^T - Q P||^2: dQ = (J^T - Q P) P^T and dP = Q^T (J^T - Q P), J = W on a single layer.

    Read in the authors' released code (Hanut & Kadmon, arXiv 2502.20580 v4).  The newest version divides both by
    sqrt(r), which is a learning rate and so the optimiser's.
    """

    reads: ClassVar[tuple[str, ...]] = ("J",)
    factors: ClassVar[tuple[int, ...]] = (2,)

    def velocity(self, stored, moments):
        Q, P = stored
        gap = T(moments.J) - Q @ P
        return gap @ T(P), T(Q) @ gap

    def learns(self, stored):
        return (True, True)

    def claims(self, rule):
        return (Conserved(invariants.factor_balance, 2),)
