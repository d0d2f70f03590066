"""Feedback alignment from zero weights on inputs whose second moment shares its axes with the seen task."""

import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, equal, given, nothing_left
from linfa.simulate import advance
from linfa.theory.alignment.commuting_inputs import CommutingInputsFA
from linfa.theory.alignment.zero_init_fa import amplitude, gain, timescale


def derivation() -> Derivation:
    """The ansatz of white inputs closes, with a clock that the variance of the inputs drives.

    >>> derivation().title
    'feedback alignment from zero weights, commuting inputs'
    """
    equations = linfa.derive(linfa.fa(), 2)
    a, g, s, x, xi, eta = sp.symbols("a g s x xi eta", positive=True)
    U, V, Sxx, star = map(words.letter, ("U", "V", "S_xx", "Sigma"))
    Ut, Vt, start = map(words.letter, ("U^T", "V^T", "Sigma^T"))
    W1, W2 = a * U * Vt, g * star * V * Ut
    E = star * Sxx - a * g * xi * star * V * Vt
    values = {
        words.letter("W_1"): W1, words.letter("W_1^T"): a * V * Ut,
        words.letter("W_2"): W2, words.letter("W_2^T"): g * U * Vt * start,
        words.letter("E"): E, words.letter("S_yx"): star * Sxx,
    }  # fmt: skip
    relations = {
        words.letter("B_1") * star: s * U * Vt, Sxx * V: xi * V, Vt * Sxx: xi * Vt, **words.orthonormal("U", "V"),
    }  # fmt: skip

    def put(expression):
        return words.reduced(words.of(expression), values, relations)

    steps = [
        given("the equations of the rule", equations),
        given("Sigma* = Syx Sxx^-1; as they commute, one V has both", "B Sigma* = U s V^T,  Sxx V = V xi"),
        equal("E for the ansatz W_1 = U a V^T, W_2 = Sigma* V g U^T", put(equations.residual_definition), E, "E"),
    ]
    da, dg = xi * s * (1 - a * g), xi * a * (1 - a * g)
    forms = ((U * Vt, a, da), (star * V * Ut, g, dg))
    moved = advance(equations.state, equations.velocity, eta).weights
    for number, v, w, (form, at, slope) in zip("12", equations.velocity.weights, moved, forms, strict=True):
        steps.append(
            equal(f"W_{number}' has the form of W_{number}", put(v), sp.expand(slope * form), f"Wdot_{number}")
        )
        text = f"a step of descent keeps it, with eta xi for the learning rate of the mode: W_{number}"
        steps.append(equal(text, put(w), sp.expand((at + eta * slope) * form), f"W_{number}(t+eta)"))
    A, G, T = amplitude(s, x), gain(s, x), timescale(s)
    steps.append(equal("a a' = s g': from zero, g = a^2/(2s), on which amplitude and gain are", G, A**2 / (2 * s), "g"))
    steps.append(equal("so that a'", da.subs(g, a**2 / (2 * s)), xi * (s - a**3 / 2), "adot"))
    slope = da.subs({a: A, g: G}) / sp.diff(A, x)
    steps.append(equal("and x', the clock of white inputs xi times as fast", slope, xi * (1 - x**3) / T, "xdot"))
    text = "in that time the closed form in the mode equations leaves nothing"
    steps.append(nothing_left(text, CommutingInputsFA.residuals(equations), "residual"))
    return Derivation(
        "feedback alignment from zero weights, commuting inputs",
        ("Sxx commutes with Sigma*^T B^T B Sigma*", "two layers, W_1(0) = W_2(0) = 0", "any fixed B"),
        tuple(steps),
        "derived here",
    )
