"""W_1 and M = B W_2 move by themselves under feedback alignment."""

import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, equal, given
from linfa.theory.alignment.closed_pair import closed_pair_velocity


def derivation() -> Derivation:
    """The derived equations in W_1 and M alone, and their solution from zero.

    >>> derivation().title
    'feedback alignment as a closed pair'
    """
    equations = linfa.derive(linfa.fa(), 2)
    (W1, W2), (B,) = equations.state.weights, equations.state.feedback[0]
    dW1, dW2 = equations.velocity.weights
    error = {equations.residual: equations.residual_definition}
    Sxx, Syx = equations.moments["S_xx"], equations.moments["S_yx"]
    pair = closed_pair_velocity(W1, B * W2, B * Syx, Sxx)
    steps = [given("the equations of the rule", equations)]
    for name, left, right in zip(("W_1'", "M'"), (dW1, B * dW2), pair, strict=True):
        text = "linfa.theory.alignment.closed_pair.closed_pair_velocity, of M = B W_2 and B Syx alone"
        steps.append(equal(text, words.of(left.subs(error)), words.of(right), name))
    a, s = sp.symbols("a s", positive=True)
    U, V = map(words.letter, "UV")
    Ut, Vt = map(words.letter, ("U^T", "V^T"))
    M = sp.MatrixSymbol("M", W1.shape[0], W1.shape[0])
    seen = sp.MatrixSymbol("D", *W1.shape)
    values = {
        words.letter("W_1"): a * U * Vt, words.letter("W_1^T"): a * V * Ut, words.letter("M"): a**2 * U * Ut / 2,
        words.letter("D"): s * U * Vt, words.letter("S_xx"): sp.Integer(1),
    }  # fmt: skip
    slope = s - a**3 / 2
    for name, v, form in zip(("W_1'", "M'"), closed_pair_velocity(W1, M, seen, Sxx), (U * Vt, a * U * Ut), strict=True):
        moves = words.reduced(words.of(v), values, words.orthonormal("U", "V"))
        text = "white inputs, B Syx = U s V^T: W_1 = U a V^T and M = U a^2 U^T / 2 keep their form with a' = s - a^3/2"
        steps.append(equal(text, moves, sp.expand(slope * form), name))
    return Derivation(
        "feedback alignment as a closed pair",
        ("two layers, fixed B", "any start and inputs; white inputs and zero weights for the solution"),
        tuple(steps),
        "derived here",
    )
