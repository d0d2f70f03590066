"""Deep feedback alignment from zero weights, one mode: how much is learned, and how fast."""

import math

import numpy as np

from linfa.algebra import is_symbolic, product
from linfa.network import Network
from linfa.theory import examples

__all__ = ["dfa_factor", "dfa_timescale", "effective_feedback"]


def effective_feedback(rule, feedback, depth: int) -> tuple:
    """The matrices B_1 .. B_(L-1) that take the output error to each hidden cut: B_l itself, or B_l B_(l+1) .. B_(L-1).

    Args:
        rule: a rule with fixed feedback to every hidden cut.
        feedback: what each edge stores.
        depth: L.

    >>> import linfa
    >>> B1, B2 = np.full((1, 1), 2.0), np.full((1, 1), 3.0)
    >>> [B.item() for B in effective_feedback(linfa.fa(), ((B1,), (B2,)), depth=3)]
    [6.0, 3.0]
    """
    seen = {}
    for edge, stored in reversed(list(zip(rule.route.edges(depth), feedback, strict=True))):
        factors = tuple(rule.feedback.factors(stored, None))
        seen[edge.activity] = product(factors if edge.source == depth else (*factors, seen[edge.source]))
    return tuple(seen[cut] for cut in sorted(seen))


def dfa_factor(squares):
    """phi = prod_(l < L) (h_l / 2^l)^(2^(L-1-l)): the layers W_L .. W_1 have learned phi alpha^(2^L - 1) of a mode.

    Args:
        squares: h_1 .. h_(L-1) of the mode, |B_l Sigma v|^2; numbers, arrays or SymPy expressions.

    Source: derived here (`derivations.dfa_depth`).

    >>> dfa_factor((4.0,)), dfa_factor((2.0, 4.0))
    (2.0, 1.0)
    """
    L = len(squares) + 1
    return math.prod((h / 2**cut) ** (2 ** (L - 1 - cut)) for cut, h in enumerate(squares, 1))


def dfa_timescale(squares):
    """T = phi^(-1/p), p = 2^L - 1, with phi of `dfa_factor`: a mode has alpha = T x and x(t) = Phi_p^-1(t/T).

    Infinite for a mode that some layer does not see.  Source: derived here.

    >>> round(float(dfa_timescale((4.0,))), 6)  # 2^(-1/3)
    0.793701
    """
    L = len(squares) + 1
    p = 2**L - 1
    if any(map(is_symbolic, squares)):
        import sympy

        return dfa_factor(squares) ** sympy.Rational(-1, p)
    with np.errstate(divide="ignore"):
        return math.prod(np.power(np.divide(2**cut, h), 2 ** (L - 1 - cut) / p) for cut, h in enumerate(squares, 1))


def common_modes(rule, rng, depth: int, aligned: bool) -> tuple:
    """A white task, zero weights, and feedback of which all layers see the task in the same modes.

    B_l has orthonormal left vectors, and rows along the output modes of the task (aligned) or shared by all layers.
    """
    rank = examples.rank_of(rule)
    n, *widths = (int(rng.integers(low, low + 4)) for low in (1, *(rank,) * depth))
    task, pair = examples.white_task(rng, n, widths[-1], 0.3, 1.0), len(rule.feedback.names) == 2
    r = rank if pair else int(rng.integers(1, min(widths) + 1))
    if aligned:
        rows = rng.permutation(np.linalg.svd(task.Syx)[0].T)[:r]
    else:
        rows = examples.matrix(rng, r, widths[-1], 0.7, 1.1)
    frames = [examples.frame(rng, k, r) for k in widths[:-1]]
    feedback = []
    for edge in rule.route.edges(depth):
        right = rows if edge.source == depth else frames[edge.source - 1].T
        right = rng.uniform(0.7, 1.1, (r, 1) if aligned else 1) * right
        left = frames[edge.activity - 1]
        feedback.append((left, right) if pair else (left @ right,))
    return task, Network.zero((n, *widths)), tuple(feedback)
