"""Backprop of any depth N from an aligned balanced start: u' = N u^(2 - 2/N) (s - u), its clock and its limit."""

import itertools

import mpmath
import numpy as np
import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, Step, equal, given, nothing_left
from linfa.theory.backprop.depth import DepthMode
from linfa.theory.backprop.depth_clock import depth_clock, depth_mode, log_beta


def derivation(depth: int = 3) -> Derivation:
    """From the matrix equations to the clock of one mode, and to infinitely many layers.

    Args:
        depth: number of weights N, at least 2.

    >>> derivation(depth=2).title
    'the modes of backprop in a balanced network of depth 2'
    """
    N = sp.Integer(depth)
    equations = linfa.derive(linfa.bp(), depth)
    modes = equations.modes()
    w = list(modes)
    s, u, u0 = sp.symbols("s u u_0", positive=True)
    names = ["V", *(f"R_{cut}" for cut in range(1, depth)), "U"]
    frames = [(words.letter(name), words.letter(f"{name}^T")) for name in names]
    (V, Vt), (U, Ut) = frames[0], frames[-1]
    E = (s - sp.Mul(*w)) * U * Vt
    aligned = {words.letter("S_yx"): s * U * Vt, words.letter("S_xx"): sp.Integer(1), words.letter("E"): E}
    aligned[words.letter("E^T")] = (s - sp.Mul(*w)) * V * Ut
    forms = []
    for cut, ((below, belowT), (above, aboveT)) in enumerate(itertools.pairwise(frames), 1):
        aligned[words.letter(f"W_{cut}")] = w[cut - 1] * above * belowT
        aligned[words.letter(f"W_{cut}^T")] = w[cut - 1] * below * aboveT
        forms.append(above * belowT)

    def put(expression):
        return words.reduced(words.of(expression), aligned, words.orthonormal(*names))

    steps = [
        given("the equations of the rule", equations),
        equal("E for Syx = U s V^T, Sxx = I, W_l = R_l w_l R_(l-1)^T with R_0 = V, R_N = U",
              put(equations.residual_definition), E, "E"),
    ]  # fmt: skip
    for cut, (v, form, x) in enumerate(zip(equations.velocity.weights, forms, w, strict=True), 1):
        text = f"W_{cut}' keeps the frames, and its diagonal is the mode equation that linfa.derive gives"
        steps.append(equal(text, put(v), modes[x] * form, f"Wdot_{cut}"))

    def change(f) -> sp.Expr:
        return sp.Add(*(sp.diff(f, x) * v for x, v in modes.items()))

    for cut in range(1, depth):
        text = "a balanced start stays balanced"
        steps.append(equal(text, change(w[cut] ** 2 - w[cut - 1] ** 2), 0, f"d(w_{cut + 1}^2 - w_{cut}^2)/dt"))
    balanced: dict = dict.fromkeys(w, u ** (1 / N))
    speed = N * u ** (2 - 2 / N) * (s - u)
    steps.append(equal("u = w_N .. w_1 with equal w_l: u'", change(sp.Mul(*w)).subs(balanced), speed, "udot"))

    g = 2 / N - 1
    slope = sp.simplify(sp.diff(depth_clock(u, u0, s, N), u))
    steps.append(equal("N t is linfa.theory.backprop.depth_clock.depth_clock: its slope", slope, N / speed, "N*dt/du"))
    steps.append(equal("and its start", depth_clock(u0, u0, s, N), 0, "N*t(u_0)"))
    a, j, z = sp.symbols("a j z", positive=True)
    term = z ** (a + j) / (a + j)
    steps.append(equal("its integral B_z(a, 0) by the geometric series: each term of z^a/a 2F1(1, a; a + 1; z)",
                       sp.diff(term, z), z ** (a - 1) * z**j, "dB_z(a, 0)/dz"))  # fmt: skip
    at, exact = 0.8, mpmath.hyp2f1(1, 2 / depth + 1, 2 / depth + 2, 0.8) * 0.8 ** (2 / depth + 1) / (2 / depth + 1)
    gap = abs(log_beta(-np.log1p(-at), 2 / depth + 1) - float(exact))
    steps.append(Step("linfa.theory.backprop.depth_clock.log_beta sums it", "to 1e-14", bool(gap < 1e-14)))
    limit = sp.log(u * (s - u0) / (u0 * (s - u))) / s**2 + (1 / u0 - 1 / u) / s
    steps.append(equal("infinitely many layers take a finite N t: the slope of depth_clock at N = oo",
                       sp.diff(depth_clock(u, u0, s, sp.oo), u), 1 / (u**2 * (s - u)), "N*dt/du"))  # fmt: skip
    steps.append(equal("is that of the closed form", sp.diff(limit, u), 1 / (u**2 * (s - u)), "N*dt/du"))
    steps.append(equal("which starts at 0 too", limit.subs(u, u0), 0, "N*t(u_0)"))
    text = "the sigmoid of two layers, u' = 2 u (s - u), passes the same places on a clock tau with dt/dtau"
    steps.append(equal(text, 2 * u * (s - u) / speed, 2 / N * u**g, "dt/dtau"))
    times = np.array([0.0, 0.3, 1.1])
    gap = np.abs(depth_clock(depth_mode(times, 1.3, 0.2, depth), 0.2, 1.3, depth) - depth * times).max()
    text = "on which linfa.theory.backprop.depth_clock.depth_mode finds u(t): depth_clock takes it back to N t"
    steps.append(Step(text, "to 1e-12", bool(gap < 1e-12)))
    text = "w_l = u^(1/N) in the mode equations, with u' from the clock, leaves nothing"
    steps.append(nothing_left(text, DepthMode.residuals(equations), "residual"))
    return Derivation(
        f"the modes of backprop in a balanced network of depth {depth}",
        ("white inputs", "balanced start along the singular vectors of the task"),
        tuple(steps),
        "Saxe, McClelland & Ganguli (2013); known result re-derived",
    )
