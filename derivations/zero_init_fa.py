"""Feedback alignment from zero weights, for any fixed feedback: W_2 W_1 = Sigma V diag(x^3) V^T, exactly."""

import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, equal, given, nothing_left
from linfa.simulate import advance
from linfa.theory.alignment.zero_init_fa import ZeroInitFA, amplitude, gain, timescale
from linfa.theory.special import phi3


def derivation() -> Derivation:
    """The ansatz W_1 = U a V^T, W_2 = Sigma V g U^T with B Sigma = U s V^T closes, in flow and in descent.

    >>> derivation().title
    'feedback alignment from zero weights, any feedback'
    """
    equations = linfa.derive(linfa.fa(), 2)
    a, g, s, x, eta = sp.symbols("a g s x eta", positive=True)
    U, V, Sigma = map(words.letter, ("U", "V", "S_yx"))
    Ut, Vt, Sigmat = map(words.letter, ("U^T", "V^T", "S_yx^T"))
    W1, W2 = a * U * Vt, g * Sigma * V * Ut
    E = Sigma - a * g * Sigma * V * Vt
    values = {
        words.letter("W_1"): W1, words.letter("W_1^T"): a * V * Ut,
        words.letter("W_2"): W2, words.letter("W_2^T"): g * U * Vt * Sigmat,
        words.letter("E"): E, words.letter("S_xx"): sp.Integer(1),
    }  # fmt: skip
    relations = {words.letter("B_1") * Sigma: s * U * Vt, **words.orthonormal("U", "V")}

    def put(expression):
        return words.reduced(words.of(expression), values, relations)

    steps = [
        given("the equations of the rule", equations),
        given("the feedback's view of the task, by its singular value decomposition", "B Sigma = U s V^T"),
        equal(
            "E for Sxx = I and the ansatz W_1 = U a V^T, W_2 = Sigma V g U^T",
            put(equations.residual_definition),
            E,
            "E",
        ),
    ]
    da, dg = s * (1 - a * g), a * (1 - a * g)
    forms = ((U * Vt, da), (Sigma * V * Ut, dg))
    for name, v, (form, slope) in zip("12", equations.velocity.weights, forms, strict=True):
        steps.append(equal(f"W_{name}' has the form of W_{name}", put(v), slope * form, f"Wdot_{name}"))
    moved = advance(equations.state, equations.velocity, eta).weights
    for name, w, (form, slope), at in zip("12", moved, forms, (a, g), strict=True):
        text = f"a step of descent keeps the form of W_{name} too: the recursion of ZeroInitFA.discrete"
        steps.append(equal(text, put(w), (at + eta * slope) * form, f"W_{name}(t+eta)"))
    steps.append(equal("a a' = s g': from zero, g = a^2/(2s)", a * da, s * dg, "a*adot"))
    steps.append(equal("so that a'", da.subs(g, a**2 / (2 * s)), s - a**3 / 2, "adot"))
    A, G, T = amplitude(s, x), gain(s, x), timescale(s)
    steps.append(
        equal("amplitude and gain of linfa.theory.alignment.zero_init_fa are on that curve", G, A**2 / (2 * s), "g")
    )
    steps.append(equal("their product, the learned part of a mode", A * G, x**3, "a*g"))
    slope = (s - A**3 / 2) / sp.diff(A, x)
    steps.append(equal("x' from a'", slope, (1 - x**3) / T, "xdot"))
    steps.append(
        equal(
            "t = T Phi_3(x): the slope of linfa.theory.special.phi3", sp.diff(phi3(x), x), 1 / (1 - x**3), "dPhi_3/dx"
        )
    )
    steps.append(equal("and its start", phi3(sp.Integer(0)), 0, "Phi_3(0)"))
    total = words.reduced(W2 * W1, {}, relations).subs(g, x**3 / a)
    steps.append(equal("the map W_2 W_1", total, x**3 * Sigma * V * Vt, "W_2 W_1"))
    seen = words.reduced(words.letter("B_1") * W2, {}, relations).subs(g, a**2 / (2 * s))
    steps.append(equal("the feedback sees W_2 as a positive matrix, B W_2", seen, a**2 * U * Ut / 2, "B W_2"))
    text = "the closed form in the mode equations leaves nothing, for either sign of the feedback"
    steps.append(nothing_left(text, ZeroInitFA.residuals(equations), "residual"))
    return Derivation(
        "feedback alignment from zero weights, any feedback",
        ("white inputs", "two layers, W_1(0) = W_2(0) = 0", "any fixed B"),
        tuple(steps),
        "derived here",
    )
