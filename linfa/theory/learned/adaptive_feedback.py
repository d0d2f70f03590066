"""Feedback through the weights below, as in PEPITA: hidden layers never leave the space of their columns."""

import itertools

import numpy as np

from linfa.network import Network
from linfa.rules import pepita
from linfa.simulate import descend, simulate
from linfa.task import Task
from linfa.theory import examples
from linfa.theory.base import relative_error
from linfa.theory.result import Result

__all__ = ["column_projector", "pepita_logdet", "pepita_logdet_descent"]


def pepita_logdet(F, integral) -> np.ndarray:
    """log det M of W_1 = W_1(0) M under PEPITA: tr(F int_0^t E), with E = Syx - W Sxx, at any depth and on any data.

    W_1' = W_1 F E, so that M' = M F E and M(0) = I (Liouville's formula).  det M stays positive: the first layer keeps
    its rank, and its orientation, for ever.

    Args:
        F: feedback from the output to the input (n_in, n_out).
        integral: int E dt (..., n_out, n_in).

    Source: derived here (`derivations.adaptive_feedback`); that PEPITA is feedback through W_1 F to first order is
    Srinivasan et al. (2023), known from the abstract.

    >>> float(pepita_logdet(np.array([[2.0]]), np.array([[0.5]])))
    1.0
    """
    return np.trace(F @ integral, axis1=-2, axis2=-1)


def pepita_logdet_descent(F, residuals, lr: float) -> np.ndarray:
    """log |det M| after 0 .. steps steps of descent: sum_i log |det(I + lr F E_i)|, exactly.

    A step turns the sign of det M where it passes a root of det(I + lr F E), which the flow cannot.

    Args:
        F: feedback (n_in, n_out).
        residuals: E = Syx - W Sxx before each step (steps, n_out, n_in).
        lr: learning rate.

    Source: derived here (`derivations.adaptive_feedback`).

    >>> pepita_logdet_descent(np.eye(1), np.ones((2, 1, 1)), lr=1.0).round(6).tolist()
    [0.0, 0.693147, 1.386294]
    """
    factors = np.linalg.slogdet(np.eye(len(F)) + lr * F @ residuals)[1]
    return np.concatenate([[0.0], np.cumsum(factors)])


def column_projector(W) -> np.ndarray:
    """The projector W W^+ (k, k) on the columns of W (k, n): under PEPITA it does not move, for any hidden layer.

    W_l' = W_l A F E A^T with A = W_(l-1) .. W_1, so that W_l = W_l(0) N: units of a hidden layer that are linearly
    dependent at the start stay so, and one whose weights are zero learns nothing.

    Source: derived here (`derivations.adaptive_feedback`).

    >>> column_projector(np.array([[2.0], [0.0]])).tolist()
    [[1.0, 0.0], [0.0, 0.0]]
    """
    return W @ np.linalg.pinv(W, rcond=1e-10)


def _draw(seed):
    """A task, a network of depth 2 or 3 whose hidden layers are each wider than the one below, and F."""
    rng = examples.generator(seed)
    n, m, depth = int(rng.integers(1, 4)), int(rng.integers(1, 4)), int(rng.integers(2, 4))
    widths = (n, *(n + int(more) for more in np.cumsum(rng.integers(1, 3, depth - 1))), m)
    task = Task.teacher(examples.matrix(rng, m, n, 0.4, 1.2), examples.moment(rng, n, 0.5, 1.2), noise=0.2)
    weights = tuple(examples.matrix(rng, b, a, 0.4, 0.8) for a, b in itertools.pairwise(widths))
    return task, Network(weights), ((0.5 * rng.standard_normal((n, m)),),)


def _residual(task, run):
    return task.Syx - run.map @ task.Sxx


def _grown(run):
    """log |det M| (t,) of W_1 = W_1(0) M."""
    W1 = run.weights[0]
    return np.linalg.slogdet(np.linalg.pinv(W1[0]) @ W1)[1]


def _logdet(seed):
    task, network, feedback = _draw(seed)
    nodes, weights = np.polynomial.legendre.leggauss(32)
    times = np.array([0.0, *(1 + nodes) / 2, 1.0])
    run = simulate(pepita(), task, network, times, feedback=feedback, rtol=1e-12, atol=1e-14)
    integral = np.einsum("t,tij->ij", weights / 2, _residual(task, run)[1:-1])
    return abs(float(pepita_logdet(feedback[0][0], integral)) - float(_grown(run)[-1]))


def _logdet_descent(seed):
    task, network, feedback = _draw(seed)
    run = descend(pepita(), task, network, 0.05, 60, feedback=feedback)
    closed = pepita_logdet_descent(feedback[0][0], _residual(task, run)[:-1], 0.05)
    return float(np.abs(closed - _grown(run)).max())


def _columns(seed):
    task, network, feedback = _draw(seed)
    worst = 0.0
    for run in (
        simulate(pepita(), task, network, [0.0, 1.0, 2.0], feedback=feedback, rtol=1e-11, atol=1e-13),
        descend(pepita(), task, network, 0.05, 40, feedback=feedback),
    ):
        for W in run.weights[:-1]:
            worst = max(worst, relative_error(W, column_projector(W[0]) @ W))
    return worst


SOURCE = "derived here; PEPITA as adaptive feedback is Srinivasan et al. (2023), known from the abstract"
RESULTS = (
    Result("E9", "PEPITA, any depth and data: W_1 = W_1(0) M with log det M = tr(F int E dt)", SOURCE, 1e-8, _logdet),
    Result("E9d", "in descent log |det M| = sum log |det(I + lr F E)|, exactly", SOURCE, 1e-11, _logdet_descent),
    Result("E9c", "PEPITA leaves the column space of every hidden layer where it starts, in flow and descent",
           SOURCE, 1e-9, _columns),
)  # fmt: skip
