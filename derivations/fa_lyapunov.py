"""The error that fixed feedback sees falls at a rate that a conserved matrix bounds, for any inputs."""

import random

import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, Step, equal, given
from linfa.algebra import T
from linfa.expressions import evaluate
from linfa.theory.alignment.lyapunov import seen_error_rate


def _rational(rng, rows, columns):
    return sp.Matrix(rows, columns, lambda i, j: sp.Rational(rng.randint(-9, 9), rng.randint(1, 5)))


def derivation(n: int = 2, k: int = 3, m: int = 2, seed: int = 0) -> Derivation:
    """The motion of B E in words, then the rate of 1/2 tr(B E Sxx^-1 E^T B^T) in exact rational numbers.

    Args:
        n, k, m: widths of the instance.
        seed: of the instance.

    >>> derivation(seed=2).title
    'the error that fixed feedback sees'
    """
    equations = linfa.derive(linfa.fa(), 2)
    W1, W2 = equations.state.weights
    (dW1, dW2), B = equations.velocity.weights, equations.state.feedback[0][0]
    E, Sxx = equations.residual, equations.moments["S_xx"]
    moves = words.of(-B * (dW2 * W1 + W2 * dW1) * Sxx)
    seen, mixed = words.of(B * E), words.of(B * W2)
    C = words.of(W1 * T(W1)) - mixed - words.of(T(B * W2))
    steps = [
        given("the equations of the rule", equations),
        equal("the error that the feedback sees moves as", moves,
              -sp.expand((mixed * seen + seen * words.of(T(W1) * W1)) * words.of(Sxx)), "B E'"),
        equal("twice the symmetric part of B W_2, by the conserved C = W_1 W_1^T - B W_2 - W_2^T B^T",
              sp.expand(words.of(W1 * T(W1)) - C), mixed + words.of(T(B * W2)), "W_1 W_1^T - C"),
    ]  # fmt: skip
    rng = random.Random(seed)
    at = {
        "W_1": _rational(rng, k, n),
        "W_2": _rational(rng, m, k),
        "B_1": _rational(rng, k, m),
        "E": _rational(rng, m, n),
    }
    root = _rational(rng, n, n) + 20 * sp.eye(n)
    at["S_xx"] = root * root.T
    Be, change = at["B_1"] * at["E"], evaluate(-B * dW2 * W1 * Sxx - B * W2 * dW1 * Sxx, at)
    rate = (Be * at["S_xx"].inv() * change.T).trace()
    text = "tr(B E Sxx^-1 (B E')^T), where Sxx drops out: linfa.theory.alignment.lyapunov.seen_error_rate"
    steps.append(equal(text, rate, seen_error_rate(at["W_1"], at["W_2"], at["B_1"], at["E"]), "L'"))
    conserved = at["W_1"] * at["W_1"].T - at["B_1"] * at["W_2"] - (at["B_1"] * at["W_2"]).T
    through = Be * at["W_1"].T
    bound = (Be.T * conserved * Be).trace() / 2 - (through.T * through).trace()
    fall = (at["W_1"].T * Be).T * (at["W_1"].T * Be)
    steps.append(equal("with C", rate, bound - fall.trace() / 2, "L'"))
    steps.append(Step("two squares and tr[(B E)^T C B E] / 2: no rise where C <= 0", "L' <= 0 if C <= 0",
                      bool((rate - (Be.T * conserved * Be).trace() / 2) <= 0)))  # fmt: skip
    return Derivation(
        "the error that fixed feedback sees",
        ("two layers, fixed B", "any inputs with an invertible second moment, any start"),
        tuple(steps),
        "derived here",
    )
