"""What leaving out components costs."""

import numpy as np

from linfa.dynamics import start
from linfa.network import Network
from linfa.ranks import energy_rank, truncate
from linfa.rules import bp, factored
from linfa.theory.result import Result

__all__ = ["truncation_error"]


def truncation_error(s, rank: int) -> float:
    """||W - W_r||_F / ||W||_F when the r largest of the values s of an orthonormal U diag(s) V^T are kept.

    sqrt(1 - sum_{j<=r} s_j^2 / sum s_j^2), at most sqrt(1 - tau) for the rank of `linfa.ranks.energy_rank`.

    Args:
        s: (n,); rank: r.

    Source: Eckart & Young (1936), known.

    >>> truncation_error(np.array([4.0, 3.0]), 1)
    0.6
    """
    squares = np.sort(np.asarray(s, float) ** 2)[::-1]
    return float(np.sqrt(squares[rank:].sum() / squares.sum()))


def _energy(seed):
    """How far truncated states are from the formula, and beyond the bound of the energy rule."""
    worst = 0.0
    rule = factored(bp(), 5)
    state = start(rule, Network.small((6, 5, 7, 6), 1.0, seed), seed)
    for tau in (0.5, 0.9, 0.99):
        ranks = [int(energy_rank(W.s[:, 0], tau)) for W in state.weights]
        for W, cut, r in zip(state.weights, truncate(rule, state, ranks).weights, ranks, strict=True):
            lost = np.linalg.norm(W.matrix - cut.matrix) / np.linalg.norm(W.matrix)
            worst = max(worst, abs(lost - truncation_error(W.s[:, 0], r)), lost - np.sqrt(1 - tau))
            worst = max(worst, 0.0 if r == 1 else np.sqrt(1 - tau) - truncation_error(W.s[:, 0], r - 1))
    return worst


RESULTS = (
    Result("S10", "truncation to the energy rule's rank changes an orthonormal U diag(s) V^T by sqrt(1 - its share of "
           "the energy), at most sqrt(1 - tau), and one component less would be too few",
           "Eckart & Young (1936), known", 1e-11, _energy),
)  # fmt: skip
