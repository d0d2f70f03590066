"""Polar updates of aligned modes: unit speed in every layer, arrival at s^(1/L), and the jump around s."""

import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, Step, equal, given, nothing_left
from linfa.expressions import Polar
from linfa.theory.geometry.polar_clock import polar_arrival, polar_mode, polar_oscillation
from linfa.theory.geometry.polar_modes import PolarModes


def polar_of(coefficient, frame):
    """polar(U d V^T) = U sign(d) V^T for frames U and V, as a word: the coefficient d between the frames turns sign."""
    return sp.sign(coefficient) * frame


def derivation() -> Derivation:
    """From the matrix equations to straight lines, in flow and descent.

    >>> derivation().title
    'the modes of a two-layer network under polar updates'
    """
    equations = linfa.derive(linfa.muon(linfa.bp()), 2)
    modes = equations.modes()
    w1, w2 = modes
    s = sp.Symbol("s", positive=True)
    U, V, R = map(words.letter, "UVR")
    Ut, Vt, Rt = (words.letter(f"{name}^T") for name in "UVR")
    frames = words.orthonormal("U", "V", "R")
    E = (s - w1 * w2) * U * Vt
    aligned = {
        words.letter("W_1"): w1 * R * Vt, words.letter("W_1^T"): w1 * V * Rt,
        words.letter("W_2"): w2 * U * Rt, words.letter("W_2^T"): w2 * R * Ut,
        words.letter("S_yx"): s * U * Vt, words.letter("S_xx"): sp.Integer(1), words.letter("E"): E,
    }  # fmt: skip
    steps = [given("the equations of the rule", equations)]
    residual = words.reduced(words.of(equations.residual_definition), aligned, frames)
    steps.append(equal("E for Syx = U s V^T, Sxx = I, W_1 = R w_1 V^T, W_2 = U w_2 R^T", residual, E, "E"))
    for cut, (v, frame, w) in enumerate(zip(equations.velocity.weights, (R * Vt, U * Rt), (w1, w2), strict=True), 1):
        steps.append(Step(f"W_{cut}' is a polar factor", v, isinstance(v, Polar)))
        inside = words.reduced(words.of(v.args[0]), aligned, frames)
        coefficient = sp.expand(inside).coeff(frame)
        text = f"what is inside has the frames of W_{cut}"
        steps.append(equal(text, inside, sp.factor(coefficient) * frame, f"G_{cut}"))
        text = "polar(U d V^T) = U sign(d) V^T, which is the mode equation that linfa.derive gives"
        steps.append(equal(text, polar_of(coefficient, frame), modes[w] * frame, f"Wdot_{cut}"))
    text = "w_l' = 1 where weights and s - u are positive: w_l(t) = w_l(0) + t leaves nothing"
    steps.append(nothing_left(text, PolarModes.residuals(equations), "residual"))

    t, tau, lr, x = sp.symbols("t tau eta x", positive=True)
    depth = 3
    w = sp.symbols(f"w_1:{depth + 1}", positive=True)
    u = polar_mode(t, w)
    text = "so that u(t) of linfa.theory.geometry.polar_clock.polar_mode moves as sum_l prod_(k != l) w_k, whatever s"
    steps.append(equal(text, sp.diff(u, t), sp.Add(*(u / (a + t) for a in w)), "udot"))
    root = x ** sp.Rational(1, depth)
    text = "from equal weights it is s = x at x^(1/L) - w, at x^(1/L) from zero"
    steps.append(equal(text, polar_mode(root - w[0], [w[0]] * depth), x, "u(tau)"))
    gap = abs(polar_arrival(2.0, [0.1] * depth) - (2 ** (1 / depth) - 0.1))
    steps.append(Step("which linfa.theory.geometry.polar_clock.polar_arrival finds", "to 1e-12", bool(gap < 1e-12)))
    back = sp.Poly(sp.expand(polar_mode(tau + lr, w) + polar_mode(tau - lr, w) - 2 * polar_mode(tau, w)), lr, tau, *w)
    text = "a step up from tau changes u by more than one down: the coefficients of the difference are positive"
    steps.append(Step(text, back.as_expr(), all(c > 0 for c in back.coeffs())))
    start = (0.1, 0.2, 0.3)
    at = polar_arrival(2.0, start)
    gap = abs(polar_oscillation(2.0, start, 0.05) - float(polar_mode(at + 0.05, start) - 2))
    text = "and u jumps by at most linfa.theory.geometry.polar_clock.polar_oscillation, that step up"
    steps.append(Step(text, "to 1e-12", bool(gap < 1e-12)))
    return Derivation(
        "the modes of a two-layer network under polar updates",
        ("white inputs", "start along the singular vectors of the task", "weights positive, strengths below s"),
        tuple(steps),
        "derived here",
    )
