"""How fast backprop learns at the least: a rate from the smallest singular values, and its floor from the imbalance."""

import itertools

import numpy as np

from linfa.algebra import T
from linfa.network import Network
from linfa.rules import bp
from linfa.simulate import simulate
from linfa.task import Task
from linfa.theory import examples
from linfa.theory.result import Result

__all__ = ["convergence_rate", "imbalance_rate"]


def convergence_rate(weights, Sxx=None):
    """A rate r at which the error of a linear network decays at least under backprop: d|E|/dt <= -r |E|.

        r = sum_l lambda_min(A_l A_l^T) lambda_min(B_l^T B_l),   A_l = W_L .. W_(l+1),   B_l = W_(l-1) .. W_1 Sxx^(1/2)

    so that |E(t)| <= |E(0)| exp(-int r dt); with two layers r is lambda_min(W_2 W_2^T) + lambda_min(W_1^T W_1).  E is
    Syx - W_L .. W_1 for white inputs, and that times Sxx^(-1/2) in general: the loss above its least is |E|^2 / 2.

    Args:
        weights: W_1 .. W_L, with any leading axes.
        Sxx: second moment of the inputs (n_in, n_in); white by default.

    Raises:
        ValueError: for shapes that do not match, and an Sxx that is not symmetric.

    Source: Tarmoun et al. (2021), Min et al. (2021); known result re-derived (`derivations.rate_bound`).

    >>> round(float(convergence_rate((2 * np.eye(3), np.eye(3)))), 12)
    5.0
    """
    network = Network(tuple(map(np.asarray, weights)))
    below = [np.broadcast_to(_root(Sxx, network.widths[0]), (*network.batch, *2 * network.widths[:1]))]
    for W in network.weights[:-1]:
        below.append(W @ below[-1])
    above = [np.broadcast_to(np.eye(network.widths[-1]), (*network.batch, *2 * network.widths[-1:]))]
    for W in network.weights[:0:-1]:
        above.append(above[-1] @ W)
    return sum(_lowest(A) * _lowest(T(B)) for A, B in zip(above[::-1], below, strict=True))


def imbalance_rate(W1, W2, Sxx=None):
    """What `convergence_rate` of two layers can never fall below: imbalance speeds up learning.

        [lambda_m(D)]_+ + [lambda_n(-D)]_+ times lambda_min(Sxx), with D = W_2^T W_2 - W_1 W_1^T, which does not change,

    where lambda_i is the i-th largest eigenvalue, 0 beyond the last, n inputs, m outputs.  It is |c| where D = c I and
    the hidden layer is wide enough, and 0 from a balanced start.

    Args:
        W1: (..., k, n_in).
        W2: (..., n_out, k).
        Sxx: second moment of the inputs (n_in, n_in); white by default.

    Raises:
        ValueError: as `convergence_rate`.

    Source: Tarmoun et al. (2021), Min et al. (2021); known result re-derived (`derivations.rate_bound`).

    >>> float(imbalance_rate(np.eye(3, 2), np.zeros((1, 3))))
    1.0
    """
    (k, n), m = Network((W1, W2)).weights[0].shape[-2:], W2.shape[-2]
    values = np.linalg.eigvalsh(T(W2) @ W2 - W1 @ T(W1))
    out = values[..., -m] if m <= k else 0.0
    back = -values[..., n - 1] if n <= k else 0.0
    return (np.maximum(out, 0) + np.maximum(back, 0)) * _lowest(_root(Sxx, n))


def _root(Sxx, n):
    if Sxx is None:
        return np.eye(n)
    Sxx = np.asarray(Sxx, float)
    if Sxx.shape != (n, n):
        raise ValueError(f"Sxx is ({n}, {n}) for these weights; got shape {Sxx.shape}")
    if (apart := np.abs(Sxx - Sxx.T).max()) > 1e-10 * np.abs(Sxx).max():
        raise ValueError(f"Sxx is not symmetric: entries differ by up to {apart:.2g}")
    values, basis = np.linalg.eigh(Sxx)
    if values[0] < -1e-10 * values[-1]:
        raise ValueError(f"Sxx is not a second moment: it has the negative eigenvalue {values[0]:.2g}")
    return (basis * np.sqrt(np.maximum(values, 0))) @ basis.T


def _lowest(A):
    """lambda_min(A A^T): 0 if A has more rows than columns."""
    rows, columns = A.shape[-2:]
    return np.linalg.svd(A, compute_uv=False)[..., -1] ** 2 if rows <= columns else np.zeros(A.shape[:-2])


def _violation(seed):
    """How far |E| passes the bound, in units of |E(0)|, and the rate its floor, at any depth, white or not."""
    rng = examples.generator(seed)
    n, m, L = (int(i) for i in rng.integers(1, 4, 3))
    moment = examples.moment(rng, n, 0.5, 1.3) if rng.random() < 0.5 else np.eye(n)
    task = Task.teacher(examples.matrix(rng, m, n, 0.5, 1.5), moment)
    widths = (n, *(max(n, m) + int(rng.integers(0, 3)) for _ in range(L - 1)), m)
    network = Network(tuple(examples.matrix(rng, b, a, 0.2, 1.3) for a, b in itertools.pairwise(widths)))
    nodes, shares = np.polynomial.legendre.leggauss(8)
    ends = np.linspace(0, 2, 9)
    width = ends[1] / 2
    times = np.sort(np.concatenate([ends, (ends[:-1, None] + width * (nodes + 1)).ravel()]))
    run = simulate(bp(), task, network, times, rtol=1e-12, atol=1e-14)
    rates, at_end = convergence_rate(run.weights, moment), np.isin(times, ends)
    passed = np.append(0.0, np.cumsum(width * rates[~at_end].reshape(8, 8) @ shares))
    size = np.sqrt(2 * run.loss[at_end])
    worst = (size / size[0] - np.exp(-passed)).max()
    if L == 2:
        floor = imbalance_rate(*network.weights, moment)
        worst = max(worst, (floor - rates).max(), (size / size[0] - np.exp(-floor * ends)).max())
    return max(float(worst), 0.0)


RESULTS = (
    Result("A8", "under backprop |E(t)| <= |E(0)| exp(-int r), r = sum_l lambda_min(A_l A_l^T) lambda_min(B_l^T B_l) "
           "of the layers above and below l; with two layers r is never below [lambda_m(D)]_+ + [lambda_n(-D)]_+",
           "Tarmoun et al. (2021), Min et al. (2021); known result re-derived", 1e-9, _violation),
)  # fmt: skip
