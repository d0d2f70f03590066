"""Direct random target projection from W_1 = 0: the hidden layer grows in a straight line, and the readout follows."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple, final

import numpy as np

from linfa.algebra import product
from linfa.dynamics import State
from linfa.network import Network
from linfa.rules import Fixed, RandomFactors, Rule, Target, drtp
from linfa.simulate import descend, simulate
from linfa.task import Task
from linfa.theory import assumptions, examples
from linfa.theory.alignment.zero_init_fa import Modes
from linfa.theory.base import AssumptionError, Setup, Theory
from linfa.theory.learned.target_curve import DRTP_PEAK, PEAK_AT, drtp_gain, kummer
from linfa.theory.modes.problem import observed_order
from linfa.theory.result import Result, of_descent, of_flow

__all__ = ["TargetProjection"]


@final
@dataclass(frozen=True, eq=False)
class TargetProjection(Theory):
    """Direct random target projection of a two-layer network from W_1 = 0, for any fixed B (k, n_out) and any W_2(0).

    With B Sigma = U diag(s_i) V^T and g_i(t) of `drtp_gain`:

        W_1 = t B Sigma,   W_2 = Sigma V diag(g_i) U^T + W_2(0) [I - U diag(1 - e^(-s_i^2 t^3/3)) U^T]

    Descent keeps the form, with g <- g + lr (1 - g a) a and a = lr s times the number of steps, and diverges in the end
    at any learning rate: see `stable_steps`.

    Assumptions: two layers, the linear version of the rule (targets, not their signs), feedback that does not learn, no
    decay, Sxx = I, W_1(0) = 0.  Any widths, any rank and any degeneracy of B Sigma.

    Source: derived here (`derivations.target_projection`).

    Raises:
        AssumptionError: outside the assumptions.

    >>> import linfa
    >>> rule, task = linfa.drtp(), linfa.Task.from_spectrum([2.0, 1.0], n_in=4, n_out=3, seed=0)
    >>> run = linfa.simulate(rule, task, linfa.Network.zero((4, 6, 3)), time=4.0, rtol=1e-11)
    >>> TargetProjection(rule, task, run.at(0)).error(run) < 1e-8
    True
    """

    statement: ClassVar[str] = "DRTP from W_1 = 0: W_1 = t B Sigma, W_2 = Sigma V diag(g_i) U^T with the SVD of B Sigma"
    source: ClassVar[str] = "derived here"
    exact_in_discrete_time: ClassVar[bool] = True

    @classmethod
    def check_rule(cls, rule):
        assumptions.on_route(rule, Target)
        assumptions.no_decay(rule)
        if type(rule.plasticity) is not Fixed:
            raise AssumptionError(f"feedback learns: {rule.plasticity}")

    def check_start(self):
        assumptions.depth(self.start, 2)
        assumptions.white(self.task)
        assumptions.zero("W_1(0)", self.start.weights[0])

    @cached_property
    def modes(self) -> Modes:
        """The singular value decomposition of B Sigma; modes that vanish stay in it."""
        Sigma = self.task.Syx
        B = product(self.rule.feedback.factors(self.start.feedback[0], None))
        U, s, Vt = np.linalg.svd(B @ Sigma, full_matrices=False)
        return Modes(U, s, Vt, Sigma @ Vt.T)

    def stable_steps(self, lr: float) -> float:
        """Number of steps after which descent leaves its edge of stability: sqrt(2/lr) / (lr s) with the largest s.

        The hidden layer never stops growing, and the readout above it learns at the rate (s t)^2: at any learning rate
        descent diverges in the end.
        """
        return np.sqrt(2 / lr) / (lr * self.modes.s[0]) if self.modes.s[0] else np.inf

    def _weights(self, a, g, left):
        U, _, Vt, SV = self.modes
        W = self.start.weights[1]
        return (U * a[:, None, :]) @ Vt, W + (SV * g[:, None, :] - (W @ U) * (1 - left)[:, None, :]) @ U.T

    def weights(self, times) -> tuple[np.ndarray, np.ndarray]:
        """W_1 (t, k, n_in) and W_2 (t, n_out, k)."""
        times, s = np.asarray(times, dtype=float)[:, None], self.modes.s
        return self._weights(s * times, drtp_gain(times, s), np.exp(-(s**2) * times**3 / 3))

    def predict(self, times):
        """W_2 W_1 at the times (t,): (t, n_out, n_in)."""
        W1, W2 = self.weights(times)
        return W2 @ W1

    def discrete(self, lr, steps):
        """W_2 W_1 after 0 .. steps steps of descent: (steps + 1, n_out, n_in)."""
        a = lr * np.arange(steps + 1)[:, None] * self.modes.s
        g, left = np.zeros_like(a), np.ones_like(a)
        for i in range(steps):
            g[i + 1] = g[i] + lr * (1 - g[i] * a[i]) * a[i]
            left[i + 1] = left[i] * (1 - lr * a[i] ** 2)
        W1, W2 = self._weights(a, g, left)
        return W2 @ W1

    def observed(self, trajectory):
        return trajectory.map

    @classmethod
    def residuals(cls, equations):
        """Time derivatives minus the right-hand sides of one mode from zero, for either sign of the feedback."""
        import sympy as sp

        t = sp.Symbol("t", positive=True)
        modes = equations.modes()
        w1, w2, *stored = modes
        s = equations.strength
        out = []
        for sign in (1, -1):
            b = sp.symbols(f"beta_1:{len(stored) + 1}", positive=True)
            seen = sp.Mul(s, *b)
            z = seen**2 * t**3 / 3
            solution: dict = {w1: sign * seen * t, w2: sp.Mul(sign, s, drtp_gain(t, seen))}
            solution |= dict(zip(stored, (sign * b[0], *b[1:]), strict=True))
            slope = (sp.Rational(2, 3) - (z + sp.Rational(2, 3)) * kummer(z)) / z  # dM/dz
            contiguous = {sp.hyper([2], [sp.Rational(8, 3)], -z): -sp.Rational(5, 3) * slope}
            for symbol, v in modes.items():
                out.append(sp.simplify(sp.diff(solution[symbol], t).subs(contiguous) - v.subs(solution)))
        return tuple(out)

    @classmethod
    def example(cls, rule, seed=0):
        cls.check_rule(rule)
        rng, rank = examples.generator(seed), examples.rank_of(rule)
        n, k, m = (int(rng.integers(low, low + 4)) for low in (1, rank, rank))
        # Weak modes: descent stays stable for as long as it takes to learn them.
        task = examples.white_task(rng, n, m, 0.1, 0.35)
        readout = 0.7 * rng.standard_normal((m, k)) * (rng.random() < 0.7)
        feedback = examples.feedback(rule, rng, (n, k, m))
        return Setup(task, Network((np.zeros((k, n)), readout)), np.linspace(0, 6, 25), feedback)


class Square(NamedTuple):
    """A square problem of full rank, with s and V^T of B Sigma, from zero weights."""

    task: Task
    start: State
    s: np.ndarray
    Vt: np.ndarray

    @classmethod
    def draw(cls, seed):
        rng = examples.generator(seed)
        m = int(rng.integers(1, 4))
        task, B = Task.teacher(examples.matrix(rng, m, m, 1.0, 1.3)), examples.matrix(rng, m + 1, m, 0.9, 1.1)
        return cls(task, State(Network.zero((m, m + 1, m)).weights, ((B,),)), *np.linalg.svd(B @ task.Syx)[1:])

    def run(self, times):
        network, feedback = Network(self.start.weights), self.start.feedback
        return simulate(drtp(), self.task, network, [0.0, *times], feedback=feedback, rtol=1e-11, atol=1e-13)


def _peak(seed):
    problem = Square.draw(seed)
    run = problem.run(np.cbrt(3 * PEAK_AT / problem.s**2))  # increasing
    inside = np.linalg.solve(problem.task.Syx, run.map[1:])
    return float(np.abs(np.einsum("qi,qij,qj->q", problem.Vt, inside, problem.Vt) - DRTP_PEAK).max())


def _tail(seed):
    late = [8.0, 9.5]
    return abs(observed_order(late, Square.draw(seed).run(late).loss[1:]) + 6)


def _edge(seed):
    """0.0 if descent is close to the end of learning when it leaves its edge of stability, and far from it later."""
    problem, lr = Square.draw(seed), 0.05
    steps = int(TargetProjection(drtp(), problem.task, problem.start).stable_steps(lr))
    network, feedback = Network(problem.start.weights), problem.start.feedback
    loss = descend(drtp(), problem.task, network, lr, 2 * steps, feedback=feedback, record=steps).loss
    return 0.0 if loss[1] < 1e-4 * loss[0] and loss[2] > 1e4 * loss[1] else 1.0


RESULTS = (
    of_flow("E10", TargetProjection, drtp(), Rule(Target(), RandomFactors(2))),
    of_descent("E10d", TargetProjection, drtp(), Rule(Target(), RandomFactors(2))),
    Result("E10p", "DRTP from zero overshoots every mode to 1.1247 of it, whatever B", "derived here", 1e-8, _peak),
    Result(
        "E10e",
        "descent by DRTP diverges in the end, at any rate: stable for sqrt(2/lr) / (lr s) steps",
        "derived here",
        0.0,
        _edge,
    ),
    Result("E10t", "the loss of DRTP from zero weights ends as t^-6, not exponentially", "derived here", 0.1, _tail),
)
