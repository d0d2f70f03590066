"""How fast networks of growing width come to their limit: the error times the root of the width stays bounded."""

from collections.abc import Callable

import numpy as np

WIDTHS = (400, 1600)
"""Two widths between which an error that falls as k^(-1/2) halves."""


def mean_error(error: Callable, k: int, seed: int, draws: int = 3) -> float:
    """Mean error over draws of a problem and a network of one width; all widths share their draws.

    Args:
        error: (k, generator) -> error of a network of k hidden units on a random problem, drawn first.
        k: width.
        seed: of the draws.
        draws: number of networks.

    >>> round(mean_error(lambda k, rng: abs(rng.standard_normal(k).mean()), 400, seed=0, draws=100), 2)
    0.04
    """
    return float(np.mean([error(k, np.random.default_rng((seed, draw))) for draw in range(draws)]))


def finite_size(error: Callable) -> Callable[[int], float]:
    """seed -> the largest of sqrt(k) times the mean error over `WIDTHS`.

    >>> finite_size(lambda k, rng: 3 / k**0.5)(0)
    3.0
    """
    return lambda seed: max(k**0.5 * mean_error(error, k, seed) for k in WIDTHS)
