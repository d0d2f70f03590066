"""The angle between weight and feedback for one output, from W_1 = 0: closed in time, for any width and any w_2(0)."""

import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, equal, given
from linfa.theory.clock import cubic_time
from linfa.theory.modes.alignment_angle import alignment_tangent


def derivation() -> Derivation:
    """The ansatz W_1 = a b v^T, w_2 = w_2(0) + b^T a^2/2 closes, and its angle.

    >>> derivation().title
    'the alignment angle of feedback alignment with one output'
    """
    equations = linfa.derive(linfa.fa(), 2)
    a, s, c, h, size, w0, root = sp.symbols("a s c h n_w n_0 a_*", positive=True)
    b, v, start = map(words.letter, ("B_1", "V", "W_0"))
    bt, vt, startt = map(words.letter, ("B_1^T", "V^T", "W_0^T"))
    g, e = a**2 / 2, s - c * a - h * a**3 / 2
    W1, W2 = a * b * vt, start + g * bt
    values = {
        words.letter("W_1"): W1, words.letter("W_1^T"): a * v * bt, words.letter("W_2"): W2,
        words.letter("E"): e * vt, words.letter("S_yx"): s * vt, words.letter("S_xx"): sp.Integer(1),
    }  # fmt: skip
    # One output: these products are numbers.
    relations = words.orthonormal("V") | {start * b: c, bt * b: h, bt * startt: c, start * startt: w0**2}

    def put(expression):
        return words.reduced(words.of(expression), values, relations)

    first, second = map(put, equations.velocity.weights)
    steps = [
        given("the equations of the rule", equations),
        given(
            "one output: Syx = s v^T, c = w_2(0) b, h = b^T b, and W_1 = a b v^T, w_2 = w_2(0) + b^T a^2/2", "ansatz"
        ),
        equal("E for Sxx = I", put(equations.residual_definition), e * vt, "E"),
        equal("W_1' has the form of W_1, with a' = s - c a - h a^3/2", first, e * b * vt, "Wdot_1"),
        equal("w_2' has the form of w_2, with (a^2/2)' = a a'", second, sp.diff(g, a) * e * bt, "wdot_2"),
    ]
    drive = c * root + h * root**3 / 2
    slope = sp.cancel(sp.diff(cubic_time(a, drive, c, h, root), a))
    text = "a(t) inverts linfa.theory.clock.cubic_time, a_* being where e vanishes: its slope"
    steps.append(equal(text, slope, 1 / e.subs(s, drive), "dt/da"))
    along = words.reduced(W2 * b, {}, relations)
    length2 = words.reduced(W2 * (startt + g * b), {}, relations)
    steps.append(equal("w_2 b", along, c + h * a**2 / 2, "w_2 b"))
    steps.append(equal("|w_2|^2", length2, w0**2 + c * a**2 + h * a**4 / 4, "|w_2|^2"))
    across2 = sp.expand(h * length2 - along**2)
    steps.append(
        equal("across b nothing moves: |b|^2 |w_2|^2 - (w_2 b)^2", across2, h * w0**2 - c**2, "|b|^2 |w_perp|^2")
    )
    closed = alignment_tangent(a, c / size, sp.sqrt(w0**2 - c**2 / size**2), size)
    squared = (across2 / along**2).subs(h, size**2)
    steps.append(
        equal("linfa.theory.modes.alignment_angle.alignment_tangent is the tangent", squared, closed**2, "tan^2")
    )
    steps.append(equal("which falls as a grows, dtan/da < 0", sp.diff(closed, a),
                       -closed * size * a / (c / size + size * a**2 / 2), "dtan/da"))  # fmt: skip
    return Derivation(
        "the alignment angle of feedback alignment with one output",
        ("white inputs", "one output, W_1(0) = 0, any w_2(0)", "fixed feedback b"),
        tuple(steps),
        "derived here",
    )
