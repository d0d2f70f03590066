"""The product of balanced layers moves by itself: W' = sum_j (W W^T)^((j-1)/N) E (W^T W)^((N-j)/N)."""

import itertools
import random

import numpy as np
import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, Step, equal, given
from linfa.expressions import evaluate
from linfa.theory import invariants
from linfa.theory.backprop.end_to_end import end_to_end, singular_value_speed


def _rotation(rng, size):
    """A rational orthogonal matrix, by Cayley's formula."""
    skew = sp.zeros(size)
    for i, k in itertools.combinations(range(size), 2):
        skew[i, k] = sp.Rational(rng.randint(-4, 4), rng.randint(1, 3))
        skew[k, i] = -skew[i, k]
    return (sp.eye(size) + skew) * (sp.eye(size) - skew).inv()


def _far(closed, matrix):
    exact = np.array(matrix.tolist(), dtype=float)
    return np.abs(closed - exact).max() / np.abs(exact).max()


def derivation(depth: int = 3, size: int = 3, seed: int = 0) -> Derivation:
    """The product rule, and the balance of the layers.

    Args:
        depth: number of weights N, at least 2.
        size: of the instance on which the function is evaluated.
        seed: of the instance.

    >>> derivation(depth=2).title
    'the flow of the product of 2 balanced layers'
    """
    equations = linfa.derive(linfa.bp(), depth)
    W = [words.letter(f"W_{cut}") for cut in range(1, depth + 1)]
    Wt = [words.letter(f"W_{cut}^T") for cut in range(1, depth + 1)]
    E = words.letter("E")
    steps = [given("the equations of the rule", equations)]
    for left in equations.change(invariants.balance):
        steps.append(equal("a balanced start stays balanced", left, 0, "d(W_(l+1)^T W_(l+1) - W_l W_l^T)/dt"))

    above = [sp.Mul(*W[:cut:-1]) for cut in range(depth)]  # of each layer
    below = [sp.Mul(*W[:cut][::-1]) for cut in range(depth)]
    aboveT = [sp.Mul(*Wt[cut + 1 :]) for cut in range(depth)]
    belowT = [sp.Mul(*Wt[:cut]) for cut in range(depth)]
    (moves,) = equations.change(lambda rule, state: (sp.MatMul(*reversed(state.weights)),))
    terms = [A * At * E * Bt * B for A, At, B, Bt in zip(above, aboveT, below, belowT, strict=True)]
    text = "W' by the product rule: with A_l, B_l the layers above and below W_l it is the sum of A_l A_l^T E B_l^T B_l"
    steps.append(equal(text, moves, sp.Add(*terms), "Wdot"))
    up = {W[cut] * Wt[cut]: Wt[cut + 1] * W[cut + 1] for cut in range(depth - 1)}
    down = {value: key for key, value in up.items()}
    top, bottom = W[-1] * Wt[-1], Wt[0] * W[0]
    for cut in range(depth):
        steps.append(equal("a balanced network has W_l W_l^T = W_(l+1)^T W_(l+1): the layers above",
                           words.reduced(above[cut] * aboveT[cut], {}, up), top ** (depth - 1 - cut),
                           f"A_{cut + 1} A_{cut + 1}^T"))  # fmt: skip
        steps.append(equal("and those below", words.reduced(belowT[cut] * below[cut], {}, down), bottom**cut,
                           f"B_{cut + 1}^T B_{cut + 1}"))  # fmt: skip
    product, productT = sp.Mul(*W[::-1]), sp.Mul(*Wt)
    steps.append(equal("all of them: W_N W_N^T is the N-th root of W W^T", words.reduced(product * productT, {}, up),
                       top**depth, "W W^T"))  # fmt: skip
    steps.append(equal("and W_1^T W_1 that of W^T W", words.reduced(productT * product, {}, down), bottom**depth,
                       "W^T W"))  # fmt: skip
    steps.append(given("so that W moves by itself", "W' = sum_j (W W^T)^((j-1)/N) E (W^T W)^((N-j)/N)"))

    rng = random.Random(seed)
    roots = sp.diag(*(sp.Rational(value, 6) for value in sorted(rng.sample(range(4, 13), size), reverse=True)))
    frames = [_rotation(rng, size) for _ in range(depth + 1)]
    layers = [b * roots * a.T for a, b in itertools.pairwise(frames)]
    values = {f"W_{cut}": layer for cut, layer in enumerate(layers, 1)}
    values["E"] = sp.Matrix(size, size, lambda i, k: sp.Rational(rng.randint(-9, 9), rng.randint(1, 5)))
    moved = sp.zeros(size)
    for cut, v in enumerate(equations.velocity.weights):
        parts = [*layers[:cut], evaluate(v, values), *layers[cut + 1 :]]
        moved += sp.prod(parts[::-1])
    total = sp.prod(layers[::-1])
    arrays = np.array(total.tolist(), dtype=float), np.array(values["E"].tolist(), dtype=float)
    text = (
        "linfa.theory.backprop.end_to_end.end_to_end is this field, on rational balanced layers that linfa.derive moves"
    )
    steps.append(Step(text, "to 1e-11 relative", bool(_far(end_to_end(*arrays, depth), moved) < 1e-11)))
    s, N, j = sp.Symbol("sigma", positive=True), sp.Integer(depth), sp.Symbol("j", integer=True)
    slope = sp.Sum(s ** (2 * (j - 1) / N) * s ** (2 * (N - j) / N), (j, 1, N)).doit()
    text = "between singular vectors, sigma' = u^T W' v in units of u^T E v"
    steps.append(equal(text, slope, N * s ** (2 - 2 / N), "sigmadot/(u^T E v)"))
    along = (frames[-1].T * moved * frames[0]).diagonal()
    gap = _far(singular_value_speed(*arrays, depth), along[0, :])
    text = "linfa.theory.backprop.end_to_end.singular_value_speed is that of the same instance"
    steps.append(Step(text, "to 1e-11 relative", bool(gap < 1e-11)))
    return Derivation(
        f"the flow of the product of {depth} balanced layers",
        ("backprop", "W_(l+1)^T W_(l+1) = W_l W_l^T at the start", "any loss and data: E is any matrix"),
        tuple(steps),
        "Arora, Cohen & Hazan (2018), Arora et al. (2019); known result re-derived",
    )
