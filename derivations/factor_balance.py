"""Q^T Q - P P^T under the Hebbian and the normative plasticity, and W_1 W_1^T - Q Q^T under the Hebbian one."""

import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, equal, given
from linfa.algebra import T
from linfa.rules import Hebb, Layerwise, Normative, RandomFactors, Rule
from linfa.theory import invariants
from linfa.theory.learned.kolen_pollack import kp_gap


def _rule(plasticity):
    return Rule(Layerwise(), RandomFactors(2), plasticity, decay=0.1, name=type(plasticity).__name__.lower())


def derivation(depth: int = 2) -> Derivation:
    """Prove both at a given depth, for every loss, data and start: E and the weights are any matrices.

    Args:
        depth: number of weights, at least 2.

    >>> derivation(depth=3).title
    'the balance of learning feedback factors, depth 3'
    """
    steps = []
    for plasticity in (Hebb(), Normative()):
        equations = linfa.derive(_rule(plasticity), depth)
        decay = equations.rule.decay
        steps.append(given(f"the equations with the plasticity {plasticity}", equations))
        for cut in range(1, depth):

            def inner(rule, state, cut=cut):
                Q, P = state.feedback[cut - 1]
                return T(Q) @ Q, P @ T(P)

            (left, right), values = equations.change(inner), inner(equations.rule, equations.state)
            left, right = (sp.expand(v + 2 * decay * words.of(x)) for v, x in zip((left, right), values, strict=True))
            steps.append(equal(f"Q_{cut}^T Q_{cut} and P_{cut} P_{cut}^T move alike, decay apart", left, right))
        laws = [invariants.factor_balance] + [invariants.activity_balance] * isinstance(plasticity, Hebb)
        for law in laws:
            values = (words.of(D) for D in law(equations.rule, equations.state))
            for change, D in zip(equations.change(law), values, strict=True):
                text = f"linfa.theory.invariants.{law.__name__} obeys D' = -2 lambda D"
                steps.append(equal(text, change, -2 * decay * D, "Ddot"))
    t, decay, gap = sp.symbols("t lambda D_0", positive=True)
    closed = kp_gap(t, 2 * decay, gap)
    steps.append(equal("so that D = e^(-2 lambda t) D(0)", sp.diff(closed, t), -2 * decay * closed, "Ddot"))
    return Derivation(
        f"the balance of learning feedback factors, depth {depth}",
        ("common decay lambda, 0 for none", "any loss, data and start: E is any matrix"),
        tuple(steps),
        "derived here",
    )
