"""Kolen-Pollack feedback meets the weights at the rate of the decay."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from linfa.network import Network
from linfa.rules import kolen_pollack, ldfa
from linfa.rules.plasticity import KolenPollack
from linfa.task import Task
from linfa.theory import assumptions, examples, invariants
from linfa.theory.base import AssumptionError, Setup, Theory
from linfa.theory.result import of_descent, of_flow
from linfa.theory.scalar import exp

__all__ = ["KolenPollackDecay", "kp_gap"]


def kp_gap(t, decay, gap):
    """e^(-lambda t) D(0), the distance of the feedback from the transposed weight.

    Args:
        t: times.
        decay: lambda >= 0.
        gap: D(0).  All three are numbers, arrays that broadcast, or SymPy expressions.

    Source: Kolen & Pollack (1994); known result re-derived (`derivations.kolen_pollack_decay`).

    >>> float(kp_gap(np.log(2.0), decay=1.0, gap=3.0))
    1.5
    """
    return exp(-decay * t) * gap


@final
@dataclass(frozen=True, eq=False)
class KolenPollackDecay(Theory):
    """B_l - W_(l+1)^T = e^(-lambda t) D_l(0), and with two factors Q_l - W_(l+1)^T P_l^T, P_l fixed.

    Exact in discrete time as (1 - lr lambda)^t.

    Assumptions: layerwise Kolen-Pollack feedback, the same decay lambda on weights and feedback.  Any depth, start,
    second moments; without decay the distance stays as it is.

    Source: Kolen & Pollack (1994), Akrout et al. (2019); known result re-derived.  The two-factor form is derived here.

    Raises:
        AssumptionError: outside the assumptions.

    >>> import linfa
    >>> rule, task = linfa.kolen_pollack(decay=0.5), linfa.Task.from_spectrum([2.0, 1.0], seed=0)
    >>> run = linfa.simulate(rule, task, linfa.Network.small((2, 4, 4, 2), scale=1.0), time=5.0, rtol=1e-11)
    >>> KolenPollackDecay(rule, task, run.at(0)).error(run) < 1e-8
    True
    """

    statement: ClassVar[str] = "Kolen-Pollack feedback meets the weights as B - W^T = e^(-lambda t) (B - W^T)(0)"
    source: ClassVar[str] = "Kolen & Pollack (1994), Akrout et al. (2019); known result re-derived"
    exact_in_discrete_time: ClassVar[bool] = True

    @classmethod
    def check_rule(cls, rule):
        assumptions.plain(rule)
        if type(rule.plasticity) is not KolenPollack:
            raise AssumptionError(f"feedback does not learn by Kolen-Pollack: {rule.plasticity}")
        if not rule.route.single_layer:
            raise AssumptionError(f"edges span several layers: {rule.route}")

    def check_start(self):
        """Nothing to ask: any task and any start will do."""

    def predict(self, times):
        """B_l - W_(l+1)^T, or Q_l - W_(l+1)^T P_l^T, for each edge l: a tuple of (t, n_l, n_(l+1) or r)."""
        times = np.asarray(times, dtype=float)[:, None, None]
        return tuple(kp_gap(times, self.rule.decay, D) for D in invariants.kolen_pollack(self.rule, self.start))

    def discrete(self, lr, steps):
        """The same after 0 .. steps steps of descent."""
        left = (1 - lr * self.rule.decay) ** np.arange(steps + 1)[:, None, None]
        return tuple(left * D for D in invariants.kolen_pollack(self.rule, self.start))

    def observed(self, trajectory):
        return invariants.kolen_pollack(trajectory.rule, trajectory.states)

    @classmethod
    def residuals(cls, equations):
        """d/dt (b_l - w_(l+1)) minus that of the closed form, with the stored feedback put in terms of it."""
        import sympy as sp

        t, gap = sp.Symbol("t", positive=True), sp.Symbol("D_0", real=True)
        modes, out = equations.modes(), []
        decay = equations.rule.decay or sp.Integer(0)
        weights, stored = list(modes)[: equations.depth], iter(list(modes)[equations.depth :])
        for above in weights[1:]:
            nearest, *others = (next(stored) for _ in equations.rule.feedback.names)
            seen = sp.prod(others) * above
            motion = sum(sp.diff(nearest - seen, x) * v for x, v in modes.items())
            closed = kp_gap(t, decay, gap)
            out.append(sp.simplify(motion.subs(nearest, seen + closed) - sp.diff(closed, t)))
        return tuple(out)

    @classmethod
    def example(cls, rule, seed=0):
        cls.check_rule(rule)
        rng, rank = examples.generator(seed), examples.rank_of(rule)
        depth = int(rng.integers(2, 5))
        widths = (int(rng.integers(1, 5)), *(int(rng.integers(rank, rank + 4)) for _ in range(depth)))
        Sxx = examples.moment(rng, widths[0], 0.3, 1.2)
        task = Task.teacher(examples.matrix(rng, widths[-1], widths[0], 0.3, 1.0), Sxx)
        network = Network.small(widths, scale=0.5, seed=seed)
        # Half the usual size: descent with a learning rate of 0.1 stays finite.
        feedback = tuple(tuple(0.5 * B for B in stored) for stored in examples.feedback(rule, rng, widths))
        return Setup(task, network, np.linspace(0, 6, 25), feedback)


RESULTS = (
    of_flow("E4", KolenPollackDecay, kolen_pollack(), ldfa(2, "kolen-pollack")),
    of_descent("E4d", KolenPollackDecay, kolen_pollack(), ldfa(2, "kolen-pollack")),
)
