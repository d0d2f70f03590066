"""Feedback alignment seen from its hidden layer: W_1 and M = B W_2 move by themselves, without the rest of W_2."""

import numpy as np

from linfa.algebra import T
from linfa.theory.alignment.problem import FixedFeedbackProblem
from linfa.theory.base import relative_error
from linfa.theory.result import Result

__all__ = ["closed_pair_flow", "closed_pair_velocity"]


def closed_pair_velocity(W1, M, seen, Sxx):
    """W_1' = B Syx - M W_1 Sxx and M' = W_1' W_1^T for M = B W_2, from any start, through any feedback.

    From W_1 = 0 and M = 0 all of it stays along the singular vectors of B Syx, which solves it for white inputs
    (`ZeroInitFA`); another M(0) need not commute with them.

    Args:
        W1: (k, n_in).
        M: B W_2 (k, k).
        seen: B Syx (k, n_in).
        Sxx: second moment of the inputs (n_in, n_in).  All are arrays or SymPy matrices.

    Returns:
        W_1' and M'.

    Source: derived here (`derivations.fa_closed_pair`).

    >>> one = np.ones((1, 1))
    >>> [v.tolist() for v in closed_pair_velocity(2 * one, 3 * one, 7 * one, one)]
    [[[1.0]], [[2.0]]]
    """
    dW1 = seen - M @ W1 @ Sxx
    return dW1, dW1 @ T(W1)


def closed_pair_flow(W1, M, seen, Sxx, times) -> tuple[np.ndarray, np.ndarray]:
    """W_1 (t, k, n_in) and M (t, k, k) along the flow, by a Runge-Kutta method.

    Args:
        W1, M, seen, Sxx: as in `closed_pair_velocity`, the first two at time 0.
        times: (t,), increasing, from 0 or later.

    Raises:
        ValueError: for shapes that do not fit.

    Source: derived here (`derivations.fa_closed_pair`).

    >>> W1, M = closed_pair_flow(np.zeros((1, 1)), np.zeros((1, 1)), 4 * np.eye(1), np.eye(1), [0.0, 50.0])
    >>> W1.round(9).ravel().tolist(), M.round(9).ravel().tolist()
    ([0.0, 2.0], [0.0, 2.0])
    """
    from scipy.integrate import solve_ivp

    (k, n), times = np.shape(W1), np.asarray(times, dtype=float)
    for name, matrix, shape in (("M", M, (k, k)), ("B Syx", seen, (k, n)), ("Sxx", Sxx, (n, n))):
        if np.shape(matrix) != shape:
            raise ValueError(f"{name} is {shape} for a W_1 of shape {(k, n)}; got {np.shape(matrix)}")

    def split(y):
        return y[..., : k * n].reshape(*y.shape[:-1], k, n), y[..., k * n :].reshape(*y.shape[:-1], k, k)

    def field(_, y):
        return np.concatenate([v.ravel() for v in closed_pair_velocity(*split(y), seen, Sxx)])

    begin = np.concatenate([np.ravel(W1), np.ravel(M)]).astype(float)
    solution = solve_ivp(field, (0.0, times[-1]), begin, "DOP853", times, rtol=1e-11, atol=1e-13)
    return split(solution.y.T)


def _pair(seed):
    problem = FixedFeedbackProblem.draw(seed, white=False)
    run, (W1, W2), B = problem.run(np.linspace(0, 4, 9)), problem.network.weights, problem.B
    pair = closed_pair_flow(W1, B @ W2, B @ problem.task.Syx, problem.task.Sxx, run.times)
    return relative_error(pair, (run.weights[0], B @ run.weights[1]))


RESULTS = (
    Result("X12", "FA from any start: W_1 and M = B W_2 close, W_1' = B Syx - M W_1 Sxx, M' = W_1' W_1^T",
           "derived here", 1e-8, _pair),
)  # fmt: skip
