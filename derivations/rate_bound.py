"""The error of backprop falls at least at the rate lambda_min(W_2 W_2^T) + lambda_min(W_1^T W_1), and its floor."""

import random

import numpy as np
import sympy as sp

import linfa
from derivations import words
from derivations.proof import Derivation, Step, equal, given
from linfa.theory import invariants
from linfa.theory.backprop.rate_bound import convergence_rate, imbalance_rate


def derivation(depth: int = 2, seed: int = 0) -> Derivation:
    """The change of the error as a sum of squares, beyond what the least eigenvalues give.

    Args:
        depth: number of weights L, at least 2.
        seed: of the instance on which the functions are evaluated.

    >>> derivation(depth=3).title
    'the least rate of backprop, depth 3'
    """
    equations = linfa.derive(linfa.bp(), depth)
    W = [words.letter(f"W_{cut}") for cut in range(1, depth + 1)]
    Wt = [words.letter(f"W_{cut}^T") for cut in range(1, depth + 1)]
    E, Et = words.letter("E"), words.letter("E^T")
    white = {words.letter("S_xx"): sp.Integer(1)}
    above = [sp.Mul(*W[:cut:-1]) * sp.Mul(*Wt[cut + 1 :]) for cut in range(depth)]
    below = [sp.Mul(*Wt[:cut]) * sp.Mul(*W[:cut][::-1]) for cut in range(depth)]

    def residual(rule, state):
        return (equations.moments["S_yx"] - sp.MatMul(*reversed(state.weights), equations.moments["S_xx"]),)

    (moves,) = equations.change(residual)
    steps = [
        given("the equations of the rule", equations),
        equal("E' for Sxx = I: the sum of -A_l A_l^T E B_l^T B_l, of the layers above and below W_l",
              words.reduced(moves, white, {}), -sp.Add(*(A * E * B for A, B in zip(above, below, strict=True))),
              "Edot"),
    ]  # fmt: skip
    rate, beyond, squares = sp.Integer(0), sp.Integer(0), sp.Integer(0)
    for cut in range(1, depth + 1):
        a, b = sp.symbols(f"a_{cut} b_{cut}", nonnegative=True)
        M, Mt, N, Nt = (words.letter(f"{name}_{cut}{turned}") for name in "MN" for turned in ("", "^T"))
        if cut == depth:  # nothing is above
            a, M, Mt = sp.Integer(1), sp.Integer(0), sp.Integer(0)
        if cut == 1:
            b, N, Nt = sp.Integer(1), sp.Integer(0), sp.Integer(0)
        rate += a * b
        beyond += (a + M * Mt) * E * (b + Nt * N)
        squares += b * Et * M * Mt * E + a * Et * E * Nt * N + Et * M * Mt * E * Nt * N
    steps.append(given("the least eigenvalues a_l of A_l A_l^T and b_l of B_l^T B_l leave positive matrices",
                       "A_l A_l^T = a_l + M_l M_l^T,   B_l^T B_l = b_l + N_l^T N_l,   r = sum_l a_l b_l"))  # fmt: skip
    steps.append(equal("E^T E' + r E^T E is minus a sum of terms with the traces b |M^T E|^2, a |E N^T|^2 and "
                       "|M^T E N^T|^2: d|E|^2/dt <= -2 r |E|^2", -Et * beyond + rate * Et * E, -squares,
                       "E^T Edot + r E^T E"))  # fmt: skip

    rng = random.Random(seed)
    size = 2
    flip = sp.Matrix([[3, -4], [4, 3]]) / 5
    values = [sorted(rng.sample(range(2, 12), size)) for _ in range(depth)]
    turns = [flip**power for power in range(depth + 1)]
    layers = [
        turns[cut + 1] * sp.diag(*(sp.Rational(v, 4) for v in pair)) * turns[cut].T for cut, pair in enumerate(values)
    ]
    least = sum(sp.prod(sp.Rational(pair[0], 4) ** 2 for at, pair in enumerate(values) if at != cut)
                for cut in range(depth))  # fmt: skip
    arrays = [np.array(layer.tolist(), dtype=float) for layer in layers]
    gap = abs(convergence_rate(arrays) - float(least))
    text = "linfa.theory.backprop.rate_bound.convergence_rate is r, on rational layers with known singular values"
    steps.append(Step(text, "to 1e-12", bool(gap < 1e-12)))
    if depth == 2:
        (kept,) = equations.change(invariants.balance)
        steps.append(equal("D = W_2^T W_2 - W_1 W_1^T does not change", kept, 0, "Ddot"))
        D = words.of(invariants.balance(None, equations.state)[0])
        text = (
            "W_2^T W_2 exceeds D by a positive matrix, so that by Weyl its eigenvalues exceed those of D: the m-th is "
            "lambda_min(W_2 W_2^T), and in the same way for -D and the n-th of W_1 W_1^T"
        )
        steps.append(equal(text, Wt[1] * W[1] - D, W[0] * Wt[0], "W_2^T W_2 - D"))
        low, high = sorted(rng.sample(range(1, 9), 2))
        side = np.array(turns[1].tolist(), dtype=float)[:, :1]  # D = (high^2 - low^2) side side^T, and minus that
        gaps = [abs(imbalance_rate(side * i, side.T * j) - (high**2 - low**2)) for i, j in ((low, high), (high, low))]
        text = "linfa.theory.backprop.rate_bound.imbalance_rate is this floor, on rational layers"
        steps.append(Step(text, "to 1e-12", bool(max(gaps) < 1e-12)))
    return Derivation(
        f"the least rate of backprop, depth {depth}",
        ("white inputs", "any start and target"),
        tuple(steps),
        "Tarmoun et al. (2021), Min et al. (2021); known result re-derived",
    )
