"""What one pass of random directions shows of the forward maps: their mean, and the spread around it."""

import numpy as np

from linfa.algebra import T
from linfa.dynamics import start, velocity
from linfa.rules import Dense, Direct, Layerwise, Mirror, Rule
from linfa.theory.directional.problem import arriving_moments, draw, ensemble, forward_maps, projected, standard_errors
from linfa.theory.result import Result

__all__ = ["directional_variance", "signal_variance"]


def signal_variance(J, S, errors):
    """Variance of the signal M^T e that one direction delivers: Var_i = e^T S e + g_i^2 with g = J^T e.

    M = d v^T with v ~ N(0, I) at the cut and d what arrives at the edge's upper end from all edges of the pass, of
    second moment S = sum_l J_l J_l^T.  So e^T S e = sum_l |g_l|^2 is the squared length of the exact signal on all cuts
    that share the pass.  The mean is g, the covariance e^T S e I + g g^T.  Of the mean over N independent directions it
    is 1/N of that.

    Columns C = E[e h^T] in place of e give the variance of the entries of a weight gradient, for all samples of a batch
    go through the same M^T.  With two factors Q takes in (P M)^T: P J for J and P S P^T for S.

    Args:
        J: forward map of the edge (..., n_s, n_l).
        S: second moment of what arrives, `arriving_moments` (..., n_s, n_s).
        errors: the errors that are delivered (..., n_s, c), as columns.

    Returns:
        (..., n_l, c).

    Raises:
        ValueError: for shapes that do not match.

    Source: derived here by Wick's theorem (`derivations.directional_variance`).  Bacho & Chu (arXiv 2212.07282) compare
    their estimate with the forward gradient (Baydin et al. 2022), whose variance for a single cut this is.

    >>> J = np.array([[3.0, 4.0]])
    >>> signal_variance(J, J @ J.T, np.array([[2.0]])).ravel().tolist()
    [136.0, 164.0]
    """
    above = J.shape[-2]
    if S.shape[-2:] != (above, above) or errors.shape[-2] != above:
        raise ValueError(f"J is (n_s, n_l), S (n_s, n_s), errors (n_s, c); got {J.shape}, {S.shape}, {errors.shape}")
    energy = (errors * (S @ errors)).sum(-2)
    return energy[..., None, :] + (T(J) @ errors) ** 2


def directional_variance(J, S):
    """Variance of the entries of M = d v^T for one direction: Var[d_k v_i] = S_kk + J_ki^2.

    Args:
        J: forward map of the edge (..., n_s, n_l).
        S: second moment of what arrives, `arriving_moments` (..., n_s, n_s).

    Returns:
        (..., n_s, n_l); 1/N of it for the mean over N directions.

    Source: derived here by Wick's theorem (`derivations.directional_variance`).

    >>> J = np.array([[3.0, 4.0], [0.0, 1.0]])
    >>> directional_variance(J, J @ J.T).tolist()
    [[34.0, 41.0], [1.0, 2.0]]
    """
    return T(signal_variance(J, S, np.eye(J.shape[-2])))


def estimates(rule, task, network, members: int, rng) -> tuple:
    """Independent estimates M^T of each edge (members, n_l, n_s), the velocity of feedback that forgets nothing."""
    state = start(rule, ensemble(network, members), seed=0)
    return tuple(moves[0] for moves in velocity(rule, state, task.batch, rng).feedback)


def problems(seed: int, directions: int, depths=(2, 3, 4, 5)):
    """(rule, task, network, generator) for either route at each depth, `Mirror` with gain 1 and without leak."""
    for depth in depths:
        task, network = draw(seed + depth, depth)
        for number, route in enumerate((Direct(), Layerwise())):
            rng = np.random.default_rng((seed, depth, number))
            yield Rule(route, Dense(), Mirror(1.0, 0.0, directions)), task, network, rng


def _unbiased(seed):
    total = 0
    for rule, task, network, rng in problems(seed, directions=4):
        seen = estimates(rule, task, network, 8000, rng)
        maps = forward_maps(rule, network.weights)
        total = total + projected([B - J.T for B, J in zip(seen, maps, strict=True)], rng)
    return standard_errors(total)


def _variance(seed):
    total = 0
    for rule, task, network, rng in problems(seed, directions=1):
        seen = estimates(rule, task, network, 20000, rng)
        maps, moments = (f(rule, network.weights) for f in (forward_maps, arriving_moments))
        excess = [(B - J.T) ** 2 - directional_variance(J, S).T for B, J, S in zip(seen, maps, moments, strict=True)]
        total = total + projected(excess, rng)
    return standard_errors(total)


SIZE = "one random projection over broadcast and layerwise edges, depths 2 to 5, in standard errors of"
RESULTS = (
    Result("F1", f"random directions show the forward map without bias, E[d v^T] = J: {SIZE} 32000 directions",
           "derived here; the estimate is Bacho & Chu's (2022)", 3.0, _unbiased),
    Result("F2", f"Var[d_k v_i] = S_kk + J_ki^2, S = sum J J^T over the edges of a pass: {SIZE} 20000 directions",
           "derived here", 3.0, _variance),
)  # fmt: skip
