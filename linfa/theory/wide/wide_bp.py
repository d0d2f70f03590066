"""Backprop in a wide two-layer network with one output: from lazy to rich learning in one formula."""

import numpy as np

from linfa.algebra import is_symbolic
from linfa.network import Network
from linfa.rules import bp
from linfa.simulate import simulate
from linfa.task import Task
from linfa.theory.base import relative_error
from linfa.theory.result import Result
from linfa.theory.scalar import exp, sqrt
from linfa.theory.wide.finite_size import finite_size

__all__ = ["wide_bp", "wide_bp_kernel"]


def wide_bp_kernel(f, sigma):
    """The kernel 2 sqrt(sigma^4 + f^2) with which f' = kernel (s - f): twice |W_1 v|^2 = |W_2|^2.

    Args:
        f: output along the task's one mode v.
        sigma: entries of W_1 and W_2 start with variance sigma^2 / k.

    Source: read in Bordelon & Pehlevan (2023), Eq. 7, with f / sigma^2 for gamma f; the text that was read prints it
    without the factor 2, but only with it do simulations agree.

    >>> float(wide_bp_kernel(0.0, sigma=1.0))
    2.0
    """
    return 2 * sqrt(sigma**4 + f**2)


def wide_bp(t, s, sigma):
    """Output f(t) of the limit of many hidden units, the solution of f' = 2 sqrt(sigma^4 + f^2) (s - f), f(0) = 0.

    With r = sqrt(s^2 + sigma^4) and tau = tanh(r t) / r

        f = 2 s sigma^2 tau (1 + sigma^2 tau) / [(1 + (sigma^2 + s) tau) (1 + (sigma^2 - s) tau)]

    written without cancellation.  s / sigma^2 is the richness: small, the kernel rests at 2 sigma^2 and f = s (1 -
    e^(-2 sigma^2 t)); large, f is the sigmoid of a small balanced start.

    Args:
        t: times >= 0.
        s: strength of the mode, >= 0.
        sigma: > 0; entries of W_1 and W_2 start with variance sigma^2 / k.  All three are numbers, arrays that
            broadcast, or SymPy expressions.

    Raises:
        ValueError: for negative s or t, or sigma that is not positive.

    Source: the equation is read in Bordelon & Pehlevan (2023), Eq. 7; its solution is derived here.

    >>> round(float(wide_bp(0.5, s=1.0, sigma=1.0)), 6)
    0.661864
    """
    if not is_symbolic(s) and (np.min(t) < 0 or np.min(s) < 0 or np.min(sigma) <= 0):
        raise ValueError(f"t and s are at least 0, sigma is positive; got {np.min(t)}, {np.min(s)}, {np.min(sigma)}")
    g = sigma**2
    r = sqrt(s**2 + g**2)
    late = exp(-2 * r * t)
    cosh, sinh = r * (1 + late), 1 - late  # r cosh(r t) and sinh(r t), in units of e^(rt) / 2
    above = cosh + (g + s) * sinh
    below = g * (1 + g / (r + s)) + (r + s - g) * late  # cosh + (g - s) sinh
    return 2 * s * g * sinh * (cosh + g * sinh) / (above * below)


def _error(k, rng):
    s, sigma = rng.uniform(0.5, 2.0), rng.uniform(0.5, 1.2)
    v = rng.standard_normal(2)
    v /= np.linalg.norm(v)
    network = Network((sigma / k**0.5 * rng.standard_normal((k, 2)), sigma / k**0.5 * rng.standard_normal((1, k))))
    times = np.linspace(0, 2 / (s + sigma**2), 6)
    run = simulate(bp(), Task.teacher(s * v[None]), network, times, rtol=1e-6, atol=1e-8)
    f = wide_bp(times, s, sigma)
    kernel = ((run.weights[0] @ v) ** 2).sum(-1) + (run.weights[1] ** 2).sum((-1, -2))
    return max(relative_error(f[:, None, None] * v, run.map), relative_error(wide_bp_kernel(f, sigma), kernel))


RESULTS = (
    Result(
        "A9",
        "wide backprop, one output: f' = 2 sqrt(sigma^4 + f^2) (s - f), and the kernel itself, to C / sqrt(k), C = 5",
        "read in Bordelon & Pehlevan (2023), Eq. 7, up to a factor 2; the solution is derived here",
        5.0,
        finite_size(_error),
    ),
)
