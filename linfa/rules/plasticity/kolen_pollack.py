"""Kolen-Pollack: the feedback receives the transposed weight update."""

from dataclasses import dataclass
from typing import ClassVar, final

from linfa.algebra import T
from linfa.rules.claims import Conserved
from linfa.rules.plasticity.base import Plasticity
from linfa.theory import invariants


@final
@dataclass(frozen=True)
class KolenPollack(Plasticity):
    """dB = -G^T (Kolen & Pollack 1994; Akrout et al. 2019); with two factors dQ = -G^T P^T and P stays.

    The decay that makes B - W^T vanish is the rule's: the same for W and for what learns here.  With two factors this
    is the Q-only ablation of LDFA.
    """

    reads: ClassVar[tuple[str, ...]] = ("G",)
    proportional: ClassVar[bool] = True

    def velocity(self, stored, moments):
        if len(stored) == 1:
            return (-T(moments.G),)
        _, P = stored
        return (-T(P @ moments.G), None)

    def learns(self, stored):
        return (True,) + (False,) * (stored - 1)

    def claims(self, rule):
        tied = ()
        if rule.route.single_layer:
            tied = (Conserved(invariants.kolen_pollack, 1),)
        return (*tied, Conserved(invariants.activity_balance, 2))
