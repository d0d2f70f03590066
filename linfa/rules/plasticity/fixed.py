"""Feedback that does not learn."""

from dataclasses import dataclass
from typing import final

from linfa.rules.claims import ClosedForm, Conserved
from linfa.rules.plasticity.base import Plasticity
from linfa.theory import invariants


@final
@dataclass(frozen=True)
class Fixed(Plasticity):
    """dB = 0.  Also the plasticity of a feedback that follows the weight by itself (transpose, sign)."""

    def velocity(self, stored, moments):
        return (None,) * len(stored)

    def learns(self, stored):
        return (False,) * stored

    def claims(self, rule):
        if not rule.feedback.reads_weight:
            if rule.decay:
                return ()
            at_zero = (ClosedForm("ZeroInitFA"), ClosedForm("FinalMap")) if rule.route.edges(2) else ()
            return (Conserved(invariants.feedback_alignment, 2), *at_zero)
        if not rule.feedback.names:
            return (Conserved(invariants.balance, 2), *(() if rule.decay else (ClosedForm("SaxeMode"),)))
        return ()
