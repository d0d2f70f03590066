"""Random two-layer problems with fixed feedback, and integrals along their flow."""

from typing import NamedTuple

import numpy as np

from linfa.network import Network
from linfa.rules import fa
from linfa.simulate import descend, simulate
from linfa.task import Task
from linfa.theory import examples

__all__ = ["FixedFeedbackProblem"]


class FixedFeedbackProblem(NamedTuple):
    """A task, a network at time 0 and a feedback matrix, of no special relation.

    Args:
        task: a `Task`.
        network: W_1 (k, n_in) and W_2 (n_out, k).
        B: feedback (k, n_out).
        rng: the generator, for what else is drawn.
    """

    task: Task
    network: Network
    B: np.ndarray
    rng: np.random.Generator

    @classmethod
    def draw(cls, seed: int, scale: float = 0.5, white: bool = True, full: bool = False, rank: int | None = None):
        """A random one, widths up to 5.

        Args:
            seed: of the generator.
            scale: gain of the weights at the start; 0 for zero weights.
            white: whether the inputs are white.
            full: whether n_in, k >= n_out and the teacher has full rank.
            rank: of the feedback; at random by default, the largest possible for a full problem.

        >>> problem = FixedFeedbackProblem.draw(0, scale=0.0)
        >>> problem.run([0.0, 1.0]).loss[1] < problem.run([0.0, 1.0]).loss[0]
        np.True_
        """
        rng = examples.generator(seed)
        n, k, m = (int(i) for i in rng.integers(1, 6, 3))
        n, k = (max(n, m), max(k, m)) if full else (n, k)
        top = min(k, m)
        rank = min(rank, top) if rank else top if full else int(rng.integers(1, top + 1))
        B = examples.matrix(rng, k, rank, 0.8, 1.25) @ examples.matrix(rng, rank, m, 0.8, 1.25)
        moment = None if white else examples.moment(rng, n, 0.4, 1.3)
        task = Task.teacher(examples.matrix(rng, m, n, 0.5, 1.5), moment, noise=0.3 * (rng.random() < 0.5))
        weights = (scale / np.sqrt(n) * rng.standard_normal((k, n)), scale / np.sqrt(k) * rng.standard_normal((m, k)))
        return cls(task, Network(weights), B, rng)

    def run(self, times):
        """The flow of feedback alignment."""
        return simulate(fa(), self.task, self.network, times, feedback=((self.B,),), rtol=1e-11, atol=1e-13)

    def descend(self, lr, steps, record=1):
        """Descent of feedback alignment."""
        return descend(fa(), self.task, self.network, lr, steps, feedback=((self.B,),), record=record)

    def residuals(self, run) -> np.ndarray:
        """E = Syx - W_2 W_1 Sxx along a run (t, n_out, n_in)."""
        return self.task.Syx - run.map @ self.task.Sxx


def gauss(end: float, nodes: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Times 0, Gauss-Legendre nodes, end, and the weights of the integral over them.

    >>> times, weights = gauss(2.0)
    >>> round(float(weights @ times**3), 12)
    4.0
    """
    x, w = np.polynomial.legendre.leggauss(nodes)
    return np.array([0.0, *(end * (1 + x) / 2), end]), np.array([0.0, *(end * w / 2), 0.0])
