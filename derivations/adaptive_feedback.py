"""Feedback through the weights below (PEPITA): frozen column spaces, log det M = tr(F int E), and its modes."""

import numpy as np
import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, Step, equal, given, nothing_left
from linfa.simulate import advance
from linfa.theory.learned.adaptive_feedback import pepita_logdet, pepita_logdet_descent
from linfa.theory.learned.kp_clock import kp_time
from linfa.theory.learned.pepita_mode import PepitaMode, pepita_mode, pepita_weights


def derivation(depth: int = 3) -> Derivation:
    """Prove it at a given depth, and solve the modes of two layers.

    Args:
        depth: number of weights, at least 2.

    >>> derivation(depth=2).title
    'feedback through the weights below, depth 2'
    """
    equations = linfa.derive(linfa.pepita(), depth)
    F, E = map(words.letter, ("B_0", "E"))
    eta, epsilon = sp.symbols("eta epsilon", positive=True)
    steps = [given("the equations of the rule", equations)]
    A, At = sp.Integer(1), sp.Integer(1)
    moved = advance(equations.state, equations.velocity, eta).weights
    for number, (v, after) in enumerate(zip(equations.velocity.weights[:-1], moved, strict=False), 1):
        W, Wt = words.letter(f"W_{number}"), words.letter(f"W_{number}^T")
        text = f"W_{number}' = W_{number} A F E A^T with A the layers below: the columns of W_{number} keep their space"
        steps.append(equal(text, words.of(v), W * A * F * E * At, f"Wdot_{number}"))
        text = f"and a step of descent multiplies W_{number} from the right too"
        steps.append(equal(text, words.of(after), W * (1 + eta * A * F * E * At), f"W_{number}(t+eta)"))
        A, At = W * A, At * Wt
    size = 3
    X, Y = (sp.Matrix(size, size, sp.symbols(f"{name}_0:{size * size}")) for name in ("f", "e"))
    step = (sp.eye(size) + epsilon * X * Y).det(method="berkowitz")
    rate = sp.diff(sp.expand(step), epsilon).subs(epsilon, 0)
    text = "W_1 = W_1(0) M, M' = M F E: the slope of log det M, that of det(I + epsilon F E), is tr(F E)"
    steps.append(equal(text, rate, (X * Y).trace(), "d(log det M)/dt"))
    closed = pepita_logdet(*(np.array(Z.tolist(), dtype=object) for Z in (X, Y)))
    text = "so that log det M = tr(F int E dt): linfa.theory.learned.adaptive_feedback.pepita_logdet"
    steps.append(equal(text, closed, (X * Y).trace(), "log det M"))
    numbers = [sp.Matrix(2, 2, [sp.Rational(i * i % 7 - 3, 5) for i in range(k, k + 4)]) for k in (1, 5, 9)]
    exact = sp.Integer(1)
    for e in numbers[1:]:
        exact *= (sp.eye(2) + sp.Rational(1, 10) * numbers[0] * e).det()
    found = pepita_logdet_descent(*(np.array(Z, dtype=float) for Z in (numbers[0], numbers[1:])), 0.1)[-1]
    steps.append(Step("pepita_logdet_descent is the log of the product of det(I + eta F E)", f"log det M = log {exact}",
                      bool(abs(sp.log(exact) - found) < 1e-14)))  # fmt: skip

    two = linfa.derive(linfa.pepita(), 2)
    modes = two.modes()
    w1, w2, f = modes
    s = sp.Symbol("s", positive=True)  # the singular value of the task in those equations
    frames = {name: words.letter(name) for name in ("U", "V", "R", "U^T", "V^T", "R^T")}
    U, V, R, Ut, Vt, Rt = frames.values()
    aligned = {
        words.letter("W_1"): w1 * R * Vt, words.letter("W_1^T"): w1 * V * Rt, words.letter("W_2"): w2 * U * Rt,
        F: f * V * Ut, E: (s - w1 * w2) * U * Vt,
    }  # fmt: skip
    for name, v, slope in zip("12", two.velocity.weights, (modes[w1] * R * Vt, modes[w2] * U * Rt), strict=True):
        moves = words.reduced(words.of(v), aligned, words.orthonormal("U", "V", "R"))
        text = f"W_{name}' keeps the frames of W_1 = R w_1 V^T, W_2 = U w_2 R^T, F = V f U^T"
        steps.append(equal(text, moves, slope, f"Wdot_{name}"))
    text = "linfa.theory.learned.pepita_mode.pepita_weights solves the modes with phi' = f e: nothing is left"
    steps.append(nothing_left(text, PepitaMode.residuals(two), "residual"))
    start = sp.symbols("w_1(0) w_2(0)", real=True)
    for x, at_rest in zip(pepita_weights(sp.Integer(0), *start, f), start, strict=True):
        steps.append(equal("and starts where it should", x, at_rest, "w(0)"))
    q, x, x0 = sp.Symbol("q", real=True), *sp.symbols("x x_0", positive=True)
    g = sp.Symbol("f", positive=True)
    along = modes[w1].subs({w2: (w1 - q) / f})
    steps.append(equal("on w_1 - f w_2 = q", along, w1 * (f * s + q * w1 - w1**2), "wdot_1"))
    clock = sp.diff(kp_time(x, x0, q, g * s), x)
    text = "linfa.theory.learned.kp_clock.kp_time, at d = q and with f s for s, has this slope"
    steps.append(equal(text, clock * x * (g * s + q * x - x**2), 1, "dt/dw_1 * wdot_1"))
    for strengths in ((0.4, 0.3, 0.8, 1.5), (-0.7, 0.2, 1.1, 0.6)):
        begin, above, back, task = strengths
        end = pepita_mode([1.5], *strengths)[0][0]
        time = kp_time(end, begin, begin - back * above, back * task)
        steps.append(Step("and pepita_mode is its inverse, here at t = 3/2", f"w_1 = {end:.12f}",
                          bool(abs(time - 1.5) < 1e-11)))  # fmt: skip
    return Derivation(
        f"feedback through the weights below, depth {depth}",
        ("any data and start", "modes: white inputs, aligned start and feedback, two layers"),
        tuple(steps),
        "derived here; PEPITA as adaptive feedback is Srinivasan et al. (2023), known from the abstract",
    )
