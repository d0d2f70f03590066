"""Kolen-Pollack without decay, aligned with the task: the feedback grows with the weights, in closed form."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple, final

import numpy as np

from linfa.algebra import T
from linfa.network import Network
from linfa.rules import Dense, KolenPollack, kolen_pollack
from linfa.rules.edge import Edge
from linfa.simulate import simulate
from linfa.task import Task
from linfa.theory import assumptions, examples
from linfa.theory.base import AssumptionError, Setup, Theory, relative_error
from linfa.theory.learned.frames import diagonal_in, hidden_frame, outer_frames
from linfa.theory.learned.kp_clock import kp_angle, kp_time, kp_weights
from linfa.theory.result import Result, of_flow

__all__ = ["KPMode"]


class Modes(NamedTuple):
    """Sigma = U diag(s) V^T, W_1 = R diag(w1) V^T, W_2 = U diag(w2) R^T and B = R diag(b) U^T.

    Args:
        U: (n_out, r).
        R: (k, r), with zero columns for modes without weights.
        Vt: (r, n_in).
        s, w1, w2, b: (r,), at time 0, of any sign.
    """

    U: np.ndarray
    R: np.ndarray
    Vt: np.ndarray
    s: np.ndarray
    w1: np.ndarray
    w2: np.ndarray
    b: np.ndarray


@final
@dataclass(frozen=True, eq=False)
class KPMode(Theory):
    """Kolen-Pollack without decay where weights and feedback start along the singular vectors of a white task.

    W_1 = R diag(w_1) V^T, W_2 = U diag(w_2) R^T and B = R diag(b) U^T stay so; every mode is on the hyperbola of
    `kp_weights`, whose angle theta = int e dt is `kp_angle` at each time.  w_1^2 - b^2 and b - w_2 are conserved, so
    that the feedback aligns by growing, not by forgetting where it started.

    Assumptions: two layers; one feedback matrix, learning by Kolen-Pollack; no decay; Sxx = I; the start above for some
    choice of the singular vectors and orthonormal R, with strengths of any sign.  Zero weights with aligned B, and
    w_1 = b, are special cases.  Refused are strengths from which the time is no sum of logarithms (`kp_angle`).

    Source: derived here (`derivations.kp_mode`).

    Raises:
        AssumptionError: outside the assumptions.

    >>> import linfa
    >>> rule, task = linfa.kolen_pollack(decay=0.0), linfa.Task.teacher(np.diag([2.0, 1.0]))
    >>> run = linfa.simulate(rule, task, linfa.Network.zero((2, 2, 2)), 5.0, feedback=((np.eye(2),),), rtol=1e-11)
    >>> KPMode(rule, task, run.at(0)).error(run) < 1e-8
    True
    """

    statement: ClassVar[str] = (
        "aligned Kolen-Pollack without decay: hyperbolas w_1, b and w_2 - b(t) in theta = int e dt"
    )
    source: ClassVar[str] = "derived here"

    @classmethod
    def check_rule(cls, rule):
        assumptions.plain(rule)
        assumptions.no_decay(rule)
        if type(rule.plasticity) is not KolenPollack:
            raise AssumptionError(f"feedback does not learn by Kolen-Pollack: {rule.plasticity}")
        if type(rule.feedback) is not Dense:
            raise AssumptionError(f"feedback is not one matrix: {rule.feedback}")
        if rule.route.edges(2) != (Edge(1, 2),):
            raise AssumptionError(f"no feedback edge in a two-layer network: {rule.route}")

    def check_start(self):
        assumptions.depth(self.start, 2)
        assumptions.white(self.task)
        self.strengths([0.0])

    @cached_property
    def modes(self) -> Modes:
        """The frames and strengths at time 0."""
        Sigma, (W1, W2), B = self.task.Syx, self.start.weights, self.start.feedback[0][0]
        U, Vt = outer_frames(Sigma, W2 @ W1, B.T @ W1, B.T @ B @ Sigma, W2 @ W2.T @ Sigma, Sigma @ W1.T @ W1)
        R = hidden_frame(W1 @ Vt.T, W2.T @ U, B @ U)
        s = diagonal_in("Syx", Sigma, U, Vt)
        w1, w2 = diagonal_in("W_1", W1, R, Vt), diagonal_in("W_2", W2, U, R.T)
        return Modes(U, R, Vt, s, w1, w2, diagonal_in("B", B, R, U.T))

    def strengths(self, times) -> tuple[np.ndarray, ...]:
        """w_1, w_2 and b of every mode at the times (t,), each (t, r)."""
        s, *start = self.modes[3:]
        theta = np.stack([kp_angle(times, *mode) for mode in zip(*start, s, strict=True)], 1)
        return kp_weights(theta, *start)

    def predict(self, times):
        """W_2 W_1 and B^T W_1 at the times (t,): (t, 2, n_out, n_in)."""
        w1, w2, b = self.strengths(times)
        return np.stack([(self.modes.U * (above * w1)[:, None, :]) @ self.modes.Vt for above in (w2, b)], 1)

    def observed(self, trajectory):
        W1, W2 = trajectory.weights
        return np.stack([W2 @ W1, T(trajectory.feedback[0][0]) @ W1], 1)

    @classmethod
    def residuals(cls, equations):
        """Slopes in theta times e, minus the right-hand sides, for every start."""
        import sympy as sp

        theta = sp.Symbol("theta", real=True)
        modes = equations.modes()
        s = equations.strength
        closed = kp_weights(theta, *sp.symbols("w_1(0) w_2(0) b(0)", real=True))
        put = dict(zip(modes, closed, strict=True))
        error = s - closed[0] * closed[1]
        return tuple(sp.expand(sp.diff(put[x], theta) * error - v.subs(put)) for x, v in modes.items())

    @classmethod
    def example(cls, rule, seed=0):
        cls.check_rule(rule)
        return _draw(seed, int(examples.generator(seed).integers(3)))


ANY, ZERO, EQUAL = range(3)


def _draw(seed, kind):
    """A random aligned problem, from any weights, from zero weights or from w_1 = b."""
    rng = examples.generator(seed)
    q, n, k, m = (int(rng.integers(1, 4)), *(int(more) for more in rng.integers(0, 3, 3)))
    w1, w2, b = rng.uniform(-1.2, 1.2, (3, q))
    b = np.where(b < 0, b - 0.3, b + 0.3)
    if kind == ZERO:
        w1, w2 = 0 * w1, 0 * w2
    elif kind == EQUAL:
        w1 = b
    else:
        w1 = np.where(np.abs(w1 + b) < 0.3, -w1, w1)  # not along the way to the saddle
    U, R, Vt = examples.frame(rng, q + m, q), examples.frame(rng, q + k, q), examples.frame(rng, q, q + n)
    task = Task.teacher((U * rng.uniform(0.4, 1.6, q)) @ Vt, noise=0.3 * (rng.random() < 0.5))
    network = Network(((R * w1) @ Vt, (U * w2) @ R.T))
    return Setup(task, network, np.linspace(0, 5, 21), (((R * b) @ U.T,),))


def _simulated(seed, kind):
    """Theory and run of a drawn problem, and of its modes with s > 0 s and, as simulated, w_1, w_2 and b (t, q)."""
    setup, rule = _draw(seed, kind), kolen_pollack(0.0)
    run = simulate(rule, setup.task, setup.network, setup.times, feedback=setup.feedback, rtol=1e-12, atol=1e-14)
    theory = KPMode(rule, setup.task, run.at(0))
    U, R, Vt, s = theory.modes[:4]
    frames = ((R, run.weights[0], Vt.T), (U, run.weights[1], R), (R, run.feedback[0][0], U))
    live = np.abs(s) > 0.1
    return theory, run, s[live], *(np.einsum("ar,tab,br->tr", *frame)[:, live] for frame in frames)


def _clock(seed):
    _, run, s, w1, w2, b = _simulated(seed, EQUAL)
    going = np.abs(s - w1 * w2) > 0.03  # at rest the time can no longer be read off
    times = np.where(going, run.times[:, None], 0.0)
    return relative_error(kp_time(np.where(going, b, b[0]), b[0], b[0] - w2[0], s), times)


def _hyperbola(seed):
    theory, run, _, w1, w2, b = _simulated(seed, ZERO)
    closed = kp_weights(np.arcsinh(w1 / b[0]), 0.0, 0.0, b[0])
    return max(theory.error(run), relative_error(closed, (w1, w2, b)))


RESULTS = (
    Result("E5", "Kolen-Pollack without decay from w_1 = b: time is three logarithms of b, with d = b - w_2 conserved",
           "derived here", 1e-8, _clock),
    Result("E5b", "from zero weights: w_1 = d sinh(theta), w_2 = d (cosh(theta) - 1), b = d cosh(theta), d = b(0)",
           "derived here", 1e-8, _hyperbola),
    of_flow("E5c", KPMode, kolen_pollack(0.0)),
)  # fmt: skip
