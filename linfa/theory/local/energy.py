"""The energy of the discord of two linear modules, its gradient, and that reconciliation descends it."""

import itertools

import numpy as np

from linfa.algebra import T, product
from linfa.dynamics import signals
from linfa.theory.base import relative_error
from linfa.theory.local.problem import drawn, module_ends
from linfa.theory.result import Result

__all__ = ["discord_energy", "discord_gradient"]


def discord_energy(M, C, Sxx, Syx, Syy):
    """R = 1/2 E|q|^2 of q = M^T (M x - y) - C^T (C x - y), for linear heads that read the same x as M and as C.

        R = 1/2 tr(D Sxx D) - tr(D Syx^T (M - C)) + 1/2 tr((M - C)^T Syy (M - C)),   D = M^T M - C^T C.

    M is the head of the upper module times its map, C the head of the lower; R is then 1/2 E|d_k|^2.

    Args:
        M, C: (..., m, n).
        Sxx, Syx, Syy: second moments (n, n), (m, n), (m, m) of the module's input and the target.

    Raises:
        ValueError: for matrices that do not fit each other.

    Source: derived here (`derivations.reconciliation_gradient`).

    >>> one = np.eye(1)
    >>> float(discord_energy(2 * one, one, one, 0 * one, one))
    5.0
    """
    D, gap = _mismatch(M, C, Sxx, Syx, Syy)
    return _inner(D, D @ Sxx) / 2 - _inner(Syx @ D, gap) + _inner(gap, Syy @ gap) / 2


def discord_gradient(M, C, Sxx, Syx, Syy):
    """dR/dM = E[e q^T + M q x^T] = M (Q + Q^T) + Syy (M - C) - Syx D for fixed C, with Q = E[q x^T] and e = M x - y.

    Q = D Sxx - (M - C)^T Syx and D as in `discord_energy`.  Along the flow of `linfa.sgr` this adds -2 lam dR/dM A^T to
    the head of the upper module and -2 lam (C_k W_b .. W_(j+1))^T dR/dM (W_(j-1) .. W_(a+1))^T to its weights.

    Args:
        M, C, Sxx, Syx, Syy: as for `discord_energy`, or SymPy matrices.

    Raises:
        ValueError: for matrices that do not fit each other.

    Source: derived here (`derivations.reconciliation_gradient`).

    >>> one = np.eye(1)
    >>> float(discord_gradient(2 * one, one, one, 0 * one, one)[0, 0])
    13.0
    """
    D, gap = _mismatch(M, C, Sxx, Syx, Syy)
    Q = D @ Sxx - T(gap) @ Syx
    return M @ (Q + T(Q)) + Syy @ gap - Syx @ D


def _mismatch(M, C, Sxx, Syx, Syy):
    (m, n), wanted = M.shape[-2:], (M.shape[-2:], M.shape[-2:], (M.shape[-2],) * 2, (M.shape[-1],) * 2)
    if (C.shape[-2:], Syx.shape[-2:], Syy.shape[-2:], Sxx.shape[-2:]) != wanted:
        raise ValueError(f"C, Syx, Syy, Sxx of shapes {', '.join(str(S.shape) for S in (C, Syx, Syy, Sxx))} do not fit "
                         f"M of shape ({m}, {n})")  # fmt: skip
    return T(M) @ M - T(C) @ C, M - C


def _inner(a, b):
    return (a * b).sum((-1, -2))


def _slopes(seed, step=1e-30):
    """Error of what the rule adds, and of the moment form, against the derivative of R entry by entry.

    R is a polynomial, so its derivative is the imaginary part at an imaginary step, without cancellation.
    """
    rule, task, state = drawn(seed, lam=0.5)  # so that the loss is l + R
    seen, ends, worst = signals(rule, state, task.batch), module_ends(rule, len(state.weights)), 0.0
    heads = [*(T(B) for (B,) in state.feedback), np.eye(task.n_out)]
    for number, (a, b) in enumerate(itertools.pairwise(ends[1:]), 1):
        x, g, C = seen.activities[a], seen.errors[a], heads[number]

        def energy(factors, x=x, g=g):
            M = product(factors)
            return ((T(M) @ (M @ x - task.batch.Y) - g) ** 2).sum() / 2

        factors = [C, *reversed(state.weights[a:b])]
        found = [seen.head_terms.get(b), *(seen.weight_terms[layer] for layer in range(b, a, -1))]
        for place, term in enumerate(found):
            exact = np.zeros(factors[place].shape)
            for entry in np.ndindex(*exact.shape):
                moved = [factor.astype(complex) for factor in factors]
                moved[place][entry] += 1j * step
                exact[entry] = energy(moved).imag / step
            if term is not None:
                worst = max(worst, relative_error(exact, term))
        P = product((*reversed(state.weights[:a]),))
        moments = P @ task.Sxx @ P.T, task.Syx @ P.T, task.Syy
        slope = discord_gradient(product(factors), heads[number - 1], *moments)
        worst = max(worst, relative_error(T(product(factors[:-1])) @ slope, seen.weight_terms[a + 1]))
    return worst


RESULTS = (
    Result("G3", "reconciliation adds 2 lam times the gradients of R: dR/dM = E[e q^T + M q x^T], dR/dC = dR/dM A^T, "
           "dR/dW_j = (C W_b .. W_(j+1))^T dR/dM (W_(j-1) .. W_(a+1))^T", "derived here", 1e-11, _slopes),
)  # fmt: skip
