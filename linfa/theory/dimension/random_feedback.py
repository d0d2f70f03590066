"""Random feedback of rank r: how much of the task it is expected to miss."""

import numpy as np

from linfa.network import Network
from linfa.rules import fa
from linfa.simulate import simulate
from linfa.task import Task
from linfa.theory import examples
from linfa.theory.dimension.final_map import final_loss
from linfa.theory.result import Result

__all__ = ["random_feedback_bound"]


def random_feedback_bound(s, rank: int) -> float:
    """A bound on the expected final loss of feedback alignment with Gaussian feedback vectors P (rank, n_out).

    E[L] <= min_k 1/2 (1 + k/(r - k - 1)) sum_(j>k) s_j^2 over k <= r - 2: learning ends at Sigma Proj_row(P Sigma), the
    randomised range finder of numerical linear algebra.  A few vectors more than there are large modes find those; the
    best r vectors leave 1/2 sum_(j>r) s_j^2.

    Args:
        s: singular values of the task, white inputs.
        rank: r, at least 2 for a bound below the loss at the start.

    Raises:
        ValueError: for a negative singular value, or a rank that is not positive.

    Source: Halko, Martinsson & Tropp (2011), theorem 10.5; known result, applied to `final_loss`.

    >>> round(random_feedback_bound([1.0, 1.0, 0.1, 0.1, 0.1], rank=4), 9)
    0.045
    """
    s = np.sort(np.asarray(s, dtype=float))[::-1]
    if not (s >= 0).all():
        raise ValueError(f"a singular value is at least 0; got {s.min():.3g}")
    if rank < 1:
        raise ValueError(f"a rank is at least 1; got {rank}")
    if rank >= np.count_nonzero(s):
        return 0.0
    bounds = [(s[k:] ** 2).sum() * (rank - 1) / (rank - k - 1) for k in range(1, rank - 1)]
    return 0.5 * float(min([(s**2).sum(), *bounds]))


def _measure(seed):
    """Mean final loss of an ensemble of networks, one draw of the feedback for each."""
    rng, size, modes = examples.generator(seed), 200, 5
    rank = int(rng.integers(2, modes))
    s = np.sort(rng.uniform(0.3, 2.0, modes))[::-1] * rng.choice([1.0, 0.2], modes)
    task = Task.from_spectrum(s, seed=seed)
    P = rng.standard_normal((size, rank, modes))
    B = np.linalg.qr(np.swapaxes(P, 1, 2))[0].swapaxes(1, 2)  # the same rows, well conditioned: a short flow
    run = simulate(fa(), task, Network.zero((modes, rank, modes), (size,)), [0.0, 80.0], feedback=((B,),), rtol=1e-8)
    losses = run.loss[-1]
    closed = [final_loss(task.Syx, sketch) for sketch in P]
    if np.abs(losses - closed).max() > 1e-3:
        return np.inf
    return max(float(losses.mean()) / random_feedback_bound(s, rank) - 1, 0.0)


def _flat(seed):
    rng = examples.generator(seed)
    d, s = int(rng.integers(3, 6)), rng.uniform(0.5, 2.0)
    rank = int(rng.integers(1, d))
    task, B = Task.from_spectrum([s] * d, seed=seed), rng.standard_normal((rank, d))
    run = simulate(fa(), task, Network.zero((d, rank, d)), [0.0, 80.0], feedback=((B,),), rtol=1e-11, atol=1e-13)
    return abs(float(run.loss[-1]) - 0.5 * s**2 * (d - rank)) / s**2


RESULTS = (
    Result("D14", "random feedback of rank r leaves on average at most (1 + k/(r-k-1)) sum_(j>k) s_j^2 / 2, "
           "k <= r - 2",
           "Halko, Martinsson & Tropp (2011), theorem 10.5; known result, applied to feedback", 1e-9, _measure),
    Result("D14b", "with d equal singular values s it leaves s^2 (d - r)/2, always", "derived here", 1e-8, _flat),
)  # fmt: skip
