"""Feedback that does not learn."""

from dataclasses import dataclass
from typing import ClassVar, final

from linfa.rules.claims import Conserved
from linfa.rules.plasticity.base import Plasticity
from linfa.theory import invariants


@final
@dataclass(frozen=True)
class Fixed(Plasticity):
    """dB = 0.  Also the plasticity of a feedback that follows the weight by itself (transpose, sign)."""

    proportional: ClassVar[bool] = True

    def velocity(self, stored, moments):
        return (None,) * len(stored)

    def learns(self, stored):
        return (False,) * stored

    def claims(self, rule):
        if not rule.feedback.reads_weight:
            if rule.decay or not rule.route.backward:
                return ()
            return (Conserved(invariants.feedback_alignment, 2),)
        if not rule.feedback.names:
            return (Conserved(invariants.balance, 2),)
        return ()
