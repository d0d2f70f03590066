"""A readout that learns on a frozen hidden layer: linear, and the same for every feedback."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from linfa.rules import Dense, LayerRates, Layerwise, Oja, RandomFactors, Rule
from linfa.theory import assumptions
from linfa.theory.base import Theory
from linfa.theory.dimension.frozen_readout import error_matrix, expm, frozen_readout_error, problem
from linfa.theory.result import of_flow

__all__ = ["FrozenHidden", "frozen_hidden_error"]


def frozen_hidden_error(W1, E0, times, Sxx=None) -> np.ndarray:
    """E(t) = E(0) e^(-W_1^T W_1 Sxx t): the readout alone learns, by its own error, whatever the feedback.

    Args:
        W1: hidden layer (k, n_in).
        E0: Syx - W_2 W_1 Sxx at time 0 (n_out, n_in).
        times: (t,).
        Sxx: second moment (n_in, n_in); None for the identity.

    Returns:
        (t, n_out, n_in).

    Source: known (linear regression on fixed features).

    >>> frozen_hidden_error(np.array([[1.0, 0.0]]), np.ones((1, 2)), [np.log(2.0)])[0].tolist()
    [[0.5, 1.0]]
    """
    seen = W1.T @ W1 if Sxx is None else W1.T @ W1 @ Sxx
    return E0 @ expm(-np.multiply.outer(times, seen))


@final
@dataclass(frozen=True, eq=False)
class FrozenHidden(Theory):
    """The readout alone learns: E(t) = E(0) e^(-W_1^T W_1 Sxx t), see `frozen_hidden_error`.

    Assumptions: two layers, W_1 frozen (`LayerRates` with a zero), no decay.  Any feedback, learning or not.

    Source: known (linear regression on fixed features).

    Raises:
        AssumptionError: outside the assumptions.

    >>> import linfa
    >>> rule = linfa.rules.Rule(linfa.rules.Layerwise(), linfa.rules.Dense(), geometry=LayerRates((0.0, 1.0)))
    >>> task, network = linfa.Task.from_spectrum([2.0, 1.0]), linfa.Network.small((2, 8, 2), scale=1.0)
    >>> run = linfa.simulate(rule, task, network, time=5.0, rtol=1e-11)
    >>> FrozenHidden(rule, task, run.at(0)).error(run) < 1e-8
    True
    """

    statement: ClassVar[str] = (
        "a readout on a frozen hidden layer: E(t) = E(0) e^(-W_1^T W_1 Sxx t), whatever the feedback"
    )
    source: ClassVar[str] = "known (linear regression on fixed features)"
    exact_in_discrete_time: ClassVar[bool] = True

    @classmethod
    def check_rule(cls, rule):
        assumptions.layer_rates(rule, False, True)
        assumptions.no_decay(rule)

    def check_start(self):
        assumptions.depth(self.start, 2)

    @property
    def _features(self):
        return np.sqrt(self.rule.geometry.rates[1]) * self.start.weights[0]

    def predict(self, times):
        """E = Syx - W_2 W_1 Sxx at the times (t,): (t, n_out, n_in)."""
        E0 = error_matrix(self.task, self.start)
        return frozen_hidden_error(self._features, E0, np.asarray(times, float), self.task.Sxx)

    def discrete(self, lr, steps):
        """E after 0 .. steps steps of descent: (steps + 1, n_out, n_in)."""
        E, seen = [error_matrix(self.task, self.start)], lr * self._features.T @ self._features @ self.task.Sxx
        for _ in range(steps):
            E.append(E[-1] - E[-1] @ seen)
        return np.array(E)

    def observed(self, trajectory):
        return error_matrix(trajectory.task, trajectory.states)

    @classmethod
    def residuals(cls, equations):
        """w_1' and w_2' minus the right-hand sides of one mode; its equation is that of a readout seen from above."""
        import sympy as sp

        t, e0 = sp.symbols("t e_0", real=True)
        modes = equations.modes()
        w1, w2, *_ = modes
        s = equations.strength
        features = sp.sqrt(sp.nsimplify(equations.rule.geometry.rates[1])) * sp.Matrix([[w1]])
        e = frozen_readout_error(features.T, features, sp.Matrix([[e0]]), t)[0]
        closed = (s - e) / w1
        gap = sp.diff(closed, t) - modes[w2].subs(w2, closed)
        return tuple(sp.nsimplify(sp.simplify(sp.nsimplify(g))) for g in (gap, modes[w1]))

    @classmethod
    def example(cls, rule, seed=0):
        cls.check_rule(rule)
        return problem(rule, seed)


RULES = (
    Rule(Layerwise(), Dense(), geometry=LayerRates((0.0, 1.0))),
    Rule(Layerwise(), RandomFactors(2), Oja(), geometry=LayerRates((0.0, 0.5))),
)

RESULTS = (of_flow("D4b", FrozenHidden, *RULES),)
