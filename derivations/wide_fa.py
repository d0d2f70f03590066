"""Feedback alignment in the limit of many hidden units: a cubic law along B Sigma, exponential relaxation elsewhere."""

import numpy as np
import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, Step, equal, given
from linfa.theory.wide.wide_fa import fa_wide, fa_wide_kernels


def _evaluated():
    """The functions on numbers: the tangent identity ties the map to both kernels at every time."""
    rng, h = np.random.default_rng(0), 2e-3
    Sigma, B = rng.standard_normal((3, 3)), rng.standard_normal((2, 3))
    times = np.array([0.3, 1.0, 3.0])
    args = Sigma, B, 0.7
    W = fa_wide(*args, times, overlap=0.2)
    gram, seen = fa_wide_kernels(*args, times, overlap=0.2)
    shifts = [fa_wide(*args, times + i * h, overlap=0.2) for i in (-2, -1, 1, 2)]
    slope = (shifts[0] - 8 * shifts[1] + 8 * shifts[2] - shifts[3]) / (12 * h)
    E = Sigma - W
    gap = np.abs(slope - seen @ E - E @ gram).max()
    start = np.abs(fa_wide(*args, [0.0], overlap=0.2)).max()
    names = "linfa.theory.wide.wide_fa.fa_wide and fa_wide_kernels"
    return (
        Step(f"{names} move by E' = -W_2 B E - E W_1^T W_1, the rule's own identity", "to 1e-8", bool(gap < 1e-8)),
        Step("and start at 0", "W_2 W_1 = 0", bool(start < 1e-12)),
    )


def derivation() -> Derivation:
    """From the rule, through the two coordinates that its weights move along, to one equation for each mode.

    >>> derivation().title
    'feedback alignment in a wide network from random weights'
    """
    equations = linfa.derive(linfa.fa(), 2)
    letter = words.letter
    A, G, B, E, Z1, Z2 = map(letter, ("A", "G", "B_1", "E", "Z_1", "Z_2"))
    At, Bt, Z1t = map(letter, ("A^T", "B_1^T", "Z_1^T"))
    W1, W2 = Z1 + B * A, Z2 + G * Bt + A * Z1t
    values = {letter("W_1"): W1, letter("W_2"): W2, letter("W_1^T"): Z1t + At * Bt, letter("S_xx"): sp.Integer(1)}
    first, second = (words.reduced(words.of(v), values, {}) for v in equations.velocity.weights)
    nu, variance, c = sp.symbols("nu sigma_1^2 c", positive=True)
    steps = [
        given("the equations of the rule", equations),
        given("the weights from their start Z_1, Z_2, along A' = E and G' = E A^T from 0",
              "W_1 = Z_1 + B A, W_2 = Z_2 + G B^T + A Z_1^T"),
        equal("W_1' = B A'", first, B * E, "Wdot_1"),
        equal("W_2' = G' B^T + A' Z_1^T", second, E * At * Bt + E * Z1t, "Wdot_2"),
        given("for k -> infinity, entries of Z_1 of variance sigma_1^2 / k, independent of Z_2 and B: these settle",
              "Z_1^T Z_1 -> sigma_1^2 I, B^T Z_1 -> 0, Z_2 Z_1 -> 0, Z_2 B -> nu I"),
    ]  # fmt: skip
    limit = {Z1t * Z1: variance, Bt * Z1: 0, Z1t * B: 0, Z2 * Z1: 0, Z2 * B: nu}

    def settled(expression):
        return words.reduced(expression, {}, limit).subs(variance, c - nu)

    steps.append(equal("the map, with c = sigma_1^2 + nu", settled(W2 * W1), c * A + G * Bt * B * A, "W_2 W_1"))
    gram, seen = settled((Z1t + At * Bt) * W1), settled(W2 * B)
    steps.append(equal("the kernel of the readout", gram, c - nu + At * Bt * B * A, "W_1^T W_1"))
    steps.append(equal("the kernel of the hidden layer", seen, nu + G * Bt * B, "W_2 B"))

    a, beta, s, slope, decline = sp.symbols("a beta s adot betadot", positive=True)
    S, U, V, N, St, Ut, Vt, Nt = map(letter, ("S_yx", "U", "V", "N", "S_yx^T", "U^T", "V^T", "N^T"))
    frames = words.orthonormal("U", "V", "N") | {Nt * V: 0, Vt * N: 0, B * S: s * U * Vt, St * Bt: s * V * Ut}
    form = a / s * S * V * Vt + beta * S * N * Nt
    swept = a**2 / (2 * s**2) * S * V * Vt * St + beta**2 / 2 * S * N * Nt * St
    modes = {A: form, At: a / s * V * Vt * St + beta * N * Nt * St, G: swept}

    def put(expression):
        return words.reduced(expression, modes, frames)

    steps.append(given("what B sees of the task, and the rest of its inputs", "B Sigma = U s V^T, V V^T + N N^T = I"))
    total = put(c * A + G * Bt * B * A)
    learned = (c * a + a**3 / 2) / s
    steps.append(given("a form that closes, from A = 0 and G = 0", sp.Eq(A, form, evaluate=False)))
    steps.append(given("with it", sp.Eq(G, swept, evaluate=False)))
    steps.append(equal("the map", total, learned * S * V * Vt + c * beta * S * N * Nt, "W_2 W_1"))
    error = S * V * Vt + S * N * Nt - total
    rate = s - c * a - a**3 / 2
    moves = slope / s * S * V * Vt + decline * S * N * Nt
    solved = {slope: rate, decline: 1 - c * beta}
    steps.append(equal("A' = E is the cubic law a' = s - c a - a^3/2 along B Sigma, and beta' = 1 - c beta elsewhere",
                       moves.subs(solved), error, "E"))  # fmt: skip
    change = sp.diff(swept, a) * slope + sp.diff(swept, beta) * decline
    steps.append(equal("G' = E A^T holds with them", change.subs(solved), words.reduced(error * modes[At], {}, frames),
                       "Gdot"))  # fmt: skip
    t = sp.Symbol("t", positive=True)
    lazy = (1 - sp.exp(-c * t)) / c
    steps.append(equal("the rest relaxes at the rate c, beta = (1 - e^(-c t)) / c", sp.diff(lazy, t), 1 - c * lazy,
                       "betadot"))  # fmt: skip
    steps.append(equal("W_1^T W_1", put(gram - c + nu), a**2 * V * Vt, "W_1^T W_1 - sigma_1^2"))
    steps.append(equal("W_2 B", put(seen - nu), a**2 / (2 * s) * S * V * Ut * B, "W_2 B - nu"))
    return Derivation(
        "feedback alignment in a wide network from random weights",
        ("white inputs", "two layers of k -> infinity hidden units", "fixed B of any rank", "Z_1 random"),
        (*steps, *_evaluated()),
        "one output read in Bordelon & Pehlevan (2023); in general derived here",
    )
