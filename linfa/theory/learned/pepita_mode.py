"""PEPITA aligned with the task: the hidden weight grows by its own size, on the clock of Kolen-Pollack."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple, final

import numpy as np

from linfa.algebra import product
from linfa.network import Network
from linfa.rules import Modulated, RandomFactors, Rule, pepita
from linfa.task import Task
from linfa.theory import assumptions, examples
from linfa.theory.base import Setup, Theory
from linfa.theory.learned.frames import diagonal_in, hidden_frame, outer_frames
from linfa.theory.learned.kp_clock import kp_angle, kp_weights
from linfa.theory.result import of_flow

__all__ = ["PepitaMode", "pepita_mode", "pepita_weights"]


def pepita_weights(phi, w1, w2, f) -> tuple:
    """The weights of a mode at phi = f int e dt, where w_1' = f w_1 e and w_2' = w_1 e.

    w_1 = w_1(0) e^phi and w_1 - f w_2 is conserved: (w_1, f w_2) moves as `kp_weights` from w_1 = b.

    Args:
        phi: integrated error times feedback.
        w1, w2: at time 0.
        f: feedback, not 0.  All four are numbers, arrays that broadcast, or SymPy expressions.

    Source: derived here (`derivations.adaptive_feedback`).

    >>> [round(float(w), 6) for w in pepita_weights(np.log(2.0), 1.0, 0.5, 2.0)]
    [2.0, 1.0]
    """
    grown, seen, _ = kp_weights(phi, w1, f * w2, w1)
    return grown, seen / f


def pepita_mode(t, w1, w2, f, s) -> tuple[np.ndarray, np.ndarray]:
    """w_1 and w_2 at times (t,): w_1' = w_1 (f s + q w_1 - w_1^2) with q = w_1 - f w_2, as `kp_time` at d = q and f s.

    Feedback with f s < 0 that finds no w_1 on its way with w_1 (w_1 - q) = f s unlearns: w_1 goes to 0 as e^(fst).

    Args:
        t: times (t,), finite and at least 0.
        w1, w2: at time 0, numbers.
        f: feedback; 0 leaves w_1 as it is, and w_2 learns as e^(-w_1^2 t).
        s: singular value of the task.

    Raises:
        ValueError: for negative or infinite times.
        AssumptionError: where the time is no sum of logarithms, as for s = 0 with f not 0.

    Source: derived here (`derivations.adaptive_feedback`).

    >>> w1, w2 = pepita_mode([0.0, 50.0], 0.5, 0.1, 1.0, 2.0)
    >>> (w1 * w2).round(6).tolist()
    [0.05, 2.0]
    """
    if abs(f) > 1e-8:
        return pepita_weights(kp_angle(t, w1, f * w2, w1, f * s), w1, w2, f)
    t = np.asarray(t, dtype=float)
    if not w1:
        return 0 * t, w2 + 0 * t
    return w1 + 0 * t, w2 - (w2 - s / w1) * -np.expm1(-w1 * w1 * t)


class Modes(NamedTuple):
    """Sigma = U diag(s) V^T, W_1 = R diag(w1) V^T, W_2 = U diag(w2) R^T and F = V diag(f) U^T.

    Args:
        U: (n_out, r).
        Vt: (r, n_in).
        w1, w2, f, s: (r,), of any sign.
    """

    U: np.ndarray
    Vt: np.ndarray
    w1: np.ndarray
    w2: np.ndarray
    f: np.ndarray
    s: np.ndarray


@final
@dataclass(frozen=True, eq=False)
class PepitaMode(Theory):
    """PEPITA, to first order, where weights and feedback start along the singular vectors of a white task.

    W_1 = R diag(w_1) V^T and W_2 = U diag(w_2) R^T stay so, with F = V diag(f) U^T of any rank and sign; every mode is
    `pepita_mode`.  A mode with w_1 = 0 is never learned.

    Assumptions: two layers; feedback into the input; no decay; Sxx = I; the start above for some
    choice of the singular vectors and orthonormal R.

    Source: derived here (`derivations.adaptive_feedback`).

    Raises:
        AssumptionError: outside the assumptions.

    >>> import linfa
    >>> setup = PepitaMode.example(linfa.pepita())
    >>> run = linfa.simulate(
    ...     linfa.pepita(), setup.task, setup.network, setup.times, feedback=setup.feedback, rtol=1e-11
    ... )
    >>> PepitaMode(linfa.pepita(), setup.task, run.at(0)).error(run) < 1e-8
    True
    """

    statement: ClassVar[str] = "aligned PEPITA: w_1' = w_1 (f s + q w_1 - w_1^2) with q = w_1 - f w_2 conserved, solved"
    source: ClassVar[str] = "derived here"

    @classmethod
    def check_rule(cls, rule):
        assumptions.on_route(rule, Modulated)
        assumptions.no_decay(rule)

    def check_start(self):
        assumptions.depth(self.start, 2)
        assumptions.white(self.task)
        self.strengths([0.0])

    @cached_property
    def modes(self) -> Modes:
        """The frames and strengths at time 0."""
        Sigma, (W1, W2) = self.task.Syx, self.start.weights
        F = product(self.rule.feedback.factors(self.start.feedback[0], None))
        U, Vt = outer_frames(Sigma, F.T, W2 @ W1, W2 @ W2.T @ Sigma, Sigma @ W1.T @ W1)
        R = hidden_frame(W1 @ Vt.T, W2.T @ U)
        w1, w2 = diagonal_in("W_1", W1, R, Vt), diagonal_in("W_2", W2, U, R.T)
        return Modes(U, Vt, w1, w2, diagonal_in("F", F, Vt.T, U.T), diagonal_in("Syx", Sigma, U, Vt))

    def strengths(self, times) -> np.ndarray:
        """w_1 and w_2 of every mode at the times (t,): (2, t, r)."""
        return np.stack([pepita_mode(times, *mode) for mode in zip(*self.modes[2:], strict=True)], -1)

    def predict(self, times):
        """W_2 W_1 at the times (t,): (t, n_out, n_in)."""
        return (self.modes.U * self.strengths(times).prod(0)[:, None, :]) @ self.modes.Vt

    def observed(self, trajectory):
        return trajectory.map

    @classmethod
    def residuals(cls, equations):
        """Slopes in phi times f e, minus the right-hand sides, for every start."""
        import sympy as sp

        phi = sp.Symbol("phi", real=True)
        modes = equations.modes()
        w1, w2, *stored = modes
        s, f = equations.strength, sp.Mul(*stored)
        put = dict(zip((w1, w2), pepita_weights(phi, *sp.symbols("w_1(0) w_2(0)", real=True), f), strict=True))
        rate = f * (s - put[w1] * put[w2])
        return tuple(sp.expand(sp.diff(put[x], phi) * rate - modes[x].subs(put)) for x in put)

    @classmethod
    def example(cls, rule, seed=0):
        cls.check_rule(rule)
        rng, rank = examples.generator(seed), examples.rank_of(rule)
        q = int(rng.integers(1, 4))
        n, k, m = (max(q, least) + int(rng.integers(0, 3)) for least in (rank, 1, rank))
        U, R, Vt = examples.frame(rng, m, q), examples.frame(rng, k, q), examples.frame(rng, q, n)
        task = Task.teacher((U * rng.uniform(0.4, 1.6, q)) @ Vt, noise=0.3 * (rng.random() < 0.5))
        w1, w2 = rng.uniform(0.3, 1.2, q) * rng.choice([-1, 1], q), rng.uniform(-1.0, 1.0, q)
        f = rng.uniform(0.4, 1.2, q) * rng.choice([-1, 1, 1], q)
        stored = [Vt.T * f, U.T]
        if len(rule.feedback.names) == 1:
            stored = [stored[0] @ stored[1]]
        else:  # the first modes that the rank has room for
            seen = min(q, rank)
            turn = examples.frame(rng, seen, rank)
            stored = [stored[0][:, :seen] @ turn, turn.T @ stored[1][:seen]]
        network = Network(((R * w1) @ Vt, (U * w2) @ R.T))
        return Setup(task, network, np.linspace(0, 5, 21), (tuple(stored),))


RESULTS = (of_flow("E9s", PepitaMode, pepita(), Rule(Modulated(), RandomFactors(2))),)
