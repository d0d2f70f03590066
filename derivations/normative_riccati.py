"""Normative factors below a frozen readout: backprop in the network Q P with target W_2^T, and its Riccati equation."""

import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, equal, given, nothing_left
from linfa.algebra import T
from linfa.rules import LayerRates, Layerwise, Normative, RandomFactors, Rule
from linfa.theory.dimension.normative_factors import NormativeFactors


def derivation() -> Derivation:
    """The velocities are backprop's with P, Q, W_2^T for W_1, W_2, Syx; their products obey a Riccati equation.

    >>> derivation().title
    'normative factors below a frozen readout'
    """
    rule = Rule(Layerwise(), RandomFactors(2), Normative(), geometry=LayerRates((0, 0)))
    equations, plain = linfa.derive(rule, 2), linfa.derive(linfa.bp(), 2)
    Q, P, Qt, Pt, W, Wt = map(words.letter, ("Q_1", "P_1", "Q_1^T", "P_1^T", "W_2", "W_2^T"))
    moments = {words.letter("E"): Wt - Q * P, words.letter("S_yx"): Wt, words.letter("S_xx"): sp.Integer(1)}
    renamed = {words.letter("W_1"): P, words.letter("W_1^T"): Pt, W: Q, Wt: Qt} | moments

    def put(expression):
        return sp.expand(words.of(expression).xreplace(renamed))

    steps = [given("the equations of the rule", equations), given("and of backprop", plain)]
    steps.append(equal("the error on the target W_2^T", put(plain.residual_definition), Wt - Q * P, "E"))
    for name, v in zip(("W_1", "W_2"), equations.velocity.weights, strict=True):
        steps.append(equal(f"{name} stands still", words.of(v), 0, f"{name}dot"))
    (dQ, dP), (v1, v2) = equations.velocity.feedback[0], plain.velocity.weights
    steps.append(equal("P moves as W_1 does under backprop", words.of(dP), put(v1), "Pdot"))
    steps.append(equal("Q moves as W_2 does", words.of(dQ), put(v2), "Qdot"))

    def blocks(rule, state):
        Q, P = state.feedback[0]
        return T(P) @ P, T(P) @ T(Q), Q @ P, Q @ T(Q)

    offset = sp.Symbol("kappa", real=True)
    balance = {Qt * Q: P * Pt + offset}
    F = ((-offset / 2, W), (Wt, offset / 2))
    X = ((Pt * P, Pt * Qt), (Q * P, Q * Qt))
    steps.append(given("a balance that is conserved, and the products X of the columns [P^T; Q]",
                       "Q^T Q - P P^T = kappa I, F = [[-kappa/2 I, W_2], [W_2^T, kappa/2 I]]"))  # fmt: skip
    for index, change in enumerate(equations.change(blocks)):
        i, j = divmod(index, 2)
        riccati = sum(F[i][l] * X[l][j] + X[i][l] * F[l][j] - X[i][l] * X[l][j] for l in range(2))  # noqa: E741
        left, right = (words.reduced(side, {}, balance) for side in (change, riccati))
        steps.append(equal(f"X' = F X + X F - X^2, block {i + 1}{j + 1}", left, right, f"Xdot_{i + 1}{j + 1}"))
    text = "the equations of one mode are those of backprop, which Riccati solves: NormativeFactors has nothing left"
    steps.append(nothing_left(text, NormativeFactors.residuals(equations), "residual"))
    return Derivation(
        "normative factors below a frozen readout",
        ("W_2 frozen", "any factors; for the Riccati equation Q^T Q - P P^T = kappa I"),
        tuple(steps),
        "derived here; the equation for backprop is known (Fukumizu 1998; Braun et al. 2022)",
    )
