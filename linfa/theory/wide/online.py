"""Online learning with one output and many inputs: a few overlaps that obey differential equations."""

from typing import NamedTuple

import numpy as np

from linfa.network import Network
from linfa.rules import Direct, Rule, fa
from linfa.rules.feedback import Dense
from linfa.rules.geometry import LayerRates
from linfa.simulate import descend
from linfa.task import Task
from linfa.theory.result import Result
from linfa.theory.wide.finite_size import mean_error

__all__ = ["OrderParameters", "online_error", "order_parameters"]

SIZES = (100, 400)
"""Numbers of inputs at which the limit is tested."""


class OrderParameters(NamedTuple):
    """What the limit of many inputs keeps of a network y = v W_1 x and a teacher y = w x + noise.

    Args:
        Q: W_1 W_1^T (..., k, k).
        R: W_1 w^T (..., k).
        v: second weight (..., k).
    """

    Q: np.ndarray
    R: np.ndarray
    v: np.ndarray

    def error(self, T: float, noise: float = 0.0) -> np.ndarray:
        """<e^2> = v Q v - 2 v R + T + noise^2 (...), with T = |w|^2."""
        Q, R, v = self
        return np.einsum("...i,...ij,...j->...", v, Q, v) - 2 * (v * R).sum(-1) + T + noise**2


def order_parameters(alphas, start: OrderParameters, T: float, F, lr: float, noise: float = 0.0, frozen: bool = False):
    """Overlaps along online gradient descent, one new sample of n white Gaussian inputs a step, for n -> infinity.

    Time is alpha = step / n and the learning rate lr / n.  With <e l> = Q v - R and <e nu> = v R - T,

        Q' = -lr (F <e l>^T + <e l> F^T) + lr^2 F F^T <e^2>,   R' = -lr F <e nu>,   v' = -lr <e l>

    integrated numerically.  A batch of one is what adds the term in lr^2.

    Args:
        alphas: increasing times, from 0 or later.
        start: at alpha = 0.
        T: |w|^2 of the teacher.
        F: feedback (k,).
        lr: learning rate times n.
        noise: standard deviation of the labels' noise.
        frozen: whether the second weight stays as it is.

    Returns:
        An `OrderParameters` with the times in front.

    Raises:
        ValueError: for shapes that do not match or times that decrease.

    Source: the linear branch is read in the code of Refinetti, d'Ascoli, Ohana & Goldt (2021).

    >>> start = OrderParameters(np.zeros((1, 1)), np.zeros(1), np.ones(1))
    >>> path = order_parameters([0.0, 1.0], start, T=1.0, F=[1.0], lr=0.5, frozen=True)
    >>> path.error(1.0).round(6).tolist(), float(np.exp(-0.75).round(6))
    ([1.0, 0.472367], 0.472367)
    """
    from scipy.integrate import solve_ivp

    F, alphas = np.asarray(F, dtype=float), np.asarray(alphas, dtype=float)
    k = F.size
    if start.Q.shape != (k, k) or start.R.shape != (k,) or start.v.shape != (k,):
        raise ValueError(f"{k} feedback numbers need Q ({k}, {k}), R and v ({k},); got {[x.shape for x in start]}")
    if alphas[0] < 0 or (np.diff(alphas) < 0).any():
        raise ValueError(f"times increase from 0 or later; got {alphas.tolist()}")

    def unpack(z):
        return OrderParameters(z[..., : k * k].reshape(*z.shape[:-1], k, k), z[..., k * k : -k], z[..., -k:])

    def field(_, z):
        now = unpack(z)
        seen = np.outer(F, now.Q @ now.v - now.R)
        dQ = -lr * (seen + seen.T) + lr**2 * np.outer(F, F) * now.error(T, noise)
        dv = -lr * (now.Q @ now.v - now.R) * (not frozen)
        return np.concatenate([dQ.ravel(), -lr * F * (now.v @ now.R - T), dv])

    begin = np.concatenate([x.ravel() for x in start])
    if alphas[-1] == 0:
        return unpack(np.repeat(begin[None], alphas.size, 0))
    path = solve_ivp(field, (0.0, alphas[-1]), begin, "DOP853", alphas, rtol=1e-10, atol=1e-12)
    return unpack(path.y.T)


def online_error(alphas, start, kappa, noise=0.0) -> np.ndarray:
    """<e^2>(alpha) with a frozen second weight, from e' = -kappa (2 - kappa) e + 2 kappa noise^2, kappa = lr v F.

    It falls for 0 < kappa < 2, to 2 noise^2 / (2 - kappa), fastest at kappa = 1; for other kappa learning diverges.

    Args:
        alphas: times.
        start: <e^2> at time 0, noise included.
        kappa: lr v F.
        noise: standard deviation of the labels' noise.  All are numbers or arrays that broadcast.

    Source: derived here, from the equations of `order_parameters`.

    >>> float(online_error(1e9, start=1.0, kappa=1.0, noise=0.1).round(12))
    0.02
    """
    alphas, rate = np.asarray(alphas, dtype=float), np.asarray(kappa * (2 - kappa), dtype=float)
    still = np.abs(rate) < 1e-12
    grown = np.where(still, alphas, -np.expm1(-rate * alphas) / np.where(still, 1.0, rate))
    return start * np.exp(-rate * alphas) + 2 * kappa * noise**2 * grown


def _descend(n, rng, rule, alpha, k):
    """A run of stochastic gradient descent from a random start, and what it keeps of it."""
    teacher, noise = rng.standard_normal((1, n)), rng.uniform(0, 0.5)
    teacher /= np.linalg.norm(teacher)
    W1, v = rng.standard_normal((k, n)) / np.sqrt(n), rng.standard_normal((1, k))
    v /= np.linalg.norm(v)
    F, lr = v.T + 0.3 * rng.standard_normal((k, 1)), rng.uniform(0.2, 0.6)
    network, seed = Network((W1, v)), int(rng.integers(2**31))
    run = descend(rule, Task.teacher(teacher, noise=noise), network, lr / n, round(alpha * n), batch_size=1, seed=seed,
                  feedback=((F,),), record=n // 10)  # fmt: skip
    W1, v = run.weights
    found = OrderParameters(W1 @ np.swapaxes(W1, 1, 2), W1 @ teacher[0], v[:, 0])
    return run, found, F[:, 0], lr, noise


def _overlaps(n, rng):
    run, found, F, lr, noise = _descend(n, rng, fa(), 2.0, k=3)
    start = OrderParameters(*(x[0] for x in found))
    closed = order_parameters(run.times / lr, start, 1.0, F, lr, noise)
    return max(float(np.abs(a - b).max()) for a, b in zip(closed, found, strict=True))


def _frozen(n, rng):
    run, found, F, lr, noise = _descend(n, rng, Rule(Direct(), Dense(), geometry=LayerRates((1.0, 0.0))), 2.0, k=2)
    error = found.error(1.0, noise)
    closed = online_error(run.times / lr, error[0], lr * (found.v[0] @ F), noise)
    return float(np.abs(closed - error).max() / error[0])


def _law(error):
    return lambda seed: max(n**0.5 * mean_error(error, n, seed) for n in SIZES)


RESULTS = (
    Result("E12", "online FA with n inputs and one output: Q, R and v obey differential equations, to C / sqrt(n), "
           "C = 4", "read in the code of Refinetti, d'Ascoli, Ohana & Goldt (2021)", 4.0, _law(_overlaps)),
    Result("E13", "with v frozen <e^2> falls as e^(-kappa (2 - kappa) alpha), kappa = lr v F, to "
           "2 noise^2 / (2 - kappa), up to C / sqrt(n), C = 3", "derived here", 3.0, _law(_frozen)),
)  # fmt: skip
