"""Deep feedback alignment from zero weights: W_L .. W_1 = Sigma V x^p V^T, t = T Phi_p(x), p = 2^L - 1."""

import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, Step, equal, given, nothing_left
from linfa.simulate import advance
from linfa.theory.depth.common_modes import dfa_factor, dfa_timescale
from linfa.theory.depth.power_clock import power_clock
from linfa.theory.depth.zero_init_dfa import ZeroInitDFA


def derivation(depth: int = 3) -> Derivation:
    """W_1 = B_1 Sigma V alpha V^T, W_l = B_l Sigma V mu_l (B_(l-1) Sigma V)^T closes, in flow and in descent.

    Args:
        depth: number of weights L, at least 2.

    >>> derivation(depth=2).title
    'deep feedback alignment from zero weights, depth 2'
    """
    equations = linfa.derive(linfa.dfa(), depth)
    p = 2**depth - 1
    alpha, eta, x = sp.symbols("alpha eta x", positive=True)
    h = sp.symbols(f"h_1:{depth}", positive=True)
    mu = sp.symbols(f"mu_2:{depth + 1}", positive=True)
    S, V, St, Vt = map(words.letter, ("S_yx", "V", "S_yx^T", "V^T"))
    B = [(words.letter(f"B_{cut}"), words.letter(f"B_{cut}^T")) for cut in range(1, depth)] + [(sp.S.One, sp.S.One)]
    forms = [(B[0][0] * S * V * Vt, V * Vt * St * B[0][1])]
    forms += [
        (B[i][0] * S * V * Vt * St * B[i - 1][1], B[i - 1][0] * S * V * Vt * St * B[i][1]) for i in range(1, depth)
    ]
    values = {words.letter("S_xx"): sp.Integer(1)}
    for number, (amount, (form, back)) in enumerate(zip((alpha, *mu), forms, strict=True), 1):
        values |= {words.letter(f"W_{number}"): amount * form, words.letter(f"W_{number}^T"): amount * back}
    relations = {Vt * St * Bt * Bl * S * V: seen for (Bl, Bt), seen in zip(B, h, strict=False)}
    relations |= words.orthonormal("V")

    f = [sp.Integer(1), alpha]  # what the layers up to l have learned
    for rate, seen in zip(mu, h, strict=True):
        f.append(rate * seen * f[-1])
    E = (1 - f[-1]) * S * V * Vt
    values |= {words.letter("E"): E, words.letter("E^T"): (1 - f[-1]) * V * Vt * St}

    def put(expression):
        return words.reduced(words.of(expression), values, relations)

    steps = [
        given("the equations of the rule", equations),
        given("all layers see the same modes, V square and orthogonal", "Sigma^T B_l^T B_l Sigma = V diag(h_l) V^T"),
        equal("E for Sxx = I and the ansatz W_1 = B_1 Sigma V alpha V^T, W_l = B_l Sigma V mu_l (B_(l-1) Sigma V)^T, "
              "with Sigma V V^T for Sigma", put(equations.residual_definition) - S + S * V * Vt, E, "E"),
    ]  # fmt: skip
    slopes = [(1 - f[-1]) * below for below in f[:-1]]
    for number, (v, (form, _), slope) in enumerate(zip(equations.velocity.weights, forms, slopes, strict=True), 1):
        text = f"W_{number}' has the form of W_{number}, with 1 - f_L times what the layers below have learned"
        steps.append(equal(text, put(v), slope * form, f"Wdot_{number}"))
    moved = advance(equations.state, equations.velocity, eta).weights
    for number, (w, (form, _), slope, at) in enumerate(zip(moved, forms, slopes, (alpha, *mu), strict=True), 1):
        text = f"and so has a step of descent on W_{number}: the recursion of ZeroInitDFA.discrete"
        steps.append(equal(text, put(w), (at + eta * slope) * form, f"W_{number}(t+eta)"))

    learned = [sp.Integer(1), *(dfa_factor(h[: cut - 1]) * alpha ** (2**cut - 1) for cut in range(1, depth + 1))]
    rates = [dfa_factor(h[: cut - 2]) * alpha ** (2 ** (cut - 1)) / 2 ** (cut - 1)
             for cut in range(2, depth + 1)]  # fmt: skip
    for cut, rate in enumerate(rates, 2):
        steps.append(equal(f"alpha' = 1 - f_L and mu_{cut}' = (1 - f_L) f_{cut - 1}: the slope of mu_{cut} in alpha",
                           sp.diff(rate, alpha), learned[cut - 1], f"dmu_{cut}/dalpha"))  # fmt: skip
        steps.append(equal(f"linfa.theory.depth.common_modes.dfa_factor gives f_{cut} = mu_{cut} h_{cut - 1} f_"
                           f"{cut - 1}", rate * h[cut - 2] * learned[cut - 1], learned[cut], f"f_{cut}"))  # fmt: skip
    T = dfa_timescale(h)
    steps.append(equal("with alpha = T x and T of dfa_timescale, f_L", sp.powsimp(learned[-1].subs(alpha, T * x)), x**p,
                       "f_L"))  # fmt: skip
    steps.append(equal("so that T x' = alpha'", (1 - learned[-1]).subs(alpha, T * x), 1 - x**p, "T*xdot"))
    steps.append(equal("t = T Phi_p(x) starts at 0: linfa.theory.depth.power_clock.power_clock",
                       power_clock(sp.Integer(0), p), 0, "Phi_p(0)"))  # fmt: skip
    slope, at = sp.diff(power_clock(x, p), x), sp.Rational(3, 5)
    gap = sp.N(slope.subs(x, at) * (1 - at**p) - 1, 40)
    steps.append(Step("and has the slope 1 / (1 - x^p), here to 30 digits at x = 3/5", sp.Eq(sp.Symbol("dPhi_p/dx"),
                      1 / (1 - x**p)), bool(abs(gap) < sp.Float("1e-30"))))  # fmt: skip
    text = "the closed form in the mode equations of two layers leaves nothing, for either sign of the feedback"
    steps.append(nothing_left(text, ZeroInitDFA.residuals(linfa.derive(linfa.dfa(), 2)), "residual"))
    return Derivation(
        f"deep feedback alignment from zero weights, depth {depth}",
        ("white inputs", "zero weights", "fixed B_l with commuting Sigma^T B_l^T B_l Sigma"),
        tuple(steps),
        "derived here",
    )
