"""One mode under polar updates: every layer moves at unit speed, and the mode arrives after s^(1/L)."""

import math

import numpy as np

__all__ = ["polar_arrival", "polar_mode", "polar_oscillation"]


def polar_mode(t, weights, speeds=None):
    """Strength u(t) = (w_1 + sigma_1 t) .. (w_L + sigma_L t) of one mode before it arrives at s.

    Args:
        t: times, at least 0.
        weights: w_1 .. w_L at time 0.  All are numbers, arrays that broadcast, or SymPy expressions.
        speeds: sigma_1 .. sigma_L, each -1, 0 or 1; by default all 1.

    Source: derived here (`derivations.polar_modes`).

    >>> polar_mode(2.0, (0.5, 1.0))
    7.5
    """
    return math.prod(w + v * t for w, v in zip(weights, [1] * len(weights) if speeds is None else speeds, strict=True))


def polar_arrival(s: float, weights) -> float:
    """The time at which (w_1 + t) .. (w_L + t) = s, between s^(1/L) - max w and s^(1/L) - min w; s^(1/L) from zero.

    It does not grow as the start gets smaller, unlike backprop's log(s/u_0 - 1)/(2s), and the weakest mode is first.

    Args:
        s: singular value of the task, positive.
        weights: w_1 .. w_L at time 0, at least 0, with a product of at most s.

    Raises:
        ValueError: for a negative weight, or a mode that is stronger than s.

    Source: derived here (`derivations.polar_modes`).

    >>> polar_arrival(8.0, [0.0] * 3), polar_arrival(6.0, (0.0, 1.0))
    (2.0, 2.0)
    """
    weights = np.asarray(weights, dtype=float)
    if weights.min() < 0:
        raise ValueError(f"a mode starts from weights of at least 0; got {weights.min():.3g}")
    if not 0 <= weights.prod() <= s:
        raise ValueError(f"a mode starts below s = {s:.3g}; got {weights.prod():.3g}")
    from scipy.optimize import brentq

    root = s ** (1 / len(weights))
    low, high = max(root - weights.max(), 0.0), root - weights.min()
    if not high > low:
        return float(low)
    return float(brentq(lambda t: polar_mode(t, weights) - s, low * (1 - 1e-12), high * (1 + 1e-12), xtol=1e-15))


def polar_oscillation(s, weights, lr):
    """How far from s descent can be once it has arrived: (w_1 + tau + lr) .. (w_L + tau + lr) - s = O(lr).

    tau is the time of arrival.  All layers step together by +lr below s and by -lr above, so that the mode jumps
    between the two places of the grid w_l(0) + n lr around s, one of which is below tau and the next above.  The
    product is convex there, and the step up is the larger one.

    Args:
        s: singular value of the task, positive.
        weights: w_1 .. w_L at time 0, as for `polar_arrival`.
        lr: learning rate, at most tau.

    Source: derived here (`derivations.polar_modes`).

    >>> round(float(polar_oscillation(4.0, (0.0, 0.0), 0.1)), 12)
    0.41
    """
    return polar_mode(polar_arrival(s, weights) + lr, weights) - s
