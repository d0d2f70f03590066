"""The normative plasticity under a readout that stands still: two factors learn W_2^T as a linear network would."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, final

import numpy as np

from linfa.dynamics import State
from linfa.network import Network
from linfa.rules import LayerRates, Layerwise, Normative, RandomFactors, Rule, bp
from linfa.simulate import simulate
from linfa.task import Task
from linfa.theory import assumptions, examples
from linfa.theory.backprop.saxe import SaxeMode, bp_mode
from linfa.theory.base import AssumptionError, Setup, Theory, relative_error
from linfa.theory.result import Result, flow_error

__all__ = ["NormativeFactors"]


@final
@dataclass(frozen=True, eq=False)
class NormativeFactors(Theory):
    """Normative factors below a frozen readout: (P, Q) is backprop in the network Q P with white inputs, target W_2^T.

    Q' = (W_2^T - Q P) P^T and P' = Q^T (W_2^T - Q P), from any start.  From balanced factors along the singular vectors
    of W_2^T = U diag(s_i) V^T the closed form is that of `SaxeMode`, Q P = U diag(u_i(t)) V^T; the modes that the
    factors do not hold at the start stay out, and `EckartYoung` is the end of the others.

    Assumptions: two layers, W_2 frozen (`LayerRates` with a zero there), normative plasticity without decay; Q^T Q =
    P P^T and Q P = U diag(u_i(0)) V^T with u_i(0) >= 0.  Any task.

    Source: derived here (`derivations.normative_riccati`).

    Raises:
        AssumptionError: outside the assumptions.

    >>> rule = Rule(Layerwise(), RandomFactors(2), Normative(), geometry=LayerRates((0.0, 0.0)))
    >>> setup = NormativeFactors.example(rule, seed=0)
    >>> run = simulate(rule, setup.task, setup.network, setup.times, feedback=setup.feedback, rtol=1e-11)
    >>> NormativeFactors(rule, setup.task, run.at(0)).error(run) < 1e-8
    True
    """

    statement: ClassVar[str] = (
        "normative factors below a frozen W_2 learn as backprop in the network Q P with target W_2^T"
    )
    source: ClassVar[str] = "derived here"

    @classmethod
    def check_rule(cls, rule):
        first, *_ = getattr(rule.geometry, "rates", (0.0,))
        assumptions.layer_rates(rule, bool(first), False)
        assumptions.no_decay(rule)
        if type(rule.plasticity) is not Normative:
            raise AssumptionError(f"feedback does not learn by the normative plasticity: {rule.plasticity}")

    def check_start(self):
        assumptions.depth(self.start, 2)
        self.backprop  # noqa: B018  checks the factors

    @cached_property
    def backprop(self) -> SaxeMode:
        """The theory of backprop on the task of W_2^T, at the start (P, Q)."""
        Q, P = self.start.feedback[0]
        return SaxeMode(bp(), Task.teacher(self.start.weights[1].T), State((P, Q), ((),)))

    def predict(self, times):
        """Q P at the times (t,): (t, k, n_out)."""
        return self.backprop.predict(times)

    def observed(self, trajectory):
        Q, P = trajectory.feedback[0]
        return Q @ P

    @classmethod
    def residuals(cls, equations):
        """Time derivatives minus the right-hand sides at q = p = sqrt(u(t)), with target w_2."""
        import sympy as sp

        t, u0, w = sp.symbols("t u_0 w", positive=True)
        modes = equations.modes()
        _, w2, q, p = modes
        root = sp.sqrt(bp_mode(t, w, u0))
        closed = {w2: w, q: root, p: root}
        return tuple(sp.simplify(sp.nsimplify(sp.diff(closed[x], t) - modes[x].subs(closed))) for x in closed)

    @classmethod
    def example(cls, rule, seed=0):
        cls.check_rule(rule)
        rng, rank = examples.generator(seed), examples.rank_of(rule)
        n, k, m = (int(rng.integers(low, low + 4)) for low in (1, rank, rank))
        task = examples.white_task(rng, n, m, 0.3, 1.0)
        size = min(k, m)
        U, V = examples.frame(rng, k, size), examples.frame(rng, m, size)
        W2 = (V * rng.uniform(0.5, 1.5, size)) @ U.T
        root, turn = np.sqrt(rng.uniform(0.05, 0.3, rank)), examples.frame(rng, rank, rank)
        feedback = (U[:, :rank] * root) @ turn.T, turn @ (V[:, :rank] * root).T
        network = Network((examples.matrix(rng, k, n, 0.1, 0.5), W2))
        return Setup(task, network, np.linspace(0, 5, 21), (feedback,))


def _rule(first):
    return Rule(Layerwise(), RandomFactors(2), Normative(), geometry=LayerRates((first, 0.0)))


def _learned(seed):
    """The closed form, and for any factors at all the equivalence with a network that is trained on W_2^T."""
    rng, times = examples.generator(seed), np.linspace(0, 3, 7)
    n, k, m = (int(rng.integers(2, 6)) for _ in range(3))
    W1, W2 = examples.matrix(rng, k, n, 0.3, 1.0), examples.matrix(rng, m, k, 0.3, 1.5)
    Q, P = (0.7 * rng.standard_normal(shape) for shape in ((k, 2), (2, m)))
    task = Task.teacher(examples.matrix(rng, m, n, 0.3, 1.0))
    run = simulate(_rule(0.0), task, Network((W1, W2)), times, feedback=((Q, P),), rtol=1e-11, atol=1e-13)
    other = simulate(bp(), Task.teacher(W2.T), Network((P, Q)), times, rtol=1e-11, atol=1e-13)
    closed = max(flow_error(NormativeFactors, _rule(first), seed) for first in (0.0, 1.0))
    return max(closed, relative_error(other.weights, run.feedback[0][::-1]))


RESULTS = (Result("D12b", NormativeFactors.statement, NormativeFactors.source, 1e-8, _learned),)
