"""Forward maps of the edges of a network, random problems, and errors in units of their standard error."""

import dataclasses

import numpy as np

from linfa.algebra import T, product
from linfa.network import Network
from linfa.rules import LayerRates
from linfa.task import Task
from linfa.theory import examples

__all__ = ["arriving_moments", "forward_maps"]


def forward_maps(rule, weights) -> tuple:
    """By edge the map J_l = W_s .. W_(l+1) from the cut l that it reaches to the cut s that it comes from.

    Args:
        rule: a `Rule`.
        weights: W_1 .. W_L, W_l (..., n_l, n_(l-1)).

    Returns:
        One (..., n_s, n_l) for each edge.

    >>> import linfa
    >>> weights = np.full((2, 1), 1.0), np.full((1, 2), 2.0), np.full((1, 1), 3.0)
    >>> [J.tolist() for J in forward_maps(linfa.dfa(), weights)]
    [[[6.0, 6.0]], [[3.0]]]
    """
    return tuple(product(tuple(reversed(weights[e.activity : e.source]))) for e in rule.route.edges(len(weights)))


def arriving_moments(rule, weights) -> tuple:
    """By edge S = sum_l J_l J_l^T, the second moment of what a pass of random directions makes at the edge's upper end.

    The sum is over the edges that come from the same cut and so share a pass: all of them for a broadcast, one for a
    layerwise edge.

    Args:
        rule: a `Rule`.
        weights: W_1 .. W_L.

    Returns:
        One (..., n_s, n_s) for each edge.

    Source: derived here (`derivations.directional_variance`).

    >>> import linfa
    >>> weights = np.full((2, 1), 1.0), np.full((1, 2), 2.0), np.full((1, 1), 3.0)
    >>> [[S.item() for S in arriving_moments(rule, weights)] for rule in (linfa.dfa(), linfa.fa())]
    [[81.0, 81.0], [8.0, 9.0]]
    """
    sources = [edge.source for edge in rule.route.edges(len(weights))]
    squares = [J @ T(J) for J in forward_maps(rule, weights)]
    return tuple(sum(J2 for J2, other in zip(squares, sources, strict=True) if other == own) for own in sources)


def frozen(rule, depth: int):
    """The rule with weights that do not move, whatever the learning rate."""
    return dataclasses.replace(rule, geometry=LayerRates((0.0,) * depth))


def ensemble(network, members: int) -> Network:
    """That many copies of a network."""
    return Network(tuple(np.broadcast_to(W, (members, *W.shape)) for W in network.weights))


def draw(seed: int, depth: int, least: int = 1) -> tuple[Task, Network]:
    """A random task and a random network of some depth, weights of unit gain and widths from ``least`` to 3 more."""
    rng = examples.generator(seed)
    widths = tuple(int(n) for n in rng.integers(least, least + 4, depth + 1))
    weight = examples.matrix(rng, widths[-1], widths[0], 0.5, 1.5)
    task = Task.teacher(weight, examples.moment(rng, widths[0], 0.4, 1.3))
    return task, Network.small(widths, scale=1.0, seed=seed)


def standard_errors(samples) -> float:
    """|mean| of independent samples (K,) that should have mean 0, in units of its standard error.

    >>> standard_errors(np.array([2.0, 0.0, 2.0, 0.0, 2.0, 0.0, 2.0, 0.0, 1.0]))
    3.0
    """
    return float(abs(samples.mean()) / (samples.std(ddof=1) / np.sqrt(len(samples))))


def projected(matrices, rng) -> np.ndarray:
    """sum_i <A_i, M_i> of stacks M_i (K, rows, columns) on random matrices A_i, entries between 0.5 and 1.5: (K,)."""
    return sum(np.einsum("kij,ij->k", M, rng.uniform(0.5, 1.5, M.shape[-2:])) for M in matrices)
