"""The sharpness of feedback alignment with two scalar weights: along zero loss, and under a step of descent."""

import sympy as sp

import linfa
from derivations.proof import Derivation, equal, given
from linfa.theory.modes.edge_of_stability import edge_is_stable, fa_sharpness, fa_sharpness_slope


def derivation() -> Derivation:
    """From the mode equations: the rate at rest, its slope along zero loss, and the drift of a step.

    >>> derivation().title
    'the sharpness of feedback alignment along zero loss'
    """
    equations = linfa.derive(linfa.fa(), 2)
    modes = equations.modes()
    w1, w2, b = modes
    s = sp.Symbol("s", positive=True)
    c, eta = sp.symbols("c eta", real=True)
    field = sp.Matrix([modes[w1], modes[w2]])
    at_rest = {s: w1 * w2}
    jacobian = field.jacobian([w1, w2]).subs(at_rest)
    S = fa_sharpness(w1, w2, b)
    conserved = w2 - w1**2 / (2 * b)
    change = sum(sp.diff(conserved, x) * v for x, v in modes.items())
    curve = {w2: c + w1**2 / (2 * b)}  # a start fixes c; zero loss then fixes w_1
    loss = (w1 * w2).subs(curve)
    slope = -sp.diff(loss, c) / sp.diff(loss, w1)  # dw_1/dc
    total = sp.diff(S.subs(curve), c) + sp.diff(S.subs(curve), w1) * slope
    after = conserved.subs({x: x + eta * v for x, v in modes.items()}, simultaneous=True)
    error = s - w1 * w2
    stable = edge_is_stable(w1, w2, b)
    left, right = map(sp.sympify, (stable.lhs, stable.rhs))
    sign: sp.Expr = left - right if isinstance(stable, sp.Gt) else right - left  # pyright: ignore[reportOperatorIssue]
    steps = [
        given("the equations of the rule", equations),
        equal("at rest, w_1 w_2 = s, the Jacobian has the eigenvalues 0 and -S: its determinant", jacobian.det(), 0,
              "det J"),
        equal("and its trace, with linfa.theory.modes.edge_of_stability.fa_sharpness", jacobian.trace(), -S, "tr J"),
        equal("c = w_2 - w_1^2/(2b) is conserved by the flow", change, 0, "dc/dt"),
        equal("dw_1/dc along w_1 w_2 = s", slope, (-b * w1 / S).subs(curve), "dw_1/dc"),
        equal("fa_sharpness_slope is dS/dc along it", total, fa_sharpness_slope(w1, w2, b).subs(curve), "dS/dc"),
        equal("which in terms of c is", total, (b * (b * c - 3 * w1**2 / 2) / S).subs(curve), "dS/dc"),
        equal("a step of descent lowers b c by half of (eta b e)^2, exactly",
              b * (after - conserved), -((eta * b * error) ** 2) / 2, "b c(t+eta) - b c"),
        equal("so that it lowers S where S dS/d(b c) is positive, the condition edge_is_stable",
              total * S.subs(curve) / b, sign.subs(curve), "S dS/d(b c)"),
    ]  # fmt: skip
    return Derivation(
        "the sharpness of feedback alignment along zero loss",
        ("two scalar weights, E[x^2] = 1", "fixed feedback b, not zero"),
        tuple(steps),
        "derived here",
    )
