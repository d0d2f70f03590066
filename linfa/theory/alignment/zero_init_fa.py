"""Feedback alignment from zero weights: exactly solvable for every feedback matrix, in flow and in descent.

The modes are those of B Sigma, the task as the feedback sees it.
"""

import functools
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, final

import numpy as np

from linfa.algebra import product
from linfa.network import Network
from linfa.rules import fa, ldfa
from linfa.simulate import simulate
from linfa.theory import assumptions, examples
from linfa.theory.base import Setup, Theory, relative_error
from linfa.theory.result import Result, of_descent, of_flow
from linfa.theory.scalar import cbrt
from linfa.theory.special import phi3, phi3_complement, phi3_inverse

LARGEST_STEP = 1.0256
"""h up to which a <- a + h/2 (1 - g a), g <- g + h (1 - g a) a converges from 0 to g a = 1; at 1.0257 it diverges."""

__all__ = ["ZeroInitFA"]


def timescale(s):
    """T = (2/s^2)^(1/3): a mode with singular value s of B Sigma has x(t) = Phi_3^-1(t/T) (derived here).

    >>> float(timescale(4.0))
    0.5
    """
    return cbrt(2 / s) / cbrt(s)  # s^2 would underflow early


def amplitude(s, x):
    """a = (2s)^(1/3) x, the strength of the mode in W_1; a' = s - a^3/2 (derived here).

    >>> float(amplitude(4.0, 0.5))
    1.0
    """
    return cbrt(2 * s) * x


def gain(s, x):
    """g = a^2/(2s) = x^2/(2s)^(1/3), the strength of the mode in W_2; g a = x^3 (derived here).

    >>> float(gain(4.0, 0.5))
    0.125
    """
    return x**2 / cbrt(2 * s)


class Modes(NamedTuple):
    """B Sigma = U diag(s) V^T, without the modes that vanish.

    Args:
        U: (k, r).
        s: (r,), positive.
        Vt: (r, n_in).
        SV: Sigma V (n_out, r).
    """

    U: np.ndarray
    s: np.ndarray
    Vt: np.ndarray
    SV: np.ndarray

    def weights(self, a, g) -> tuple[np.ndarray, np.ndarray]:
        """W_1 = U diag(a) V^T (t, k, n_in) and W_2 = Sigma V diag(g) U^T (t, n_out, k) for a and g (t, r)."""
        return (self.U * a[:, None, :]) @ self.Vt, (self.SV * g[:, None, :]) @ self.U.T

    def map(self, learned) -> np.ndarray:
        """Sigma V diag(learned) V^T (t, n_out, n_in) for the learned part g a of every mode (t, r)."""
        modes = self.SV.T[:, :, None] * self.Vt[:, None, :]  # one product for all times
        flat = modes.reshape(len(modes), modes.shape[1] * modes.shape[2])
        return (learned @ flat).reshape(len(learned), *modes.shape[1:])


def descend_modes(s, lr, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """a and g (steps + 1, r) along descent from 0: a <- a + lr s (1 - g a), g <- g + lr (1 - g a) a (derived here).

    Args:
        s: (r,).
        lr: learning rate, one for all modes or one for each.
        steps: number of steps.
    """
    a, g = np.zeros((steps + 1, s.size)), np.zeros((steps + 1, s.size))
    for i in range(steps):
        left = 1 - g[i] * a[i]
        a[i + 1], g[i + 1] = a[i] + lr * s * left, g[i] + lr * left * a[i]
    return a, g


@final
@dataclass(frozen=True, eq=False)
class ZeroInitFA(Theory):
    """Feedback alignment of a two-layer network from W_1 = W_2 = 0, for any fixed feedback B (k, n_out).

    With B Sigma = U diag(s_i) V^T and x_i(t) = Phi_3^-1(t/T_i), T_i = (2/s_i^2)^(1/3), a_i = (2 s_i)^(1/3) x_i:

        W_1 = U diag(a_i) V^T,   W_2 = Sigma V diag(a_i^2 / (2 s_i)) U^T,   W_2 W_1 = Sigma V diag(x_i^3) V^T

    Descent keeps the same form with a <- a + lr s (1 - g a) and g <- g + lr (1 - g a) a in place of a and a^2/(2s).

    Assumptions: two layers, either route, feedback that does not learn, no decay, Sxx = I.  Any widths, any rank and
    any degeneracy of B Sigma.

    Source: derived here (`derivations.zero_init_fa`).

    Raises:
        AssumptionError: outside the assumptions.

    >>> import linfa
    >>> rule, task = linfa.fa(), linfa.Task.from_spectrum([2.0, 1.0], n_in=4, n_out=3, seed=0)
    >>> run = linfa.simulate(rule, task, linfa.Network.zero((4, 6, 3)), time=10.0, rtol=1e-11)
    >>> theory = ZeroInitFA(rule, task, run.at(0))
    >>> theory.error(run) < 1e-8, bool(np.allclose(theory.loss(run.times), run.loss))
    (True, True)
    """

    statement: ClassVar[str] = "FA from zero weights: W_2 W_1 = Sigma V diag(x_i^3) V^T with the SVD of B Sigma"
    source: ClassVar[str] = "derived here"
    exact_in_discrete_time: ClassVar[bool] = True

    @classmethod
    def check_rule(cls, rule):
        assumptions.fixed_feedback(rule)

    def check_start(self):
        assumptions.depth(self.start, 2)
        assumptions.white(self.task)
        for number, W in enumerate(self.start.weights, 1):
            assumptions.zero(f"W_{number}(0)", W)

    @cached_property
    def feedback(self) -> np.ndarray:
        """B (k, n_out)."""
        return product(self.rule.feedback.factors(self.start.feedback[0], None))

    @cached_property
    def modes(self) -> Modes:
        """The singular value decomposition of B Sigma."""
        Sigma = self.task.Syx
        U, s, Vt = np.linalg.svd(self.feedback @ Sigma, full_matrices=False)
        keep = s > 1e-13 * np.linalg.norm(self.feedback) * np.linalg.norm(Sigma)
        return Modes(U[:, keep], s[keep], Vt[keep], Sigma @ Vt[keep].T)

    @property
    def max_lr(self) -> float:
        """The learning rate up to which descent converges, 1.0256 / (2 ||B Sigma||_2)^(2/3).

        Every mode of descent runs the same recursion in units of its own, so one number, found by iteration, holds for
        all (derived here).  It is less than the 4/3 of a small perturbation of the flow's end state: descent overshoots
        and comes to rest elsewhere, where the loss is sharper.
        """
        s = self.modes.s
        return LARGEST_STEP / np.cbrt(2 * s.max()) ** 2 if s.size else np.inf

    def _clock(self, times):
        return np.asarray(times, dtype=float)[:, None] / timescale(self.modes.s)

    def weights(self, times) -> tuple[np.ndarray, np.ndarray]:
        """W_1 (t, k, n_in) and W_2 (t, n_out, k)."""
        x = phi3_inverse(self._clock(times))
        return self.modes.weights(amplitude(self.modes.s, x), gain(self.modes.s, x))

    def predict(self, times):
        """W_2 W_1 at the times (t,): (t, n_out, n_in)."""
        return self.modes.map(phi3_inverse(self._clock(times)) ** 3)

    def unlearned(self, times) -> np.ndarray:
        """1 - x_i^3 (t, r), the part of every mode that is still to learn, accurate also where it is tiny."""
        gap = phi3_complement(self._clock(times))
        return gap * (3 - 3 * gap + gap**2)

    def loss(self, times) -> np.ndarray:
        """1/2 E|y - W_2 W_1 x|^2 (t,): 1/2 sum_i |Sigma v_i|^2 (1 - x_i^3)^2, plus what B and label noise leave."""
        left = self.unlearned(times)
        unseen = self.task.Syx - self.modes.SV @ self.modes.Vt
        noise = np.trace(self.task.Syy) - (self.task.Syx**2).sum()
        return 0.5 * (left**2 @ (self.modes.SV**2).sum(0) + (unseen**2).sum() + noise)

    def alignment(self, times) -> np.ndarray:
        """Cosine of the angle between W_2^T and B (t,); 0 at time 0, where W_2 = 0.

        sum a_i^2 / (|B| sqrt(sum a_i^4 |Sigma v_i|^2 / s_i^2)) with Frobenius norms.
        """
        _, s, _, SV = self.modes
        a = amplitude(s, phi3_inverse(self._clock(times)))
        size = np.linalg.norm(self.feedback) * np.sqrt(a**4 @ ((SV**2).sum(0) / s**2))
        return np.divide((a**2).sum(-1), size, out=np.zeros_like(size), where=size > 0)

    def discrete_weights(self, lr: float, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """W_1 (steps + 1, k, n_in) and W_2 (steps + 1, n_out, k) along descent with learning rate lr."""
        return self.modes.weights(*descend_modes(self.modes.s, lr, steps))

    def discrete(self, lr, steps):
        """W_2 W_1 after 0 .. steps steps of descent: (steps + 1, n_out, n_in)."""
        a, g = descend_modes(self.modes.s, lr, steps)
        return self.modes.map(a * g)

    def observed(self, trajectory):
        return trajectory.map

    @classmethod
    @functools.cache
    def residuals(cls, equations):
        """Time derivatives minus the right-hand sides of one mode, for either sign of the feedback."""
        import sympy as sp

        x = sp.Symbol("x", positive=True)
        modes = equations.modes()
        w1, w2, *stored = modes
        s = equations.strength
        out = []
        for sign in (1, -1):
            b = sp.symbols(f"beta_1:{len(stored) + 1}", positive=True)
            seen: Any = sp.Mul(s, *b)  # singular value of B Sigma; its left singular vector is the sign
            solution: dict = {w1: sign * amplitude(seen, x), w2: sp.Mul(sign, s, gain(seen, x))}
            solution |= dict(zip(stored, (sign * b[0], *b[1:]), strict=True))
            speed = 1 / (timescale(seen) * sp.diff(phi3(x), x))  # x' from Phi_3(x) = t/T
            for symbol, v in modes.items():
                out.append(sp.simplify(sp.diff(solution[symbol], x) * speed - v.subs(solution)))
        return tuple(out)

    @classmethod
    def example(cls, rule, seed=0):
        cls.check_rule(rule)
        rng, rank = examples.generator(seed), examples.rank_of(rule)
        n, k, m = (int(rng.integers(low, low + 5)) for low in (1, rank, rank))
        task = examples.white_task(rng, n, m, 0.3, 2.0)
        feedback = examples.feedback(rule, rng, (n, k, m))
        return Setup(task, Network.zero((n, k, m)), np.linspace(0, 8, 33), feedback)


def _loss(seed):
    rule = ldfa(2, "fixed")
    setup = ZeroInitFA.example(rule, seed)
    run = simulate(rule, setup.task, setup.network, setup.times, feedback=setup.feedback, rtol=1e-11, atol=1e-13)
    return relative_error(ZeroInitFA(rule, setup.task, run.at(0)).loss(run.times), run.loss)


RESULTS = (
    of_flow("X1", ZeroInitFA, fa(), ldfa(2, "fixed")),
    of_descent("X1d", ZeroInitFA, fa(), ldfa(2, "fixed")),
    Result("X2", "its loss is 1/2 sum |Sigma v_i|^2 (1 - x_i^3)^2 + what B does not see", "derived here", 1e-8, _loss),
)
