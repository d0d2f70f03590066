"""The loss that feedback of rank 1 leaves of two modes, from the end of feedback alignment."""

import random

import numpy as np
import sympy as sp

import linfa
from derivations.proof import Derivation, Step, equal, given
from linfa.expressions import evaluate
from linfa.theory.dimension.final_map import final_loss
from linfa.theory.dimension.two_modes import two_mode_loss


def derivation() -> Derivation:
    """A rest point on two modes in the frames of the task, and its loss.

    >>> derivation().title
    'the loss that feedback of rank 1 leaves of two modes'
    """
    equations = linfa.derive(linfa.ldfa(1, "fixed"), 2)
    s1, s2 = sp.symbols("s_1 s_2", positive=True)
    angle = sp.Symbol("phi", real=True)
    c, d = sp.symbols("c d", real=True)
    Sigma, P = sp.diag(s1, s2), sp.Matrix([[c, d]])
    seen = P * Sigma
    length = (seen * seen.T)[0]
    Q = sp.Matrix([[1]])
    rest = {"W_1": seen, "W_2": Sigma * seen.T / length, "Q_1": Q, "P_1": P, "S_xx": sp.eye(2), "S_yx": Sigma}
    rest["E"] = evaluate(equations.residual_definition, rest).applyfunc(sp.cancel)
    steps = [
        given("the equations of the rule", equations),
        given("in the frames of the task Sigma = diag(s_1, s_2), and the feedback vector", "P = (c, d)"),
        given("a hidden unit that has learned what P sees of the task", "W_1 = P Sigma"),
        given("and the output that fits best to it", "W_2 = Sigma Sigma^T P^T / |P Sigma|^2"),
    ]
    for number, v in enumerate(equations.velocity.weights, 1):
        moves = evaluate(v, rest).applyfunc(sp.cancel)
        steps.append(Step(f"the velocity of W_{number} that linfa.derive gives vanishes there", f"W_{number}' = 0",
                          bool(moves.is_zero_matrix)))  # fmt: skip
    loss = sp.factor((rest["E"] * rest["E"].T).trace() / 2)
    seen_part = 2 * (s1**2 * c**2 + s2**2 * d**2)
    steps.append(equal("the loss there", loss, s1**2 * s2**2 * (c**2 + d**2) / seen_part, "L"))
    at_angle = sp.trigsimp(loss.subs({c: sp.cos(angle), d: sp.sin(angle)}))
    text = "with c = cos phi, d = sin phi it is linfa.theory.dimension.two_modes.two_mode_loss"
    steps.append(equal(text, at_angle, two_mode_loss(s1, s2, angle), "L"))
    slope = sp.diff(1 / two_mode_loss(s1, s2, angle), angle)
    steps.append(equal("1/L falls from the stronger mode to the weaker one", slope,
                       -2 * sp.sin(2 * angle) * (s1**2 - s2**2) / (s1 * s2) ** 2, "d(1/L)/dphi"))  # fmt: skip
    rng = random.Random(0)
    for _ in range(3):
        numbers = rng.uniform(0.5, 2), rng.uniform(0.5, 2), rng.uniform(0, 3)
        B = np.array([[np.cos(numbers[2]), np.sin(numbers[2])]])
        gap = final_loss(np.diag(numbers[:2]), B) - two_mode_loss(*numbers)
        text = "it is linfa.theory.dimension.final_map.final_loss, where feedback alignment from W_1 = 0 ends"
        steps.append(Step(text, f"s_1, s_2, phi = {numbers}", bool(abs(gap) < 1e-12)))
    return Derivation(
        "the loss that feedback of rank 1 leaves of two modes",
        ("white inputs", "two layers, W_1(0) = 0", "fixed B = q p^T", "the flow comes to rest"),
        tuple(steps),
        "derived here",
    )
