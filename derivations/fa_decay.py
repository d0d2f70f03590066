"""Where feedback alignment rests with weight decay lambda: e^3 + lambda^3 e = lambda^3 s for the modes of B Sigma."""

import numpy as np
import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, Step, equal, given
from linfa.rules import Dense, Layerwise, Rule
from linfa.symbolic import DECAY
from linfa.theory import invariants
from linfa.theory.alignment.decay import fa_decay_end, fa_decay_residual


def derivation() -> Derivation:
    """The rest point in words, its modes, and the functions of linfa on instances with rational roots.

    >>> derivation().title
    'the end of feedback alignment with weight decay'
    """
    equations = linfa.derive(Rule(Layerwise(), Dense(), decay=1.0, name="fa"), 2)
    letter = words.letter
    B, Bt, E, Et, W2 = letter("B_1"), letter("B_1^T"), letter("E"), letter("E^T"), letter("W_2")
    X, Xt, Sigma, one = letter("X"), letter("X^T"), letter("S_yx"), sp.Integer(1)
    rest = {
        letter("W_1"): B * E / DECAY, letter("W_1^T"): Et * Bt / DECAY,
        W2: E * Et * Bt / DECAY**2, letter("S_xx"): one,
    }  # fmt: skip
    steps = [given("the equations of the rule", equations)]
    for number, v in enumerate(equations.velocity.weights, 1):
        text = f"W_{number} rests at W_1 = B E / lambda, W_2 = E W_1^T / lambda, and nowhere else"
        steps.append(equal(text, words.reduced(words.of(v), rest, {}), 0, f"Wdot_{number}"))
    error = words.reduced(words.of(equations.residual_definition), rest, {})
    steps.append(equal("with white inputs E is", error, Sigma - E * Et * Bt * B * E / DECAY**3, "E"))
    seen = words.reduced(sp.expand(B * (E - error)), {}, {B * E: X, Et * Bt: Xt})
    steps.append(equal("so that X = B E obeys 0 =", seen, X + X * Xt * X / DECAY**3 - B * Sigma, "B E - B E"))
    steps.append(given("left of B Sigma stands the gradient of |X|^2/2 + |X^T X|^2/(4 lambda^3), strictly convex",
                       "X is unique"))  # fmt: skip
    e = sp.Symbol("e", positive=True)
    U, V, Ut, Vt = map(letter, ("U", "V", "U^T", "V^T"))
    frames = words.orthonormal("U", "V")
    modes = words.reduced(X + X * Xt * X / DECAY**3, {X: e * U * Vt, Xt: e * V * Ut}, frames)
    drive = e + e**3 / DECAY**3
    steps.append(
        equal("X = U e V^T for B Sigma = U s V^T, e^3 + lambda^3 e = lambda^3 s", modes, drive * U * Vt, "B Sigma")
    )
    left = Sigma - e**2 / (DECAY**3 + e**2) * Sigma * V * Vt
    back = words.reduced(sp.expand(left * (1 + e**2 / DECAY**3 * V * Vt)), {}, frames)
    text = (
        "E (1 + X^T X / lambda^3) = Sigma leaves the part e/s = lambda^3 / (lambda^3 + e^2) of every mode that B sees"
    )
    steps.append(equal(text, sp.simplify(back), Sigma, "Sigma"))
    aligned = words.reduced(letter("B_1") * W2, rest, {B * E: X, Et * Bt: Xt})
    steps.append(equal("the feedback sees W_2 as a positive matrix", aligned, X * Xt / DECAY**2, "B W_2"))
    (change,) = equations.change(invariants.feedback_alignment, rate=1)
    square = words.of(equations.state.weights[0] * equations.state.weights[0].T)
    steps.append(
        equal("on the way C = W_1 W_1^T - B W_2 - W_2^T B^T obeys C' + lambda C =", change, -DECAY * square, "C'")
    )
    roots, rate = np.array([0.5, 1.0, 3.0]), 1.5
    drives = roots + roots**3 / rate**3
    gap = np.abs(fa_decay_residual(drives, rate) - roots).max()
    steps.append(Step("linfa.theory.alignment.decay.fa_decay_residual is that e", "to 1e-12", bool(gap < 1e-12)))
    end = fa_decay_end(np.diag(drives), np.eye(3), rate)
    wanted = np.diag(roots / rate), np.diag(roots**2 / rate**2), np.diag(roots)
    gap = max(np.abs(a - b).max() for a, b in zip(end, wanted, strict=True))
    steps.append(Step("linfa.theory.alignment.decay.fa_decay_end is that end", "to 1e-12", bool(gap < 1e-12)))
    return Derivation(
        "the end of feedback alignment with weight decay",
        ("white inputs", "two layers, fixed B, decay lambda > 0 of both weights", "the flow comes to rest"),
        tuple(steps),
        "derived here",
    )
