"""Feedback alignment with a learning rate for each layer: the same as without, through other feedback."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, final

import numpy as np

from linfa.algebra import T, product
from linfa.dynamics import State
from linfa.rules import Dense, Euclidean, LayerRates, Layerwise, RandomFactors, Rule, fa
from linfa.simulate import simulate
from linfa.theory import assumptions, invariants
from linfa.theory.alignment.problem import FixedFeedbackProblem
from linfa.theory.alignment.zero_init_fa import ZeroInitFA
from linfa.theory.base import AssumptionError, Theory, relative_error
from linfa.theory.result import Result, descent_error, flow_error
from linfa.theory.scalar import sqrt

__all__ = ["LayerRatesFA", "at_equal_rates"]


def at_equal_rates(state: State, rates) -> State:
    """The state whose learning at rates 1, 1 is that of a state at rates eta_1, eta_2, from any start, on any task.

    W_1 -> sqrt(eta_2) W_1,   W_2 -> W_2 / sqrt(eta_2),   B -> eta_1 sqrt(eta_2) B

    The map W_2 W_1 stays, and the two learn the same for ever, in flow and in descent.  What feedback alignment
    conserves is eta_2 W_1 W_1^T - eta_1 (B W_2 + W_2^T B^T) in the state's own terms.

    Args:
        state: of a two-layer network with fixed feedback, whose first factor is scaled.
        rates: eta_1 and eta_2, positive.

    Raises:
        ValueError: for a rate that is not positive: a frozen layer has no such state.

    Source: derived here (`derivations.fa_layer_rates`).

    >>> one = np.ones((1, 1))
    >>> small = at_equal_rates(State((one, one), ((one,),)), (3.0, 4.0))
    >>> [float(part[0, 0]) for part in (*small.weights, *small.feedback[0])]
    [2.0, 0.5, 6.0]
    """
    first, second = rates
    if not (first > 0 and second > 0):
        raise ValueError(f"learning rates are positive here; got {first} and {second}")
    W1, W2 = state.weights
    ((nearest, *others),) = state.feedback
    root = sqrt(second)
    return State((root * W1, W2 / root), ((first * root * nearest, *others),))


@final
@dataclass(frozen=True, eq=False)
class LayerRatesFA(Theory):
    """Feedback alignment from zero weights with learning rates eta_1 and eta_2 of the two layers.

    `ZeroInitFA` through eta_1 sqrt(eta_2) B (`at_equal_rates`): the modes of B Sigma = U diag(s_i) V^T keep the curve
    x_i^3, with T_i = (2 / (eta_1^2 eta_2 s_i^2))^(1/3), in flow and, with its recursion, in descent.

    Assumptions: those of `ZeroInitFA`, and two positive rates.

    Source: derived here (`derivations.fa_layer_rates`).

    Raises:
        AssumptionError: outside the assumptions.

    >>> import linfa
    >>> rule = Rule(Layerwise(), Dense(), geometry=LayerRates((0.5, 2.0)))
    >>> task = linfa.Task.from_spectrum([2.0, 1.0], seed=0)
    >>> run = linfa.simulate(rule, task, linfa.Network.zero((2, 4, 2)), time=5.0, rtol=1e-11)
    >>> LayerRatesFA(rule, task, run.at(0)).error(run) < 1e-8
    True
    """

    statement: ClassVar[str] = (
        "FA from zero weights with layer rates: T_i = (2/(eta_1^2 eta_2 s_i^2))^(1/3), same x_i^3"
    )
    source: ClassVar[str] = "derived here"
    exact_in_discrete_time: ClassVar[bool] = True

    @classmethod
    def check_rule(cls, rule):
        if type(rule.geometry) is not LayerRates:
            raise AssumptionError(f"layers have no learning rates of their own: {rule.geometry}")
        rates = rule.geometry.rates
        if len(rates) != 2 or not min(rates) > 0:
            raise AssumptionError(f"learning rates are not two positive numbers: {rates}")
        assumptions.fixed_feedback(_plain(rule))

    def check_start(self):
        self.equal.check_start()

    @cached_property
    def equal(self) -> ZeroInitFA:
        """The theory at equal rates, through the other feedback."""
        assumptions.depth(self.start, 2)
        return ZeroInitFA(_plain(self.rule), self.task, at_equal_rates(self.start, self.rule.geometry.rates))

    def weights(self, times) -> tuple[np.ndarray, np.ndarray]:
        """W_1 (t, k, n_in) and W_2 (t, n_out, k)."""
        W1, W2 = self.equal.weights(times)
        root = np.sqrt(self.rule.geometry.rates[1])
        return W1 / root, root * W2

    def predict(self, times):
        """W_2 W_1 at the times (t,): (t, n_out, n_in)."""
        return self.equal.predict(times)

    def discrete(self, lr, steps):
        """W_2 W_1 after 0 .. steps steps of descent: (steps + 1, n_out, n_in)."""
        return self.equal.discrete(lr, steps)

    def observed(self, trajectory):
        return trajectory.map

    @classmethod
    def residuals(cls, equations):
        """Those of `ZeroInitFA`, and the velocities of the state at equal rates minus those of equal rates."""
        import sympy as sp

        from linfa.symbolic import derive

        rule = equations.rule
        plain, rates = derive(_plain(rule), 2), tuple(sp.nsimplify(r, rational=True) for r in rule.geometry.rates)
        modes = {x: sp.nsimplify(v, rational=True) for x, v in equations.modes().items()}
        wanted = plain.modes()
        w1, w2, *stored = modes
        small = at_equal_rates(State((w1, w2), (tuple(stored),)), rates)
        equal = dict(zip(wanted, (*small.weights, *small.feedback[0]), strict=True))
        out = []
        for symbol, v in wanted.items():
            moves = sum(sp.diff(equal[symbol], x) * velocity for x, velocity in modes.items())
            out.append(sp.simplify(moves - v.subs(equal, simultaneous=True)))
        return (*out, *ZeroInitFA.residuals(plain))

    @classmethod
    def example(cls, rule, seed=0):
        cls.check_rule(rule)
        return ZeroInitFA.example(_plain(rule), seed)


def _plain(rule):
    return dataclasses.replace(rule, geometry=Euclidean())


def _rules(seed):
    """Dense feedback and factors, with rates from 0.4 to 1.6."""
    rates = LayerRates(tuple(float(rate) for rate in np.random.default_rng((seed, 21)).uniform(0.4, 1.6, 2)))
    return Rule(Layerwise(), Dense(), geometry=rates), Rule(Layerwise(), RandomFactors(2), geometry=rates)


def _flow(seed):
    worst = max(flow_error(LayerRatesFA, rule, seed) for rule in _rules(seed))
    problem, rule = FixedFeedbackProblem.draw(seed, white=False), _rules(seed)[0]
    first, second = rule.geometry.rates
    feedback, times = ((problem.B,),), [0.0, 1.0, 4.0]
    run = simulate(rule, problem.task, problem.network, times, feedback=feedback, rtol=1e-11, atol=1e-13)
    W1, W2 = run.weights
    mixed = product((problem.B, W2))
    C = second * W1 @ T(W1) - first * (mixed + T(mixed))
    (same,) = invariants.feedback_alignment(fa(), at_equal_rates(run.at(0), (first, second)))
    return max(worst, relative_error(np.broadcast_to(same, C.shape), C))


RESULTS = (
    Result("X11", f"{LayerRatesFA.statement}; eta_2 W_1 W_1^T - eta_1 (B W_2 + W_2^T B^T) is conserved", "derived here",
           1e-8, _flow),
    Result("X11d", f"{LayerRatesFA.statement}, exactly in discrete time", "derived here", 1e-11,
           lambda seed: max(descent_error(LayerRatesFA, rule, seed) for rule in _rules(seed))),
)  # fmt: skip
