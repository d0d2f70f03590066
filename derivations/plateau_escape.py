"""Low-rank feedback from small weights: on the plateau, B E = 0, the error decays as e^(-W_1^T W_1 t)."""

import numpy as np
import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, Step, equal, given
from linfa.theory.dimension.plateau import plateau_matrix


def derivation() -> Derivation:
    """The plateau is invariant and linear; what the feedback does not touch of W_1 sets its rates, to second order.

    >>> derivation().title
    'the escape from the plateau of low-rank feedback'
    """
    equations = linfa.derive(linfa.fa(), 2)
    B, E, W1, W2, W1t = map(words.letter, ("B_1", "E", "W_1", "W_2", "W_1^T"))
    white = {words.letter("S_xx"): sp.Integer(1)}

    def error(rule, state):
        return (equations.moments["S_yx"] - state.weights[1] @ state.weights[0] @ equations.moments["S_xx"],)

    moves = words.reduced(equations.change(error)[0], white, {})
    rest = {B * E: sp.Integer(0)}
    (v1, _) = equations.velocity.weights
    steps = [
        given("the equations of the rule", equations),
        equal("the error, white inputs", moves, -W2 * B * E - E * W1t * W1, "Edot"),
        equal("B E moves in proportion to itself: once zero, it stays zero", sp.expand(B * moves),
              -B * W2 * B * E - B * E * W1t * W1, "d(B E)/dt"),
        equal("there W_1 stands still", words.reduced(words.of(v1), {}, rest), 0, "Wdot_1"),
        equal("and the error decays as e^(-W_1^T W_1 t)", words.reduced(moves, {}, rest), -E * W1t * W1, "Edot"),
    ]  # fmt: skip
    N = words.letter("N")
    blind = {N * B: sp.Integer(0)}
    steps.append(equal("N = I - B B^+ has N B = 0: N W_1 is what it was at the start",
                       words.reduced(N * words.of(v1), {}, blind), 0, "d(N W_1)/dt"))  # fmt: skip
    V, Vt, Y, Yt, Q, Qt, W0, W0t = map(words.letter, ("V_o", "V_o^T", "Y", "Y^T", "Q", "Q^T", "W_0", "W_0^T"))
    known = {N * Q: sp.Integer(0), Qt * N: sp.Integer(0), N * N: N, Y * V: sp.Integer(0), Vt * Yt: sp.Integer(0)}
    grown, grown_T = Q * Y + N * W0, Yt * Qt + W0t * N
    steps.append(given("the features that have grown see the inputs that B Syx sees, not V_o", "W_1 = Q Y + N W_0"))
    steps.append(equal("so that the unseen inputs have in W_1^T W_1 the block R",
                       words.reduced(Vt * grown_T * grown * V, {}, known), Vt * W0t * N * W0 * V, "R"))  # fmt: skip

    eps, y, w, nu, u = sp.symbols("epsilon y w nu u", positive=True)
    features = sp.Matrix([[y, eps**2 * u], [eps * w, eps * nu]])
    square = features.T * features
    slow = (square.trace() - sp.sqrt(square.trace() ** 2 - 4 * square.det())) / 2
    text = ("one seen and one unseen input: P W_2 W_1 V_o = 0 leaves O(eps^2) of V_o in the rows of Q, and the slow "
            "eigenvalue of W_1^T W_1 is R = eps^2 nu^2 up to eps^4")  # fmt: skip
    steps.append(equal(text, sp.series(slow, eps, 0, 4).removeO(), eps**2 * nu**2, "slow"))

    rng = np.random.default_rng(0)
    frame, rows, columns = (np.linalg.qr(rng.standard_normal((n, n)))[0] for n in (4, 3, 3))
    start, feedback, Sigma = rng.standard_normal((4, 3)), frame[:, :2] @ rng.standard_normal((2, 3)), rows @ columns
    unseen = np.linalg.svd(feedback @ Sigma)[2][2:].T
    R = unseen.T @ start.T @ frame[:, 2:] @ frame[:, 2:].T @ start @ unseen
    gap = np.abs(plateau_matrix(start, feedback, Sigma) - R).max()
    steps.append(Step("linfa.theory.dimension.plateau.plateau_matrix is this block, on an instance", "to 1e-12",
                      bool(gap < 1e-12)))  # fmt: skip
    return Derivation(
        "the escape from the plateau of low-rank feedback",
        ("white inputs", "two layers, weights of order eps at the start", "fixed feedback, its rank below the task's"),
        tuple(steps),
        "derived here",
    )
