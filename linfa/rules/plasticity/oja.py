"""Oja's rule on the error: P finds the leading directions of the error, Q follows the weight."""

from dataclasses import dataclass
from typing import ClassVar, final

from linfa.algebra import T, normalised
from linfa.rules.claims import Conserved
from linfa.rules.plasticity.base import Plasticity
from linfa.theory import invariants


@final
@dataclass(frozen=True)
class Oja(Plasticity):
    """dQ = -G^T P^T and dP = P C^ (I - P^T P), C^ the error covariance divided by its largest variance.

    Read in the authors' released code (Hanut & Kadmon, arXiv 2502.20580 v1-v3, there called RAF).  Two choices are
    ours: C^ is averaged over samples, and the last layer uses its own error, where the code takes the centred one-hot
    labels (the same covariance at the start of training, when the predictions are uniform).
    """

    reads: ClassVar[tuple[str, ...]] = ("G", "C")
    factors: ClassVar[tuple[int, ...]] = (2,)

    def velocity(self, stored, moments):
        _, P = stored
        PC = P @ normalised(moments.C)
        return -T(P @ moments.G), PC - (PC @ T(P)) @ P

    def learns(self, stored):
        return (True, True)

    def claims(self, rule):
        return (Conserved(invariants.activity_balance, 2),)
