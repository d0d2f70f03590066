"""One mode under Kolen-Pollack without decay: hyperbolas in theta = int e dt, and time as a sum of logarithms."""

import numpy as np
import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, Step, equal, given, nothing_left
from linfa.theory.learned.kp_clock import kp_angle, kp_time, kp_weights
from linfa.theory.learned.kp_mode import KPMode


def derivation() -> Derivation:
    """From the matrix equations to the hyperbola, the clock and its two special cases.

    >>> derivation().title
    'the modes of Kolen-Pollack learning without decay'
    """
    equations = linfa.derive(linfa.kolen_pollack(decay=0.0), 2)
    modes = equations.modes()
    w1, w2, b = modes
    s = sp.Symbol("s", positive=True)  # the singular value of the task in those equations
    e = s - w1 * w2
    U, V, R, Ut, Vt, Rt = (words.letter(name) for name in ("U", "V", "R", "U^T", "V^T", "R^T"))
    aligned = {
        words.letter("W_1"): w1 * R * Vt, words.letter("W_1^T"): w1 * V * Rt, words.letter("W_2"): w2 * U * Rt,
        words.letter("B_1"): b * R * Ut, words.letter("S_yx"): s * U * Vt, words.letter("S_xx"): sp.Integer(1),
        words.letter("E"): e * U * Vt, words.letter("E^T"): e * V * Ut,
    }  # fmt: skip

    def put(expression):
        return words.reduced(words.of(expression), aligned, words.orthonormal("U", "V", "R"))

    steps = [
        given("the equations of the rule", equations),
        equal("E for Syx = U s V^T, Sxx = I, W_1 = R w_1 V^T, W_2 = U w_2 R^T, B = R b U^T",
              put(equations.residual_definition), e * U * Vt, "E"),
    ]  # fmt: skip
    moves = (*equations.velocity.weights, equations.velocity.feedback[0][0])
    for (x, slope), v, frame in zip(modes.items(), moves, (R * Vt, U * Rt, R * Ut), strict=True):
        steps.append(equal(f"{x} is a mode of its own", put(v), slope * frame, f"({x} frame)'"))

    def change(f):
        return sp.Add(*(sp.diff(f, x) * v for x, v in modes.items()))

    steps.append(equal("b - w_2 is conserved", change(b - w2), 0, "d(b - w_2)/dt"))
    steps.append(equal("and w_1^2 - b^2: a hyperbola", change(w1**2 - b**2), 0, "d(w_1^2 - b^2)/dt"))
    theta, u, d = sp.Symbol("theta", real=True), sp.Symbol("u", positive=True), sp.Symbol("d", real=True)
    start = sp.symbols("w_1(0) w_2(0) b(0)", real=True)
    for x, at_rest in zip(kp_weights(sp.Integer(0), *start), start, strict=True):
        steps.append(equal("linfa.theory.learned.kp_clock.kp_weights starts where it should", x, at_rest, "w(0)"))
    text = "and solves the equations with theta' = e = s - w_1 w_2: nothing is left"
    steps.append(nothing_left(text, KPMode.residuals(equations), "residual"))

    on, (_, v2, vb) = kp_weights(sp.log(u), *start), start
    z, y, gap = start[0] + vb, start[0] - vb, vb - v2
    P = -(z**2) * u**4 + 2 * gap * z * u**3 + 4 * s * u**2 + 2 * gap * y * u + y**2
    text = "u = e^theta obeys u' = u e = P(u)/(4u), z = w_1 + b, y = w_1 - b, d = b - w_2"
    steps.append(equal(text, 4 * u**2 * (s - on[0] * on[1]), P, "4*u*udot"))
    roots = sp.symbols("r_1:5")
    Q = sp.prod(u - r for r in roots)
    for root in roots:
        parts = sum(r / sp.diff(Q, u).subs(u, r) * sp.prod(u - other for other in roots if other != r) for r in roots)
        text = "Q times the sum of r_i / Q'(r_i) / (u - r_i) over the roots of Q is u: both are cubic and agree there"
        steps.append(Step(text, sp.Eq(sp.Symbol("sum"), root), bool(sp.cancel(parts.subs(u, root)) == root)))
    steps.append(given("so that t, the integral of 4u/P", "sum_i 4 r_i / P'(r_i) log[(u - r_i)/(1 - r_i)]"))
    for numbers in ((0.3, -0.4, 0.9, 1.2), (1.1, 0.8, 0.2, 0.5), (0.2, 0.5, -0.7, 1.0)):
        at = dict(zip((*start, s), map(sp.Rational, map(str, numbers)), strict=True))
        p = sp.Poly(P.subs(at), u)
        last = sp.Float(np.exp(kp_angle([2.0], *numbers)[0]), 20)
        logs = (4 * r / p.diff(u).eval(r) * sp.log((last - r) / (1 - r)) for r in p.nroots(n=20))
        found = sp.re(sp.N(sp.Add(*logs), 15))
        steps.append(Step("linfa.theory.learned.kp_clock.kp_angle inverts that sum, here at t = 2", str(p.as_expr()),
                          bool(abs(found - 2) < 1e-11)))  # fmt: skip

    diagonal = {w1: b, w2: b - d}
    steps.append(equal("from w_1 = b, which stays so", change(b).subs(diagonal), b * (s + d * b - b**2), "bdot"))
    f, f0 = sp.symbols("b b_0", positive=True)
    clock = kp_time(f, f0, d, s)
    steps.append(
        equal("linfa.theory.learned.kp_clock.kp_time has this slope", sp.diff(clock, f), 1 / (f * (s + d * f - f**2)),
              "dt/db"))  # fmt: skip
    steps.append(equal("and starts at 0", kp_time(f0, f0, d, s), 0, "t(b_0)"))
    from_zero = kp_weights(theta, sp.Integer(0), sp.Integer(0), d)
    hyperbolic = (d * sp.sinh(theta), d * (sp.cosh(theta) - 1), d * sp.cosh(theta))
    for name, x, wanted in zip(("w_1", "w_2", "b"), from_zero, hyperbolic, strict=True):
        steps.append(equal(f"from zero weights and b = d, {name}", x, wanted.rewrite(sp.exp), name))
    slope = s - d**2 * sp.sinh(theta) * (sp.cosh(theta) - 1)
    steps.append(equal("and theta'", s - from_zero[0] * from_zero[1], slope.rewrite(sp.exp), "thetadot"))
    return Derivation(
        "the modes of Kolen-Pollack learning without decay",
        ("white inputs", "weights and feedback along the singular vectors of the task", "no decay"),
        tuple(steps),
        "derived here",
    )
