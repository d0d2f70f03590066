"""Gaussian feedback in high dimension: the mean loss, from the Marchenko-Pastur law of its eigenvalues."""

import numpy as np

from linfa.network import Network
from linfa.rules import fa
from linfa.simulate import simulate
from linfa.task import Task
from linfa.theory import examples
from linfa.theory.modes.aligned import fa_mode
from linfa.theory.result import Result
from linfa.theory.wide.finite_size import mean_error

__all__ = ["gaussian_feedback_loss", "marchenko_pastur"]


def marchenko_pastur(ratio: float, nodes: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and weights that integrate over the law of B^T B, B (k, m) with entries of variance 1/k, ratio = m/k.

    mu = 1 + ratio + 2 sqrt(ratio) cos(theta) with density 2 sin^2(theta) / (pi mu) in theta, by the midpoint rule.
    What is missing of the mass 1 is given to mu = 0: it is the share 1 - 1/ratio of eigenvalues 0 where ratio > 1, and
    the error of the rule at the pole mu = 0, without which it converges exponentially for every ratio.

    Args:
        ratio: m/k, positive.
        nodes: number of places.

    Raises:
        ValueError: for a ratio that is not positive.

    Source: Marchenko & Pastur (1967); known.

    >>> values, weights = marchenko_pastur(0.5)
    >>> float(weights.sum().round(12)), float((weights @ values).round(12)), float((weights @ values**2).round(12))
    (1.0, 1.0, 1.5)
    """
    if not ratio > 0:
        raise ValueError(f"a ratio of widths is positive; got {ratio}")
    theta = (np.arange(nodes) + 0.5) * np.pi / nodes
    values = (1 - np.sqrt(ratio)) ** 2 + 4 * np.sqrt(ratio) * np.cos(theta / 2) ** 2
    weights = 2 * np.sin(theta) ** 2 / values / nodes
    return np.append(values, 0.0), np.append(weights, 1 - weights.sum())


def gaussian_feedback_loss(times, s: float, ratio: float, variance: float = 1.0) -> np.ndarray:
    """L(t)/L(0) of feedback alignment from zero on Sigma = s U V^T with m equal modes, U and V orthonormal.

    int (1 - x^3)^2 dMP(mu), x = Phi_3^-1(t/T), T = (2/(s^2 mu))^(1/3): a spread of learning times though the task has
    only one strength.  Where k < m the share 1 - k/m of the loss stays.

    Args:
        times: (t,).
        s: the singular value.
        ratio: m/k, number of outputs over hidden units.
        variance: of the entries of B, times k.

    Raises:
        ValueError: for a ratio or a variance that is not positive.

    Source: derived here, from the Marchenko-Pastur law.

    >>> gaussian_feedback_loss([0.0, 1e4], s=1.0, ratio=2.0).round(3).tolist()
    [1.0, 0.5]
    """
    if not variance > 0:
        raise ValueError(f"a variance is positive; got {variance}")
    values, weights = marchenko_pastur(ratio)
    learned = fa_mode(np.asarray(times, dtype=float)[:, None], s, variance * values) / s
    return (1 - learned) ** 2 @ weights


def _error(k, rng):
    s, variance, ratio = rng.uniform(0.5, 2.0), rng.uniform(0.5, 1.5), rng.choice([0.5, 1.0, 2.0])
    m, times = int(ratio * k), np.linspace(0, 4, 9)
    B = np.sqrt(variance / k) * rng.standard_normal((k, m))
    task = Task.teacher(s * examples.frame(rng, m, m))
    run = simulate(fa(), task, Network.zero((m, k, m)), times, feedback=((B,),), rtol=1e-6, atol=1e-8)
    return float(np.abs(run.loss / run.loss[0] - gaussian_feedback_loss(times, s, ratio, variance)).max())


RESULTS = (
    Result("X9", "FA with Gaussian feedback on m equal modes: L(t)/L(0) = int (1 - x^3)^2 dMP(mu), to C / k for k "
           "hidden units, C = 3", "derived here, from the Marchenko-Pastur law", 3.0,
           lambda seed: max(k * mean_error(_error, k, seed) for k in (20, 60))),
)  # fmt: skip
