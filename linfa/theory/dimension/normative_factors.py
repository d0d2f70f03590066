"""The normative plasticity under a readout that stands still: two factors learn W_2^T as a linear network would."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, final

import numpy as np

from linfa.algebra import T
from linfa.dynamics import State
from linfa.network import Network
from linfa.rules import LayerRates, Layerwise, Normative, RandomFactors, Rule, bp
from linfa.simulate import simulate
from linfa.task import Task
from linfa.theory import assumptions, examples
from linfa.theory.backprop.riccati import Riccati, lambda_balanced_network
from linfa.theory.base import AssumptionError, Setup, Theory, relative_error
from linfa.theory.result import Result, flow_error

__all__ = ["NormativeFactors"]


@final
@dataclass(frozen=True, eq=False)
class NormativeFactors(Theory):
    """Normative factors below a frozen readout: (P, Q) is backprop in the network Q P with white inputs, target W_2^T.

    Q' = (W_2^T - Q P) P^T and P' = Q^T (W_2^T - Q P), from any start.  From balanced factors the closed form is that of
    `Riccati`; its end, where the start sees all leading modes, is `EckartYoung`.

    Assumptions: two layers, W_2 frozen (`LayerRates` with a zero there), normative plasticity without decay;
    Q^T Q - P P^T = lambda I, as with `SVDFactors`, where lambda = 0.  Any task.

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
    def backprop(self) -> Riccati:
        """The theory of backprop on the task of W_2^T, at the start (P, Q)."""
        Q, P = self.start.feedback[0]
        return Riccati(bp(), Task.teacher(self.start.weights[1].T), State((P, Q), ((),)))

    def predict(self, times):
        """P^T P (t, n_out, n_out), Q P (t, k, n_out) and Q Q^T (t, k, k) at the times (t,)."""
        return self.backprop.predict(times)

    def observed(self, trajectory):
        Q, P = trajectory.feedback[0]
        return T(P) @ P, Q @ P, Q @ T(Q)

    @classmethod
    def residuals(cls, equations):
        """The equations of one mode minus those of backprop with p, q, w_2 for w_1, w_2, s, which `Riccati` solves."""
        import sympy as sp

        from linfa.symbolic import derive

        modes, plain = equations.modes(), derive(bp(), 2).modes()
        w1, w2, q, p = modes
        s = next(iter(sp.Tuple(*plain.values()).free_symbols - set(plain)))
        below, above = (v.subs({w1: p, w2: q, s: w2}, simultaneous=True) for v in plain.values())
        return tuple(map(sp.expand, (modes[p] - below, modes[q] - above, sp.nsimplify(modes[w2]))))

    @classmethod
    def example(cls, rule, seed=0):
        cls.check_rule(rule)
        rng, rank = examples.generator(seed), examples.rank_of(rule)
        n, k, m = (int(rng.integers(low, low + 4)) for low in (1, rank, rank))
        task = examples.white_task(rng, n, m, 0.3, 1.0)
        network = Network((examples.matrix(rng, k, n, 0.1, 0.5), examples.matrix(rng, m, k, 0.5, 1.5)))
        imbalance = rng.choice([-1, 0, 1]) * rng.uniform(0.2, 1.0)
        P, Q = lambda_balanced_network((m, rank, k), imbalance, 0.4, seed).weights
        return Setup(task, network, np.linspace(0, 4, 17), ((Q, P),))


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
