"""What a rule is under a loss that is multiplied: gradients of the loss grow with it, other parts have to be told.

These are a decay, a penalty, a clamp on delivered errors, and a plasticity that is not proportional to the loss.
"""

from dataclasses import dataclass, replace
from typing import final

from linfa.rules import Moments, Plasticity, Rule


@final
@dataclass(frozen=True)
class Scaled(Plasticity):
    """A plasticity whose velocity is S times as large when the loss is: S v(G / S, C / S^2, J)."""

    inner: Plasticity
    scale: float

    reads = property(lambda self: self.inner.reads)
    factors = property(lambda self: self.inner.factors)
    directions = property(lambda self: self.inner.directions)

    def velocity(self, stored, moments):
        G, C = moments.G, moments.C
        seen = Moments(
            G=None if G is None else G * (1 / self.scale),
            C=None if C is None else C * (1 / self.scale**2),
            J=moments.J,
        )
        return tuple(None if v is None else self.scale * v for v in self.inner.velocity(stored, seen))

    def learns(self, stored):
        return self.inner.learns(stored)

    def claims(self, rule):
        return ()


def scaled(rule: Rule, scale: float) -> Rule:
    """The rule with all its gradients multiplied by a positive number, if the loss is multiplied by it."""
    if scale == 1:
        return rule
    part, feedback, plasticity = rule.parameterisation, rule.feedback, rule.plasticity
    if part.penalties:
        part = replace(part, penalties=tuple(replace(p, weight=scale * p.weight) for p in part.penalties))
    if feedback.clamp is not None:
        feedback = replace(feedback, clamp=scale * feedback.clamp)
    if not plasticity.proportional:
        plasticity = Scaled(plasticity, scale)
    return replace(rule, decay=scale * rule.decay, feedback=feedback, plasticity=plasticity, parameterisation=part)


def follows(rule: Rule) -> bool:
    """Whether all gradients of a rule grow with the loss by themselves.

    >>> import linfa
    >>> follows(linfa.fa()), follows(linfa.bp(decay=0.1)), follows(linfa.ldfa(2, "oja"))
    (True, False, False)
    """
    return scaled(rule, 2.0) == rule
