"""The learning rates at which descent of backprop stays where it ends."""

import numpy as np

from linfa.network import Network
from linfa.rules import bp
from linfa.simulate import Diverged, descend
from linfa.task import Task
from linfa.theory import assumptions, examples
from linfa.theory.result import Result

__all__ = ["bp_end_max_lr"]


def bp_end_max_lr(rule, task, N: int) -> float:
    """2 / (N s_1^(2 - 2/N)), the learning rate above which descent leaves the balanced end of backprop, for N layers.

    There W_l = R_l S^(1/N) R_(l-1)^T, and an error u_i v_j^T relaxes at sum_k s_i^(2 - 2k/N) s_j^((2k - 2)/N), at most
    N s_1^(2 - 2/N).  Above this learning rate descent comes to rest nowhere, since no end is flatter: the rate of
    u_1 v_1^T is sum_k a_k^2 b_k^2 with a_k = |W_(k-1) .. W_1 v_1| and b_k = |u_1^T W_N .. W_(k+1)|, where
    a_(k+1) b_k >= s_1.

    Args:
        rule: backprop without decay.
        task: a `Task` with white inputs, s_1 its largest singular value.
        N: number of weights.

    Raises:
        AssumptionError: for another rule, or inputs that are not white.
        ValueError: for a task without modes.

    Source: derived here; that the flattest ends are nearly balanced is read in the abstract of Mulayoff & Michaeli
    (2020).

    >>> import linfa
    >>> task = linfa.Task.from_spectrum([4.0, 1.0])
    >>> [round(bp_end_max_lr(linfa.bp(), task, N), 9) for N in (1, 2, 4)]
    [2.0, 0.25, 0.0625]
    """
    assumptions.backprop(rule)
    assumptions.white(task)
    s = np.linalg.svd(task.Syx, compute_uv=False)[0]
    if not s:
        raise ValueError("the task has no modes: there is no end to leave")
    return float(2 / (N * s ** (2 - 2 / N)))


def _leaves(task, network, lr):
    try:
        run = descend(bp(), task, network, lr, 900, record=900)
    except Diverged:
        return True
    return bool(run.loss[-1] > run.loss[0])


def _limit(seed):
    rng = examples.generator(seed)
    N, n, m = (int(i) for i in rng.integers(1, 5, 3))
    s = rng.uniform(0.5, 2.0, min(n, m))
    task = Task.from_spectrum(s, n_in=n, n_out=m, seed=seed)
    hidden = [len(s) + int(rng.integers(0, 3)) for _ in range(N - 1)]
    end = Network.aligned(task, hidden, np.sort(s)[::-1], seed)
    near = Network(tuple(W + 1e-6 * rng.standard_normal(W.shape) for W in end.weights))
    limit = bp_end_max_lr(bp(), task, N)
    return float(_leaves(task, near, 0.99 * limit) or not _leaves(task, near, 1.01 * limit))


RESULTS = (
    Result("A10", "descent of backprop with N layers leaves a balanced end above lr = 2/(N s_1^(2 - 2/N))",
           "derived here; that flat ends are nearly balanced is Mulayoff & Michaeli (2020)", 0.0, _limit),
)  # fmt: skip
