"""The best feedback of rank r: where the normative plasticity takes its two factors."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from linfa.algebra import T, product
from linfa.network import Network
from linfa.rules.plasticity import Normative
from linfa.rules.route import Layerwise
from linfa.task import Task
from linfa.theory import assumptions, examples
from linfa.theory.backprop.saxe import bp_mode
from linfa.theory.base import AssumptionError, Setup, Theory, relative_error

__all__ = ["EckartYoung", "best_feedback", "best_mismatch"]


def best_feedback(W, rank: int) -> np.ndarray:
    """The matrix of rank r nearest to W^T: its singular value decomposition cut after r modes.

    Args:
        W: forward weight (..., n_out, n_in).
        rank: r.

    Returns:
        (..., n_in, n_out).

    Source: Eckart & Young (1936); known.

    >>> best_feedback(np.diag([3.0, 1.0]), rank=1).tolist()
    [[3.0, 0.0], [0.0, 0.0]]
    """
    U, s, Vt = np.linalg.svd(np.swapaxes(W, -1, -2), full_matrices=False)
    return (U[..., :rank] * s[..., None, :rank]) @ Vt[..., :rank, :]


def best_mismatch(W, rank: int) -> np.ndarray:
    """1/2 sum_(j>r) s_j^2 (...), the least value of 1/2 ||W^T - Q P||^2 for factors of rank r.

    Arguments as in `best_feedback`.  Source: Eckart & Young (1936); known.

    >>> float(best_mismatch(np.diag([3.0, 1.0]), rank=1))
    0.5
    """
    return 0.5 * (np.linalg.svd(W, compute_uv=False)[..., rank:] ** 2).sum(-1)


def spectral_gap(W, rank: int) -> float:
    """s_r - s_(r+1) of a weight (n_out, n_in), with s = 0 beyond the smaller of its sides.

    >>> float(spectral_gap(np.diag([3.0, 1.0]), rank=1))
    2.0
    """
    s = np.append(np.linalg.svd(W, compute_uv=False), 0.0)
    return s[rank - 1] - s[rank]


@final
@dataclass(frozen=True, eq=False)
class EckartYoung(Theory):
    """The normative plasticity takes Q_l P_l to the best approximation of rank r of the transposed weight.

    Q_l P_l -> U_r S_r V_r^T with W_(l+1)^T = U S V^T, when the weights come to rest, as at zero loss.

    Assumptions: layerwise normative plasticity without decay; a spectral gap s_r > s_(r+1); generic factors, of which
    none of the r leading modes is out of sight.  Any depth.

    Source: the minimum is Eckart & Young (1936), known; that the flow of two factors has no other stable rest point is
    known (Baldi & Hornik 1989); the statement for feedback is derived here.

    Raises:
        AssumptionError: outside the assumptions.

    >>> import linfa
    >>> rule = linfa.ldfa(1, "normative")
    >>> setup = EckartYoung.example(rule, seed=0)
    >>> run = linfa.simulate(rule, setup.task, setup.network, setup.times, feedback=setup.feedback)
    >>> EckartYoung(rule, setup.task, run.at(0)).error(run) < 1e-8
    True
    """

    statement: ClassVar[str] = "normative feedback becomes the best approximation of rank r of the transposed weight"
    source: ClassVar[str] = "Eckart & Young (1936), Baldi & Hornik (1989), known; for feedback derived here"

    @classmethod
    def check_rule(cls, rule):
        assumptions.on_route(rule, Layerwise)
        assumptions.no_decay(rule)
        if type(rule.plasticity) is not Normative:
            raise AssumptionError(f"feedback does not learn by the normative plasticity: {rule.plasticity}")

    def check_start(self):
        if len(self.start.weights) < 2:
            raise AssumptionError("depth is 1: there is no feedback")
        self._check_gap(self.start)
        for number, (W, (Q, P)) in enumerate(zip(self.start.weights[1:], self.start.feedback, strict=True), 1):
            U, _, Vt = np.linalg.svd(W.T, full_matrices=False)
            rank = P.shape[0]
            seen = np.linalg.svd(U[:, :rank].T @ Q + Vt[:rank] @ P.T, compute_uv=False)[-1]
            if seen < assumptions.TOLERANCE:
                raise AssumptionError(f"the factors at cut {number} miss a leading mode: they see {seen:.2g} of it")

    def _check_gap(self, state):
        for number, (W, (_, P)) in enumerate(zip(state.weights[1:], state.feedback, strict=True), 2):
            gap = spectral_gap(W, len(P))
            if gap < 1e-6:
                raise AssumptionError(f"no spectral gap in W_{number} after mode {len(P)}: {gap:.2g}")

    def _best(self, state):
        return tuple(best_feedback(W, P.shape[0]) for W, (_, P) in zip(state.weights[1:], state.feedback, strict=True))

    def predict(self, times):
        """The limit of Q_l P_l if the weights stay at the start, for each edge: a tuple of (t, n_l, n_(l+1))."""
        return tuple(np.broadcast_to(B, (len(times), *B.shape)) for B in self._best(self.start))

    @property
    def mismatch(self) -> tuple[float, ...]:
        """The limit of 1/2 ||W^T - Q P||^2 if the weights stay at the start, for each edge."""
        pairs = zip(self.start.weights[1:], self.start.feedback, strict=True)
        return tuple(float(best_mismatch(W, P.shape[0])) for W, (_, P) in pairs)

    def observed(self, trajectory):
        return tuple(product(stored) for stored in trajectory.feedback)

    def error(self, trajectory):
        """Relative error of Q P against the best approximation of the weights, both at the last time.

        Raises:
            AssumptionError: if a weight has no spectral gap there.
        """
        end = trajectory.at(-1)
        self._check_gap(end)
        return relative_error(self._best(end), tuple(QP[-1] for QP in self.observed(trajectory)))

    @classmethod
    def residuals(cls, equations):
        """One aligned mode: q = p = sqrt(c(t)) with c' = 2 c (w - c), solved by `bp_mode`, and its limit w."""
        import sympy as sp

        t, c0, w = sp.symbols("t c_0 w", positive=True)
        modes, out = equations.modes(), []
        c = bp_mode(t, w, c0)
        above, stored = list(modes)[1 : equations.depth], list(modes)[equations.depth :]
        for weight, q, p in zip(above, stored[::2], stored[1::2], strict=True):
            aligned = {weight: w, q: sp.sqrt(c), p: sp.sqrt(c)}
            out += [sp.simplify(sp.diff(sp.sqrt(c), t) - modes[x].subs(aligned)) for x in (q, p)]
        return (*out, sp.simplify(sp.limit(c, t, sp.oo) - w))

    @classmethod
    def example(cls, rule, seed=0):
        cls.check_rule(rule)
        rng, rank = examples.generator(seed), examples.rank_of(rule)
        m = rank + int(rng.integers(0, 3))
        k, n = m + int(rng.integers(0, 3)), m
        s = np.concatenate([rng.uniform(1.5, 2.2, rank), rng.uniform(0.3, 0.8, m - rank)])
        W2 = (examples.frame(rng, m, m) * s) @ examples.frame(rng, m, k)
        W1 = T(examples.frame(rng, n, k))
        target = W2 @ W1 + examples.matrix(rng, m, n, 0.05, 0.1)
        feedback = tuple(0.5 * matrix for matrix in examples.feedback(rule, rng, (n, k, m))[0])
        return Setup(Task.teacher(target), Network((W1, W2)), np.linspace(0, 80, 9), (feedback,))
