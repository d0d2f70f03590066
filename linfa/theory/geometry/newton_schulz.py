"""Muon's Newton-Schulz iteration, seen by one singular value: near 1, but not at 1."""

import numpy as np

from linfa.rules.geometry import NewtonSchulz
from linfa.theory import examples
from linfa.theory.result import Result

__all__ = ["newton_schulz_gain"]


def newton_schulz_gain(x, steps: int = 5):
    """Where Newton-Schulz takes a singular value: x <- a x + b x^3 + c x^5, a number of times.

    The coefficients (3.4445, -4.7750, 2.0315) buy speed at small x, slope a, with a fixed point at which the slope is
    below -1: iterates scatter in [0.68, 1.21] instead of converging.  After five steps that is so for all x >= 2e-3.

    Args:
        x: singular values in units of the Frobenius norm, in [0, 1].
        steps: of the iteration.

    Raises:
        ValueError: for values outside [0, 1].

    Source: coefficients read in Muon (Jordan et al. 2024); their range on a grid is measured here.

    >>> newton_schulz_gain(np.array([0.002, 0.5])).round(3).tolist()
    [0.86, 0.765]
    """
    x = np.asarray(x, dtype=float)
    if not ((x >= 0) & (x <= 1)).all():
        raise ValueError(f"singular values in units of the norm are in [0, 1]; got {x.min():.3g} to {x.max():.3g}")
    a, b, c = NewtonSchulz.coefficients
    for _ in range(steps):
        x = a * x + b * x**3 + c * x**5
    return x


def _matrix(seed):
    """The matrix iteration acts on singular values alone."""
    rng = examples.generator(seed)
    k, n = rng.integers(2, 7, 2)
    size = min(k, n)
    s, U, V = np.geomspace(1, rng.uniform(1e-3, 0.5), size), examples.frame(rng, k, size), examples.frame(rng, n, size)
    (D,) = NewtonSchulz().directions(((U * s) @ V.T,))
    return float(np.abs(D - (U * newton_schulz_gain(s / np.linalg.norm(s))) @ V.T).max())


def _band(seed):
    """Distance from [0.68, 1.203] on a grid that the seed shifts, and of the polar factor's 1 from what is reached."""
    x = np.geomspace(2e-3, 1, 200_001)[:-1] * (1 + 6e-5 * examples.generator(seed).random())
    gain = newton_schulz_gain(np.minimum(x, 1))
    return float(max(0.68 - gain.min(), gain.max() - 1.203, 0.1 - np.ptp(gain), 0))


RESULTS = (
    Result("M3", "five Newton-Schulz steps take singular values s >= 2e-3 |G| into [0.68, 1.203], and do not converge",
           "coefficients read in Muon (Jordan et al. 2024), range measured here", 0.0, _band),
    Result("M3b", "Newton-Schulz with Muon's coefficients acts on singular values alone", "known result re-derived",
           1e-11, _matrix),
)  # fmt: skip
