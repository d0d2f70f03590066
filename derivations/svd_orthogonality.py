"""The penalty ||U^T U - I||^2 takes every singular value of U to 1, its square on a logistic curve."""

from dataclasses import replace

import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, equal, given
from linfa.rules import Factored, Orthogonality
from linfa.simulate import advance
from linfa.theory.factored.orthogonality import orthogonality_max_lr, orthogonality_step, orthogonality_value


def derivation() -> Derivation:
    """Prove it.

    >>> derivation().steps[2].formula
    Eq(sigmadot, -4*sigma*w*(sigma**2 - 1))
    """
    w, t, sigma, eta = sp.symbols("w t sigma eta", positive=True)
    rule = replace(linfa.bp(), parameterisation=Factored(2, (Orthogonality(w),)), name="bp with orthogonality")
    equations = linfa.derive(rule, 1)
    U, D = words.letter("U_1"), words.letter("diag(s_1)")
    alone = words.of(equations.velocity.weights[0].U).subs(D, 0)
    gram = words.letter("U_1^T") * U
    steps = [
        given("the equations of the factors", equations),
        equal("where s is zero, U moves by the penalty alone", alone, sp.expand(-4 * w * U * (gram - 1)), "Udot"),
    ]
    A, C = words.letter("A"), words.letter("C^T")
    values = {U: sigma * A * C, words.letter("U_1^T"): sigma * words.letter("C") * words.letter("A^T")}
    relations = words.orthonormal("A", "C")
    speed = words.reduced(alone, values, relations).coeff(A * C)
    steps.append(
        equal("with U = A sigma C^T, singular vectors stay", speed, -4 * w * sigma * (sigma**2 - 1), "sigmadot")
    )
    closed = orthogonality_value(t, sigma, w)
    change = sp.simplify(sp.diff(closed, t) + 4 * w * closed * (closed**2 - 1))
    steps.append(equal("linfa.theory.orthogonality_value solves this", change, 0, "left over"))
    steps.append(equal("and starts at sigma", sp.simplify(closed.subs(t, 0)), sigma, "sigma(0)"))
    q = closed**2
    logistic = sp.simplify(sp.diff(q, t) - 8 * w * q * (1 - q))
    steps.append(equal("its square is logistic with rate 8 w", logistic, 0, "left over"))
    step = advance(equations.state, equations.velocity, eta).weights[0].U
    after = words.reduced(words.of(step).subs(D, 0), values, relations).coeff(A * C)
    claimed = orthogonality_step(sigma, eta * w)
    steps.append(
        equal(
            "a step of descent takes it to orthogonality_step",
            abs(sp.expand(after)),
            sp.expand(claimed),
            "sigma(t+eta)",
        )
    )
    factor = sp.diff(after, sigma).subs({sigma: 1, eta: orthogonality_max_lr(w)})
    steps.append(
        equal("which multiplies a distance from 1 by -1 at orthogonality_max_lr", sp.simplify(factor), -1, "factor")
    )
    return Derivation(
        "The orthogonality penalty on its own",
        (f"rule: {rule!r}", "s = 0, so that the loss moves neither U nor V"),
        tuple(steps),
        "derived here",
    )
