"""A step of descent by feedback alignment moves W_1 W_1^T - B W_2 - W_2^T B^T by eta^2 B G G^T B^T, exactly."""

import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, equal, given
from linfa.algebra import T
from linfa.simulate import advance
from linfa.theory import invariants
from linfa.theory.alignment.drift import fa_drift


def derivation() -> Derivation:
    """One step of the derived equations, expanded: the first order cancels and the second is a square.

    >>> derivation().title
    'how descent by feedback alignment moves its invariant'
    """
    equations, eta = linfa.derive(linfa.fa(), 2), sp.Symbol("eta", positive=True)
    (before,) = invariants.feedback_alignment(equations.rule, equations.state)
    (after,) = invariants.feedback_alignment(equations.rule, advance(equations.state, equations.velocity, eta))
    B, E = equations.state.feedback[0][0], equations.residual
    change = sp.expand(words.of(after) - words.of(before))
    seen = words.of(B * E * T(B * E))
    moves = words.of(equations.velocity.weights[0])
    return Derivation(
        "how descent by feedback alignment moves its invariant",
        ("two layers, fixed B", "any loss, data, batches and start: E = -G is any matrix"),
        (
            given("the equations of the rule", equations),
            equal("the part of first order in eta, what the flow does", change.coeff(eta, 1), 0, "C'"),
            equal("the part of second order", change.coeff(eta, 2), seen, "C''"),
            equal("it is a square, the velocity of W_1 times its transpose", seen,
                  moves * words.of(T(equations.velocity.weights[0])), "C''"),
            equal("linfa.theory.alignment.drift.fa_drift is the change of C", change, words.of(fa_drift(B, -E, eta)),
                  "C(t+eta) - C(t)"),
        ),
        "derived here",
    )  # fmt: skip
