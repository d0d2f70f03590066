"""Feedback alignment along the modes of the task, where the feedback is aligned with it: w = s x^3."""

import random

import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, Step, equal, given
from linfa.theory.alignment.zero_init_fa import amplitude, gain, timescale
from linfa.theory.modes.aligned import fa_half_time, fa_mode
from linfa.theory.special import phi3


def derivation() -> Derivation:
    """From the matrix equations to one curve for all modes.

    >>> derivation().title
    'the modes of feedback alignment with aligned feedback'
    """
    equations = linfa.derive(linfa.fa(), 2)
    modes = equations.modes()
    w1, w2, b = modes
    s = sp.Symbol("s", positive=True)  # the singular value of the task in those equations
    U, V, R = map(words.letter, "UVR")
    Ut, Vt, Rt = (words.letter(f"{name}^T") for name in "UVR")
    frames = words.orthonormal("U", "V", "R")
    E = U * (s - w1 * w2) * Vt
    aligned = {
        words.letter("W_1"): w1 * R * Vt, words.letter("W_1^T"): w1 * V * Rt, words.letter("W_2"): w2 * U * Rt,
        words.letter("B_1"): b * R * Ut, words.letter("S_yx"): s * U * Vt, words.letter("S_xx"): sp.Integer(1),
        words.letter("E"): E,
    }  # fmt: skip
    steps = [given("the equations of the rule", equations)]
    residual = words.reduced(words.of(equations.residual_definition), aligned, frames)
    steps.append(equal("E for Syx = U s V^T, Sxx = I, B = R b U^T, W_1 = R w_1 V^T, W_2 = U w_2 R^T", residual, E, "E"))
    for name, v, frame, w in zip("12", equations.velocity.weights, (R * Vt, U * Rt), (w1, w2), strict=True):
        moves = words.reduced(words.of(v), aligned, frames)
        text = f"W_{name}' keeps the frames, and its diagonal is the mode equation that linfa.derive gives"
        steps.append(equal(text, moves, modes[w] * frame, f"Wdot_{name}"))

    change = sum(sp.diff(w2 - w1**2 / (2 * b), x) * v for x, v in modes.items())
    steps.append(equal("w_2 - w_1^2/(2b) stays zero", change, 0, "d(w_2 - w_1^2/(2b))/dt"))
    x, h = sp.symbols("x h", positive=True)
    seen = sp.sqrt(h) * s
    on: dict = {w1: amplitude(seen, x), w2: s * gain(seen, x), b: sp.sqrt(h)}
    steps.append(
        equal(
            "amplitude and s gain of ZeroInitFA for b = sqrt(h) are on that curve",
            on[w2],
            on[w1] ** 2 / 2 / on[b],
            "w_2",
        )
    )
    steps.append(equal("the learned part of the mode", on[w1] * on[w2], s * x**3, "w_1 w_2"))
    for w, name in ((w1, "w_1'"), (w2, "w_2'")):
        speed = sp.diff(on[w], x) * (1 - x**3) / timescale(seen)
        steps.append(equal(f"{name} with x' = (1 - x^3)/T", speed, modes[w].subs(on), name))
    steps.append(equal("the time scale", timescale(seen) ** 3, 2 / (h * s**2), "T^3"))
    steps.append(equal("t = T Phi_3(x): the slope of Phi_3", sp.diff(phi3(x), x), 1 / (1 - x**3), "dPhi_3/dx"))
    rng = random.Random(0)
    for _ in range(3):
        numbers = {s: rng.uniform(0.3, 2), h: rng.uniform(0.3, 2), x: rng.uniform(0.1, 0.9)}
        time = float((timescale(seen) * phi3(x)).subs(numbers))
        gap = fa_mode(time, float(numbers[s]), float(numbers[h])) - numbers[s] * numbers[x] ** 3
        formula = "fa_mode(T Phi_3(x), s, h) = s x^3"
        steps.append(Step("linfa.theory.modes.aligned.fa_mode is this curve", formula, bool(abs(gap) < 1e-12)))
    gap = fa_half_time(1.0, 2.0) - float(phi3(1 / sp.cbrt(2)))
    steps.append(Step("half is learned at T Phi_3(2^(-1/3))", "fa_half_time(1, 2)", bool(abs(gap) < 1e-14)))
    return Derivation(
        "the modes of feedback alignment with aligned feedback",
        ("white inputs", "zero weights", "B = R diag(sqrt h) U^T with the left singular vectors U of the task"),
        tuple(steps),
        "derived here",
    )
