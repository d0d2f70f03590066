"""Feedback alignment below a frozen readout: E' = -W_2 B E, its solution, its end, and descent's largest step."""

import numpy as np
import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, Step, equal, given, nothing_left
from linfa.rules import Dense, LayerRates, Layerwise, Rule
from linfa.simulate import advance
from linfa.theory.dimension.frozen_readout import (
    FrozenReadout,
    frozen_readout_error,
    frozen_readout_limit,
    frozen_readout_max_lr,
)


def derivation() -> Derivation:
    """The error is linear in itself; the rest is linear algebra, checked on an instance in exact numbers.

    >>> derivation().title
    'feedback alignment below a frozen readout'
    """
    equations = linfa.derive(Rule(Layerwise(), Dense(), geometry=LayerRates((1, 0))), 2)
    (v1, v2), eta, t = equations.velocity.weights, sp.Symbol("eta", positive=True), sp.Symbol("t", positive=True)
    W2, B, E, Sxx = map(words.letter, ("W_2", "B_1", "E", "S_xx"))

    def error(rule, state):
        return (equations.moments["S_yx"] - state.weights[1] @ state.weights[0] @ equations.moments["S_xx"],)

    steps = [
        given("the equations of the rule", equations),
        equal("W_1 learns", words.of(v1), B * E, "Wdot_1"),
        equal("and W_2 does not", words.of(v2), 0, "Wdot_2"),
        equal("so E = Syx - W_2 W_1 Sxx moves linearly", equations.change(error)[0], -W2 * B * E * Sxx, "Edot"),
    ]
    (after,) = error(equations.rule, advance(equations.state, equations.velocity, eta))
    step = words.of(after) - words.of(error(equations.rule, equations.state)[0])
    steps.append(equal("and a step of descent is linear too", step, -eta * W2 * B * E * Sxx, "E(t+eta) - E(t)"))

    readout, Q, P = sp.Matrix([[2, 1], [1, 3], [1, -1]]), sp.Matrix([[1, 0], [1, 2]]), sp.Matrix([[1, 0, 1], [0, 1, 0]])
    start = sp.Matrix([[1], [2], [-1]])
    feedback, inner = Q * P, P * readout * Q
    closed = frozen_readout_error(readout, feedback, start, t)
    text = "linfa.theory.dimension.frozen_readout.frozen_readout_error solves it on an instance, white inputs"
    steps.append(_zero(text, closed.diff(t) + readout * feedback * closed, "E' = -W_2 B E"))
    steps.append(_zero("and starts there", closed.subs(t, 0) - start, "E(0)"))
    low = start - readout * Q * inner.inv() * (sp.eye(2) - (-inner * t).exp()) * P * start
    steps.append(_zero("with B = Q P", closed - low, "E = E(0) - W_2 Q (P W_2 Q)^-1 (I - e^(-P W_2 Q t)) P E(0)"))
    limit = start - readout * Q * inner.inv() * P * start
    steps.append(_zero("what the feedback sees is gone in the end", P * limit, "P E = 0"))
    rest = (readout * Q).T.nullspace()
    steps.append(
        _zero(
            "and nothing has moved outside the columns of W_2 Q", sp.Matrix([v.dot(limit - start) for v in rest]), "0"
        )
    )
    numbers = [np.array(matrix.tolist(), dtype=float) for matrix in (readout, feedback, start, limit)]
    gap = np.abs(frozen_readout_limit(*numbers[:3]) - numbers[3]).max()
    steps.append(
        Step("linfa.theory.dimension.frozen_readout.frozen_readout_limit is this end", "to 1e-9", bool(gap < 1e-9))
    )

    a, b = sp.symbols("a b", real=True)
    growth = (1 - eta * a) ** 2 + (eta * b) ** 2 - 1
    text = "descent multiplies an eigenvector of P W_2 Q by 1 - eta mu; with mu = a + i b, |1 - eta mu|^2 - 1 is"
    steps.append(equal(text, growth, eta * (eta * (a**2 + b**2) - 2 * a), "growth"))
    largest = frozen_readout_max_lr(np.array([[1.0, -2.0], [2.0, 1.0]]), np.eye(2))
    zero = growth.subs({a: 1, b: 2, eta: sp.nsimplify(largest)})
    text = "linfa.theory.dimension.frozen_readout.frozen_readout_max_lr is where it vanishes, here for mu = 1 +- 2i"
    steps.append(equal(text, zero, 0, "growth"))
    text = "the closed form in the mode equations leaves nothing"
    steps.append(nothing_left(text, FrozenReadout.residuals(equations), "residual"))
    return Derivation(
        "feedback alignment below a frozen readout",
        (
            "two layers, W_2 frozen",
            "fixed feedback",
            "for the end: all eigenvalues of P W_2 Q have positive real parts",
        ),
        tuple(steps),
        "derived here",
    )


def _zero(text, matrix, formula):
    return Step(text, formula, bool(matrix.applyfunc(sp.simplify).is_zero_matrix))
