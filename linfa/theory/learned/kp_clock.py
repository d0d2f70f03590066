"""One mode under Kolen-Pollack without decay: it moves on a hyperbola, and keeps time by logarithms."""

import numpy as np

from linfa.algebra import is_symbolic
from linfa.theory.base import AssumptionError
from linfa.theory.scalar import exp, log1p, sqrt

APART = 1e-5
"""Roots closer than this, in units of their size, make the logarithms cancel."""

__all__ = ["kp_angle", "kp_time", "kp_weights"]


def kp_weights(theta, w1, w2, b) -> tuple:
    """The weights of a mode at theta = int e dt, where w_1' = b e, w_2' = w_1 e, b' = w_1 e and e = s - w_2 w_1.

    w_1 = w_1(0) cosh(theta) + b(0) sinh(theta),  b = b(0) cosh(theta) + w_1(0) sinh(theta),  w_2 = w_2(0) + b - b(0)

    From zero weights with feedback d these are d sinh, d (cosh - 1) and d cosh; from w_1 = b both are b(0) e^theta.

    Args:
        theta: integrated error.
        w1, w2, b: at time 0.  All four are numbers, arrays that broadcast, or SymPy expressions.

    Returns:
        w_1, w_2 and b.

    Source: derived here (`derivations.kp_mode`).

    >>> [round(float(w), 6) for w in kp_weights(np.log(2.0), 0.0, 0.0, 1.0)]  # sinh, cosh - 1, cosh
    [0.75, 0.25, 1.25]
    """
    grown, shrunk = (w1 + b) / 2 * exp(theta), (w1 - b) / 2 * exp(-theta)
    return grown + shrunk, w2 - b + grown - shrunk, grown - shrunk


def kp_time(b, b0, d, s):
    """Time from b_0 to b along b' = b (s + d b - b^2), a mode with w_1 = b and d = b - w_2, both conserved.

    With b+- = (d +- sqrt(d^2 + 4s))/2, where a positive and a negative b_0 end:

        t = log(b/b_0)/s - log[(b+ - b)/(b+ - b_0)] / (b+ (b+ - b-)) + log[(b - b-)/(b_0 - b-)] / (b- (b+ - b-))

    Args:
        b: feedback on the way.
        b0: at time 0, not 0.
        d: distance of the feedback from the readout.
        s: singular value of the task, more than 0.  All four are numbers, arrays that broadcast, or SymPy expressions.

    Raises:
        ValueError: for a b beyond a fixed point, which is never reached.

    Source: derived here (`derivations.kp_mode`).

    >>> t = kp_time(0.9, 0.1, 0.0, 1.0)  # backprop: the strength b^2 on its sigmoid
    >>> from linfa.theory.backprop.saxe import bp_mode
    >>> float(np.sqrt(bp_mode(t, 1.0, 0.01)).round(12))
    0.9
    """
    root = sqrt(d * d + 4 * s)
    high, low, moved = (d + root) / 2, (d - root) / 2, b - b0
    parts = moved / b0, -moved / (high - b0), moved / (b0 - low)
    if not is_symbolic(s) and not all(np.all(part > -1) for part in parts):
        raise ValueError(f"one of {np.min(low):.6g}, 0 and {np.max(high):.6g}, fixed points, lies between b_0 and b")
    origin, upper, lower = map(log1p, parts)
    return origin / s - (upper / high - lower / low) / root


def kp_angle(t, w1, w2, b, s) -> np.ndarray:
    """theta(t) of `kp_weights`, the inverse of a sum of logarithms.

    u = e^theta obeys u' = P(u)/(4u), with z = w_1 + b, y = w_1 - b, d = b - w_2 at time 0 and

        P(u) = -z^2 u^4 + 2dz u^3 + 4s u^2 + 2dy u + y^2,    t = sum_i 4 r_i / P'(r_i) log[(u - r_i)/(1 - r_i)]

    over its roots.  The mode comes to rest at the first positive one on its way from u = 1; the time is inverted by
    Newton's method for -log of the distance from it, in which it is increasing and almost straight.

    Args:
        t: times (t,), finite and at least 0.
        w1, w2, b: of the mode at time 0, numbers.
        s: singular value of the task, of any sign.

    Raises:
        ValueError: for negative or infinite times.
        AssumptionError: if P has roots that nearly coincide, as where s = 0 and w_1 = b.

    Source: partial fractions; derived here (`derivations.kp_mode`).

    >>> theta = kp_angle([1.0], 0.3, 0.1, 0.3, 2.0)
    >>> float(kp_time(0.3 * np.exp(theta[0]), 0.3, 0.2, 2.0).round(12))
    1.0
    """
    t = np.asarray(t, dtype=float)
    if not ((t >= 0) & (t < np.inf)).all():
        raise ValueError(f"times are finite and at least 0; got {t[~((t >= 0) & (t < np.inf))][0]}")
    if abs(w1 + b) < abs(w1 - b):  # the same mode with the signs of w_2, b and s, and thus of theta, turned
        return -kp_angle(t, w1, -w2, -b, -s)
    z, y, d = w1 + b, w1 - b, b - w2
    numerator, P = np.array([4.0, 0.0]), np.array([-z * z, 2 * d * z, 4 * s, 2 * d * y, y * y])
    if abs(z) < 1e-14 or abs(P.sum()) <= 1e-14 * np.abs(P).sum():  # at rest
        return np.zeros_like(t)
    if abs(y) <= 1e-13 * abs(z):  # two roots at zero, one of which cancels
        numerator, P = numerator[:1], np.array([*P[:3], 0.0])
    slope = np.polyder(P)
    roots = np.roots(P)
    for _ in range(3):
        step = np.polyval(slope, roots)
        roots = roots - np.divide(np.polyval(P, roots), step, out=np.zeros_like(roots), where=step != 0)
    apart, sizes = np.abs(roots[:, None] - roots), np.abs(roots[:, None]) + np.abs(roots)
    close = (apart <= APART * sizes) & ~np.eye(len(roots), dtype=bool)
    if close.any():
        raise AssumptionError(f"two roots of a mode nearly coincide: they are {apart[close].min():.2g} apart")
    residues = np.polyval(numerator, roots) / np.polyval(slope, roots)
    return _invert(t, roots, residues, np.polyval(P, 1.0) > 0)


def _invert(t, roots, residues, up):
    """log(u) at the times, from t = Re sum_i residues_i log[(u - roots_i)/(1 - roots_i)], u from 1 up or down."""
    ahead = (np.imag(roots) == 0) & (np.real(roots) >= 0) & ((np.real(roots) > 1) == up)
    end = np.flatnonzero(ahead)[np.abs(roots[ahead] - 1).argmin()]
    far, rate = roots[end].real - 1, -1 / residues[end].real
    others, weights = np.delete(roots, end), np.delete(residues, end)

    def clock(x):  # x = -log of what is left of the way
        way = far * -np.expm1(-x)
        turned = np.log1p(way[:, None] / (1 - others)) * weights
        pace = (weights / (1 - others + way[:, None])).sum(-1).real * (far - way)
        return turned.sum(-1).real + x / rate, pace + 1 / rate

    low, high = np.zeros_like(t), np.full_like(t, 1.0)
    while (short := clock(high)[0] < t).any():
        low, high = np.where(short, high, low), np.where(short, 2 * high, high)
    x = (low + high) / 2
    for _ in range(80):
        value, pace = clock(x)
        low, high = np.where(value <= t, x, low), np.where(value >= t, x, high)
        step = x - (value - t) / pace
        step = np.where((step >= low) & (step <= high), step, (low + high) / 2)
        if (np.abs(step - x) <= 1e-15 * (1 + x)).all():
            break
        x = step
    return np.log1p(far * -np.expm1(-x)) if far > -1 else -x
