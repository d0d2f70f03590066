"""Feedback alignment from zero weights on inputs that are not white, where they commute with what the feedback sees."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, final

import numpy as np

from linfa.algebra import product
from linfa.network import Network
from linfa.rules import fa, ldfa
from linfa.task import Task
from linfa.theory import assumptions, examples
from linfa.theory.alignment.zero_init_fa import Modes, ZeroInitFA, amplitude, descend_modes, gain, timescale
from linfa.theory.base import AssumptionError, Setup, Theory
from linfa.theory.result import of_descent, of_flow
from linfa.theory.special import phi3_inverse

__all__ = ["CommutingInputsFA"]


@final
@dataclass(frozen=True, eq=False)
class CommutingInputsFA(Theory):
    """Feedback alignment of a two-layer network from zero weights where Sxx shares its axes with the seen task.

    With the least-squares map Sigma* = Syx Sxx^-1, B Sigma* = U diag(s_i) V^T and Sxx v_i = xi_i v_i, the clock of
    mode i runs xi_i times as fast as on white inputs (`ZeroInitFA`):

        a_i' = xi_i (s_i - a_i^3/2),   W_1 = U diag(a_i) V^T,   W_2 = Sigma* V diag(a_i^2 / (2 s_i)) U^T

    Descent has lr xi_i for the learning rate of mode i.

    Assumptions: two layers, either route, feedback that does not learn, no decay, zero weights, and Sxx that commutes
    with Sigma*^T B^T B Sigma*.  Without the last no closed form is known.

    Source: derived here (`derivations.fa_commuting_inputs`).

    Raises:
        AssumptionError: outside the assumptions.

    >>> import linfa
    >>> rule, task = linfa.fa(), linfa.Task.teacher(np.diag([2.0, 1.0]), Sxx=np.diag([0.5, 1.5]))
    >>> feedback = ((np.diag([1.0, -3.0]),),)
    >>> run = linfa.simulate(rule, task, linfa.Network.zero((2, 2, 2)), time=5.0, feedback=feedback, rtol=1e-11)
    >>> CommutingInputsFA(rule, task, run.at(0)).error(run) < 1e-8
    True
    """

    statement: ClassVar[str] = (
        "FA from zero weights, Sxx and Sigma*^T B^T B Sigma* commuting: a_i' = xi_i (s_i - a_i^3/2)"
    )
    source: ClassVar[str] = "derived here"
    exact_in_discrete_time: ClassVar[bool] = True

    @classmethod
    def check_rule(cls, rule):
        assumptions.fixed_feedback(rule)

    def check_start(self):
        assumptions.depth(self.start, 2)
        for number, W in enumerate(self.start.weights, 1):
            assumptions.zero(f"W_{number}(0)", W)
        gram, Sxx = self._gram
        off = np.abs(Sxx @ gram - gram @ Sxx).max()
        if off > assumptions.TOLERANCE:
            raise AssumptionError(f"Sxx does not commute with Sigma*^T B^T B Sigma*: off by {off:.2g} of their norms")

    @cached_property
    def feedback(self) -> np.ndarray:
        """B (k, n_out)."""
        return product(self.rule.feedback.factors(self.start.feedback[0], None))

    @property
    def _gram(self):
        """Sigma*^T B^T B Sigma* and Sxx, both of norm 1."""
        seen = self.feedback @ self.task.optimum
        pair = seen.T @ seen, self.task.Sxx
        return tuple(matrix / (np.linalg.norm(matrix) or 1.0) for matrix in pair)

    @cached_property
    def modes(self) -> Modes:
        """B Sigma* = U diag(s) V^T along axes of Sxx, and SV = Sigma* V: those of a generic mixture of both."""
        gram, Sxx = self._gram
        _, V = np.linalg.eigh(gram + 0.6180339887 * Sxx)
        seen = self.feedback @ self.task.optimum @ V
        s = np.linalg.norm(seen, axis=0)
        keep = s > 1e-11 * np.linalg.norm(self.feedback) * np.linalg.norm(self.task.optimum)
        V, s = V[:, keep], s[keep]
        return Modes(seen[:, keep] / s, s, V.T, self.task.optimum @ V)

    @cached_property
    def variances(self) -> np.ndarray:
        """xi (r,), the variance of the inputs along every mode."""
        return np.einsum("in,nl,il->i", self.modes.Vt, self.task.Sxx, self.modes.Vt)

    def _learned(self, times):
        return phi3_inverse(np.asarray(times, dtype=float)[:, None] * self.variances / timescale(self.modes.s))

    def weights(self, times) -> tuple[np.ndarray, np.ndarray]:
        """W_1 (t, k, n_in) and W_2 (t, n_out, k)."""
        x = self._learned(times)
        return self.modes.weights(amplitude(self.modes.s, x), gain(self.modes.s, x))

    def predict(self, times):
        """W_2 W_1 at the times (t,): (t, n_out, n_in)."""
        return self.modes.map(self._learned(times) ** 3)

    def discrete(self, lr, steps):
        """W_2 W_1 after 0 .. steps steps of descent: (steps + 1, n_out, n_in)."""
        a, g = descend_modes(self.modes.s, lr * self.variances, steps)
        return self.modes.map(a * g)

    def observed(self, trajectory):
        return trajectory.map

    @classmethod
    def residuals(cls, equations):
        """Those of `ZeroInitFA`: in the time xi_i t of its own every mode obeys the equations on white inputs."""
        return ZeroInitFA.residuals(equations)

    @classmethod
    def example(cls, rule, seed=0):
        """Modes of B Sigma* along axes of Sxx; what B does not see of Sigma* is not."""
        cls.check_rule(rule)
        rng, rank = examples.generator(seed), examples.rank_of(rule)
        n, k, m = (int(rng.integers(low, low + 4)) for low in (1, rank, rank))
        feedback = examples.feedback(rule, rng, (n, k, m))
        _, beta, Pt = np.linalg.svd(product(feedback[0]))
        r = int((beta > 1e-9).sum())
        s = rng.uniform(0.5, 2.0, min(r, n))
        axes, xi = examples.frame(rng, n, n), rng.uniform(0.5, 1.3, n)
        if rng.random() < 0.3:
            s[:], xi[: n // 2] = s[0], xi[0]
        seen = (examples.frame(rng, r, len(s)) * s) @ axes[:, : len(s)].T
        weight = Pt[:r].T @ (seen / beta[:r, None]) + Pt[r:].T @ rng.uniform(-1, 1, (m - r, n))
        task = Task.teacher(weight, (axes * xi) @ axes.T, noise=0.3 * (rng.random() < 0.5))
        return Setup(task, Network.zero((n, k, m)), np.linspace(0, 8, 33), feedback)


RESULTS = (
    of_flow("X8", CommutingInputsFA, fa(), ldfa(2, "fixed")),
    of_descent("X8d", CommutingInputsFA, fa(), ldfa(2, "fixed")),
)
