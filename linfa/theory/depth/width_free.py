"""Deep feedback alignment from zero weights without its hidden units: its cost does not depend on the widths."""

from typing import NamedTuple

import numpy as np

from linfa.algebra import T
from linfa.network import Network
from linfa.rules import dfa, fa, ldfa
from linfa.simulate import descend
from linfa.task import Task
from linfa.theory import examples
from linfa.theory.base import relative_error
from linfa.theory.depth.common_modes import effective_feedback
from linfa.theory.result import Result

__all__ = ["WidthFree", "width_free_descent"]


class WidthFree(NamedTuple):
    """Deep feedback alignment in coordinates of the size of the task: W_1 = B_1 A and W_l = B_l M_l B_(l-1)^T, B_L = I.

    Args:
        A: (..., n_out, n_in).
        M: M_2 .. M_L, each (..., n_out, n_out).
    """

    A: np.ndarray
    M: tuple[np.ndarray, ...]

    def signals(self, grams) -> tuple:
        """X_1 .. X_L with W_l .. W_1 = B_l X_l, (..., n_out, n_in): X_1 = A, X_l = M_l H_(l-1) X_(l-1)."""
        out = [self.A]
        for M, H in zip(self.M, grams, strict=True):
            out.append(M @ H @ out[-1])
        return tuple(out)

    def velocity(self, task, grams) -> "WidthFree":
        """A' = E and M_l' = E X_(l-1)^T with E = Syx - X_L Sxx."""
        *below, total = self.signals(grams)
        E = task.Syx - total @ task.Sxx
        return WidthFree(E, tuple(E @ T(X) for X in below))

    def weights(self, feedback) -> tuple:
        """W_1 .. W_L of the network.

        Args:
            feedback: B_1 .. B_(L-1) as `effective_feedback` gives them, (n_l, n_out).
        """
        rows = [M @ T(B) for M, B in zip(self.M, feedback, strict=True)]
        return (feedback[0] @ self.A, *(B @ R for B, R in zip(feedback[1:], rows, strict=False)), rows[-1])


def width_free_descent(task, grams, lr: float, steps: int) -> WidthFree:
    """Descent by deep feedback alignment from zero weights, exactly, in matrices of the size of the task.

    A <- A + lr E,  M_l <- M_l + lr E X_(l-1)^T: the widths and the feedback enter by H_l = B_l^T B_l alone, where B_l
    takes the output error to cut l (`effective_feedback`), by a broadcast or layer by layer.  Weights aligned with
    the feedback, W_l ~ B_l B_(l-1)^T, are the case of M_l ~ I.

    Args:
        task: a `Task`, white or not.
        grams: H_1 .. H_(L-1), symmetric and positive semi-definite (n_out, n_out).
        lr: learning rate.
        steps: number of steps.

    Returns:
        `WidthFree` with steps in front, (steps + 1, ...).

    Raises:
        ValueError: for a gram that does not fit the task, is not symmetric or has a negative eigenvalue.

    Source: weight alignment is known from Refinetti et al. (2021); the exact reduction is derived here
    (`derivations.dfa_width_free`).

    >>> import linfa
    >>> task, (B,) = linfa.Task.from_spectrum([1.0, 0.5], seed=0), (np.array([[1.0, 0.0], [0.5, 2.0], [0.0, 1.0]]),)
    >>> run = linfa.descend(linfa.dfa(), task, linfa.Network.zero((2, 3, 2)), 0.1, 20, feedback=((B,),))
    >>> small = width_free_descent(task, (B.T @ B,), 0.1, 20)
    >>> np.allclose(small.signals((B.T @ B,))[-1], run.map, rtol=1e-12, atol=1e-15)
    True
    """
    m = task.n_out
    for cut, H in enumerate(grams, 1):
        if np.shape(H) != (m, m):
            raise ValueError(f"H_{cut} is ({m}, {m}), the size of the output; got shape {np.shape(H)}")
        size = np.abs(H).max()
        if np.abs(H - H.T).max() > 1e-10 * size:
            raise ValueError(f"H_{cut} is not symmetric: entries differ by up to {np.abs(H - H.T).max():.2g}")
        if (lowest := np.linalg.eigvalsh(H)[0]) < -1e-10 * size:
            raise ValueError(f"H_{cut} is not B^T B: it has the negative eigenvalue {lowest:.2g}")
    at = WidthFree(np.zeros(task.Syx.shape), tuple(np.zeros((m, m)) for _ in grams))
    path = [at]
    for _ in range(steps):
        v = at.velocity(task, grams)
        at = WidthFree(at.A + lr * v.A, tuple(M + lr * dM for M, dM in zip(at.M, v.M, strict=True)))
        path.append(at)
    return WidthFree(np.stack([p.A for p in path]), tuple(map(np.stack, zip(*(p.M for p in path), strict=True))))


def width_free_error(rule, seed: int, steps: int = 120) -> float:
    """Largest relative error of all weights along descent of a rule on a random task that is not white.

    >>> width_free_error(dfa(), seed=0) < 1e-12
    True
    """
    rng, rank = examples.generator(seed), examples.rank_of(rule)
    depth = int(rng.integers(2, 5))
    n, m = int(rng.integers(1, 5)), rank + int(rng.integers(0, 3))
    widths = (n, *(rank + int(rng.integers(0, 20)) for _ in range(depth - 1)), m)
    task = Task.teacher(examples.matrix(rng, m, n, 0.3, 0.8), examples.moment(rng, n, 0.4, 1.2), noise=0.2)
    feedback = examples.feedback(rule, rng, widths)
    run = descend(rule, task, Network.zero(widths), 0.03, steps, feedback=feedback, record=10)
    seen = effective_feedback(rule, feedback, depth)
    closed = width_free_descent(task, tuple(B.T @ B for B in seen), 0.03, steps)
    closed = WidthFree(closed.A[::10], tuple(M[::10] for M in closed.M))
    return relative_error(closed.weights(seen), run.weights)


RESULTS = (
    Result(
        "E17",
        "deep FA from zero weights, exactly: W_1 = B_1 A, W_l = B_l M_l B_(l-1)^T with a descent of A and M_l alone",
        "weight alignment known from Refinetti et al. (2021); the exact reduction derived here",
        1e-11,
        lambda seed: max(width_free_error(rule, seed) for rule in (dfa(), fa(), ldfa(2, "fixed"))),
    ),
)
