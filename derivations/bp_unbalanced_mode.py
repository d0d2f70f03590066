"""Backprop in one mode with layers of different strengths: u' = sqrt(lambda^2 + 4 u^2) (s - u), in closed form."""

import sympy as sp

import linfa
from derivations.proof import Derivation, equal, given, nothing_left
from linfa.theory.backprop.saxe import bp_mode
from linfa.theory.backprop.unbalanced import UnbalancedMode, bp_mode_unbalanced, bp_mode_weights


def derivation() -> Derivation:
    """From the mode equations to the flow of the strength, its solution, and its two limits.

    >>> derivation().title
    'backprop in an unbalanced mode'
    """
    equations = linfa.derive(linfa.bp(), 2)
    modes = equations.modes()
    w1, w2 = modes
    s = sp.Symbol("s", positive=True)  # the singular value of the task in those equations

    def change(f) -> sp.Expr:
        return sp.Add(*(sp.diff(f, x) * v for x, v in modes.items()))

    u, lam = sp.symbols("u lambda", real=True)
    steps = [
        given("the equations of one mode, whose frames stand still", " and ".join(
            f"{w}' = {v}" for w, v in modes.items())),
        equal("lambda = w_2^2 - w_1^2 is conserved", change(w2**2 - w1**2), 0, "lambda'"),
        equal("u = w_1 w_2 moves with the sum of the squares", change(w1 * w2), (w1**2 + w2**2) * (s - w1 * w2), "u'"),
        equal("which lambda and u determine", (w1**2 + w2**2) ** 2, (w2**2 - w1**2) ** 2 + 4 * (w1 * w2) ** 2),
    ]  # fmt: skip
    t, f, a, b = sp.symbols("t f a b", positive=True)
    start = bp_mode_weights(sp.Integer(0), s, a, b)
    for number, (found, wanted) in enumerate(zip(start, (a, b), strict=True), 1):
        steps.append(equal(f"w_{number} of linfa.theory.backprop.unbalanced.bp_mode_weights starts so", found, wanted,
                           f"w_{number}(0)"))  # fmt: skip
    text = "and solves the mode equations: nothing is left of them, for every start"
    steps.append(nothing_left(text, UnbalancedMode.residuals(equations), "residual"))
    below, above = ((sp.sqrt(lam**2 + 4 * u**2) - lam) / 2, (sp.sqrt(lam**2 + 4 * u**2) + lam) / 2)
    steps.append(equal("a start of given lambda and u has w_2^2 and w_1^2 = (sqrt(lambda^2 + 4 u^2) +- lambda)/2: they "
                       "multiply to u^2", sp.expand(below * above), u**2, "w_1^2 w_2^2"))  # fmt: skip
    at = sp.log(2) / 13, sp.Integer(6)  # e^(-2ft) = 1/2
    start = sp.Rational(1, 4), sp.Rational(9, 4)
    product = sp.prod(bp_mode_weights(*at, *start))
    steps.append(equal("bp_mode_unbalanced multiplies the weights of its start: w = (1/4, 9/4), s = 6, t = log(2)/13",
                       bp_mode_unbalanced(*at, sp.Rational(9, 16), sp.Integer(5)), product, "u"))  # fmt: skip
    sigmoid = bp_mode_unbalanced(t, s, a, sp.Integer(0))
    steps.append(equal("without lambda it is the sigmoid, linfa.theory.backprop.saxe.bp_mode", sigmoid,
                       bp_mode(t, s, a), "u"))  # fmt: skip
    velocity = sp.sqrt(lam**2 + 4 * u**2) * (s - u)
    steps.append(equal("for large lambda, in units of time 1/|lambda|, an exponential",
                       sp.limit(velocity.subs(lam, 1 / f) * f, f, 0), s - u, "u'"))  # fmt: skip
    return Derivation(
        "backprop in an unbalanced mode",
        ("white inputs", "W_1 = R diag(w_1) V^T, W_2 = U diag(w_2) R^T along the singular vectors of the task"),
        tuple(steps),
        "Saxe et al. (2013), Tarmoun et al. (2021); known result re-derived",
    )
