"""Feedback alignment through one direction, from W_1 = 0 and any readout."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple, final

import numpy as np

from linfa.algebra import product
from linfa.network import Network
from linfa.rules import dfa, fa, ldfa
from linfa.theory import assumptions, examples
from linfa.theory.base import AssumptionError, Setup, Theory
from linfa.theory.result import of_flow

__all__ = ["RankOneFA", "weighted_cubic_clock"]


def weighted_cubic_clock(power: int, a, z, s, c, h) -> np.ndarray:
    """int a^power dt along a' = s - c a - h a^3/2 from 0, for either sign of c: power 0 gives the time itself.

    sum_i r_i^power log(1 - a/r_i) / p'(r_i) over the roots r_i of p(a) = s - c a - h a^3/2, by partial fractions.

    Args:
        power: 0, 1 or 2.
        a: amplitudes (...), from 0 to below the positive root a*.
        z: -log(1 - a/a*) (...), given apart since it is needed where a rounds to a*.
        s: drive, positive.
        c: linear decay, of either sign.
        h: cubic decay, positive.

    Raises:
        ValueError: for s or h that is not positive, or another power.

    Source: partial fractions, known.

    >>> from linfa.theory import cubic_time
    >>> a = np.array([0.3, 0.9])
    >>> np.allclose(weighted_cubic_clock(0, a, -np.log(1 - a), 1.5, 1.0, 1.0), cubic_time(a, 1.5, 1.0, 1.0))
    True
    """
    if power not in (0, 1, 2):
        raise ValueError(f"power is 0, 1 or 2; got {power}")
    roots = _roots(s, c, h)
    slopes = -c - 1.5 * h * roots**2
    logs = np.stack([-np.asarray(z) + 0j, *(np.log(1 - np.asarray(a) / root) for root in roots[1:])], -1)
    return (logs * roots**power / slopes).sum(-1).real


def _roots(s, c, h):
    """The positive root of s - c a - h a^3/2, then the two others."""
    if not (s > 0 and h > 0):
        raise ValueError(f"s and h are positive; got {s} and {h}")
    roots = np.roots([-h / 2, 0.0, -c, s]).astype(complex)
    first = roots.real.argmax()  # the others are negative or have a negative real part: the roots add up to 0
    return roots[[first, *(i for i in range(3) if i != first)]]


def _amplitude(times, s, c, h):
    """a and z = -log(1 - a/a*) at the times (t,): Newton's method in z, of which time is a concave function."""
    top, *others = _roots(s, c, h)
    z = np.zeros_like(times)
    for _ in range(100):
        a = -top.real * np.expm1(-z)
        slope = 2 / h / ((a - others[0]) * (a - others[1])).real
        step = (times - weighted_cubic_clock(0, a, z, s, c, h)) / slope
        z = np.maximum(z + step, 0.0)
        if (np.abs(step) <= 1e-14 * (1 + z)).all():
            break
    return -top.real * np.expm1(-z), z


class Beam(NamedTuple):
    """B = q p^T and what it sees.

    Args:
        q: (k,), of any length.
        p: (n_out,), of length 1.
        v: Sigma^T p / s (n_in,), of length 1.
        s: |Sigma^T p|.
        c: p^T W_2(0) q.
        h: |q|^2.
    """

    q: np.ndarray
    p: np.ndarray
    v: np.ndarray
    s: float
    c: float
    h: float


@final
@dataclass(frozen=True, eq=False)
class RankOneFA(Theory):
    """Feedback alignment through B = q p^T, |p| = 1, of a two-layer network from W_1 = 0 and any W_2.

    With s = |Sigma^T p|, v = Sigma^T p / s, c = p^T W_2(0) q and h = |q|^2 the hidden layer is one number,
    W_1 = q alpha v^T, and W_2 W_1 = alpha w v^T with

        alpha' = s - c alpha - h alpha^3/2
        w = Sigma v (c + h alpha^2/2)/s + (W_2(0) q - Sigma v c/s) exp(-h int alpha^2 dt)

    both in closed form by `weighted_cubic_clock`.  Networks with one output are the case n_out = 1.  For c < 0 the
    readout opposes the feedback at first; alpha goes to the one positive root all the same.

    Assumptions: two layers, either route, feedback of rank 1 that does not learn, no decay, Sxx = I, W_1(0) = 0,
    Sigma^T p != 0.

    Source: derived here.

    Raises:
        AssumptionError: outside the assumptions.

    >>> import linfa
    >>> rule, task = linfa.ldfa(1, "fixed"), linfa.Task.from_spectrum([2.0, 1.0], seed=0)
    >>> network = Network((np.zeros((3, 2)), np.ones((2, 3))))
    >>> run = linfa.simulate(rule, task, network, time=5.0, rtol=1e-11)
    >>> RankOneFA(rule, task, run.at(0)).error(run) < 1e-8
    True
    """

    statement: ClassVar[str] = "FA through q p^T from W_1 = 0: alpha' = s - (p^T W_2(0) q) alpha - |q|^2 alpha^3/2"
    source: ClassVar[str] = "derived here"

    @classmethod
    def check_rule(cls, rule):
        assumptions.fixed_feedback(rule)

    def check_start(self):
        assumptions.depth(self.start, 2)
        assumptions.white(self.task)
        assumptions.zero("W_1(0)", self.start.weights[0])
        strengths = np.linalg.svd(self.feedback, compute_uv=False)
        if strengths[1:].max(initial=0) > assumptions.TOLERANCE * strengths[0]:
            raise AssumptionError(f"feedback has more than one direction: its singular values are {strengths}")
        if self.beam.s * self.beam.h <= 1e-12:
            raise AssumptionError(f"feedback sees nothing: |q|^2 |Sigma^T p| is {self.beam.s * self.beam.h:.2g}")

    @cached_property
    def feedback(self) -> np.ndarray:
        """B (k, n_out)."""
        return product(self.rule.feedback.factors(self.start.feedback[0], None))

    @cached_property
    def beam(self) -> Beam:
        """B = q p^T and what it sees."""
        U, strengths, Vt = np.linalg.svd(self.feedback)
        q, p = U[:, 0] * strengths[0], Vt[0]
        seen = self.task.Syx.T @ p
        s = float(np.linalg.norm(seen))
        return Beam(q, p, seen / (s or 1.0), s, float(p @ self.start.weights[1] @ q), float(q @ q))

    def _amplitude(self, times):
        return _amplitude(np.asarray(times, dtype=float), self.beam.s, self.beam.c, self.beam.h)

    def first_weight(self, times) -> np.ndarray:
        """W_1 = q alpha v^T (t, k, n_in)."""
        alpha, _ = self._amplitude(times)
        return alpha[:, None, None] * np.outer(self.beam.q, self.beam.v)

    def predict(self, times):
        """W_2 W_1 at the times (t,): (t, n_out, n_in)."""
        q, _, v, s, c, h = self.beam
        alpha, z = self._amplitude(times)
        learned, begin = self.task.Syx @ v, self.start.weights[1] @ q
        fading = np.exp(-h * weighted_cubic_clock(2, alpha, z, s, c, h))
        w = ((c + h * alpha**2 / 2) / s)[:, None] * learned + fading[:, None] * (begin - learned * c / s)
        return (alpha[:, None] * w)[..., None] * v

    def observed(self, trajectory):
        return trajectory.map

    @classmethod
    def residuals(cls, equations):
        """Velocities of one mode on w_1 = b alpha, w_2 = w_2(0) + b alpha^2/2, minus the mode equations."""
        import sympy as sp

        modes = equations.modes()
        w1, w2, *stored = modes
        s = equations.strength
        alpha, begin, b = sp.Symbol("alpha", positive=True), sp.Symbol("w_0", real=True), sp.Mul(*stored)
        solution = {w1: b * alpha, w2: begin + b * alpha**2 / 2}
        speed = s - begin * b * alpha - b**2 * alpha**3 / 2
        moves = {w: sp.diff(value, alpha) * speed for w, value in solution.items()}
        return tuple(sp.simplify(v - modes[w].subs(solution, simultaneous=True)) for w, v in moves.items())

    @classmethod
    def example(cls, rule, seed=0):
        """Factors of which the last has rank 1, and W_2(0) for which c is of either sign."""
        cls.check_rule(rule)
        rng, rank = examples.generator(seed), examples.rank_of(rule)
        n, k, m = (int(rng.integers(low, low + 4)) for low in (1, rank, rank))
        (stored,) = examples.feedback(rule, rng, (n, k, m))
        *others, last = stored
        task = examples.white_task(rng, n, m, 0.5, 1.5)
        p = task.Syx @ rng.standard_normal(n) + 0.3 * rng.standard_normal(m)
        direction = rng.standard_normal(len(last))
        last = np.outer(direction / np.linalg.norm(direction), p / np.linalg.norm(p))
        network = Network((np.zeros((k, n)), rng.standard_normal((m, k)) / np.sqrt(k)))
        return Setup(task, network, np.linspace(0, 6, 25), ((*others, last),))


RESULTS = (of_flow("X10", RankOneFA, fa(), dfa(), ldfa(2, "fixed")),)
