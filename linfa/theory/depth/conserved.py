"""What feedback alignment conserves in deep networks, layer by layer and with a broadcast."""

import numpy as np

from linfa.network import Network
from linfa.rules import Direct, RandomFactors, Rule, dfa, fa, ldfa
from linfa.simulate import simulate
from linfa.task import Task
from linfa.theory import examples, invariants
from linfa.theory.base import relative_error
from linfa.theory.result import Result


def drift(quantity, rule, seed: int, depth: int, narrow: int = 0) -> float:
    """Largest relative change of an invariant along the flow from random weights, with data that are not white.

    Args:
        quantity: a function of (rule, state).
        rule: a rule with feedback at this depth.
        seed: of the problem.
        depth: number of weights.
        narrow: how many units fewer than outputs the first hidden layer has.

    >>> drift(invariants.feedback_alignment, fa(), seed=0, depth=3) < 1e-8
    True
    """
    rng = examples.generator(seed)
    m = int(rng.integers(2, 4))
    hidden = [m + int(rng.integers(0, 3)) for _ in range(depth - 1)]
    hidden[0] -= narrow
    widths = (int(rng.integers(1, 5)), *hidden, m)
    Sxx = examples.moment(rng, widths[0], 0.3, 1.2)
    task = Task.teacher(examples.matrix(rng, m, widths[0], 0.3, 1.0), Sxx, noise=0.1)
    network = Network.small(widths, scale=0.7, seed=seed)
    feedback = examples.feedback(rule, rng, widths)
    run = simulate(rule, task, network, np.linspace(0, 2, 5), feedback=feedback, rtol=1e-11, atol=1e-13)
    values = quantity(rule, run.states)
    return relative_error(tuple(value[:1].repeat(5, 0) for value in values), values)


def _shared(seed):
    """Low-rank broadcasts whose rows all span the same directions."""
    rule, rng = Rule(Direct(), RandomFactors(2)), examples.generator(seed)
    widths, P = (3, 4, 3, 4), rng.standard_normal((2, 4))
    feedback = tuple((rng.standard_normal((k, 2)), examples.matrix(rng, 2, 2, 0.8, 1.25) @ P) for k in widths[1:-1])
    task = Task.teacher(examples.matrix(rng, 4, 3, 0.3, 1.0), examples.moment(rng, 3, 0.3, 1.2))
    network = Network.small(widths, scale=0.7, seed=seed)
    run = simulate(rule, task, network, np.linspace(0, 1, 5), feedback=feedback, rtol=1e-11, atol=1e-13)
    values = invariants.direct_feedback_alignment(rule, run.states)
    return relative_error(tuple(value[:1].repeat(5, 0) for value in values), values)


def _layerwise(seed):
    rules = fa(), ldfa(2, "fixed")
    return max(drift(invariants.feedback_alignment, rule, seed, depth) for rule in rules for depth in (3, 4))


def _direct(seed):
    seen = (
        drift(invariants.direct_feedback_alignment, dfa(), seed, depth, narrow) for depth, narrow in ((3, 1), (4, 0))
    )
    return max(*seen, _shared(seed))


RESULTS = (
    Result(
        "E6",
        "layerwise FA at any depth conserves W_l W_l^T - B_l W_(l+1) - W_(l+1)^T B_l^T",
        "derived here",
        1e-8,
        _layerwise,
    ),
    Result(
        "E7",
        "DFA conserves W_l W_l^T - C_l W_(l+1) - W_(l+1)^T C_l^T, C_l = B_l B_(l+1)^+, if row(B_l) is in row(B_(l+1))",
        "derived here",
        1e-8,
        _direct,
    ),
)
