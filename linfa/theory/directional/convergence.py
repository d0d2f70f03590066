"""Directional DFA becomes backprop: in the end, and all the way when its feedback is fast."""

import itertools

import numpy as np

from linfa.algebra import T, product
from linfa.dynamics import velocity
from linfa.network import Network
from linfa.rules import bp, directional_dfa
from linfa.simulate import simulate
from linfa.task import Task
from linfa.theory import examples
from linfa.theory.base import relative_error
from linfa.theory.directional.problem import forward_maps
from linfa.theory.modes.problem import observed_order
from linfa.theory.result import Result

__all__ = ["following_feedback", "map_velocities"]

TAUS = (1 / 100, 1 / 200)


def map_velocities(rule, weights, moves) -> tuple:
    """By edge dJ/dt, when the weights move as W_l' = V_l (product rule).

    Args:
        rule: a `Rule`.
        weights: W_1 .. W_L (..., n_l, n_(l-1)).
        moves: V_1 .. V_L of the same shapes.

    >>> import linfa
    >>> weights = np.eye(1), 2 * np.eye(1), 3 * np.eye(1)
    >>> [dJ.item() for dJ in map_velocities(linfa.dfa(), weights, (np.eye(1), np.eye(1), 5 * np.eye(1)))]
    [13.0, 5.0]
    """
    out = []
    for edge in rule.route.edges(len(weights)):
        layers = range(edge.source - 1, edge.activity - 1, -1)
        out.append(sum(product(tuple((moves if i == j else weights)[i] for i in layers)) for j in layers))
    return tuple(out)


def following_feedback(rule, weights, moves, tau) -> tuple:
    """By edge J^T - tau dJ^T/dt, what feedback with tau B' = J^T - B has become after a few tau, up to O(tau^2).

    Args:
        rule: a `Rule`.
        weights, moves: W_1 .. W_L and their velocities.
        tau: 1 / rate.

    Source: derived here: the end of `leaky_flow` with dJ/dt for a drive that varies slowly.

    >>> import linfa
    >>> following_feedback(linfa.dfa(), (np.eye(1), np.eye(1)), (np.eye(1), 2 * np.eye(1)), 0.25)[0].item()
    0.5
    """
    both = zip(forward_maps(rule, weights), map_velocities(rule, weights, moves), strict=True)
    return tuple(T(J) - tau * T(dJ) for J, dJ in both)


def realisable(seed: int, depth: int, outputs: int | None = None) -> tuple[Task, Network]:
    """A network that can solve its task, hidden layers wide enough, from a start that is not far away."""
    rng = examples.generator(seed)
    n, m = (int(i) for i in rng.integers(1, 4, 2))
    m = outputs or m
    widths = (n, *(max(n, m) + int(more) for more in rng.integers(0, 3, depth - 1)), m)
    weights = tuple(examples.matrix(rng, b, a, 0.8, 1.2) for a, b in itertools.pairwise(widths))
    change = examples.matrix(rng, m, n, 0.2, 0.5)
    return Task.teacher(product(tuple(reversed(weights))) + change), Network(weights)


def from_the_map(rule, task, network, times):
    """The flow of a rule with one feedback matrix to an edge, from B = J^T."""
    feedback = tuple((T(J),) for J in forward_maps(rule, network.weights))
    return simulate(rule, task, network, times, feedback=feedback, rtol=1e-11, atol=1e-13)


def _in_the_end(seed):
    worst = 0.0
    for depth in (2, 3, 4):
        task, network = realisable(seed, depth)
        run = simulate(directional_dfa(rate=8.0), task, network, np.linspace(0, 40, 81), rtol=1e-9, atol=1e-14)
        learnt = run.loss / run.loss[0]
        while_learning = run.update_alignment[learnt > 1e-18][-1]
        worst = max(worst, learnt[-1], 1 - while_learning.min())
    return float(worst)


def _order(seed):
    task, network = realisable(seed, depth=2 + seed % 3)
    times = np.linspace(0, 1.5, 7)
    exact = simulate(bp(), task, network, times, rtol=1e-11, atol=1e-13)
    runs = (from_the_map(directional_dfa(1 / tau), task, network, times) for tau in TAUS)
    return abs(observed_order(TAUS, [relative_error(exact.weights, run.weights) for run in runs]) - 1)


def _following(seed):
    task, network = realisable(seed, depth=2 + seed % 3)
    errors = []
    for tau in TAUS:
        rule = directional_dfa(1 / tau)
        run = from_the_map(rule, task, network, [0.0, 0.5, 1.0])
        moves = velocity(rule, run.states, task.batch).weights
        closed = following_feedback(rule, run.weights, moves, tau)
        errors.append(relative_error(tuple(B[1:] for B in closed), tuple(stored[0][1:] for stored in run.feedback)))
    return abs(observed_order(TAUS, errors) - 2)


RESULTS = (
    Result("F6", "directional DFA from B = 0, its rate well above the speed of learning, solves a realisable task and "
           "in the end every layer's update is that of backprop: the loss and 1 - cos vanish", "derived here",
           1e-6, _in_the_end),
    Result("F6b", "from B = J^T directional DFA of rate 1 / tau stays within O(tau) of backprop", "derived here",
           0.1, _order),
    Result("F6c", "its feedback is J^T - tau dJ^T/dt up to O(tau^2)", "derived here", 0.1, _following),
)  # fmt: skip
