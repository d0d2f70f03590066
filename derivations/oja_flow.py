"""Oja's rule on a constant covariance: P^T P = e^(Ct) P_0^T [I + P_0 (e^(2Ct) - I) P_0^T]^-1 P_0 e^(Ct)."""

import numpy as np
import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, Step, equal, given, nothing_left
from linfa.algebra import T
from linfa.rules import LayerRates, Layerwise, Oja, RandomFactors, Rule
from linfa.theory.dimension.oja import OjaProjector, oja_projector, oja_tangent


def derivation() -> Derivation:
    """X = P^T P obeys a Riccati equation under the plasticity; the formula solves it, whatever the ranks.

    >>> derivation().title
    "the projector of Oja's rule"
    """
    equations = linfa.derive(Rule(Layerwise(), RandomFactors(2), Oja(), geometry=LayerRates((0, 0))), 2)
    C = words.letter("normalised(S_ee)")
    X = words.letter("P_1^T") * words.letter("P_1")
    (change,) = equations.change(lambda rule, state: (T(state.feedback[0][1]) @ state.feedback[0][1],))
    steps = [
        given("the equations of the rule, weights at rest; C = normalised(S_ee) is constant", equations),
        equal("X = P^T P moves by itself", change, C * X + X * C - 2 * X * C * X, "Xdot"),
    ]
    G, N, p, pT, eps = *map(words.letter, ("G", "N", "P_0", "P_0^T")), sp.Symbol("epsilon")
    commute = {C * G: G * C}
    S, closed = 1 + p * (G * G - 1) * pT, G * pT * N * p * G

    def slope(expression, **moves):
        moved = expression.xreplace({words.letter(name): words.letter(name) + eps * v for name, v in moves.items()})
        return sp.expand(sp.diff(sp.expand(moved), eps).subs(eps, 0))

    dS = words.reduced(slope(S, G=C * G), {}, commute)
    steps += [
        given("let G = e^(Ct), so that G' = C G = G C, and N = S^-1, so that N' = -N S' N", "X = G P_0^T N P_0 G"),
        equal("S = I + P_0 (G^2 - I) P_0^T moves as", dS, words.reduced(2 * p * C * G * G * pT, {}, commute), "Sdot"),
    ]
    left = words.reduced(slope(closed, G=C * G, N=-N * dS * N), {}, commute)
    right = words.reduced(C * closed + closed * C - 2 * closed * C * closed, {}, commute)
    steps.append(equal("the formula obeys the equation of X", left, right, "Xdot"))
    start = words.reduced(closed.subs({G: 1, N: 1}), {}, {})
    steps.append(equal("and starts at P_0^T P_0, where S = I", start, pT * p, "X(0)"))

    rng, c, t = np.random.default_rng(0), np.array([1.5, 0.7, 0.2]), 0.8
    P0, grown = rng.standard_normal((2, 3)), np.diag(np.exp(c * t))
    inner = np.linalg.inv(np.eye(2) + P0 @ (grown @ grown - np.eye(3)) @ P0.T)
    X = grown @ P0.T @ inner @ P0 @ grown
    gap = np.abs(oja_projector(np.diag(c), P0, [t])[0] - X).max()
    text = "linfa.theory.dimension.oja.oja_projector is this formula, on an instance"
    steps.append(Step(text, "to 1e-10", bool(gap < 1e-10)))
    steps.append(given("the columns of X span those of e^(Ct) P_0^T, so in the eigenbasis of C",
                       "X_rest X_top^-1 = e^(C_rest t) T_0 e^(-C_top t)"))  # fmt: skip
    gap = np.abs(oja_tangent(np.diag(c), P0, [t])[0] - X[2:, :2] @ np.linalg.inv(X[:2, :2])).max()
    text = "this is linfa.theory.dimension.oja.oja_tangent, on the instance"
    steps.append(Step(text, "to 1e-10", bool(gap < 1e-10)))
    text = "the closed form in the mode equation leaves nothing"
    steps.append(nothing_left(text, OjaProjector.residuals(equations), "residual"))
    return Derivation(
        "the projector of Oja's rule",
        ("a constant covariance C of the error, as when the weights stand still", "any P_0"),
        tuple(steps),
        "Oja (1982), Yan, Helmke & Moore (1994); known result re-derived",
    )
