"""Random problems whose feedback is aligned with the task, and the order of small errors."""

from typing import NamedTuple

import numpy as np

from linfa.network import Network
from linfa.rules import fa
from linfa.simulate import descend, simulate
from linfa.task import Task
from linfa.theory import examples

__all__ = ["AlignedProblem", "observed_order"]


def observed_order(scales, errors) -> float:
    """Slope of log(error) over log(scale): 2 for errors that go as the square of the scale.

    >>> round(observed_order([1.0, 0.1], [3.0, 0.03]), 12)
    2.0
    """
    return float(np.polyfit(np.log(scales), np.log(errors), 1)[0])


class AlignedProblem(NamedTuple):
    """A white task and a feedback matrix aligned with it.

    Args:
        task: Sigma = U diag(s) V^T, perhaps with label noise.
        factors: R diag(sqrt h) and U^T (k, q) and (q, n_out), whose product is B.
        U: left singular vectors (n_out, q).
        s: singular values (q,).
        Vt: right singular vectors (q, n_in).
        h: eigenvalues of B^T B (q,).
        R: frame of the hidden layer (k, q).
    """

    task: Task
    factors: tuple[np.ndarray, np.ndarray]
    U: np.ndarray
    s: np.ndarray
    Vt: np.ndarray
    h: np.ndarray
    R: np.ndarray

    @classmethod
    def draw(cls, seed: int, modes: int | None = None, low: float = 0.5, high: float = 2.0, extra: int = 2):
        """A random one.

        Args:
            seed: of the generator.
            modes: q; by default up to 4.
            low, high: bounds of the s_i and h_i.
            extra: widths exceed q by at most this.

        >>> problem = AlignedProblem.draw(0, modes=2)
        >>> np.allclose(problem.B @ problem.task.Syx, (problem.R * np.sqrt(problem.h) * problem.s) @ problem.Vt)
        True
        """
        rng = examples.generator(seed)
        q = modes or int(rng.integers(1, 5))
        n, k, m = (q + int(rng.integers(0, extra + 1)) for _ in range(3))
        U, Vt, R = examples.frame(rng, m, q), examples.frame(rng, q, n), examples.frame(rng, k, q)
        s, h = rng.uniform(low, high, (2, q))
        task = Task.teacher((U * s) @ Vt, noise=0.3 * (rng.random() < 0.5))
        return cls(task, (R * np.sqrt(h), U.T), U, s, Vt, h, R)

    @property
    def B(self) -> np.ndarray:
        """The feedback (k, n_out)."""
        return self.factors[0] @ self.factors[1]

    @property
    def zero(self) -> Network:
        """Zero weights of the problem's widths."""
        return Network.zero((self.task.n_in, len(self.R), self.task.n_out))

    def along(self, strengths) -> np.ndarray:
        """U diag(w) V^T (..., n_out, n_in) for strengths w (..., q)."""
        return (self.U * strengths[..., None, :]) @ self.Vt

    def simulate(self, times, network=None):
        """The flow of feedback alignment, from zero unless a network is given."""
        return simulate(fa(), self.task, network or self.zero, times, feedback=((self.B,),), rtol=1e-11, atol=1e-14)

    def descend(self, lr, steps, network=None, record=1):
        """Descent of feedback alignment, from zero unless a network is given."""
        return descend(fa(), self.task, network or self.zero, lr, steps, feedback=((self.B,),), record=record)
