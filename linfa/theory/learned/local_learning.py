"""Greedy local learning: the first layer and its head are a two-layer network that learns by backprop."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, final

import numpy as np

from linfa.algebra import T
from linfa.dynamics import State
from linfa.network import Network
from linfa.rules import Dense, KolenPollack, Local, bp, local
from linfa.simulate import descend, simulate
from linfa.task import Task
from linfa.theory import assumptions, examples
from linfa.theory.backprop.saxe import SaxeMode, bp_mode
from linfa.theory.backprop.unbalanced import UnbalancedMode
from linfa.theory.base import AssumptionError, Setup, Theory, relative_error
from linfa.theory.result import Result, of_flow
from linfa.theory.scalar import exp, sqrt

__all__ = ["LocalMode", "first_head", "readout_memory"]


def first_head(state) -> State:
    """The first layer and its head as a two-layer network, W_1 and B_1^T.

    Under local learning it moves exactly as backprop moves it, in flow and in descent, at any depth, from any start, on
    any task, with any decay: what is above does not reach it.  Nor does it where modules are reconciled, since each is
    moved towards the one below.

    Args:
        state: of `linfa.local`, or of `linfa.sgr` with one layer a module; with any leading axes.

    Source: derived here (`derivations.local_learning`).

    >>> first_head(State((np.ones((4, 3)), np.ones((2, 4))), ((np.zeros((4, 2)),),))).weights[1].shape
    (2, 4)
    """
    return State((state.weights[0], T(state.feedback[0][0])), ((),))


def readout_memory(t, s, u0):
    """e^(-st) sqrt(u(t)/u_0), what is left along a mode of W_2(0) - B_1(0)^T, with u(t) of `bp_mode`.

    The readout of two layers is a second head on the same hidden layer: W_2 - B_1^T decays by W_1 W_1^T.  It forgets at
    last as e^(-st), the slower the weaker the mode, and not at all in directions that W_1 does not use.

    Args:
        t: times; s: singular value of the task, more than 0; u0: strength w_1 b_1 at time 0, more than 0.  All are
            numbers, arrays that broadcast, or SymPy expressions.

    Source: derived here (`derivations.local_learning`).

    >>> float(readout_memory(np.log(2.0), s=1.0, u0=1.0))
    0.5
    """
    return exp(-s * t) * sqrt(bp_mode(t, s, u0) / u0)


@final
@dataclass(frozen=True, eq=False)
class LocalMode(Theory):
    """Local learning where the first layer and its head start along the singular vectors of a white task.

    W_1 = R diag(a_i) V^T and B_1^T = U diag(b_i) R^T with Sigma = Syx = U diag(s_i) V^T stay so, and B_1^T W_1 (t) =
    U diag(u_i(t)) V^T with u_i(t) from `bp_mode_unbalanced` at lambda_i = b_i^2 - a_i^2, and from `bp_mode` where that
    is 0: this is `UnbalancedMode` for `first_head`.

    Assumptions: local learning of single layers, reconciled or not, without decay, at any depth; Sxx = I; the start
    above, a_i and b_i of any sign.  The layers above start anywhere.

    Source: derived here (`derivations.local_learning`).

    Raises:
        AssumptionError: outside the assumptions.

    >>> import linfa
    >>> setup = LocalMode.example(linfa.local())
    >>> run = linfa.simulate(
    ...     linfa.local(), setup.task, setup.network, setup.times, feedback=setup.feedback, rtol=1e-11
    ... )
    >>> LocalMode(linfa.local(), setup.task, run.at(0)).error(run) < 1e-8
    True
    """

    statement: ClassVar[str] = "local learning: B_1^T W_1 learns each aligned mode as backprop of two layers does"
    source: ClassVar[str] = "derived here"

    @classmethod
    def check_rule(cls, rule):
        assumptions.on_route(rule, Local)
        assumptions.no_decay(rule)
        if rule.route.modules:
            raise AssumptionError(f"a module may have several layers: {rule.route}")
        if type(rule.plasticity) is not KolenPollack:
            raise AssumptionError(f"heads do not descend their own losses: {rule.plasticity}")
        if type(rule.feedback) is not Dense:
            raise AssumptionError(f"heads are not full matrices: {rule.feedback}")

    def check_start(self):
        if len(self.start.weights) < 2:
            raise AssumptionError("depth is 1: there is no hidden layer")
        self.backprop  # noqa: B018  checks the start

    @cached_property
    def backprop(self) -> UnbalancedMode:
        """The theory of backprop for the first layer and its head."""
        return UnbalancedMode(bp(), self.task, first_head(self.start))

    def predict(self, times):
        """B_1^T W_1 at the times (t,): (t, n_out, n_in)."""
        return self.backprop.predict(times)

    def observed(self, trajectory):
        W1, head = first_head(trajectory).weights
        return head @ W1

    @classmethod
    def residuals(cls, equations):
        """w_1' and b_1' minus those of w_1 and w_2 under backprop, and what `UnbalancedMode` leaves of these."""
        from linfa.symbolic import derive

        backprop, modes = derive(bp(), 2), equations.modes()
        pair = next(iter(modes)), list(modes)[equations.depth]
        renamed = dict(zip(backprop.modes(), pair, strict=True))
        same = (modes[renamed[w]] - v.subs(renamed, simultaneous=True) for w, v in backprop.modes().items())
        return (*(r.expand() for r in same), *UnbalancedMode.residuals(backprop))

    @classmethod
    def example(cls, rule, seed=0):
        cls.check_rule(rule)
        setup, rng = UnbalancedMode.example(bp(), seed), examples.generator(seed)
        W1, head = setup.network.weights
        widths = (*W1.shape[::-1], *(int(width) for width in rng.integers(1, 5, rng.integers(0, 3))), len(head))
        above = Network.small(widths[1:], scale=0.7, seed=seed).weights
        feedback = ((head.T,), *examples.feedback(rule, rng, widths)[1:])
        return Setup(setup.task, Network((W1, *above)), setup.times, feedback)


def _drawn(seed):
    """A rule with decay, a task and a network of no special relation, and feedback."""
    rng = examples.generator(seed)
    widths = tuple(int(width) for width in rng.integers(1, 5, rng.integers(3, 6)))
    rule = local(decay=float(rng.choice([0.0, 0.2])))
    task = Task.teacher(
        examples.matrix(rng, widths[-1], widths[0], 0.5, 1.5), examples.moment(rng, widths[0], 0.4, 1.3)
    )
    return rule, task, Network.small(widths, scale=0.7, seed=seed), examples.feedback(rule, rng, widths)


def _equivalence(run_of):
    def measure(seed):
        rule, task, network, feedback = _drawn(seed)
        run = run_of(rule, task, network, feedback)
        two = run_of(bp(rule.decay), task, Network(first_head(run.at(0)).weights), None)
        return relative_error(two.weights, first_head(run).weights)

    return measure


@_equivalence
def _flow(rule, task, network, feedback):
    return simulate(rule, task, network, np.linspace(0, 6, 13), feedback=feedback, rtol=1e-11, atol=1e-13)


@_equivalence
def _descent(rule, task, network, feedback):
    return descend(rule, task, network, 0.05, 150, batch_size=7, feedback=feedback)


def _memory(seed):
    rng = examples.generator(seed)
    setup = SaxeMode.example(bp(), seed)
    W1, head = setup.network.weights
    W2 = rng.standard_normal(head.shape)
    run = simulate(local(), setup.task, Network((W1, W2)), setup.times, feedback=((head.T,),), rtol=1e-11, atol=1e-13)
    closed = SaxeMode(bp(), setup.task, first_head(run.at(0)))
    _, s, u, Vt = closed.modes
    R = W1 @ Vt.T / np.sqrt(u)
    left = readout_memory(setup.times[:, None], np.maximum(s, 0), u)
    gap = (W2 - head) - (((W2 - head) @ R) * (1 - left)[:, None, :]) @ R.T
    return relative_error(gap, run.weights[1] - first_head(run).weights[1])


RESULTS = (
    of_flow("L1", LocalMode, local()),
    Result("L1b", "local learning: (W_1, B_1^T) is two layers under backprop, for any depth, start, data and decay",
           "derived here", 1e-8, _flow),
    Result("L1d", "the same in descent, batch for batch", "derived here", 1e-11, _descent),
    Result("L1r", "local learning, two layers: W_2 - B_1^T decays as e^(-st) sqrt(u/u_0), with u of backprop",
           "derived here", 1e-8, _memory),
)  # fmt: skip
