"""Backprop in a balanced network of any depth: every mode of the task is learned on a sigmoid of its own clock."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, final

import numpy as np

from linfa.dynamics import State
from linfa.network import Network
from linfa.rules import bp
from linfa.simulate import simulate
from linfa.task import Task
from linfa.theory import assumptions, examples
from linfa.theory.backprop.depth_clock import depth_clock, depth_mode
from linfa.theory.backprop.saxe import SaxeMode
from linfa.theory.base import AssumptionError, Setup, Theory, relative_error
from linfa.theory.result import Result, of_flow

__all__ = ["DepthMode"]


@final
@dataclass(frozen=True, eq=False)
class DepthMode(Theory):
    """Backprop of any depth N from a balanced start along the singular vectors of a white task.

    W_N .. W_1 (t) = U diag(u_i(t)) V^T with Sigma = Syx = U diag(s_i) V^T and u_i(t) from `depth_mode`: the solution of
    u' = N u^(2 - 2/N) (s - u).  Every layer has the singular values u_i^(1/N).

    Assumptions: at least two layers; backprop without decay; Sxx = I; W_(l+1)^T W_(l+1) = W_l W_l^T; W_N .. W_1 =
    U diag(u_i(0)) V^T with u_i(0) >= 0 for some choice of the singular vectors.  Any widths are allowed.

    Source: Saxe, McClelland & Ganguli (2013); known result re-derived (`derivations.depth_mode`).

    Raises:
        AssumptionError: outside the assumptions.

    >>> import linfa
    >>> task = linfa.Task.from_spectrum([2.0, 1.0], seed=0)
    >>> network = linfa.Network.aligned(task, hidden=[3, 2, 4], strengths=0.1)
    >>> run = linfa.simulate(linfa.bp(), task, network, time=4.0, rtol=1e-11)
    >>> DepthMode(linfa.bp(), task, run.at(0)).error(run) < 1e-8
    True
    """

    statement: ClassVar[str] = "backprop at depth N learns each balanced mode by u' = N u^(2 - 2/N) (s - u), solved"
    source: ClassVar[str] = "Saxe, McClelland & Ganguli (2013); known result re-derived"

    @classmethod
    def check_rule(cls, rule):
        SaxeMode.check_rule(rule)

    def check_start(self):
        if len(self.start.weights) < 2:
            raise AssumptionError("depth is 1: there is no hidden layer")
        assumptions.balanced(self.start)
        self._shallow  # noqa: B018

    @cached_property
    def _shallow(self) -> SaxeMode:
        """The theory of the balanced network of two layers that has the same map; it checks the rest."""
        U, u, Vt = np.linalg.svd(self._map, full_matrices=False)
        weights = np.sqrt(u)[:, None] * Vt, U * np.sqrt(u)
        return SaxeMode(self.rule, self.task, State(weights, ((),)))

    @property
    def _map(self):
        return np.linalg.multi_dot(self.start.weights[::-1])

    @property
    def modes(self) -> tuple[np.ndarray, ...]:
        """U (n_out, r), s (r,), u(0) (r,) and V^T (r, n_in), r = min(n_out, n_in)."""
        return self._shallow.modes

    def predict(self, times):
        """W_N .. W_1 at the times (t,): (t, n_out, n_in)."""
        U, s, u, Vt = self.modes
        times, depth = np.asarray(times, float)[:, None], len(self.start.weights)
        strengths = depth_mode(times, np.maximum(s, 0), np.maximum(u, 0), depth)
        return (U * strengths[:, None, :]) @ Vt

    def observed(self, trajectory):
        return trajectory.map

    @classmethod
    def residuals(cls, equations):
        """w_l' minus the right-hand sides at w_l = u^(1/N), with u' from the clock."""
        import sympy as sp

        u, u0 = sp.symbols("u u_0", positive=True)
        modes, N = equations.modes(), equations.depth
        s = equations.strength
        w = u ** sp.Rational(1, N)
        speed = N / sp.simplify(sp.diff(depth_clock(u, u0, s, N), u))
        return tuple(sp.simplify(sp.diff(w, u) * speed - v.subs(dict.fromkeys(modes, w))) for v in modes.values())

    @classmethod
    def example(cls, rule, seed=0):
        cls.check_rule(rule)
        rng = examples.generator(seed)
        n, m, depth = rng.integers(1, 5), rng.integers(1, 5), rng.integers(2, 6)
        task = examples.white_task(rng, n, m, 0.5, 1.5)
        hidden = [int(min(n, m) + rng.integers(0, 3)) for _ in range(depth - 1)]
        network = Network.aligned(task, hidden, rng.uniform(0.05, 0.4, min(n, m)), seed=seed)
        return Setup(task, network, np.linspace(0, 5, 21), ((),) * (depth - 1))


def _order(seed):
    """Order in 1/N of what separates N t of a simulated chain of N weights from the clock of infinitely many."""
    rng, depths, gaps = examples.generator(seed), (16, 48), []
    s = rng.uniform(0.5, 2.0)
    u0 = s * rng.uniform(0.1, 0.4)
    task, late = Task.teacher(np.full((1, 1), s)), depth_clock(0.8 * s, u0, s, np.inf)
    for N in depths:
        network = Network.aligned(task, [1] * (N - 1), u0)
        run = simulate(bp(), task, network, np.linspace(0, late, 4) / N, rtol=1e-10, atol=1e-12)
        gaps.append(relative_error(N * run.times, depth_clock(run.map[:, 0, 0], u0, s, np.inf)))
    return abs(np.log(gaps[0] / gaps[1]) / np.log(depths[1] / depths[0]) - 1)


RESULTS = (
    of_flow("A2", DepthMode, bp()),
    Result("A2b", "N t of N layers is log[u (s - u0) / (u0 (s - u))] / s^2 + (1/u0 - 1/u) / s to first order in 1/N",
           "Saxe, McClelland & Ganguli (2013); known result re-derived", 0.1, _order),
)  # fmt: skip
