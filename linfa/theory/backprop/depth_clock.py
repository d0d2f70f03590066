"""The clock of backprop at any depth: how long u' = N u^(2 - 2/N) (s - u) takes, its limit, and its inverse."""

import numpy as np

from linfa.algebra import is_symbolic
from linfa.theory.backprop.saxe import bp_mode
from linfa.theory.scalar import exp, expm1, log, number

__all__ = ["depth_clock", "depth_mode", "depth_time", "log_beta"]

TERMS = 60
"""Of the series of `log_beta`, in powers of at most 1/2."""


def log_beta(y, a):
    """The incomplete beta function B_z(a, 0) = int_0^z v^(a-1) / (1 - v) dv at z = 1 - e^(-y).

    It is z^a / a 2F1(1, a; a + 1; z).  Its series serves up to z = 1/2; beyond, where 2F1 is singular,

        B_z(a, 0) = y - psi(a) - gamma - sum_(j >= 1) (1 - a)_j / (j j!) e^(-jy)

    Args:
        y: numbers >= 0, an array or a SymPy expression, for which the integral is left as it is.
        a: a number, more than 0.

    Source: known; the second series re-derived.

    >>> from linfa.theory import power_clock
    >>> bool(abs(log_beta(-np.log(1 - 0.7**3), 1 / 3) / 3 - power_clock(0.7, 3)) < 1e-15)
    True
    """
    if is_symbolic(y):
        import sympy

        v = sympy.Symbol("v", positive=True)
        return sympy.Integral(v ** (a - 1) / (1 - v), (v, 0, 1 - exp(-y)))
    from scipy.special import digamma

    z, j = -np.expm1(-y), np.arange(1, TERMS)
    early = z**a * np.polyval(1 / (a + np.arange(TERMS)[::-1]), np.minimum(z, 0.5))
    tail = np.append((np.cumprod((j - a) / j) / j)[::-1], digamma(a) + np.euler_gamma)
    return np.where(z <= 0.5, early, y - np.polyval(tail, np.minimum(np.exp(-y), 0.5)))


def depth_clock(u, u0, s, N):
    """N t, where t is the time in which u' = N u^(2 - 2/N) (s - u) takes u0 to u.

    With g = 2/N - 1 and z = u/s it is G(u) - G(u0), where

        G(u) = u^g / (g s) 2F1(1, g; g + 1; z) = s^(g-1) [z^g / g + z^(g+1) / (g + 1) + B_z(g + 2, 0)]

    The second form, with log(z) for z^0 / 0, holds at N = 2 too and in the limit of many layers, where a finite N t is

        log[u (s - u0) / (u0 (s - u))] / s^2 + (1/u0 - 1/u) / s

    To leave a small start takes u0^(2/N - 1) / ((1 - 2/N) s) at N > 2, to leading order.  A mode above s decays, and
    its clock is the same integral in powers of s/u.

    Args:
        u: strengths on the way, more than 0; s itself is reached at infinity.
        u0: strength at time 0, more than 0.
        s: singular value of the task, at least 0.  All three are numbers, arrays that broadcast, or SymPy expressions
            with 0 < u0 < u < s.
        N: number of weights, at least 1; infinity too.

    Raises:
        ValueError: outside these ranges, and if s lies between u0 and u.

    Source: Saxe, McClelland & Ganguli (2013); known result re-derived (`derivations.depth_mode`).

    >>> depth_clock([1.0, 1.8], 0.2, 2.0, N=2) / np.log(9)
    array([0.5, 1. ])
    >>> bool(np.isclose(depth_clock(1.0, 0.2, 2.0, N=np.inf), np.log(9) / 4 + 2, rtol=1e-14))
    True
    """
    if is_symbolic(u):
        return _rise(log(u / u0), -log(1 - u / s), -log(1 - u0 / s), u0, s, number(2, u) / N - 1)
    if not N >= 1:
        raise ValueError(f"N is at least 1: got {N}")
    u, u0, s, g = np.asarray(u, float), *_checked(u0, s), 2 / N - 1
    if not (u > 0).all() or not (u0 > 0).all():
        raise ValueError(f"strengths are positive: got {np.min(u)}, from {np.min(u0)}")
    beyond = (np.sign(u - s) * np.sign(u0 - s) <= 0) & (u != s) & (u != u0)
    if beyond.any():
        raise ValueError("s lies between the start and some strength, which is never reached")
    s = np.maximum(s, _NOTHING * u0)
    return np.where(u == u0, 0.0, _clock(np.log(u / u0), _nearness(u, s), _nearness(u0, s), u0, s, g))


def depth_time(u, u0, s, N):
    """t, the time in which backprop takes a balanced mode of a network with N weights from u0 to u: `depth_clock` / N.

    Args, Raises, Source: as there.

    >>> depth_time([1.0, 1.8], 0.2, 2.0, N=2) / np.log(9)
    array([0.25, 0.5 ])
    """
    return depth_clock(u, u0, s, N) / N


def depth_mode(times, s, u0, N):
    """Strength u(t) of a balanced mode under backprop in a network of N weights, the inverse of `depth_time`.

    It is the sigmoid of two layers on another clock: u(t) = bp_mode(tau, s, u0) with dt/dtau = (2/N) u^(2/N - 1).
    As t is concave in tau for a mode that rises, and convex for one that falls, Newton's method never passes the root.

    Args:
        times: at least 0.
        s: singular value of the task, at least 0.
        u0: strength at time 0, at least 0.  All three are numbers or arrays that broadcast.
        N: number of weights, at least 2.

    Raises:
        ValueError: outside these ranges.

    Source: Saxe, McClelland & Ganguli (2013); the change of clock derived here.

    >>> u = depth_mode([0.0, 1.0, 2.0], s=2.0, u0=0.2, N=4)
    >>> np.allclose(depth_time(u, 0.2, 2.0, N=4), [0.0, 1.0, 2.0], rtol=1e-12)
    True
    """
    if not 2 <= N < np.inf:
        raise ValueError(f"N is at least 2 and finite: got {N}")
    start, s, g = *_checked(u0, s), 2 / N - 1
    goal = N * np.asarray(times, float)
    if not ((goal >= 0) & np.isfinite(goal)).all():
        raise ValueError(f"times are finite and at least 0: got {np.min(times)} to {np.max(times)}")
    low, high = np.minimum(start, s), np.maximum(start, s)
    unit = np.where(high > 0, high, 1.0)
    u0, s, goal = start / unit, s / unit, goal * unit ** (1 - g)
    rests = (u0 == 0) | (u0 == s)
    u0, s = np.where(rests, 0.5, u0), np.where(rests, 1.0, np.maximum(s, _NOTHING))
    y0, odds = _nearness(u0, s), np.log(u0) - np.log(np.abs(s - u0))
    tau = goal * u0**-g / 2
    u = bp_mode(tau, s, u0)
    for _ in range(2000):
        y = np.where(u0 < s, np.logaddexp(0, odds + 2 * s * tau), y0 + 2 * s * tau)
        tau = tau + (goal - _clock(np.log(u / u0), y, y0, u0, s, g)) * u**-g / 2
        before, u = u, bp_mode(tau, s, u0)
        if (np.abs(u - before) <= 1e-14 * u).all():
            break
    return np.where(rests, start, np.clip(unit * u, low, high))


_NOTHING = 1e-40
"""A singular value less than this times the start is too small to be met."""


def _checked(u0, s):
    u0, s = np.asarray(u0, float), np.asarray(s, float)
    if not (s >= 0).all():
        raise ValueError(f"singular values are at least 0: got {np.min(s)}")
    if not (u0 >= 0).all():
        raise ValueError(f"the start is at least 0: got {np.min(u0)}")
    return u0, s


def _nearness(u, s):
    """-log(1 - z), z the ratio of u and s that is less than 1."""
    low, high = np.minimum(u, s), np.maximum(u, s)
    with np.errstate(divide="ignore"):
        return np.where(2 * low < high, -np.log1p(-low / high), np.log(high) - np.log(high - low))


def _clock(r, y, y0, u0, s, g):
    with np.errstate(all="ignore"):
        return np.where(u0 < s, _rise(r, y, y0, u0, s, g), _fall(r, y, y0, u0, s, g))


def _rise(r, y, y0, u0, s, g):
    """The clock from r = log(u/u0) and y = -log(1 - u/s), which is y0 at the start."""
    powers = _grown(u0 / s, r, g) + _grown(u0 / s, r, g + 1)
    return s ** (g - 1) * (powers + log_beta(y, g + 2) - log_beta(y0, g + 2))


def _fall(r, y, y0, u0, s, g):
    """The same from above, with y = -log(1 - s/u)."""
    return s ** (g - 1) * (_grown(s / u0, -r, 1 - g) + log_beta(y, 2 - g) - log_beta(y0, 2 - g))


def _grown(x, r, p):
    """(x e^r)^p / p - x^p / p, without cancellation."""
    return r if p == 0 else x**p * expm1(p * r) / p
