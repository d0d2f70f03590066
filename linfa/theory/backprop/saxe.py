"""Backprop in a balanced two-layer network: every mode of the task is learned on its own sigmoid."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, final

import numpy as np

from linfa.algebra import is_symbolic
from linfa.network import Network
from linfa.rules import bp
from linfa.theory import assumptions, examples
from linfa.theory.base import AssumptionError, Setup, Theory
from linfa.theory.result import of_flow
from linfa.theory.scalar import exp, expm1

__all__ = ["SaxeMode", "bp_mode"]


def bp_mode(t, s, u0):
    """Strength u(t) of one mode under backprop, the solution of u' = 2 u (s - u).

    u(t) = u0 / [e^(-2st) + u0 (1 - e^(-2st)) / s], which is s e^(2st) / (e^(2st) - 1 + s/u0) in a form that holds at
    s = 0 and u0 = 0 too.  Half of s is reached at log(s/u0 - 1) / (2s).

    Args:
        t: times.
        s: singular value of the task, at least 0.
        u0: strength at time 0, at least 0.  All three are numbers, arrays that broadcast, or SymPy expressions.

    Source: Saxe, McClelland & Ganguli (2013); known result re-derived (`derivations.saxe_mode`).

    >>> float(bp_mode(np.log(9) / 4, s=2.0, u0=0.2))
    1.0
    """
    if is_symbolic(s):
        grown = (1 - exp(-2 * s * t)) / s
    else:
        flat = np.abs(s) < 1e-150  # where s t rounds, or is zero
        safe = np.where(flat, 1.0, s)
        grown = np.where(flat, 2.0 * t, -expm1(-2 * safe * t) / safe)
    return u0 / (exp(-2 * s * t) + u0 * grown)


@final
@dataclass(frozen=True, eq=False)
class SaxeMode(Theory):
    """Backprop from a balanced start along the singular vectors of a white task.

    W_2 W_1 (t) = U diag(u_i(t)) V^T with Sigma = Syx = U diag(s_i) V^T and u_i(t) from `bp_mode`.

    Assumptions: two layers; backprop without decay; Sxx = I; W_2^T W_2 = W_1 W_1^T; W_2 W_1 = U diag(u_i(0)) V^T with
    u_i(0) >= 0 for some choice of the singular vectors.  Any widths, label noise and degenerate modes are allowed.

    Source: Saxe, McClelland & Ganguli (2013, 2019); known result re-derived.

    Raises:
        AssumptionError: outside the assumptions.

    >>> import linfa
    >>> task = linfa.Task.from_spectrum([3.0, 1.0], seed=0)
    >>> network = linfa.Network.aligned(task, hidden=[2], strengths=0.1)
    >>> run = linfa.simulate(linfa.bp(), task, network, time=4.0, rtol=1e-11)
    >>> SaxeMode(linfa.bp(), task, run.at(0)).error(run) < 1e-8
    True
    """

    statement: ClassVar[str] = "backprop learns each balanced mode on the sigmoid s e^(2st) / (e^(2st) - 1 + s/u0)"
    source: ClassVar[str] = "Saxe, McClelland & Ganguli (2013); known result re-derived"

    @classmethod
    def check_rule(cls, rule):
        assumptions.backprop(rule)

    def check_start(self):
        assumptions.depth(self.start, 2)
        assumptions.white(self.task)
        assumptions.balanced(self.start)
        U, s, u, Vt = self.modes
        apart = max(np.abs((U * u) @ Vt - self._map).max(), np.abs((U * s) @ Vt - self.task.Syx).max())
        if apart > assumptions.TOLERANCE or u.min() < -assumptions.TOLERANCE:
            raise AssumptionError(f"not aligned: W_2 W_1 is off the singular vectors of Syx by {apart:.2g}, its lowest "
                                  f"strength there is {u.min():.2g}")  # fmt: skip

    @property
    def _map(self):
        return self.start.weights[1] @ self.start.weights[0]

    @cached_property
    def modes(self) -> tuple[np.ndarray, ...]:
        """U (n_out, r), s (r,), u(0) (r,) and V^T (r, n_in), r = min(n_out, n_in).

        The singular vectors are those of a generic combination of Sigma and the map at the start, so that degenerate
        singular values of Sigma are resolved the way the start is aligned.
        """
        Sigma, W = self.task.Syx, self._map
        size = np.linalg.norm(W)
        mix = 0.6180339887 * np.linalg.norm(Sigma) / size if size else 0.0
        U, _, Vt = np.linalg.svd(Sigma + mix * W, full_matrices=False)
        along = [np.einsum("oi,on,in->i", U, matrix, Vt) for matrix in (Sigma, W)]
        return U, along[0], along[1], Vt

    def predict(self, times):
        """W_2 W_1 at the times (t,): (t, n_out, n_in)."""
        U, s, u, Vt = self.modes
        strengths = bp_mode(np.asarray(times, float)[:, None], np.maximum(s, 0), np.maximum(u, 0))
        return (U * strengths[:, None, :]) @ Vt

    def observed(self, trajectory):
        return trajectory.map

    @classmethod
    def residuals(cls, equations):
        """w_l' minus the right-hand sides at w_1 = w_2 = sqrt(u(t))."""
        import sympy as sp

        t, u0 = sp.symbols("t u_0", positive=True)
        modes = equations.modes()
        s = equations.strength
        w = sp.sqrt(bp_mode(t, s, u0))
        return tuple(sp.simplify(sp.diff(w, t) - v.subs(dict.fromkeys(modes, w))) for v in modes.values())

    @classmethod
    def example(cls, rule, seed=0):
        cls.check_rule(rule)
        rng = examples.generator(seed)
        n, m = rng.integers(1, 6, 2)
        task = examples.white_task(rng, n, m, 0.5, 2.0)
        hidden = min(n, m) + rng.integers(0, 3)
        strengths = rng.uniform(0.01, 0.3, min(n, m))
        network = Network.aligned(task, [hidden], strengths, seed=seed)
        return Setup(task, network, np.linspace(0, 6, 25), ((),))


RESULTS = (of_flow("A1", SaxeMode, bp()),)
