"""Error-modulated Hebbian learning in a wide two-layer network on orthogonal patterns."""

import numpy as np
from scipy.integrate import solve_ivp
from scipy.optimize import brentq
from scipy.special import dawsn

from linfa.theory.base import relative_error
from linfa.theory.result import Result
from linfa.theory.wide.finite_size import finite_size

__all__ = ["hebb_end", "hebb_growth", "wide_hebb"]


def hebb_growth(q, y, gamma):
    """m(q) = e^(-gamma q^2/2) + y sqrt(2 gamma) D(q sqrt(gamma/2)), the growth of activities; D is Dawson's integral.

    Error-modulated Hebbian learning of one pattern, f' = H Delta + gamma Delta^2 f and H' = 2 gamma Delta^2 H with
    Delta = y - f, runs along f = q m and H = m^2 with q' = Delta m: dm/dq = gamma (y - q m) is linear.

    Args:
        q: what the readout has learned, int Delta m dt, of the sign of y.
        y: target.
        gamma: richness, > 0.  All three are numbers or arrays that broadcast.

    Source: derived here from Bordelon & Pehlevan (2023), Eq. 8.

    >>> float(hebb_growth(0.0, y=1.0, gamma=1.0))
    1.0
    """
    return np.exp(-gamma * np.square(q) / 2) + y * np.sqrt(2 * gamma) * dawsn(q * np.sqrt(gamma / 2))


def hebb_end(y: float, gamma: float) -> float:
    """The kernel H at the end of learning, m^2 at the q with q m(q) = y.

    Args:
        y: target.
        gamma: richness, > 0.

    Raises:
        ValueError: for gamma that is not positive.

    Source: derived here from Bordelon & Pehlevan (2023), Eq. 8.

    >>> hebb_end(0.0, gamma=2.0), round(hebb_end(1.0, gamma=1e-6), 5)
    (1.0, 1.0)
    """
    _check(gamma)
    if y == 0:
        return 1.0
    q = brentq(lambda q: q * hebb_growth(q, y, gamma) - y, 0.0, y, xtol=1e-15, rtol=1e-14)
    return float(hebb_growth(q, y, gamma)) ** 2


def wide_hebb(times, y, gamma):
    """Errors Delta_mu and kernels H_mumu of orthogonal patterns along learning, in the limit of many hidden units.

    Delta' = -[H + gamma Delta (y - Delta)] Delta and H' = 2 gamma Delta^2 H from Delta = y, H = 1: every pattern is
    learned by itself, on the curve of `hebb_growth`; one equation is left to integrate, q' = (y - q m) m.

    The network is f_mu = w.h_mu / (gamma k), with entries of w and h_mu = W x_mu that start as independent standard
    normal numbers, x_mu orthonormal, and learns by w' = gamma sum_mu Delta_mu h_mu and
    W' = gamma sum_mu Delta_mu^2 h_mu x_mu^T.

    Args:
        times: increasing times (t,) >= 0.
        y: targets (P,).
        gamma: richness, > 0.

    Returns:
        Delta (t, P) and H (t, P).

    Raises:
        ValueError: for gamma that is not positive.

    Source: read in Bordelon & Pehlevan (2023), Eq. 8; the curve is derived here.

    >>> Delta, H = wide_hebb([0.0, 20.0], [1.0, -0.5], gamma=1.0)
    >>> Delta[0].tolist(), bool(abs(Delta[1]).max() < 1e-6), bool(abs(H[1, 0] - hebb_end(1.0, 1.0)) < 1e-6)
    ([1.0, -0.5], True, True)
    """
    _check(gamma)
    y, times = np.asarray(y, dtype=float), np.asarray(times, dtype=float)

    def rate(_, q):
        m = hebb_growth(q, y, gamma)
        return (y - q * m) * m

    end = max(times[-1], 1e-300)
    q = solve_ivp(rate, (0.0, end), np.zeros_like(y), "DOP853", times, rtol=1e-11, atol=1e-13).y.T
    m = hebb_growth(q, y, gamma)
    return y - q * m, m**2


def _check(gamma):
    if not gamma > 0:
        raise ValueError(f"the richness gamma is positive; got {gamma}")


def hebb_network(times, y, gamma, w, h):
    """The weights themselves: w (t, k) and h_mu = W x_mu as columns (t, k, P).  No rule of linfa learns this way.

    Args:
        times: increasing times (t,).
        y: targets (P,).
        gamma: richness.
        w: (k,), h: (k, P), at time 0.
    """
    k, P = h.shape

    def field(_, state):
        w, h = state[:k], state[k:].reshape(k, P)
        Delta = y - w @ h / (gamma * k)
        return np.concatenate([gamma * h @ Delta, (gamma * h * Delta**2).ravel()])

    start = np.concatenate([w, h.ravel()])
    run = solve_ivp(field, (0.0, times[-1]), start, "DOP853", times, rtol=1e-6, atol=1e-8).y.T
    return run[:, :k], run[:, k:].reshape(-1, k, P)


def _error(k, rng):
    gamma, y, times = rng.uniform(0.5, 1.5), rng.uniform(0.5, 1.5, 2) * rng.choice([-1, 1], 2), np.linspace(0, 2, 6)
    normal = rng.standard_normal((k, 3))
    w, h = hebb_network(times, y, gamma, normal[:, 0], normal[:, 1:])
    Delta, H = y - np.einsum("tk,tkp->tp", w, h) / (gamma * k), (h**2).mean(1)
    return relative_error(wide_hebb(times, y, gamma), (Delta, H))


RESULTS = (
    Result(
        "E18",
        "wide error-modulated Hebb, orthogonal patterns: Delta' = -[H + gamma Delta (y - Delta)] Delta, H' = 2 gamma "
        "Delta^2 H, to C / sqrt(k), C = 8",
        "read in Bordelon & Pehlevan (2023), Eq. 8",
        8.0,
        finite_size(_error),
    ),
)
