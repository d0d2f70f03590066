"""Where feedback alignment from W_1 = 0 ends: W_2 W_1 = Syx R^T (R Sxx R^T)^-1 R with R = P Syx Sxx^-1 and B = Q P."""

import random

import numpy as np
import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, Step, equal, given
from linfa.expressions import evaluate
from linfa.theory.dimension.final_map import final_loss, final_map


def _rational(rng, rows, columns):
    return sp.Matrix(rows, columns, lambda i, j: sp.Rational(rng.randint(-9, 9), rng.randint(1, 5)))


def _full_rank(rng, rows, columns):
    while True:
        matrix = _rational(rng, rows, columns)
        if matrix.rank() == min(rows, columns):
            return matrix


def _zero(text, matrix, formula):
    return Step(f"{text}, in exact rational numbers", formula, bool(matrix.is_zero_matrix))


def _floats(matrix):
    return np.array(matrix.tolist(), dtype=float)


def derivation(n: int = 4, k: int = 3, m: int = 3, rank: int = 2, seed: int = 0) -> Derivation:
    """The rest point in words, then each of its properties in exact rational arithmetic on a random instance.

    Args:
        n, k, m: widths of input, hidden layer and output, n >= m.
        rank: of the feedback, at most min(k, m).
        seed: of the instance.

    >>> derivation(seed=3).title
    'the end of feedback alignment from W_1 = 0'
    """
    equations = linfa.derive(linfa.fa(), 2)
    velocity = equations.velocity.weights
    B, E, W1t = map(words.letter, ("B_1", "E", "W_1^T"))
    R, F, D, Sxx, Syx = map(words.letter, ("R", "F", "D", "S_xx", "S_yx"))
    Rt, Ft = words.letter("R^T"), words.letter("F^T")
    steps = [
        given("the equations of the rule", equations),
        equal("W_1' = B E, so that W_1 = B A with A' = E, and at rest B E = 0", words.of(velocity[0]), B * E, "Wdot_1"),
        equal("at rest E W_1^T = 0: what B does not see of E moves in the rows of W_1 only",
              words.of(velocity[1]), E * W1t, "Wdot_2"),
        given("B E = 0 reads B W_2 W_1 = B Syx Sxx^-1: the rows of R are in those of W_1, and as rank W_1 <= rank B "
              "they are the same, W_1 = F R", "R = P Syx Sxx^-1"),
    ]  # fmt: skip
    at_rest = words.reduced(words.of(equations.residual_definition) * W1t,
                            {words.letter("W_1"): F * R, words.letter("W_2"): D, W1t: Rt * Ft}, {})  # fmt: skip
    steps.append(equal("E W_1^T with W_1 = F R and W_2 = D", at_rest, (Syx - D * F * R * Sxx) * Rt * Ft, "E*W_1^T"))
    steps.append(given("F has full column rank, so that D F", "D F = Syx R^T (R Sxx R^T)^-1"))

    rng = random.Random(seed)
    Q, P = _full_rank(rng, k, rank), _full_rank(rng, rank, m)
    root, star = _full_rank(rng, n, n), _full_rank(rng, m, n)
    second = root * root.T
    cross = star * second
    seen = P * star
    inner = seen * second * seen.T
    closed = cross * seen.T * inner.inv() * seen
    rest = {"W_1": Q * seen, "W_2": cross * seen.T * inner.inv() * (Q.T * Q).inv() * Q.T, "B_1": Q * P}
    rest["E"] = evaluate(equations.residual_definition, rest | {"S_xx": second, "S_yx": cross})
    steps.append(Step("the inverse exists, and no other D F solves the equation", "det(R Sxx R^T) != 0",
                      bool(inner.det() != 0)))  # fmt: skip
    steps.append(_zero("W_2 W_1 is the closed form", rest["W_2"] * rest["W_1"] - closed, "W_2 W_1 = Syx R^T (R Sxx "
                       "R^T)^-1 R"))  # fmt: skip
    for number, v in enumerate(velocity, 1):
        text = f"the velocity of W_{number} that linfa.derive gives vanishes there"
        steps.append(_zero(text, evaluate(v, rest), f"W_{number}' = 0"))
    white = cross * root.T.inv()
    rows = P * white
    projector = rows.T * (rows * rows.T).inv() * rows
    steps.append(_zero("in whitened coordinates, Sxx = L L^T, it is a projection", closed * root - white * projector,
                       "W_2 W_1 L = Syx L^-T Proj_row(P Syx L^-T)"))  # fmt: skip
    error = star - closed
    loss = (error * second * error.T).trace() / 2
    left = white - white * projector
    steps.append(equal("so that the loss in the end is", loss, (left * left.T).trace() / 2, "L"))
    arrays = _floats(cross), _floats(Q * P), _floats(second)
    gap = np.abs(final_map(*arrays) - _floats(closed)).max() / np.abs(_floats(closed)).max()
    steps.append(Step("linfa.theory.dimension.final_map.final_map is this map", "to 1e-9 relative", bool(gap < 1e-9)))
    gap = abs(final_loss(*arrays) - float(loss)) / float(loss) if loss else final_loss(*arrays)
    steps.append(Step("linfa.theory.dimension.final_map.final_loss is this loss", "to 1e-9 relative", bool(gap < 1e-9)))
    return Derivation(
        "the end of feedback alignment from W_1 = 0",
        ("two layers, W_1(0) = 0, any W_2(0)", "fixed B = Q P of full rank r, R of rank r", "the flow comes to rest"),
        tuple(steps),
        "derived here",
    )
