"""Backprop in one mode whose two layers have different strengths: from a sigmoid to an exponential."""

import functools
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
from linfa.theory.scalar import exp, expm1, sqrt

__all__ = ["UnbalancedMode", "bp_mode_unbalanced", "bp_mode_weights"]

GENERIC = (1.0, 0.6180339887, 0.4142135624, 0.3027756377)
"""Coefficients of a combination that has no singular values in common but by chance."""


def bp_mode_weights(t, s, w1, w2) -> tuple:
    """Both weights of one mode under backprop, w_1' = w_2 (s - w_2 w_1) and w_2' = (s - w_2 w_1) w_1.

    With lambda = w_2^2 - w_1^2, which is conserved, F = [[-lambda/2, s], [s, lambda/2]], f = sqrt(s^2 + lambda^2/4),
    x = e^(-2ft), h = (1 - x)/(2f) and q = (w_1, w_2) at time 0:

        w(t) = (x q + h g) / sqrt(x + h x |q|^2 + h^2 |g|^2/(2f)),  g = (f + F) q

    Args:
        t: times, at least 0.
        s: singular value of the task, of any sign.
        w1, w2: weights at time 0, of any sign.  All four are numbers, arrays that broadcast, or SymPy expressions.

    Returns:
        w_1(t) and w_2(t).

    Source: the matrix Riccati solution (Fukumizu 1998) in one mode; derived here (`derivations.bp_unbalanced_mode`).

    >>> [float(w.round(6)) for w in bp_mode_weights(50.0, s=2.0, w1=0.0, w2=1.0)]  # w_1 w_2 = 2, w_2^2 - w_1^2 = 1
    [1.2496..., 1.6004...]
    """
    half = (w2 * w2 - w1 * w1) / 2
    f = sqrt(s * s + half * half)
    x = exp(-2 * f * t)
    if is_symbolic(s):
        safe, h = f, (1 - x) / (2 * f)
    else:
        flat = f < 1e-150  # where f t rounds, or is zero
        safe = np.where(flat, 1.0, f)
        h = np.where(flat, t, -expm1(-2 * safe * t) / (2 * safe))
    g1, g2 = (f - half) * w1 + s * w2, s * w1 + (f + half) * w2
    left = x + h * x * (w1 * w1 + w2 * w2) + h * h * (g1 * g1 + g2 * g2) / (2 * safe)
    if not is_symbolic(s):
        left = np.maximum(left, np.finfo(float).tiny)  # where x is zero, and the weights have decayed to that
    size = sqrt(left)
    return (x * w1 + h * g1) / size, (x * w2 + h * g2) / size


def bp_mode_unbalanced(t, s, u0, imbalance):
    """Strength u(t) = w_2 w_1 of one mode, the solution of u' = sqrt(lambda^2 + 4 u^2) (s - u).

    For lambda = 0 and u_0 > 0 it is the sigmoid of `bp_mode`; for large |lambda| an exponential of rate |lambda|.

    Args:
        t: times, at least 0.
        s: singular value of the task.
        u0: strength at time 0.
        imbalance: lambda = w_2^2 - w_1^2; its sign, the order of the layers, does not matter.  All four are numbers,
            arrays that broadcast, or SymPy expressions.

    Source: Saxe et al. (2013), Tarmoun et al. (2021); known result re-derived (`derivations.bp_unbalanced_mode`).

    >>> float(bp_mode_unbalanced(1.0, s=1.0, u0=0.0, imbalance=1e6).round(6))
    1.0
    >>> float(bp_mode_unbalanced(np.log(9) / 4, s=2.0, u0=0.2, imbalance=0.0).round(12))  # half time of the sigmoid
    1.0
    """
    large = sqrt((sqrt(imbalance * imbalance + 4 * u0 * u0) + abs(imbalance)) / 2)
    small = u0 / large if is_symbolic(s) else u0 / np.where(large > 0, large, 1.0)
    w1, w2 = bp_mode_weights(t, s, small, large)
    return w1 * w2


@final
@dataclass(frozen=True, eq=False)
class UnbalancedMode(Theory):
    """Backprop along the singular vectors of a white task, with layers of different strengths.

    W_1 = R diag(a_i) V^T and W_2 = U diag(b_i) R^T with Sigma = Syx = U diag(s_i) V^T stay so, and
    W_2 W_1 (t) = U diag(u_i(t)) V^T with u_i(t) from `bp_mode_unbalanced` at lambda_i = b_i^2 - a_i^2.

    Assumptions: two layers; backprop without decay; Sxx = I; the start above for some choice of the singular vectors
    and orthonormal R, a_i and b_i of any sign.

    Source: Saxe et al. (2013), Tarmoun et al. (2021); known result re-derived.

    Raises:
        AssumptionError: outside the assumptions.

    >>> import linfa
    >>> task = linfa.Task.teacher(np.diag([2.0, 1.0]))
    >>> network = linfa.Network((np.diag([0.1, 0.3]), np.diag([1.0, 0.1])))
    >>> run = linfa.simulate(linfa.bp(), task, network, time=4.0, rtol=1e-11)
    >>> UnbalancedMode(linfa.bp(), task, run.at(0)).error(run) < 1e-8
    True
    """

    statement: ClassVar[str] = "an aligned mode with w_2^2 - w_1^2 = lambda obeys u' = sqrt(lambda^2 + 4 u^2) (s - u)"
    source: ClassVar[str] = "Saxe et al. (2013), Tarmoun et al. (2021); known result re-derived"

    @classmethod
    def check_rule(cls, rule):
        assumptions.backprop(rule)

    def check_start(self):
        assumptions.depth(self.start, 2)
        assumptions.white(self.task)
        U, s, u, imbalance, Vt = self.modes
        W1, W2 = self.start.weights
        both = np.sqrt(imbalance**2 + 4 * u**2)  # a^2 + b^2, as |u| = |a b|
        below, above = (both - imbalance) / 2, (both + imbalance) / 2
        for name, matrix, wanted in (
            ("Syx", self.task.Syx, (U * s) @ Vt),
            ("W_2 W_1", W2 @ W1, (U * u) @ Vt),
            ("W_1^T W_1", W1.T @ W1, (Vt.T * below) @ Vt),
            ("W_2 W_2^T", W2 @ W2.T, (U * above) @ U.T),
        ):
            apart = np.abs(wanted - matrix).max()
            if apart > assumptions.TOLERANCE * max(1, np.abs(matrix).max()):
                raise AssumptionError(f"not aligned: {name} is off the common singular vectors by {apart:.2g}")

    @cached_property
    def modes(self) -> tuple[np.ndarray, ...]:
        """U (n_out, r), s, u(0) and lambda (r,), V^T (r, n_in), r = min(n_out, n_in).

        The singular vectors are those of a generic combination of Sigma and the start's matrices of the same form.
        """
        Sigma, (W1, W2) = self.task.Syx, self.start.weights
        above, below = W2 @ W2.T, W1.T @ W1
        parts = (Sigma, W2 @ W1, above @ Sigma, Sigma @ below)
        mixed = sum(c * M / (np.linalg.norm(M) or 1) for c, M in zip(GENERIC, parts, strict=True))
        U, _, Vt = np.linalg.svd(mixed, full_matrices=False)
        s, u = (np.einsum("oi,on,in->i", U, matrix, Vt) for matrix in (Sigma, W2 @ W1))
        b = np.einsum("oi,op,pi->i", U, above, U)
        a = np.einsum("in,nj,ij->i", Vt, below, Vt)
        return U, s, u, b - a, Vt

    def predict(self, times):
        """W_2 W_1 at the times (t,): (t, n_out, n_in)."""
        U, s, u, imbalance, Vt = self.modes
        strengths = bp_mode_unbalanced(np.asarray(times, float)[:, None], s, u, imbalance)
        return (U * strengths[:, None, :]) @ Vt

    def observed(self, trajectory):
        return trajectory.map

    @classmethod
    @functools.cache
    def residuals(cls, equations):
        """w_l' minus the right-hand sides at the closed form, for every start (w_1, w_2), in terms of x = e^(-2ft)."""
        import sympy as sp

        x, f, a, b = sp.symbols("x f a b", positive=True)
        modes = equations.modes()
        s = equations.strength
        at = sp.sqrt(f**2 - (b**2 - a**2) ** 2 / 4)  # the s of that f
        closed = bp_mode_weights(-sp.log(x) / (2 * f), at, a, b)
        put = dict(zip(modes, closed, strict=True)) | {s: at}
        rest = (-2 * f * x * sp.diff(w, x) - v.subs(put) for w, v in zip(closed, modes.values(), strict=True))
        return tuple(sp.expand(sp.numer(sp.together(r))) for r in rest)

    @classmethod
    def example(cls, rule, seed=0):
        cls.check_rule(rule)
        rng = examples.generator(seed)
        n, m = (int(i) for i in rng.integers(1, 6, 2))
        r = min(n, m)
        k = r + int(rng.integers(0, 3))
        task = examples.white_task(rng, n, m, 0.5, 2.0)
        U, _, Vt = np.linalg.svd(task.Syx, full_matrices=False)
        frame = examples.frame(rng, k, r)
        a, b = rng.uniform(0.05, 1.0, (2, r))
        network = Network(((frame * a) @ Vt, (U * b * rng.choice([-1, 1], r)) @ frame.T))
        return Setup(task, network, np.linspace(0, 4, 25), ((),))


RESULTS = (of_flow("A6", UnbalancedMode, bp()),)
