"""Feedback alignment in two layers without its hidden units: exact from every start, at a cost free of the width."""

from typing import NamedTuple

import numpy as np

from linfa.algebra import T
from linfa.network import Network
from linfa.rules import fa
from linfa.simulate import descend
from linfa.task import Task
from linfa.theory import examples
from linfa.theory.alignment.problem import FixedFeedbackProblem
from linfa.theory.base import relative_error
from linfa.theory.result import Result

__all__ = ["FAGram", "fa_gram_descent", "fa_gram_flow"]


class FAGram(NamedTuple):
    """All that the map of a two-layer network ever needs of its start and its feedback.

    With A = int E dt (n_out, n_in) and G = int E A^T dt (n_out, n_out), which both start at 0,

        A' = E,   G' = E A^T,   W_1 = W_1(0) + B A,   W_2 = W_2(0) + G B^T + A W_1(0)^T
        W_2 W_1 = K + N A + G J + G H A + A S + A J^T A

    Descent is A <- A + lr E and G <- G + lr E A^T, exactly.

    Args:
        K: W_2 W_1 (n_out, n_in).
        N: W_2 B (n_out, n_out).
        J: B^T W_1 (n_out, n_in).
        H: B^T B (n_out, n_out).
        S: W_1^T W_1 (n_in, n_in), all at time 0.

    Source: derived here (`derivations.fa_gram`).

    >>> data = FAGram.of(np.ones((9, 2)), np.ones((1, 9)), np.ones((9, 1)))
    >>> data.H.tolist(), data.map(np.zeros((1, 2)), np.zeros((1, 1))).tolist()
    ([[9.0]], [[9.0, 9.0]])
    """

    K: np.ndarray
    N: np.ndarray
    J: np.ndarray
    H: np.ndarray
    S: np.ndarray

    @classmethod
    def of(cls, W1, W2, B) -> "FAGram":
        """The data of a start: W_1 (k, n_in), W_2 (n_out, k), B (k, n_out); SymPy matrices too."""
        return cls(W2 @ W1, W2 @ B, T(B) @ W1, T(B) @ B, T(W1) @ W1)

    def map(self, A, G):
        """W_2 W_1 (..., n_out, n_in)."""
        K, N, J, H, S = self
        return K + N @ A + G @ J + G @ H @ A + A @ S + A @ T(J) @ A

    def error(self, task, A, G):
        """E = Syx - W_2 W_1 Sxx (..., n_out, n_in)."""
        return task.Syx - self.map(A, G) @ task.Sxx


def fa_gram_descent(task, data: FAGram, lr: float, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """A (steps + 1, n_out, n_in) and G (steps + 1, n_out, n_out) of `FAGram` along descent, exactly.

    Args:
        task: a `Task`, white or not.
        data: of the start.
        lr: learning rate.
        steps: number of steps.

    Raises:
        ValueError: for data of another task, a lr that is not positive.

    Source: derived here (`derivations.fa_gram`).

    >>> import linfa
    >>> task, network = linfa.Task.from_spectrum([1.0, 0.5], seed=0), linfa.Network.small((2, 50, 2), 0.5)
    >>> run = linfa.descend(linfa.fa(), task, network, 0.1, 30)
    >>> data = FAGram.of(*network.weights, run.feedback[0][0][0])
    >>> np.allclose(data.map(*fa_gram_descent(task, data, 0.1, 30)), run.map, rtol=1e-12, atol=1e-14)
    True
    """
    _check(task, data)
    if not lr > 0:
        raise ValueError(f"lr is a positive number; got {lr}")
    A, G = np.zeros((steps + 1, *task.Syx.shape)), np.zeros((steps + 1, task.n_out, task.n_out))
    for i in range(steps):
        E = data.error(task, A[i], G[i])
        A[i + 1], G[i + 1] = A[i] + lr * E, G[i] + lr * E @ A[i].T
    return A, G


def fa_gram_flow(task, data: FAGram, times, rtol: float = 1e-11, atol: float = 1e-13) -> tuple[np.ndarray, np.ndarray]:
    """The same along the flow, at times (t,), by a Runge-Kutta method in these few variables.

    G + G^T = A A^T along it: what `invariants.feedback_alignment` conserves, in these variables.

    Args:
        task, data: as in `fa_gram_descent`.
        times: increasing, from 0 or later.
        rtol, atol: tolerances of the integrator.

    Raises:
        ValueError: for data of another task.

    Source: derived here (`derivations.fa_gram`).

    >>> task = Task.teacher(np.eye(1))
    >>> A, G = fa_gram_flow(task, FAGram.of(np.zeros((5, 1)), np.zeros((1, 5)), np.ones((5, 1))), [0.0, 50.0])
    >>> float((5 * A * G)[1].round(9)[0, 0]), bool(np.allclose(2 * G, A**2))
    (1.0, True)
    """
    from scipy.integrate import solve_ivp

    _check(task, data)
    m, n = task.Syx.shape

    def split(y):
        return y[..., : m * n].reshape(*y.shape[:-1], m, n), y[..., m * n :].reshape(*y.shape[:-1], m, m)

    def field(_, y):
        A, G = split(y)
        E = data.error(task, A, G)
        return np.concatenate([E.ravel(), (E @ A.T).ravel()])

    times = np.asarray(times, dtype=float)
    solution = solve_ivp(field, (0.0, times[-1]), np.zeros(m * (n + m)), "DOP853", times, rtol=rtol, atol=atol)
    return split(solution.y.T)


def _check(task, data):
    m, n = task.Syx.shape
    wanted = {"K": (m, n), "N": (m, m), "J": (m, n), "H": (m, m), "S": (n, n)}
    for (name, shape), matrix in zip(wanted.items(), data, strict=True):
        if np.shape(matrix) != shape:
            raise ValueError(f"{name} is {shape} for this task; got shape {np.shape(matrix)}")


def _flow(seed):
    problem = FixedFeedbackProblem.draw(seed, white=False)
    run, data = problem.run(np.linspace(0, 4, 9)), FAGram.of(*problem.network.weights, problem.B)
    A, G = fa_gram_flow(problem.task, data, run.times)
    return max(relative_error(data.map(A, G), run.map), relative_error(A @ T(A), G + T(G)))


def _descent(seed):
    rng = examples.generator(seed)
    n, m, k = int(rng.integers(1, 7)), int(rng.integers(1, 7)), int(rng.integers(1, 501))
    task = Task.teacher(examples.matrix(rng, m, n, 0.4, 1.2), examples.moment(rng, n, 0.4, 1.2), noise=0.2)
    network = Network((examples.matrix(rng, k, n, 0.1, 0.8), examples.matrix(rng, m, k, 0.1, 0.8)))
    B = examples.matrix(rng, k, m, 0.5, 1.2)
    run = descend(fa(), task, network, 0.05, 100, feedback=((B,),), record=10)
    data = FAGram.of(*network.weights, B)
    A, G = (path[::10] for path in fa_gram_descent(task, data, 0.05, 100))
    weights = network.weights[0] + B @ A, network.weights[1] + G @ B.T + A @ network.weights[0].T
    return max(relative_error(data.map(A, G), run.map), relative_error(weights, run.weights))


RESULTS = (
    Result("B4", "FA from any start is A' = E, G' = E A^T, W_2 W_1 = K + N A + G J + G H A + A S + A J^T A, free of "
           "the width, with G + G^T = A A^T", "derived here", 1e-8, _flow),
    Result("B4d", "descent is A <- A + lr E, G <- G + lr E A^T there, exactly, for widths up to 500", "derived here",
           1e-11, _descent),
)  # fmt: skip
