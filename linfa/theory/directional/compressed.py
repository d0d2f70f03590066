"""Directional DFA of rank r: feedback becomes J^T P^T P, and learning backprop on the targets P y."""

import numpy as np

from linfa.algebra import T
from linfa.network import Network
from linfa.rules import Direct, Layerwise, Mirror, RandomFactors, Rule, bp, directional_dfa
from linfa.simulate import simulate
from linfa.theory import examples
from linfa.theory.base import relative_error
from linfa.theory.dimension.compressed_backprop import compressed_task
from linfa.theory.directional.convergence import TAUS, realisable
from linfa.theory.directional.problem import draw, forward_maps, frozen
from linfa.theory.modes.problem import observed_order
from linfa.theory.result import Result

__all__ = ["compressed_feedback"]


def compressed_feedback(J, P):
    """J^T P^T P, where the feedback Q P of a mirror ends when gain = leak: Q = J^T P^T, and P stays.

    The units learn as in the gradient of 1/2 |P (y - W x)|^2 where every edge is a broadcast with the same P.  Then
    (W_1, .., W_(L-1), P W_L) is backprop on the targets P y as long as Q = J^T P^T, and up to O(tau) for a mirror of
    rate 1 / tau.  At two layers this is `CompressedBackprop`, where Kolen-Pollack keeps Q at W_2^T P^T exactly.  With
    orthonormal rows of P the feedback is J^T, projected.

    Args:
        J: forward map of the edge (..., n_s, n_l).
        P: (..., r, n_s).

    Returns:
        (..., n_l, n_s).

    Raises:
        ValueError: for shapes that do not match.

    Source: derived here (`derivations.mirror_decay`).

    >>> compressed_feedback(np.diag([2.0, 3.0]), np.array([[1.0, 1.0]])).tolist()
    [[2.0, 2.0], [3.0, 3.0]]
    """
    if J.shape[-2] != P.shape[-1]:
        raise ValueError(f"P takes {P.shape[-1]} errors where the map of the edge gives {J.shape[-2]}")
    return T(P @ J) @ P


def _at_rest(seed):
    """Feedback after 30 time constants on frozen weights."""
    worst = 0.0
    for depth, route in ((2, Layerwise()), (3, Direct()), (4, Layerwise()), (5, Direct())):
        task, network = draw(seed + depth, depth, least=2)
        rule = frozen(Rule(route, RandomFactors(2), Mirror(4.0, 4.0)), depth)
        end = simulate(rule, task, network, [0.0, 7.5], seed=seed, rtol=1e-11, atol=1e-13).at(-1)
        maps = forward_maps(rule, network.weights)
        closed = tuple(compressed_feedback(J, P) for J, (_, P) in zip(maps, end.feedback, strict=True))
        worst = max(worst, relative_error(closed, tuple(Q @ P for Q, P in end.feedback)))
    return worst


def _learning(seed):
    """Order in tau of the distance from backprop on the targets P y, one P for all edges."""
    task, network = realisable(seed, depth=2 + seed % 3, outputs=3)
    P = examples.matrix(examples.generator(seed), 2, task.n_out, 0.8, 1.25)
    times, (*below, above) = np.linspace(0, 1.5, 7), network.weights
    exact = simulate(bp(), compressed_task(task, P), Network((*below, P @ above)), times, rtol=1e-11, atol=1e-13)
    errors = []
    for tau in TAUS:
        rule = directional_dfa(1 / tau, rank=2)
        feedback = tuple((T(P @ J), P) for J in forward_maps(rule, network.weights))
        run = simulate(rule, task, network, times, feedback=feedback, rtol=1e-11, atol=1e-13)
        errors.append(relative_error(exact.weights, (*run.weights[:-1], P @ run.weights[-1])))
    return abs(observed_order(TAUS, errors) - 1)


RESULTS = (
    Result("F7", "with two factors and P fixed a mirror with gain = leak ends at the feedback J^T P^T P",
           "derived here", 1e-8, _at_rest),
    Result("F7b", "directional DFA of rate 1 / tau with one P for all edges, from Q = J^T P^T, stays within O(tau) of "
           "backprop of (W_1, .., W_(L-1), P W_L) on the targets P y", "derived here", 0.1, _learning),
)  # fmt: skip
