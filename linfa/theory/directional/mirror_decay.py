"""The bias of a mirror on weights at rest: it is forgotten at the rate of the leak."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from linfa.algebra import T, product
from linfa.network import Network
from linfa.rules import Dense, Direct, LayerRates, Layerwise, RandomFactors, Rule
from linfa.rules.plasticity import Mirror
from linfa.task import Task
from linfa.theory import assumptions, examples
from linfa.theory.base import AssumptionError, Setup, Theory
from linfa.theory.directional.leaky import leaky_descent, leaky_flow
from linfa.theory.directional.problem import forward_maps, frozen
from linfa.theory.result import of_descent, of_flow

__all__ = ["MirrorDecay", "mirror_targets"]


def mirror_targets(rule, state) -> tuple:
    """By edge J_l^T, or J_l^T P_l^T with two factors: what the stored matrix next to the activity takes in.

    Args:
        rule: a `Rule`.
        state: a `State`.

    >>> import linfa
    >>> state = linfa.dynamics.State((np.eye(2), np.diag([1.0, 2.0])), ((np.eye(2),),))
    >>> mirror_targets(linfa.directional_dfa(), state)[0].tolist()
    [[1.0, 0.0], [0.0, 2.0]]
    """
    maps = forward_maps(rule, state.weights)
    return tuple(T(product((*stored[1:], J))) for J, stored in zip(maps, state.feedback, strict=True))


@final
@dataclass(frozen=True, eq=False)
class MirrorDecay(Theory):
    """B = e^(-leak t) B_0 + gain / leak (1 - e^(-leak t)) J^T on weights at rest; with two factors Q, and J^T P^T.

    So B - gain / leak J^T, the bias of the feedback, is multiplied by e^(-leak t), and in a step of descent with
    learning rate eta by 1 - a, a = eta leak.  Without a leak B = B_0 + gain t J^T.  The flow takes the expectation over
    directions; descent that samples them obeys the closed form in the mean (`averaging_variance` has the spread).

    Assumptions: `Mirror` plasticity, all weights frozen (`LayerRates` of zeros), no decay.  Any depth, any route that
    carries errors down, any factors, start and data.

    Source: derived here (`derivations.mirror_decay`); the rules are those of Akrout et al. (2019) and of Bacho & Chu
    (arXiv 2212.07282), read in the authors' released code.

    Raises:
        AssumptionError: outside the assumptions.

    >>> import linfa
    >>> rule = frozen(linfa.directional_dfa(rate=2.0), depth=3)
    >>> task, network = linfa.Task.from_spectrum([2.0, 1.0]), linfa.Network.small((2, 4, 3, 2), scale=1.0)
    >>> run = linfa.simulate(rule, task, network, time=2.0, rtol=1e-11)
    >>> MirrorDecay(rule, task, run.at(0)).error(run) < 1e-8
    True
    """

    statement: ClassVar[str] = "a mirror on frozen weights: B - gain / leak J^T decays as e^(-leak t)"
    source: ClassVar[str] = "derived here; the rules are those of Akrout et al. (2019) and Bacho & Chu (2022)"
    exact_in_discrete_time: ClassVar[bool] = True

    @classmethod
    def check_rule(cls, rule):
        if type(rule.plasticity) is not Mirror:
            raise AssumptionError(f"feedback does not follow the forward map: {rule.plasticity}")
        depth = len(rule.geometry.rates) if isinstance(rule.geometry, LayerRates) else 2
        assumptions.layer_rates(rule, *(False,) * depth)
        assumptions.no_decay(rule)
        if not rule.route.edges(depth):
            raise AssumptionError(f"no feedback edge in a network of depth {depth}: {rule.route}")

    def check_start(self):
        assumptions.depth(self.start, len(self.rule.geometry.rates))

    def _moving(self):
        """B_0 or Q_0 of each edge, with what it takes in at what rate."""
        stored = (matrices[0] for matrices in self.start.feedback)
        return zip(stored, (self.rule.plasticity.gain * B for B in mirror_targets(self.rule, self.start)), strict=True)

    def predict(self, times):
        """B_l, or Q_l, for each edge l: a tuple of (t, n_l, n_s or r)."""
        times = np.asarray(times, dtype=float)[:, None, None]
        return tuple(leaky_flow(times, self.rule.plasticity.leak, B, drive) for B, drive in self._moving())

    def discrete(self, lr, steps):
        """The same after 0 .. steps steps of descent; None if they sample directions."""
        if self.rule.plasticity.directions is not None:
            return None
        a = lr * self.rule.plasticity.leak
        return tuple(leaky_descent(steps, a, B, lr * drive) for B, drive in self._moving())

    def observed(self, trajectory):
        return tuple(stored[0] for stored in trajectory.feedback)

    @classmethod
    def residuals(cls, equations):
        """d/dt of the closed form minus the velocity of the mode, with the closed form in it."""
        import sympy as sp

        t, start = sp.Symbol("t", positive=True), sp.Symbol("b_0", real=True)
        modes, learn, out = equations.modes(), equations.rule.plasticity, []
        weights, stored = list(modes)[: equations.depth], iter(list(modes)[equations.depth :])
        for edge in equations.rule.route.edges(equations.depth):
            nearest, *others = (next(stored) for _ in equations.rule.feedback.names)
            gain, leak = map(sp.nsimplify, (learn.gain, learn.leak))
            closed = leaky_flow(t, leak, start, gain * sp.prod([*others, *weights[edge.activity : edge.source]]))
            moves = sp.nsimplify(modes[nearest]).subs(nearest, closed)
            out += [sp.simplify(sp.diff(closed, t) - moves), *(modes[x] for x in (*weights, *others))]
        return tuple(out)

    @classmethod
    def example(cls, rule, seed=0):
        cls.check_rule(rule)
        rng, rank = examples.generator(seed), examples.rank_of(rule)
        widths = tuple(int(n) for n in rng.integers(rank, rank + 4, len(rule.geometry.rates) + 1))
        weight = examples.matrix(rng, widths[-1], widths[0], 0.5, 1.5)
        task = Task.teacher(weight, examples.moment(rng, widths[0], 0.3, 1.2))
        feedback = examples.feedback(rule, rng, widths)
        return Setup(task, Network.small(widths, scale=1.0, seed=seed), np.linspace(0, 4, 17), feedback)


RULES = (
    *(frozen(Rule(Direct(), Dense(), Mirror(2.0, 2.0)), depth) for depth in (2, 3, 5)),
    frozen(Rule(Direct(exact_top=1), RandomFactors(2), Mirror(0.5, 1.5)), 4),
    frozen(Rule(Layerwise(), Dense(), Mirror(0.7, 0.0)), 3),
    frozen(Rule(Layerwise(), RandomFactors(2), Mirror(1.0, 0.5)), 4),
)
RESULTS = (of_flow("F4", MirrorDecay, *RULES), of_descent("F4d", MirrorDecay, *RULES))
