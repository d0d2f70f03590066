"""W_l W_l^T - C_l W_(l+1) - (C_l W_(l+1))^T does not change under direct feedback alignment, if C_l B_(l+1) = B_l."""

import random

import numpy as np
import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, Step, equal, given
from linfa.dynamics import State
from linfa.theory.invariants import direct_feedback_alignment, mismatch


def _rational(rng, rows, columns):
    return sp.Matrix(rows, columns, lambda i, j: sp.Rational(rng.randint(-9, 9), rng.randint(1, 5)))


def derivation(depth: int = 4, seed: int = 0) -> Derivation:
    """Prove it at a given depth, for every loss, data and start: E stays a symbol.

    Args:
        depth: number of weights, at least 2.
        seed: of the instance on which the pseudo-inverse is checked.

    >>> derivation(depth=3).title
    'the invariant of direct feedback alignment, depth 3'
    """
    equations = linfa.derive(linfa.dfa(), depth)
    steps = [given("the equations of the rule", equations)]
    state = equations.state
    for cut in range(1, depth):
        below, above, (B,) = state.weights[cut - 1], state.weights[cut], state.feedback[cut - 1]
        relations, bridge = {}, B
        if cut < depth - 1:
            (upper,) = state.feedback[cut]
            bridge = sp.MatrixSymbol(f"C_{cut}", below.shape[0], above.shape[0])
            left, right = words.of(bridge * upper), words.of(B)
            relations = {left: right, words.of((bridge * upper).T): words.of(B.T)}
            steps.append(given(f"let C_{cut} be such that", sp.Eq(left, right)))

        def square(rule, state, cut=cut):
            return (state.weights[cut - 1] @ state.weights[cut - 1].T,)

        def quantity(rule, state, cut=cut, bridge=bridge):
            return (mismatch(state.weights[cut - 1], state.weights[cut], bridge),)

        (moves,), (change,) = equations.change(square), equations.change(quantity)
        steps.append(equal(f"W_{cut} W_{cut}^T moves", moves, moves, f"d(W_{cut} W_{cut}^T)/dt"))
        text = f"and C_{cut} W_{cut + 1} with its transpose as much" + ", C = B at the top" * (cut == depth - 1)
        steps.append(equal(text, words.reduced(change, {}, relations), 0, f"Cdot_{cut}"))

    rng = random.Random(seed)
    P = _rational(rng, 2, 3)
    lower, upper = _rational(rng, 2, 2) * P, _rational(rng, 4, 2) * P
    inside = lower * upper.pinv() * upper - lower
    steps.append(Step("C_l = B_l B_(l+1)^+ does it where the rows of B_l are in the span of those of B_(l+1), in exact "
                      "rational numbers", "B_l B_(l+1)^+ B_(l+1) = B_l", bool(inside.is_zero_matrix)))  # fmt: skip
    outer = _rational(rng, 2, 3)
    best = outer * upper.pinv() * upper - outer
    steps.append(Step("and no C does where they are not: this one is the nearest", "B_l B_(l+1)^+ B_(l+1) != B_l",
                      not best.is_zero_matrix))  # fmt: skip
    weights = _rational(rng, 2, 2), _rational(rng, 4, 2), _rational(rng, 3, 4)
    bridges = lower * upper.pinv(), upper
    exact = [mismatch(a, b, C) for a, b, C in zip(weights, weights[1:], bridges, strict=False)]
    floats = [np.array(matrix.tolist(), dtype=float) for matrix in (*weights, lower, upper, *exact)]
    mine = direct_feedback_alignment(linfa.dfa(), State(tuple(floats[:3]), ((floats[3],), (floats[4],))))
    gap = max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(mine, floats[5:], strict=True))
    steps.append(Step("linfa.theory.invariants.direct_feedback_alignment is this matrix", "to 1e-9 relative",
                      bool(gap < 1e-9)))  # fmt: skip
    return Derivation(
        f"the invariant of direct feedback alignment, depth {depth}",
        ("rows of B_l in the span of those of B_(l+1)", "any loss, data and start: E is any matrix"),
        tuple(steps),
        "derived here",
    )
