"""Oja's rule on an error whose covariance stands still: the flow of the projector, and where feedback then takes FA."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, final

import numpy as np

from linfa.algebra import T, normalised
from linfa.network import Network
from linfa.rules import LayerRates, Layerwise, Oja, RandomFactors, Rule, ldfa
from linfa.simulate import simulate
from linfa.task import Task
from linfa.theory import assumptions, examples
from linfa.theory.backprop.saxe import bp_mode
from linfa.theory.base import AssumptionError, Setup, Theory, relative_error
from linfa.theory.dimension.eckart_young import best_mismatch, spectral_gap
from linfa.theory.result import Result, of_flow

__all__ = ["OjaProjector", "oja_limit", "oja_projector", "oja_tangent"]


def _spectrum(C):
    """Eigenvalues, descending, and eigenvectors of a covariance."""
    C = np.asarray(C, dtype=float)
    if C.ndim != 2 or C.shape[0] != C.shape[1]:
        raise ValueError(f"a covariance is square; got shape {C.shape}")
    largest = np.abs(C).max(initial=0)
    asymmetry = np.abs(C - C.T).max(initial=0)
    if asymmetry > 1e-10 * largest:
        raise ValueError(f"a covariance is symmetric: entries differ by up to {asymmetry:.2g}")
    c, basis = np.linalg.eigh(C)
    if c[0] < -1e-10 * largest:
        raise ValueError(f"a covariance has no negative eigenvalue; got {c[0]:.2g}")
    return np.maximum(c[::-1], 0), basis[:, ::-1]


def oja_projector(C, P0, times) -> np.ndarray:
    """P^T P along P' = P C (I - P^T P), Oja's rule on a constant covariance.

    P^T P (t) = e^(Ct) P_0^T [I + P_0 (e^(2Ct) - I) P_0^T]^-1 P_0 e^(Ct)

    It is computed from P(t + h) = L^-1 P(t) e^(Ch), L L^T = I + P(t) (e^(2Ch) - I) P(t)^T, with short enough h, and so
    keeps its digits at late times, when all rows of P_0 e^(Ct) point along the leading eigenvector.

    Args:
        C: covariance of the error (m, m), constant.  The plasticity `Oja` divides it by its largest variance: give
            `linfa.algebra.normalised(C)` for its flow.
        P0: P at time 0 (r, m), of any size and rank.
        times: (t,), at least 0, in any order.

    Returns:
        (t, m, m).

    Raises:
        ValueError: for a matrix that is not a covariance, a P_0 that does not fit it and negative times.

    Source: Yan, Helmke & Moore (1994); known result re-derived (`derivations.oja_flow`).

    >>> X = oja_projector(np.diag([2.0, 1.0]), np.array([[0.6, 0.8]]), [0.0, 100.0])
    >>> X[0].round(12).tolist(), X[1].round(12).tolist()
    ([[0.36, 0.48], [0.48, 0.64]], [[1.0, 0.0], [0.0, 0.0]])
    """
    c, basis = _spectrum(C)
    times, P0 = np.asarray(times, dtype=float), np.asarray(P0, dtype=float)
    if P0.ndim != 2 or P0.shape[1] != len(c):
        raise ValueError(f"P_0 is (r, {len(c)}); got shape {P0.shape}")
    if not (times >= 0).all():
        raise ValueError(f"times are at least 0; got {times.min():g}")
    out, P, now = np.empty((len(times), len(c), len(c))), P0 @ basis, 0.0
    for i in np.argsort(times):
        steps = int(np.ceil((times[i] - now) * c[0] / 4))
        h = (times[i] - now) / max(steps, 1)
        for _ in range(steps):
            L = np.linalg.cholesky(np.eye(len(P)) + (P * np.expm1(2 * c * h)) @ P.T)
            P = np.linalg.solve(L, P * np.exp(c * h))
        now, out[i] = times[i], basis @ P.T @ P @ basis.T
    return out


def oja_tangent(C, P0, times) -> np.ndarray:
    """e^(C_rest t) T_0 e^(-C_top t), the tangents T of the angles between the rows of P and the r leading directions.

    T = X_rest X_top^-1 with P^T = [X_top; X_rest] in the eigenbasis of C, eigenvalues descending.  One row in two
    dimensions: tan(phi) = tan(phi_0) e^(-(c_1 - c_2) t).

    Args:
        C: constant covariance (m, m).
        P0: P at time 0 (r, m), of any size.
        times: (t,).

    Returns:
        (t, m - r, r).

    Raises:
        ValueError: if C is not a covariance, or P_0 misses one of the leading directions.

    Source: Yan, Helmke & Moore (1994); known result re-derived (`derivations.oja_flow`).

    >>> oja_tangent(np.diag([2.0, 1.0]), np.array([[1.0, 3.0]]), [0.0, np.log(2.0)]).ravel().tolist()
    [3.0, 1.5]
    """
    c, basis = _spectrum(C)
    T0, r = tangent(P0, basis), len(P0)
    return np.exp(np.multiply.outer(times, c[r:, None] - c[:r])) * T0


def tangent(P, basis) -> np.ndarray:
    """X_rest X_top^-1 (..., m - r, r) of the rows of P (..., r, m) in a basis (m, m).

    Raises:
        ValueError: if X_top is singular.
    """
    X = P @ basis
    r = X.shape[-2]
    top = np.linalg.svd(X[..., :r], compute_uv=False)
    if not (top[..., -1] > 1e-12 * top[..., 0]).all():
        raise ValueError(f"P misses a leading direction: it sees {top[..., -1].min():.2g} of it")
    return T(np.linalg.solve(X[..., :r], X[..., r:]))


def oja_limit(C, rank: int) -> np.ndarray:
    """The projector on the r leading eigenvectors of a covariance, where Oja's rule ends (m, m).

    Raises:
        ValueError: if C is not a covariance, or has no gap between its eigenvalues r and r + 1.

    >>> oja_limit(np.diag([1.0, 3.0]), rank=1).tolist()
    [[0.0, 0.0], [0.0, 1.0]]
    """
    c, basis = _spectrum(C)
    gap = spectral_gap(np.diag(c), rank)
    if not gap > 1e-12 * c[0]:
        raise ValueError(f"no gap between eigenvalues {rank} and {rank + 1} of the covariance: {gap:.2g}")
    return basis[:, :rank] @ basis[:, :rank].T


def error_covariance(task, W) -> np.ndarray:
    """Covariance of W x - y (n_out, n_out)."""
    mixed, mean = W @ task.Syx.T, W @ task.mean_x - task.mean_y
    return task.Syy - mixed - mixed.T + W @ task.Sxx @ W.T - np.outer(mean, mean)


@final
@dataclass(frozen=True, eq=False)
class OjaProjector(Theory):
    """LDFA's P finds the leading directions of an error that stands still: P^T P as in `oja_projector`.

    The covariance C is that of the output error, divided by its largest variance as the plasticity does it.  When the
    weights learn too, C moves with the error and this is the flow that P follows while it is fast.

    Assumptions: two layers, both frozen (`LayerRates` of zeros), Oja plasticity, no decay.  Any data.

    Source: Oja (1982), Yan, Helmke & Moore (1994); known result re-derived.

    Raises:
        AssumptionError: outside the assumptions.

    >>> import linfa
    >>> rule = Rule(Layerwise(), RandomFactors(1), Oja(), geometry=LayerRates((0.0, 0.0)))
    >>> task, network = linfa.Task.from_spectrum([2.0, 1.0]), linfa.Network.zero((2, 3, 2))
    >>> run = linfa.simulate(rule, task, network, time=5.0, rtol=1e-11)
    >>> OjaProjector(rule, task, run.at(0)).error(run) < 1e-8
    True
    """

    statement: ClassVar[str] = "Oja on a constant C: P^T P = e^(Ct) P_0^T [I + P_0 (e^(2Ct) - I) P_0^T]^-1 P_0 e^(Ct)"
    source: ClassVar[str] = "Oja (1982), Yan, Helmke & Moore (1994); known result re-derived"

    @classmethod
    def check_rule(cls, rule):
        assumptions.layer_rates(rule, False, False)
        assumptions.no_decay(rule)
        if type(rule.plasticity) is not Oja:
            raise AssumptionError(f"feedback does not learn by Oja's rule: {rule.plasticity}")
        if not rule.route.edges(2):
            raise AssumptionError(f"no feedback edge in a two-layer network: {rule.route}")

    def check_start(self):
        assumptions.depth(self.start, 2)

    @cached_property
    def covariance(self) -> np.ndarray:
        """C (n_out, n_out), divided by its largest variance."""
        W1, W2 = self.start.weights
        return normalised(error_covariance(self.task, W2 @ W1))

    @property
    def limit(self) -> np.ndarray:
        """P^T P in the end, from any start that sees the leading directions (n_out, n_out).

        Raises:
            ValueError: if the covariance has no gap there.
        """
        return oja_limit(self.covariance, len(self.start.feedback[0][1]))

    def predict(self, times):
        """P^T P at the times (t,): (t, n_out, n_out)."""
        return oja_projector(self.covariance, self.start.feedback[0][1], times)

    def observed(self, trajectory):
        P = trajectory.feedback[0][1]
        return T(P) @ P

    @classmethod
    def residuals(cls, equations):
        """p' minus the right-hand side of one mode at p^2 = u, where Oja's flow is u' = 2 u (1 - u) of `bp_mode`."""
        import sympy as sp

        t, p0 = sp.symbols("t p_0", positive=True)
        modes = equations.modes()
        *_, p = modes
        closed = sp.sqrt(bp_mode(t, sp.Integer(1), p0**2))
        return (sp.simplify(sp.diff(closed, t) - modes[p].subs(p, closed)),)

    @classmethod
    def example(cls, rule, seed=0):
        cls.check_rule(rule)
        rng, rank = examples.generator(seed), examples.rank_of(rule)
        n, k, m = (int(rng.integers(low, low + 4)) for low in (1, rank, rank))
        task = Task.teacher(examples.matrix(rng, m, n, 0.3, 1.5), examples.moment(rng, n, 0.5, 1.5), noise=0.3)
        network = Network.small((n, k, m), scale=0.5, seed=seed)
        feedback = examples.feedback(rule, rng, (n, k, m))
        return Setup(task, network, np.linspace(0, 4, 17), feedback)


def _frozen(rank):
    return Rule(Layerwise(), RandomFactors(rank), Oja(), geometry=LayerRates((0.0, 0.0)))


def _tangents(seed):
    worst = 0.0
    for r, m in ((1, 2), (2, 4)):
        rng = examples.generator(seed)
        task = Task.teacher(examples.matrix(rng, m, m, 0.3, 1.5), noise=0.2)
        C = normalised(task.Syy)
        basis = np.linalg.eigh(C)[1][:, ::-1]
        P = np.hstack([np.eye(r) + 0.3 * rng.standard_normal((r, r)), rng.standard_normal((r, m - r))]) @ basis.T
        feedback, times = ((np.eye(3, r), P),), np.linspace(0, 4, 9)
        run = simulate(_frozen(r), task, Network.zero((m, 3, m)), times, feedback=feedback, rtol=1e-11, atol=1e-13)
        worst = max(worst, relative_error(oja_tangent(C, P, times), tangent(run.feedback[0][1], basis)))
    return worst


def _eckart_young(seed):
    """First P learns on the error of an untrained network, then the network learns with Q and P fixed."""
    rng, r = examples.generator(seed), 2
    m = r + int(rng.integers(1, 4))
    s = np.concatenate([rng.uniform(1.2, 2.0, r), rng.uniform(0.3, 0.7, m - r)])
    task = Task.teacher((examples.frame(rng, m, m) * s) @ examples.frame(rng, m, m))
    network = Network.zero((m, m, m))
    Q, P = examples.matrix(rng, m, r, 0.8, 1.25), examples.matrix(rng, r, m, 0.8, 1.25)
    P = simulate(_frozen(r), task, network, [0.0, 60.0], feedback=((Q, P),), rtol=1e-11).at(-1).feedback[0][1]
    run = simulate(ldfa(r, "fixed"), task, network, [0.0, 40.0], feedback=((Q, P),), rtol=1e-11, atol=1e-13)
    return relative_error(best_mismatch(task.Syx, r), run.loss[-1])


RESULTS = (
    of_flow("D10", OjaProjector, _frozen(1), _frozen(3)),
    Result("D11", "Oja on a constant C: tangents of the angles to its leading directions decay as e^(-(c_i - c_j) t)",
           "Yan, Helmke & Moore (1994); known result re-derived", 1e-8, _tangents),
    Result("D13", "P from Oja on Sigma Sigma^T, then FA with it fixed: the loss of the best map of rank r",
           "derived here", 1e-8, _eckart_young),
)  # fmt: skip
