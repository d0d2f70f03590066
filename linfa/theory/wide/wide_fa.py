"""Feedback alignment in a wide network from random weights: rich along what the feedback sees, lazy elsewhere."""

import numpy as np

from linfa.network import Network
from linfa.rules import fa
from linfa.simulate import simulate
from linfa.task import Task
from linfa.theory import examples
from linfa.theory.base import relative_error
from linfa.theory.clock import cubic_amplitude
from linfa.theory.result import Result
from linfa.theory.wide.finite_size import finite_size

__all__ = ["fa_wide", "fa_wide_kernels"]


def _modes(Sigma, B, sigma1, times, overlap):
    """U, s, V^T, Sigma V of B Sigma = U diag(s) V^T, the rate c, and a (t, r) with a' = s - c a - a^3/2."""
    Sigma, B, times = np.atleast_2d(Sigma), np.atleast_2d(B), np.asarray(times, dtype=float)
    if B.shape[1] != Sigma.shape[0]:
        raise ValueError(f"B is (k, n_out) for Sigma (n_out, n_in); got shapes {B.shape} and {Sigma.shape}")
    rate = sigma1**2 + overlap
    if rate < 0:
        raise ValueError(
            f"sigma_1^2 + overlap is at least 0; got {rate:.3g}: the feedback opposes the readout at the start"
        )
    U, s, Vt = np.linalg.svd(B @ Sigma, full_matrices=False)
    keep = s > 1e-13 * np.linalg.norm(B) * np.linalg.norm(Sigma)
    U, s, Vt = U[:, keep], s[keep], Vt[keep]
    return U, s, Vt, Sigma @ Vt.T, rate, cubic_amplitude(times[:, None], s, rate, 1.0)


def fa_wide(Sigma, B, sigma1: float, times, overlap: float = 0.0) -> np.ndarray:
    """The map W_2 W_1 (t) of feedback alignment in the limit of many hidden units.

    With B Sigma = U diag(s_i) V^T, c = sigma_1^2 + overlap, and a_i' = s_i - c a_i - a_i^3 / 2 from 0

        W_2 W_1 = Sigma V diag((c a_i + a_i^3 / 2) / s_i) V^T + (1 - e^(-c t)) Sigma (I - V V^T)

    sigma_1 -> 0: features are learned along the modes that B sees, and nothing else.  sigma_1 -> infinity: everything
    is learned at the rate c by the readout alone, whatever the rank of B.

    Args:
        Sigma: Syx (n_out, n_in) of a task with white inputs.
        B: feedback (k, n_out) of a two-layer network; only B^T B matters.
        sigma1: entries of W_1 start independent of all else, with variance sigma_1^2 / k.
        times: (t,).
        overlap: nu of W_2(0) B -> nu I, 0 where the readout starts independent of B.  Where entries of W_2(0)^T and
            of B have variances sigma_2^2 / k and sigma_B^2 / k and correlation rho, nu = rho sigma_2 sigma_B, and
            B^T B -> sigma_B^2 I.

    Returns:
        (t, n_out, n_in).

    Raises:
        ValueError: for shapes that do not match, or a negative sigma_1^2 + overlap.

    Source: derived here (`derivations.wide_fa`).

    >>> W = fa_wide(np.diag([2.0, 1.0]), np.array([[1.0, 0.0]]), sigma1=0.5, times=[0.0, 4.0])
    >>> W.round(3).tolist()
    [[[0.0, 0.0], [0.0, 0.0]], [[2.0, 0.0], [0.0, 0.632]]]
    """
    _, s, Vt, SV, rate, a = _modes(Sigma, B, sigma1, times, overlap)
    seen = (SV * ((rate * a + a**3 / 2) / s)[:, None, :]) @ Vt
    lazy = -np.expm1(-rate * np.asarray(times, dtype=float))[:, None, None]
    return seen + lazy * (Sigma - SV @ Vt)


def fa_wide_kernels(Sigma, B, sigma1: float, times, overlap: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """W_1^T W_1 (t, n_in, n_in) and W_2 B (t, n_out, n_out) in that limit: E' = -W_2 B E - E W_1^T W_1 in all limits.

    W_1^T W_1 = sigma_1^2 I + V diag(a_i^2) V^T,  W_2 B = overlap I + Sigma V diag(a_i^2 / (2 s_i)) U^T B.

    Arguments as in `fa_wide`.

    Source: one output read in Bordelon & Pehlevan (2023), Eq. 7: H = 1 + a^2 and G = rho + a^2/2 for sigma_1 = sigma_2
    = sigma_B = 1; in general derived here.

    >>> H, G = fa_wide_kernels(np.eye(1), np.eye(1), sigma1=1.0, times=[0.0])
    >>> H.item(), G.item()
    (1.0, 0.0)
    """
    U, s, Vt, SV, _, a = _modes(Sigma, B, sigma1, times, overlap)
    n, m = Vt.shape[1], len(SV)
    activity = sigma1**2 * np.eye(n) + (Vt.T * (a**2)[:, None, :]) @ Vt
    return activity, overlap * np.eye(m) + (SV * (a**2 / (2 * s))[:, None, :]) @ (U.T @ B)


def _normal(rng, sigma, k, size):
    """Entries of variance sigma^2 / k, one row for each unit."""
    return sigma / k**0.5 * rng.standard_normal((k, size))


def _run(Sigma, B, first, readout, times):
    return simulate(
        fa(), Task.teacher(Sigma), Network((first, readout.T)), times, feedback=((B,),), rtol=1e-6, atol=1e-8
    )


def _low_rank(k, rng):
    """Rank 2 of 3 outputs."""
    Sigma, P, sigma1 = examples.matrix(rng, 3, 3, 0.5, 1.5), examples.matrix(rng, 2, 3, 0.7, 1.3), rng.uniform(0.4, 1.0)
    times = np.linspace(0, 4, 6)
    B = examples.frame(rng, k, 2) @ P
    run = _run(Sigma, B, _normal(rng, sigma1, k, 3), _normal(rng, 0.5, k, 3), times)
    return relative_error(fa_wide(Sigma, P, sigma1, times), run.map)


def _correlated(rng, k, m, sigma2, sigma_b, rho):
    """W_2(0)^T and feedback of correlation rho with it, (k, m)."""
    readout = _normal(rng, sigma2, k, m)
    return readout, sigma_b * (rho * readout / sigma2 + (1 - rho**2) ** 0.5 * _normal(rng, 1.0, k, m))


def _partial(k, rng):
    """rho-FA with two outputs."""
    Sigma, (sigma1, sigma2, sigma_b) = examples.matrix(rng, 2, 3, 0.5, 1.5), rng.uniform(0.5, 1.0, 3)
    rho, times = rng.uniform(0, 1), np.linspace(0, 4, 6)
    first = _normal(rng, sigma1, k, 3)
    readout, B = _correlated(rng, k, 2, sigma2, sigma_b, rho)
    limit = fa_wide(Sigma, sigma_b * np.eye(2), sigma1, times, overlap=rho * sigma2 * sigma_b)
    return relative_error(limit, _run(Sigma, B, first, readout, times).map)


def _one_output(k, rng):
    """rho-FA with one output, all spreads 1: the map and both kernels along its mode."""
    y, rho, times = rng.uniform(0.5, 2.0), rng.uniform(0, 1), np.linspace(0, 2, 6)
    first = _normal(rng, 1.0, k, 1)
    readout, B = _correlated(rng, k, 1, 1.0, 1.0, rho)
    run, y = _run([[y]], B, first, readout, times), np.array([[y]])
    W1, W2 = run.weights
    kernels = fa_wide_kernels(y, np.eye(1), 1.0, times, overlap=rho)
    simulated = run.map, np.swapaxes(W1, -1, -2) @ W1, W2 @ B
    return relative_error((fa_wide(y, np.eye(1), 1.0, times, overlap=rho), *kernels), simulated)


RESULTS = (
    Result(
        "C2b",
        "wide FA, B of correlation rho with W_2(0)^T: w = c a + h a^3/2, a' = s - w with c = sigma_1^2 + rho sigma_2 "
        "sigma_B, h = sigma_B^2, to C / sqrt(k), C = 6",
        "derived here",
        6.0,
        finite_size(_partial),
    ),
    Result(
        "E16",
        "wide FA, one output: a' = y - (1 + rho) a - a^3/2, kernels 1 + a^2 and rho + a^2/2, to C / sqrt(k), C = 10",
        "read in Bordelon & Pehlevan (2023), Eq. 7",
        10.0,
        finite_size(_one_output),
    ),
    Result(
        "X5",
        "wide FA, B of any rank: modes of B Sigma by a' = s - sigma_1^2 a - a^3/2, the rest by e^(-sigma_1^2 t), to "
        "C / sqrt(k), C = 4",
        "derived here",
        4.0,
        finite_size(_low_rank),
    ),
)
