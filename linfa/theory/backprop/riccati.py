"""Backprop from a lambda-balanced start: a matrix Riccati equation with a closed form, for any widths and directions.

The products of the columns of Q = [W_1^T; W_2] hold the map, the similarities of inputs and outputs as the hidden layer
sees them, and the neural tangent kernel.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, final

import numpy as np
from scipy.linalg import qr

from linfa.network import Network
from linfa.rules import bp
from linfa.simulate import simulate
from linfa.theory import assumptions, examples
from linfa.theory.backprop.unbalanced import UnbalancedMode
from linfa.theory.base import AssumptionError, Setup, Theory
from linfa.theory.result import Result, of_flow

__all__ = ["Riccati", "lambda_balanced_network", "layer_imbalance", "riccati_qqt"]

LARGEST_EXPONENT = 300.0
"""Longer times are taken in parts, so that no exponential overflows."""


def layer_imbalance(W1, W2) -> float:
    """The lambda of W_2^T W_2 - W_1 W_1^T = lambda I.

    Args:
        W1: (k, n); W2: (m, k).

    Raises:
        AssumptionError: if the difference is not a multiple of the identity.

    >>> layer_imbalance(np.eye(2), np.diag([2.0, -2.0]))
    3.0
    """
    above, below = W2.T @ W2, W1 @ W1.T
    D = above - below
    lam = float(np.trace(D) / len(D))
    apart = np.abs(D - lam * np.eye(len(D))).max()
    if apart > assumptions.TOLERANCE * max(1.0, np.abs(above).max(), np.abs(below).max()):
        raise AssumptionError(f"not lambda-balanced: W_2^T W_2 - W_1 W_1^T is off {lam:.3g} I by {apart:.2g}")
    return lam


def lambda_balanced_network(widths, imbalance: float = 0.0, scale: float = 0.1, seed: int = 0) -> Network:
    """A random network with W_2^T W_2 - W_1 W_1^T = lambda I, in no special direction.

    Args:
        widths: n, k, m.
        imbalance: lambda; it has to be 0 unless the larger layer is as wide as the hidden one: k <= m for lambda > 0,
            k <= n for lambda < 0.
        scale: the min(n, k, m) singular values of the smaller layer are scale times uniform numbers in [1/2, 3/2].
        seed: of the generator.

    Raises:
        ValueError: for a lambda that these widths do not allow.

    >>> network = lambda_balanced_network((4, 2, 3), imbalance=-0.5)
    >>> round(layer_imbalance(*network.weights), 12)
    -0.5
    """
    n, k, m = widths
    wide, text = (m, "W_2 (m, k) needs k <= m") if imbalance > 0 else (n, "W_1 (k, n) needs k <= n")
    if imbalance and k > wide:
        raise ValueError(f"no network of widths {n}, {k}, {m} has lambda = {imbalance:g}: {text}")
    rng = np.random.default_rng(seed)
    small = np.zeros(k)
    small[: min(n, k, m)] = scale * rng.uniform(0.5, 1.5, min(n, k, m))
    large = np.sqrt(small**2 + abs(imbalance))
    a, b = (small, large) if imbalance > 0 else (large, small)
    V, R, U = (np.linalg.qr(rng.standard_normal((size, size)))[0] for size in (n, k, m))
    return Network((R @ (np.eye(k, n) * a[:, None]) @ V.T, U @ (np.eye(m, k) * b) @ R.T))


def riccati_qqt(W1, W2, Sigma, times) -> np.ndarray:
    """Q Q^T at the times for Q = [W_1^T; W_2], from a start with W_2^T W_2 - W_1 W_1^T = lambda I.

    With F = [[-lambda/2 I, Sigma^T], [Sigma, lambda/2 I]] backprop on white inputs obeys
    (Q Q^T)' = F Q Q^T + Q Q^T F - (Q Q^T)^2, with the solution

        Q Q^T(t) = e^(Ft) Q_0 [I + Q_0^T (int_0^t e^(2F tau) dtau) Q_0]^(-1) Q_0^T e^(Ft)

    It is evaluated without an inverse: with F = V diag(f_i) V^T, g_i = (e^(2 f_i t) - 1) / (2 f_i) and orthonormal
    columns [Z_a; Z_b] that span those of [I; diag(g)^(1/2) V^T Q_0], Q Q^T = V D Z_b Z_b^T D V^T with the bounded
    D_i = e^(f_i t) / g_i^(1/2).  That keeps its digits at all times, for any widths and for singular starts.

    Args:
        W1: (k, n); W2: (m, k).
        Sigma: Syx (m, n).
        times: (t,), at least 0.

    Returns:
        (t, n + m, n + m): W_1^T W_1 and W_2 W_2^T on the diagonal, W_2 W_1 below it.

    Raises:
        AssumptionError: for a start that is not lambda-balanced.
        ValueError: for shapes that do not fit, and times that are negative or not finite.

    Source: Fukumizu (1998), Braun et al. (2022), Domine et al. (2024), known; F and the sign of lambda read in the code
    of the last.  The evaluation is derived here (`derivations.riccati`).

    >>> riccati_qqt(np.eye(1), np.eye(1), np.array([[2.0]]), [0.0, 50.0]).round(12).tolist()
    [[[1.0, 1.0], [1.0, 1.0]], [[2.0, 2.0], [2.0, 2.0]]]
    """
    (k, n), (m, _) = np.shape(W1), np.shape(W2)
    if np.shape(W2)[1] != k or np.shape(Sigma) != (m, n):
        raise ValueError(f"W_1 {np.shape(W1)}, W_2 {np.shape(W2)} and Sigma {np.shape(Sigma)} do not fit together")
    times = np.asarray(times, float)
    if not ((times >= 0) & np.isfinite(times)).all():
        raise ValueError(f"times are finite and at least 0; got {times}")
    half = layer_imbalance(W1, W2) / 2
    f, V = np.linalg.eigh(np.block([[-half * np.eye(n), Sigma.T], [Sigma, half * np.eye(m)]]))
    left, sizes, _ = np.linalg.svd(np.concatenate([W1.T, W2]), full_matrices=False)
    seen = sizes > 1e-14 * sizes.max()  # rounding would grow with the rest
    start = V.T @ (left * sizes)[:, seen]
    roots = np.array([V @ _root(f, start, t) for t in times.flat]).reshape(*times.shape, n + m, -1)
    return roots @ np.swapaxes(roots, -1, -2)


def _root(f, start, t):
    """Z(t) with Z Z^T = V^T Q Q^T V, from Z(0), in the eigenvectors O of F."""
    longest = LARGEST_EXPONENT / max(f.max(), 1e-300)
    while t > longest:
        start, t = _root(f, start, longest), t - longest
    if t == 0 or start.size == 0:
        return start
    flat = np.abs(f) * t < 1e-150
    safe = np.where(flat, 1.0, f)
    h = np.where(flat, t, -np.expm1(-2 * np.abs(safe) * t) / (2 * np.abs(safe)))  # g, but for its exponential
    rows = np.concatenate([np.eye(start.shape[1]), (np.exp(np.maximum(f, 0) * t) * np.sqrt(h))[:, None] * start])
    order = np.argsort(-np.abs(rows).max(1))  # large rows first: Householder's method is then accurate in each
    columns = np.empty_like(rows)
    columns[order] = qr(rows[order], mode="economic", pivoting=True)[0]
    return (np.exp(np.minimum(f, 0) * t) / np.sqrt(h))[:, None] * columns[start.shape[1] :]


@final
@dataclass(frozen=True, eq=False)
class Riccati(Theory):
    """Backprop on a white task from any start with W_2^T W_2 - W_1 W_1^T = lambda I, in closed form.

    W_1^T W_1, W_2 W_1 and W_2 W_2^T from `riccati_qqt`: any widths, singular vectors, spectra and signs.

    Assumptions: two layers; backprop without decay; Sxx = I; the start above.  lambda is read off the start.

    Source: Fukumizu (1998), Braun et al. (2022), Domine et al. (2024); known result re-derived.

    Raises:
        AssumptionError: outside the assumptions.

    >>> import linfa
    >>> task, network = linfa.Task.from_spectrum([2.0, 1.0]), lambda_balanced_network((2, 2, 2), imbalance=0.5)
    >>> run = linfa.simulate(linfa.bp(), task, network, time=4.0, rtol=1e-11)
    >>> Riccati(linfa.bp(), task, run.at(0)).error(run) < 1e-8
    True
    """

    statement: ClassVar[str] = "backprop from W_2^T W_2 - W_1 W_1^T = lambda I solves a matrix Riccati equation"
    source: ClassVar[str] = "Fukumizu (1998), Braun et al. (2022), Domine et al. (2024); known result re-derived"

    @classmethod
    def check_rule(cls, rule):
        assumptions.backprop(rule)

    def check_start(self):
        assumptions.depth(self.start, 2)
        assumptions.white(self.task)
        self.imbalance  # noqa: B018  checks the start

    @cached_property
    def imbalance(self) -> float:
        """lambda."""
        return layer_imbalance(*self.start.weights)

    def predict(self, times):
        """W_1^T W_1 (t, n_in, n_in), W_2 W_1 (t, n_out, n_in) and W_2 W_2^T (t, n_out, n_out) at the times (t,)."""
        n, qqt = self.task.n_in, riccati_qqt(*self.start.weights, self.task.Syx, times)
        return qqt[:, :n, :n], qqt[:, n:, :n], qqt[:, n:, n:]

    def observed(self, trajectory):
        W1, W2 = trajectory.weights
        return np.swapaxes(W1, 1, 2) @ W1, W2 @ W1, W2 @ np.swapaxes(W2, 1, 2)

    def tangent_kernel(self, times) -> np.ndarray:
        """I x W_1^T W_1 + W_2 W_2^T x I (t, n_out n_in, n_out n_in): the map moves by it times E, row after row."""
        below, _, above = self.predict(times)
        return np.kron(np.eye(self.task.n_out), below) + np.kron(above, np.eye(self.task.n_in))

    @classmethod
    def residuals(cls, equations):
        """Those of `UnbalancedMode`, which this is in one mode."""
        return UnbalancedMode.residuals(equations)

    @classmethod
    def example(cls, rule, seed=0):
        cls.check_rule(rule)
        return _problem(seed)


def _problem(seed, balanced=False):
    rng = examples.generator(seed)
    n, k, m = (int(i) for i in rng.integers(1, 6, 3))
    signs = [0, *([1] if k <= m else []), *([-1] if k <= n else [])]
    imbalance = 0.0 if balanced else rng.choice(signs) * rng.uniform(0.2, 1.5)
    network = lambda_balanced_network((n, k, m), imbalance, 0.4, seed)
    return Setup(examples.white_task(rng, n, m, 0.3, 2.0), network, np.linspace(0, 4, 17), ((),))


def _zero_balanced(seed):
    rule, setup = bp(), _problem(seed, balanced=True)
    run = simulate(rule, setup.task, setup.network, setup.times, rtol=1e-11, atol=1e-13)
    return Riccati(rule, setup.task, run.at(0)).error(run)


RESULTS = (
    Result("A4", "backprop from a balanced start in no special direction solves a matrix Riccati equation",
           Riccati.source, 1e-8, _zero_balanced),
    of_flow("A5", Riccati, bp()),
)  # fmt: skip
