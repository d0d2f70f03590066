"""W_l W_l^T - B_l W_(l+1) - (B_l W_(l+1))^T does not change under layerwise feedback alignment."""

import linfa
from derivations.proof import Derivation, equal, given
from linfa.algebra import T, product
from linfa.theory import invariants


def derivation(depth: int = 2, rule=None) -> Derivation:
    """Prove it at a given depth, for every loss, data and start: E stays a symbol.

    Args:
        depth: number of weights, at least 2.
        rule: a rule with layerwise feedback that does not learn; `linfa.fa` by default.

    >>> derivation(depth=4).title
    'the invariant of feedback alignment, depth 4'
    """
    rule = rule or linfa.fa()
    equations = linfa.derive(rule, depth)
    steps = [given("the equations of the rule", equations)]
    for cut in range(1, depth):

        def square(rule, state, cut=cut):
            below = state.weights[cut - 1]
            return (below @ T(below),)

        def mixed(rule, state, cut=cut):
            above = state.weights[cut]
            seen = product(rule.feedback.factors(state.feedback[cut - 1], above)) @ above
            return (seen + T(seen),)

        (left,), (right,) = equations.change(square), equations.change(mixed)
        steps.append(equal(f"W_{cut} W_{cut}^T moves", left, left, f"d(W_{cut} W_{cut}^T)/dt"))
        steps.append(
            equal(f"B_{cut} W_{cut + 1} and its transpose move as much", right, left, f"d(B_{cut} W_{cut + 1} + T)/dt")
        )
    for left in equations.change(invariants.feedback_alignment):
        steps.append(equal("linfa.theory.invariants.feedback_alignment does not change", left, 0, "Cdot"))
    return Derivation(
        f"the invariant of feedback alignment, depth {depth}",
        (f"rule: {rule!r}", "any loss, data and start: E is any matrix"),
        tuple(steps),
        "zero start Lillicrap et al. (2016); the full matrix is derived here",
    )
