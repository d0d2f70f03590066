"""Feedback alignment from W_1 = 0 and a second weight aligned with the feedback: the cubic law, mode by mode."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple, final

import numpy as np

from linfa.algebra import product
from linfa.network import Network
from linfa.rules import dfa, fa, ldfa
from linfa.rules.feedback import LowRank
from linfa.task import Task
from linfa.theory import assumptions, examples
from linfa.theory.base import AssumptionError, Setup, Theory
from linfa.theory.clock import cubic_amplitude, cubic_time
from linfa.theory.modes.problem import AlignedProblem
from linfa.theory.result import of_descent, of_flow

__all__ = ["AlignedStartFA"]


class Modes(NamedTuple):
    """What Sigma Sigma^T, B^T B and W_2(0) B share.

    Args:
        U: their eigenvectors (n_out, n_out).
        s: singular values of Sigma on them, (n_out,).
        c: eigenvalues of W_2(0) B.
        h: eigenvalues of B^T B.
    """

    U: np.ndarray
    s: np.ndarray
    c: np.ndarray
    h: np.ndarray


@final
@dataclass(frozen=True, eq=False)
class AlignedStartFA(Theory):
    """Feedback alignment from W_1 = 0 where Sigma Sigma^T, B^T B and W_2(0) B have common eigenvectors U.

    With their eigenvalues s_i^2, h_i and c_i, and a_i(t) from a' = s - c a - h a^3 / 2, a(0) = 0 (`cubic_amplitude`):

        W_1 = B U diag(a_i) V^T,   W_2 = W_2(0) + U diag(a_i^2 / 2) U^T B^T,   W_2 W_1 = U diag(c a + h a^3 / 2) V^T

    where Sigma = U diag(s) V^T.  Descent keeps the form with a <- a + lr e, g <- g + lr e a, e = s - (c + h g) a, and g
    in place of a^2/2.  One output (n_out = 1) is always inside the assumptions but for the sign of c.

    Assumptions: two layers, either route, feedback that does not learn, no decay, Sxx = I, W_1(0) = 0, the common
    eigenvectors, and no c_i < 0, where the cubic has more fixed points.  W_2(0) outside the columns of B is free.

    Source: derived here (`derivations.fa_alignment_angle` for one output).

    Raises:
        AssumptionError: outside the assumptions.

    >>> import linfa
    >>> task, w0 = linfa.Task.from_spectrum([2.0], n_in=3, n_out=1, seed=0), np.array([[0.3, 0.1]])
    >>> network, feedback = linfa.Network((np.zeros((2, 3)), w0)), ((np.array([[1.0], [-0.2]]),),)
    >>> run = linfa.simulate(linfa.fa(), task, network, 5.0, feedback=feedback, rtol=1e-11)
    >>> AlignedStartFA(linfa.fa(), task, run.at(0)).error(run) < 1e-8
    True
    """

    statement: ClassVar[str] = "FA from W_1 = 0 and aligned W_2(0) learns c a + h a^3/2 with a' = s - c a - h a^3/2"
    source: ClassVar[str] = "derived here"
    exact_in_discrete_time: ClassVar[bool] = True

    @classmethod
    def check_rule(cls, rule):
        assumptions.fixed_feedback(rule)

    def check_start(self):
        assumptions.depth(self.start, 2)
        assumptions.white(self.task)
        assumptions.zero("W_1(0)", self.start.weights[0])
        U, _, c, _ = self.modes
        for name, matrix in self._matrices.items():
            inside = U.T @ matrix @ U
            apart = np.abs(inside - np.diag(np.diag(inside))).max()
            if apart > assumptions.TOLERANCE:
                raise AssumptionError(f"not aligned: {name} is off the common eigenvectors by {apart:.2g}")
        if c.min() < -assumptions.TOLERANCE:
            raise AssumptionError(f"W_2(0) opposes the feedback: W_2(0) B has the eigenvalue {c.min():.2g}")

    @property
    def _matrices(self):
        Sigma, B = self.task.Syx, self.feedback
        return {"Sigma Sigma^T": Sigma @ Sigma.T, "B^T B": B.T @ B, "W_2(0) B": self.start.weights[1] @ B}

    @cached_property
    def feedback(self) -> np.ndarray:
        """B (k, n_out)."""
        return product(self.rule.feedback.factors(self.start.feedback[0], None))

    @cached_property
    def modes(self) -> Modes:
        """The common eigenvectors, those of a generic combination, and the eigenvalues."""
        matrices = self._matrices.values()
        mix = sum(
            x * (M + M.T) / (np.linalg.norm(M) or 1.0) for x, M in zip((1, 0.618034, 0.414214), matrices, strict=True)
        )
        U = np.linalg.eigh(mix)[1]
        s2, h, c = (np.einsum("oi,op,pi->i", U, M, U) for M in matrices)
        return Modes(U, np.sqrt(np.maximum(s2, 0)), c, h)

    def amplitudes(self, times) -> np.ndarray:
        """a_i at the times (t,): (t, n_out); 0 for modes that the task does not have or the feedback does not see."""
        _, s, c, h = self.modes
        live = (h > 1e-13 * h.max(initial=0)) & (s > 1e-7 * s.max(initial=0))
        a = np.zeros((len(times), s.size))
        a[:, live] = cubic_amplitude(np.asarray(times, float)[:, None], s[live], np.maximum(c[live], 0), h[live])
        return a

    def _map(self, a, g):
        U, s, c, h = self.modes
        parts = np.divide((c + h * g) * a, s, out=np.zeros_like(a), where=s > 0)
        return (U * parts[:, None, :]) @ (U.T @ self.task.Syx)

    def second_weight(self, times) -> np.ndarray:
        """W_2 (t, n_out, k)."""
        U = self.modes.U
        return self.start.weights[1] + (U * self.amplitudes(times)[:, None, :] ** 2 / 2) @ (self.feedback @ U).T

    def predict(self, times):
        """W_2 W_1 at the times (t,): (t, n_out, n_in)."""
        a = self.amplitudes(times)
        return self._map(a, a**2 / 2)

    def discrete(self, lr, steps):
        """W_2 W_1 after 0 .. steps steps of descent: (steps + 1, n_out, n_in)."""
        _, s, c, h = self.modes
        a, g = np.zeros((steps + 1, s.size)), np.zeros((steps + 1, s.size))
        for i in range(steps):
            error = s - (c + h * g[i]) * a[i]
            a[i + 1], g[i + 1] = a[i] + lr * error, g[i] + lr * error * a[i]
        return self._map(a, g)

    def observed(self, trajectory):
        return trajectory.map

    @classmethod
    def residuals(cls, equations):
        """Time derivatives minus the right-hand sides of one mode, the fixed point in place of s."""
        import sympy as sp

        a, root, start = sp.symbols("a a_* w_2(0)", positive=True)
        modes = equations.modes()
        w1, w2, *stored = modes
        s = equations.strength
        positive = dict(zip(stored, sp.symbols(f"beta_1:{len(stored) + 1}", positive=True), strict=True))
        b = sp.prod(positive.values())
        c, h = start * b, b**2
        drive = c * root + h * root**3 / 2
        speed = sp.cancel(1 / sp.cancel(sp.diff(cubic_time(a, drive, c, h, root), a)))
        solution = {w1: b * a, w2: start + b * a**2 / 2} | positive
        on = {s: drive} | solution
        return tuple(sp.expand(sp.diff(solution[x], a) * speed - v.subs(on)) for x, v in modes.items())

    @classmethod
    def example(cls, rule, seed=0):
        cls.check_rule(rule)
        low_rank = isinstance(rule.feedback, LowRank)
        problem = AlignedProblem.draw(seed, modes=examples.rank_of(rule) if low_rank else None)
        rng, (k, q) = examples.generator(seed), problem.R.shape
        m, n = problem.task.Syx.shape
        unseen = np.zeros((m, n))
        if min(m, n) > q:  # a mode of the task that the feedback does not see
            outside = np.linalg.qr(problem.U, "complete")[0][:, q], np.linalg.qr(problem.Vt.T, "complete")[0][:, q]
            unseen = rng.uniform(0.3, 2.0) * np.outer(*outside)
        free = rng.standard_normal((m, k)) @ (np.eye(k) - problem.R @ problem.R.T)
        W2 = (problem.U * rng.uniform(0, 1.5, q)) @ problem.R.T + 0.5 * free
        task = Task.teacher(problem.task.Syx + unseen, noise=0.3 * (rng.random() < 0.5))
        feedback = (problem.factors if low_rank else (problem.B,),)
        return Setup(task, Network((np.zeros((k, n)), W2)), np.linspace(0, 6, 25), feedback)


RESULTS = (
    of_flow("C2", AlignedStartFA, fa(), dfa(), ldfa(2, "fixed")),
    of_descent("C2d", AlignedStartFA, fa(), ldfa(2, "fixed")),
)
