"""Backprop from a balanced start along the modes of the task: u(t) = s e^(2st) / (e^(2st) - 1 + s/u_0)."""

import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, equal, given, nothing_left
from linfa.theory.backprop.saxe import SaxeMode, bp_mode


def derivation() -> Derivation:
    """From the matrix equations to one sigmoid for each mode.

    >>> derivation().title
    'the modes of backprop in a balanced two-layer network'
    """
    equations = linfa.derive(linfa.bp(), 2)
    modes = equations.modes()
    w1, w2 = modes
    s = sp.Symbol("s", positive=True)  # the singular value of the task in those equations
    U, V, R = map(words.letter, "UVR")
    Ut, Vt, Rt = (words.letter(f"{name}^T") for name in "UVR")
    frames = words.orthonormal("U", "V", "R")
    E = U * (s - w1 * w2) * Vt
    aligned = {
        words.letter("W_1"): w1 * R * Vt, words.letter("W_1^T"): w1 * V * Rt,
        words.letter("W_2"): w2 * U * Rt, words.letter("W_2^T"): w2 * R * Ut,
        words.letter("S_yx"): s * U * Vt, words.letter("S_xx"): sp.Integer(1),
        words.letter("E"): E, words.letter("E^T"): V * (s - w1 * w2) * Ut,
    }  # fmt: skip
    steps = [given("the equations of the rule", equations)]
    residual = words.reduced(words.of(equations.residual_definition), aligned, frames)
    steps.append(equal("E for Syx = U s V^T, Sxx = I, W_1 = R w_1 V^T, W_2 = U w_2 R^T", residual, E, "E"))
    for name, v, frame, w in zip("12", equations.velocity.weights, (R * Vt, U * Rt), (w1, w2), strict=True):
        moves = words.reduced(words.of(v), aligned, frames)
        text = f"W_{name}' keeps the frames, and its diagonal is the mode equation that linfa.derive gives"
        steps.append(equal(text, moves, modes[w] * frame, f"Wdot_{name}"))

    def change(f) -> sp.Expr:
        return sp.Add(*(sp.diff(f, x) * v for x, v in modes.items()))

    u = sp.Symbol("u", positive=True)
    steps.append(
        equal("d/dt (w_2^2 - w_1^2): a balanced start stays balanced", change(w2**2 - w1**2), 0, "d(w_2^2 - w_1^2)/dt")
    )
    balanced: dict = {w1: sp.sqrt(u), w2: sp.sqrt(u)}
    steps.append(equal("u = w_1 w_2 with w_1 = w_2: u'", change(w1 * w2).subs(balanced), 2 * u * (s - u), "udot"))
    t, u0 = sp.symbols("t u_0", positive=True)
    closed = bp_mode(t, s, u0)
    steps.append(
        equal("linfa.theory.backprop.saxe.bp_mode solves this", sp.diff(closed, t), 2 * closed * (s - closed), "udot")
    )
    steps.append(equal("and starts at u_0", closed.subs(t, 0), u0, "u(0)"))
    usual = s * sp.exp(2 * s * t) / (sp.exp(2 * s * t) - 1 + s / u0)
    steps.append(equal("in the usual form", closed, usual))
    half = sp.log(s / u0 - 1) / (2 * s)
    steps.append(equal("half of s is learned at log(s/u_0 - 1)/(2s)", closed.subs(t, half), s / 2, "u"))
    text = "w_1 = w_2 = sqrt(u(t)) in the mode equations leaves nothing"
    steps.append(nothing_left(text, SaxeMode.residuals(equations), "residual"))
    return Derivation(
        "the modes of backprop in a balanced two-layer network",
        ("white inputs", "balanced start along the singular vectors of the task"),
        tuple(steps),
        "Saxe, McClelland & Ganguli (2013); known result re-derived",
    )
