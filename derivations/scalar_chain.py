"""Scalar chains with fixed feedback: polynomials of alpha = int e dt, at every depth, and their rest points."""

import sympy as sp

import linfa
from derivations.proof import Derivation, Step, given
from linfa.theory.modes.scalar_chain import chain_polynomial, chain_weights, fa_rest_points


def _equal(text, left, right, name):
    """Two polynomials, compared by expansion alone."""
    shown = sp.Eq(sp.Symbol(name), right, evaluate=False)
    return Step(text, shown, sp.expand(left - right) == 0)


def derivation() -> Derivation:
    """From the mode equations at depth 2 and 3, of both routes, to one polynomial with a root on the way.

    >>> derivation().title
    'scalar chains with fixed feedback'
    """
    alpha, s = sp.Symbol("alpha", real=True), sp.Symbol("s", positive=True)
    steps: list[Step] = []
    for rule in (linfa.fa(), linfa.dfa()):
        for depth in (2, 3):
            equations = linfa.derive(rule, depth)
            modes = equations.modes()
            weights, stored = list(modes)[:depth], list(modes)[depth:]
            seen = [b if rule == linfa.dfa() else sp.prod(stored[i:]) for i, b in enumerate(stored)]
            start = sp.symbols(f"w_1:{depth + 1}(0)", real=True)
            error = s - sp.prod(weights)
            curves = [sp.Poly(c[::-1], alpha).as_expr() for c in chain_weights(seen, start)]
            on = dict(zip(weights, curves, strict=True))
            steps.append(given(f"the equations of {rule.name} at depth {depth}", equations))
            for w in weights:
                text = f"{w}' is the slope of its polynomial times e = alpha', at depth {depth}"
                along = (sp.diff(on[w], alpha) * error).subs(on)
                steps.append(_equal(text, along, modes[w].subs(on), f"{w}'"))
                steps.append(
                    _equal("which starts where it should", on[w].subs(alpha, 0), start[weights.index(w)], "w(0)")
                )
            p = sp.Poly(chain_polynomial(seen, start, s)[::-1], alpha)
            steps.append(_equal("alpha' = e is the chain polynomial", error.subs(on), p.as_expr(), "alpha'"))
            leading = []
            for layer, beta in enumerate(seen):
                leading.append(beta * sp.prod(leading) / 2**layer)
            slope = -(sp.prod(leading) ** 2) / 2 ** (depth - 1)
            steps.append(_equal("its leading coefficient is negative", p.LC(), slope, "LC(p)"))
            steps.append(_equal("its degree is odd: it has a root on the side to which alpha sets out", p.degree(),
                               2**depth - 1, "deg p"))  # fmt: skip
    b, c = sp.symbols("b c", real=True, nonzero=True)
    w = sp.Symbol("w", real=True)
    cubic = w**3 / 2 + b * c * w - b * s
    rest = chain_polynomial([b], [0, c], s)
    in_w = sp.Poly(rest[::-1], alpha).as_expr().subs(alpha, w / b) * -b
    steps.append(_equal("two weights on w_2 = c + w_1^2/(2b) rest where this vanishes", in_w, cubic, "cubic"))
    text = "three real roots iff the discriminant is positive, -8 b c^3 > 27 s^2"
    steps.append(_equal(text, sp.discriminant(cubic, w), -(b**2) * (27 * s**2 + 8 * b * c**3) / 4, "discriminant"))
    for numbers in ((0.4, 1.2, -1.5), (0.4, -1.2, 1.5), (0.4, 1.2, 1.5)):
        exact = sp.Poly(cubic.subs(dict(zip((s, b, c), map(sp.Rational, map(str, numbers)), strict=True))), w)
        roots = [float(r) for r in sp.real_roots(exact)]
        found = fa_rest_points(*numbers).tolist()
        same = len(roots) == len(found) and max(abs(x - y) for x, y in zip(roots, found, strict=True)) < 1e-12
        steps.append(Step("linfa.theory.modes.scalar_chain.fa_rest_points are its roots", str(exact.as_expr()), same))
    return Derivation(
        "scalar chains with fixed feedback",
        ("one unit in every layer, E[x^2] = 1", "fixed feedback numbers, none of them zero", "any start"),
        tuple(steps),
        "derived here; convergence of linear chains is Baldi, Sadowski & Lu (2018), known",
    )
