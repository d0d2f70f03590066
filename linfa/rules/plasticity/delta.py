"""The delta rule: feedback learns to predict minus the activity from the error."""

from dataclasses import dataclass
from typing import ClassVar, final

from linfa.algebra import T
from linfa.rules.plasticity.base import Plasticity


@final
@dataclass(frozen=True)
class Delta(Plasticity):
    """dB = -G^T - B C, C the covariance of the error; with two factors dQ = -G^T P^T - Q P C P^T, P stays.

    Kolen-Pollack that forgets in the directions in which there is error, and only there.  For errors of mean zero it
    descends 1/2 E|B error + activity|^2 and would end, if nothing else moved, at B = -E[activity error^T] C^-1.  Ours,
    made to show that a plasticity is one file and one entry in `linfa.rules.space`.
    """

    reads: ClassVar[tuple[str, ...]] = ("G", "C")

    def velocity(self, stored, moments):
        if len(stored) == 1:
            (B,) = stored
            return (-T(moments.G) - B @ moments.C,)
        Q, P = stored
        return -T(P @ moments.G) - Q @ ((P @ moments.C) @ T(P)), None

    def learns(self, stored):
        return (True,) + (False,) * (stored - 1)

    def claims(self, rule):
        return ()
