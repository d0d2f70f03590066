"""Feedback alignment in two layers, from any start, in matrices of the size of the task."""

import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, equal, given
from linfa.algebra import T
from linfa.theory.alignment.gram import FAGram


def derivation() -> Derivation:
    """The weights as functions of A and G, put into the derived equations: the motion closes, and so does a step.

    >>> derivation().title
    'two-layer feedback alignment without its hidden units'
    """
    equations, eta = linfa.derive(linfa.fa(), 2), sp.Symbol("eta", positive=True)
    W1, W2 = equations.state.weights
    B, E = equations.state.feedback[0][0], equations.residual
    U, V = sp.MatrixSymbol("U_1", *W1.shape), sp.MatrixSymbol("U_2", *W2.shape)  # the weights at time 0
    A, G = sp.MatrixSymbol("A", *E.shape), sp.MatrixSymbol("G", E.shape[0], E.shape[0])
    data = FAGram.of(U, V, B)

    def weights(A, G):
        return {W1: U + B * A, W2: V + G * T(B) + A * T(U)}

    at, after = weights(A, G), weights(A + eta * E, G + eta * E * T(A))
    steps = [
        given("the equations of the rule", equations),
        given("A' = E and G' = E A^T, from A = G = 0, and the weights as functions of them",
              "W_1 = W_1(0) + B A,  W_2 = W_2(0) + G B^T + A W_1(0)^T"),
    ]  # fmt: skip
    for number, (w, v) in enumerate(zip((W1, W2), equations.velocity.weights, strict=True), 1):
        moves = words.of(v.subs(at)) if v.has(W1) else words.of(v)
        step = sp.expand(words.of(after[w]) - words.of(at[w]))
        text = f"W_{number} moves by eta times the velocity that linfa.derive gives, exactly, so in descent as in flow"
        steps.append(equal(text, step, eta * moves, f"W_{number}(t+eta) - W_{number}(t)"))
    steps.append(
        equal("linfa.theory.alignment.gram.FAGram.map is W_2 W_1", words.of(at[W2] * at[W1]), words.of(data.map(A, G)),
              "W_2 W_1")
    )  # fmt: skip
    square, mixed = (A + eta * E) * T(A + eta * E) - A * T(A), eta * (E * T(A) + A * T(E))
    text = "A A^T moves as G + G^T does, and in descent by eta^2 E E^T more: the flow keeps G + G^T = A A^T"
    steps.append(equal(text, words.of(square), words.of(mixed) + eta**2 * words.of(E * T(E)), "d(A A^T)"))
    return Derivation(
        "two-layer feedback alignment without its hidden units",
        ("two layers, fixed B", "any start, inputs and width"),
        tuple(steps),
        "derived here",
    )
