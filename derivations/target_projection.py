"""Direct random target projection from W_1 = 0: W_1 = t B Sigma, and a linear equation for every mode of W_2."""

import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, Step, equal, given, nothing_left
from linfa.simulate import advance
from linfa.theory.learned.target_curve import DRTP_PEAK, PEAK_AT, drtp_fraction, drtp_gain, kummer
from linfa.theory.learned.target_projection import TargetProjection


def derivation() -> Derivation:
    """With B Sigma = U s V^T the ansatz W_1 = U a V^T, W_2 = Sigma V g U^T + W_2(0) [I - U (1 - f) U^T] closes.

    >>> derivation().title
    'direct random target projection'
    """
    equations = linfa.derive(linfa.drtp(), 2)
    a, g, f, s, t, eta = sp.symbols("a g f s t eta", positive=True)
    U, V, Sigma, R = map(words.letter, ("U", "V", "S_yx", "R"))
    Ut, Vt = map(words.letter, ("U^T", "V^T"))
    W1, W2 = a * U * Vt, g * Sigma * V * Ut + R - (1 - f) * R * U * Ut
    E = Sigma - a * g * Sigma * V * Vt - a * f * R * U * Vt
    values = {
        words.letter("W_1"): W1, words.letter("W_1^T"): a * V * Ut, words.letter("W_2"): W2,
        words.letter("E"): E, words.letter("S_xx"): sp.Integer(1),
    }  # fmt: skip
    relations = {words.letter("B_1") * Sigma: s * U * Vt, **words.orthonormal("U", "V")}

    def put(expression):
        return words.reduced(words.of(expression), values, relations)

    steps = [
        given("the equations of the rule", equations),
        given("the feedback's view of the task, by its singular value decomposition", "B Sigma = U s V^T"),
        equal("E for Sxx = I and the ansatz W_1 = U a V^T, W_2 = Sigma V g U^T + R [I - U (1 - f) U^T], R = W_2(0)",
              put(equations.residual_definition), E, "E"),
    ]  # fmt: skip
    dg, df = a * (1 - a * g), -(a**2) * f
    slopes = (s * U * Vt, dg * Sigma * V * Ut + df * R * U * Ut)
    for name, v, slope in zip("12", equations.velocity.weights, slopes, strict=True):
        text = f"W_{name}' has the form of W_{name}: a' = s, g' = a (1 - a g), f' = -a^2 f"
        steps.append(equal(text, put(v), slope, f"Wdot_{name}"))
    moved = advance(equations.state, equations.velocity, eta).weights
    for name, w, at, slope in zip("12", moved, (W1, W2), slopes, strict=True):
        text = f"a step of descent keeps the form of W_{name} too: the recursion of TargetProjection.discrete"
        steps.append(equal(text, put(w), at + eta * slope, f"W_{name}(t+eta)"))
    line = {a: s * t}
    left = sp.exp(-(s**2) * t**3 / 3)
    steps.append(equal("a = s t leaves of W_2(0)", sp.diff(left, t), df.subs(line).subs(f, left), "fdot"))

    k, z, third = sp.Symbol("k", integer=True, positive=True), sp.Symbol("z", positive=True), sp.Rational(1, 3)
    M = kummer(z)
    steps.append(given("Kummer's function", sp.Eq(sp.Symbol("M"), M, evaluate=False)))
    c = sp.Symbol("c")
    before, after = c, -c / (k + 2 * third)  # terms k - 1 and k of its series, but for the power of z
    ratio = sp.expand_func((sp.rf(5 * third, k) / sp.rf(5 * third, k - 1)).rewrite(sp.gamma))
    steps.append(equal("a term of its series is the one before, times -z / (k + 2/3)", ratio, k + 2 * third, "ratio"))
    steps.append(
        equal("z M' = 2/3 - (z + 2/3) M in the terms of order k", k * after, -before - 2 * third * after, "kc")
    )
    steps.append(equal("and in that of order 0", 2 * third - 2 * third * M.subs(z, 0), 0, "2/3 - 2/3 M(0)"))
    text = "so that linfa.theory.learned.target_curve.drtp_gain solves g' = s t (1 - g s t), for either sign of b"
    steps.append(nothing_left(text, TargetProjection.residuals(equations), "residual"))
    steps.append(equal("and starts at zero", drtp_gain(sp.Integer(0), s), 0, "g(0)"))
    x = drtp_fraction(t, s)
    on_curve = (3 * z / 2 * M).subs(z, s**2 * t**3 / 3)
    steps.append(equal("the learned part of a mode, in z = s^2 t^3/3", x, on_curve, "x"))
    tail = 2 * third / z + sp.Rational(2, 9) / z**2
    rest = sp.expand(z * sp.diff(tail, z) - 2 * third + (z + 2 * third) * tail)
    steps.append(equal("at late times M = 2/(3z) + 2/(9z^2): what it leaves of the equation is O(1/z^2)",
                       sp.limit(rest * z, z, sp.oo), 0, "rest*z"))  # fmt: skip
    steps.append(equal("and x", sp.expand(3 * z / 2 * tail), 1 + third / z, "x"))
    at = sp.Float(PEAK_AT, 20)
    top = sp.N(M.subs(z, at), 20)
    slope = top + 2 * third - (at + 2 * third) * top
    steps.append(Step("x overshoots: at PEAK_AT its slope vanishes and it is DRTP_PEAK", f"x = {DRTP_PEAK}",
                      bool(abs(slope) < 1e-8 and abs(3 * at / 2 * top - DRTP_PEAK) < 1e-10)))  # fmt: skip
    return Derivation(
        "direct random target projection",
        ("white inputs", "W_1(0) = 0, any W_2(0)", "fixed feedback B of any rank", "targets, not their signs"),
        tuple(steps),
        "derived here",
    )
