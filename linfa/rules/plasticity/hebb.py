"""Hebbian learning of both factors from the weight update."""

from dataclasses import dataclass
from typing import ClassVar, final

from linfa.algebra import T
from linfa.rules.claims import Conserved
from linfa.rules.plasticity.base import Plasticity
from linfa.theory import invariants


@final
@dataclass(frozen=True)
class Hebb(Plasticity):
    """dQ = -G^T P^T and dP = -Q^T G^T: each factor receives the transposed weight update seen through the other.

    Read in the authors' released code (Hanut & Kadmon, arXiv 2502.20580), which starts from the truncated SVD of W.
    """

    reads: ClassVar[tuple[str, ...]] = ("G",)
    proportional: ClassVar[bool] = True
    factors: ClassVar[tuple[int, ...]] = (2,)

    def velocity(self, stored, moments):
        Q, P = stored
        return -T(P @ moments.G), -T(moments.G @ Q)

    def learns(self, stored):
        return (True, True)

    def claims(self, rule):
        return (Conserved(invariants.activity_balance, 2), Conserved(invariants.factor_balance, 2))
