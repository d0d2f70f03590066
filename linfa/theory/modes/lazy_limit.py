"""The lazy limit of feedback alignment: large weights that hardly move."""

import numpy as np
from scipy.linalg import expm

from linfa.network import Network
from linfa.rules import fa
from linfa.simulate import simulate
from linfa.task import Task
from linfa.theory import examples
from linfa.theory.base import relative_error
from linfa.theory.modes.problem import observed_order
from linfa.theory.result import Result

__all__ = ["lazy_error"]


def lazy_error(times, W1, W2, B, E0) -> np.ndarray:
    """E(t) = e^(-W_2 B t) E(0) e^(-W_1^T W_1 t), the error of feedback alignment while its weights stay put.

    With W_1, W_2 and B of size g and E(0) of order one it holds up to O(1/g^2) on times of order 1/g^2.  W_2 B is not
    symmetric: errors can grow first, and with an eigenvalue of negative real part in the end.

    Args:
        times: (t,).
        W1: first weight (k, n_in).
        W2: second weight (n_out, k).
        B: feedback (k, n_out).
        E0: Syx - W_2 W_1 (n_out, n_in) at time 0, inputs white.

    Returns:
        (t, n_out, n_in).

    Raises:
        ValueError: for shapes that do not match.

    Source: derived here.

    >>> lazy_error([0.0, np.log(2)], np.eye(1), np.eye(1), np.eye(1), np.eye(1)).ravel().round(12).tolist()
    [1.0, 0.25]
    """
    W1, W2, B, E0 = map(np.asarray, (W1, W2, B, E0))
    if (W2 @ W1).shape != E0.shape or B.shape != W2.T.shape:
        raise ValueError(f"W_1, W_2, B and E_0 do not match: shapes {W1.shape}, {W2.shape}, {B.shape}, {E0.shape}")
    t = np.asarray(times, dtype=float)[:, None, None]
    return expm(-t * (W2 @ B)) @ E0 @ expm(-t * (W1.T @ W1))


def _order(seed):
    rng = examples.generator(seed)
    n, k, m = rng.integers(2, 5, 3)
    W1, W2 = rng.standard_normal((k, n)) / np.sqrt(n), rng.standard_normal((m, k)) / np.sqrt(k)
    B, E0 = W2.T + 0.7 * rng.standard_normal((k, m)) / np.sqrt(k), rng.standard_normal((m, n)) / np.sqrt(n)
    scales, errors, times = (16.0, 32.0), [], np.linspace(0, 2, 9)
    for g in scales:
        task = Task.teacher(g**2 * W2 @ W1 + E0)
        network, stored = Network((g * W1, g * W2)), ((g * B,),)
        run = simulate(fa(), task, network, times / g**2, feedback=stored, rtol=1e-12, atol=1e-14)
        closed = lazy_error(run.times, g * W1, g * W2, g * B, E0)
        errors.append(relative_error(closed, task.Syx - run.map))
    return abs(observed_order(scales, errors) + 2)


RESULTS = (
    Result("E11", "FA with weights and feedback of size g has E = e^(-W_2 B t) E(0) e^(-W_1^T W_1 t), up to O(1/g^2)",
           "derived here", 0.1, _order),
)  # fmt: skip
