"""Where feedback alignment ends: the task, projected on what the feedback sees of it."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from linfa.algebra import product
from linfa.network import Network
from linfa.rules import fa, ldfa
from linfa.simulate import simulate
from linfa.task import Task
from linfa.theory import assumptions, examples
from linfa.theory.base import AssumptionError, Setup, Theory, relative_error
from linfa.theory.result import Result, of_flow

__all__ = ["FinalMap", "final_loss", "final_map"]


def _whitened(Syx, B, Sxx):
    """Syx S^-1, the projector on the rows of B Syx S^-1, and S^-1, with S = Sxx^(1/2)."""
    inverse = np.eye(Syx.shape[1])
    if Sxx is not None:
        values, basis = np.linalg.eigh(Sxx)
        keep = values > 1e-12 * values.max()
        inverse = (basis[:, keep] / np.sqrt(values[keep])) @ basis[:, keep].T
    Sigma = Syx @ inverse
    _, s, Vt = np.linalg.svd(B @ Sigma, full_matrices=False)
    rows = Vt[s > 1e-12 * np.linalg.norm(B) * np.linalg.norm(Sigma)]
    return Sigma, rows.T @ rows, inverse


def final_map(Syx, B, Sxx=None) -> np.ndarray:
    """The map W_2 W_1 at which feedback alignment from W_1 = 0 comes to rest.

    White inputs: Syx Proj_row(B Syx).  In general, with R = B Syx Sxx^-1, it is Syx R^T (R Sxx R^T)^+ R: the same in
    whitened coordinates, the way it is computed.

    Args:
        Syx: E[y x^T] (n_out, n_in).
        B: feedback (k, n_out); only its row space matters.
        Sxx: E[x x^T] (n_in, n_in); None for the identity.

    Returns:
        (n_out, n_in).

    Source: derived here (`derivations.final_map`).

    >>> final_map(np.diag([2.0, 1.0]), B=np.array([[1.0, 0.0]])).tolist()
    [[2.0, 0.0], [0.0, 0.0]]
    """
    Sigma, projector, inverse = _whitened(Syx, B, Sxx)
    return Sigma @ projector @ inverse


def final_loss(Syx, B, Sxx=None) -> float:
    """What `final_map` leaves of the loss, 1/2 ||Syx Sxx^(-1/2) (I - Proj)||^2, label noise not included.

    At least 1/2 sum_(j>r) s_j^2, with equality when B of rank r sees the leading output modes.  Arguments as in
    `final_map`.  Source: derived here.

    >>> final_loss(np.diag([2.0, 1.0]), B=np.array([[1.0, 0.0]]))
    0.5
    """
    Sigma, projector, _ = _whitened(Syx, B, Sxx)
    return float(0.5 * ((Sigma - Sigma @ projector) ** 2).sum())


@final
@dataclass(frozen=True, eq=False)
class FinalMap(Theory):
    """The end of feedback alignment in a two-layer network from W_1 = 0 and any W_2.

    W_2 W_1 -> Syx Proj_row(B Syx) for white inputs, see `final_map`: the part of the error that B does not see changes
    only inside the row space of W_1, which is that of B Syx.

    Assumptions: two layers, either route, feedback that does not learn, no decay, W_1(0) = 0, B Syx of the generic rank
    min(rank B, rank Syx).  Any W_2(0) from which the flow converges (not proved for every start), any second moment.

    Source: derived here.

    Raises:
        AssumptionError: outside the assumptions.

    >>> import linfa
    >>> rule, task = linfa.ldfa(1, "fixed"), linfa.Task.from_spectrum([2.0, 1.0], seed=0)
    >>> run = linfa.simulate(rule, task, linfa.Network.zero((2, 3, 2)), time=200.0, seed=1)
    >>> FinalMap(rule, task, run.at(0)).error(run) < 1e-8
    True
    """

    statement: ClassVar[str] = "FA from W_1 = 0 ends at W_2 W_1 = Syx R^T (R Sxx R^T)^+ R with R = B Syx Sxx^-1"
    source: ClassVar[str] = "derived here"

    @classmethod
    def check_rule(cls, rule):
        assumptions.fixed_feedback(rule)

    def check_start(self):
        assumptions.depth(self.start, 2)
        assumptions.zero("W_1(0)", self.start.weights[0])
        rank = np.linalg.matrix_rank
        B, Syx = self.feedback, self.task.Syx
        seen, generic = rank(B @ Syx), min(rank(B), rank(Syx))
        if seen < generic:
            raise AssumptionError(f"B Syx has rank {seen}, less than min(rank B, rank Syx) = {generic}")

    @property
    def feedback(self) -> np.ndarray:
        """B (k, n_out)."""
        return product(self.rule.feedback.factors(self.start.feedback[0], None))

    @property
    def loss(self) -> float:
        """The loss in the end, label noise included."""
        noise = np.trace(self.task.Syy) - np.trace(self.task.optimum @ self.task.Syx.T)
        return final_loss(self.task.Syx, self.feedback, self.task.Sxx) + 0.5 * float(noise)

    def predict(self, times):
        """The limit of W_2 W_1, the same at every time: (t, n_out, n_in)."""
        limit = final_map(self.task.Syx, self.feedback, self.task.Sxx)
        return np.broadcast_to(limit, (len(times), *limit.shape))

    def observed(self, trajectory):
        return trajectory.map

    def error(self, trajectory):
        """Relative error at the last time of a trajectory, which has to be long enough to converge."""
        return relative_error(self.predict(trajectory.times[-1:]), self.observed(trajectory)[-1:])

    @classmethod
    def residuals(cls, equations):
        """The right-hand sides of one mode at w_1 w_2 = s, where the flow has to rest."""
        import sympy as sp

        modes = equations.modes()
        w1, w2, *_ = modes
        s = equations.strength
        return tuple(sp.simplify(v.subs(w2, s / w1)) for v in modes.values())

    @classmethod
    def example(cls, rule, seed=0):
        cls.check_rule(rule)
        rng, rank = examples.generator(seed), examples.rank_of(rule)
        k, m = (int(rng.integers(rank, rank + 4)) for _ in range(2))
        n = m + int(rng.integers(0, 3))
        Sxx = None if rng.random() < 0.3 else examples.moment(rng, n, 0.6, 1.5)
        weight = examples.matrix(rng, m, n, 0.8, 1.8)
        task = Task.teacher(weight, Sxx, noise=0.2 * (rng.random() < 0.5))
        network = Network((np.zeros((k, n)), 0.2 / np.sqrt(k) * rng.standard_normal((m, k))))
        return Setup(task, network, np.linspace(0, 120, 7), examples.feedback(rule, rng, (n, k, m)))


def _coloured(seed):
    """The same with inputs that are never white."""
    worst = 0.0
    for rule in (fa(), ldfa(2, "fixed")):
        setup = FinalMap.example(rule, seed)
        task = setup.task
        task = Task.teacher(task.optimum, examples.moment(examples.generator(seed), task.n_in, 0.6, 1.5))
        run = simulate(rule, task, setup.network, setup.times, feedback=setup.feedback, rtol=1e-11, atol=1e-13)
        worst = max(worst, FinalMap(rule, task, run.at(0)).error(run))
    return worst


RESULTS = (
    of_flow("D2", FinalMap, fa(), ldfa(2, "fixed")),
    Result("D2b", "inputs that are not white: it ends at Syx R^T (R Sxx R^T)^+ R, in whitened coordinates a projection",
           "derived here", 1e-8, _coloured),
)  # fmt: skip
