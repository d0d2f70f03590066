"""Feedback that averages sampled maps is less noisy than one sample: the forward gradient against directional DFA."""

import numpy as np

from linfa import observe
from linfa.algebra import T
from linfa.dynamics import signals, start
from linfa.rules import Dense, Direct, Layerwise, Mirror, Rule
from linfa.simulate import descend
from linfa.theory.directional.problem import (
    arriving_moments,
    draw,
    ensemble,
    forward_maps,
    frozen,
    projected,
    standard_errors,
)
from linfa.theory.directional.sampled import directional_variance, signal_variance
from linfa.theory.result import Result

__all__ = ["averaging_variance"]


def averaging_variance(a, steps=None):
    """Variance of B in units of that of a sample M, B <- (1 - a) B + a M^T: a / (2 - a) (1 - (1 - a)^(2 t)) at step t.

    For feedback from a given start on frozen weights, M = d v^T drawn anew at every step.  a = 1 forgets everything but
    the last sample, which is the forward gradient one step late; small a averages over 2 / a - 1 samples.  Weights use
    B before its update and so with noise that is independent of the batch it is used on: the same factor multiplies the
    variance of whatever the feedback delivers, `signal_variance`.

    Args:
        a: learning rate times leak, in (0, 2), a number or a SymPy expression.
        steps: t; None for the end.

    Raises:
        ValueError: for a number outside (0, 2), where the noise adds up without bound.

    Source: derived here (`derivations.directional_variance`); elementary.

    >>> averaging_variance(1.0), averaging_variance(0.5), averaging_variance(0.5, steps=1)
    (1.0, 0.3333333333333333, 0.25)
    """
    if not hasattr(a, "free_symbols") and not 0 < a < 2:
        raise ValueError(f"noise has no steady state: a = learning rate * leak is in (0, 2); got {a}")
    settled = a / (2 - a)
    return settled if steps is None else settled * (1 - (1 - a) ** (2 * steps))


LEARNING_RATE, STEPS, MEMBERS = 0.25, 40, 1000


def _settled(seed, *routes):
    """Ensembles that started at B = J^T: (a / (2 - a) / N, rule, task, network, last states, generator)."""
    for share in (0.2, 0.5, 1.0):
        for depth, route, directions in ((2, Direct(), 3), (3, Direct(), 1), (3, Layerwise(), 2)):
            if route not in routes:
                continue
            task, network = draw(seed + depth, depth)
            rate = share / LEARNING_RATE
            rule = frozen(Rule(route, Dense(), Mirror(rate, rate, directions)), depth)
            copies, stream = ensemble(network, MEMBERS), seed + int(1000 * share)
            feedback = tuple((T(J),) for J in forward_maps(rule, copies.weights))
            run = descend(rule, task, copies, LEARNING_RATE, STEPS, seed=stream, feedback=feedback, record=STEPS)
            rng = np.random.default_rng((stream, depth))
            yield averaging_variance(share) / directions, rule, task, network, run.at(-1), rng


def _maps(rule, network):
    """(J, S) of each edge."""
    return zip(forward_maps(rule, network.weights), arriving_moments(rule, network.weights), strict=True)


def _feedback(seed):
    total = 0
    for factor, rule, _, network, state, rng in _settled(seed, Direct(), Layerwise()):
        excess = [(stored[0] - J.T) ** 2 - factor * directional_variance(J, S).T
                  for stored, (J, S) in zip(state.feedback, _maps(rule, network), strict=True)]  # fmt: skip
        total = total + projected(excess, rng)
    return standard_errors(total)


def _gradients(seed):
    total = 0
    for factor, rule, task, network, state, rng in _settled(seed, Direct()):
        seen = signals(rule, start(rule, network), task.batch)
        error, excess = seen.errors[network.depth], []
        hidden = zip(observe.gradients(rule, state, task), seen.activities, _maps(rule, network), strict=False)
        for G, h, (J, S) in hidden:
            C = error @ h.T
            excess.append((G - J.T @ C) ** 2 - factor * signal_variance(J, S, C))
        total = total + projected(excess, rng)
    return standard_errors(total)


SIZE = f"one random projection in standard errors of {MEMBERS} runs of {STEPS} steps, a = 0.2, 0.5, 1"
RESULTS = (
    Result("F3", f"B <- (1 - a) B + a M^T on frozen weights has a / (2 - a) times the variance of one M: {SIZE}",
           "derived here", 3.0, _feedback),
    Result("F8", "broadcast weight gradients through this B, N directions a step, have variance a / (2 - a) / N "
           f"(c^T S c + (J^T c)_i^2), c the columns of E[e h^T]: {SIZE}", "derived here", 3.0, _gradients),
)  # fmt: skip
