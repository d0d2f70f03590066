"""The plateau of low-rank feedback: what B does not see is learned by the accidental features of the start."""

import numpy as np

from linfa.algebra import product
from linfa.network import Network
from linfa.rules import ldfa
from linfa.simulate import simulate
from linfa.task import Task
from linfa.theory import examples
from linfa.theory.result import Result

__all__ = ["plateau_matrix", "plateau_rates"]


def plateau_matrix(W1, B, Syx) -> np.ndarray:
    """R = V_o^T W_1^T (I - B B^+) W_1 V_o, at which the error that the feedback does not see decays: E V_o ~ e^(-R t).

    V_o are the inputs that B Syx does not see.  R is conserved by feedback alignment, as the rows of (I - B B^+) W_1
    are.  From small weights it takes over once B E = 0, where B E stays zero, W_1 no longer moves, and E decays exactly
    as e^(-W_1^T W_1 t); from weights of order eps its slow part is e^(-R t) up to relative corrections of order eps^2.
    The rates are of order eps^2 too, so the plateau is 1/eps^2 long, and from W_1(0) = 0 it never ends (`FinalMap`).

    Args:
        W1: hidden layer at time 0 (k, n_in).
        B: fixed feedback (k, n_out).
        Syx: E[y x^T] (n_out, n_in), white inputs.

    Returns:
        (n_in - rank, n_in - rank), in a basis of the unseen inputs; symmetric.

    Raises:
        ValueError: for shapes that do not fit.

    Source: derived here (`derivations.plateau_escape`).

    >>> plateau_matrix(np.diag([3.0, 0.1]), B=np.array([[1.0, 0.0], [0.0, 0.0]]), Syx=np.eye(2)).round(12).tolist()
    [[0.01]]
    """
    W1, B, Syx = np.asarray(W1), np.asarray(B), np.asarray(Syx)
    if W1.shape[0] != B.shape[0] or B.shape[1] != Syx.shape[0] or W1.shape[1] != Syx.shape[1]:
        raise ValueError(f"W_1 {W1.shape}, B {B.shape} and Syx {Syx.shape} do not fit (k, n), (k, m) and (m, n)")
    columns, unseen = _range_and_kernel(B)[0], _range_and_kernel(B @ Syx)[1]
    lazy = W1 @ unseen
    lazy = lazy - columns @ (columns.T @ lazy)
    return lazy.T @ lazy


def plateau_rates(W1, B, Syx) -> np.ndarray:
    """The eigenvalues of `plateau_matrix`, ascending: with 0 among them some part of the task is never learned.

    >>> plateau_rates(np.diag([3.0, 0.1]), B=np.array([[1.0, 0.0], [0.0, 0.0]]), Syx=np.eye(2)).round(12).tolist()
    [0.01]
    """
    return np.linalg.eigvalsh(plateau_matrix(W1, B, Syx))


def _range_and_kernel(A):
    """Orthonormal bases of the column space of a matrix, and of the inputs that it maps to zero."""
    U, s, Vt = np.linalg.svd(A)
    rank = int((s > 1e-12 * s[0]).sum())
    return U[:, :rank], Vt[rank:].T


def measured(rule, task, network, feedback, times) -> np.ndarray:
    """The generator of the unseen error between two late times, -log(E(t_1)^+ E(t_2)) / (t_2 - t_1), by simulation."""
    from scipy.linalg import logm

    run = simulate(rule, task, network, [0.0, *times], feedback=feedback, rtol=1e-12, atol=1e-15)
    unseen = _range_and_kernel(product(feedback[0]) @ task.Syx)[1]
    first, last = ((task.Syx - run.map[i]) @ unseen for i in (1, 2))
    moved = logm(np.linalg.lstsq(first, last, rcond=None)[0])
    return np.asarray(moved) / (times[0] - times[1])


def _order(seed):
    """How far from 2 is the fitted order of the relative corrections."""
    rule, corrections = ldfa(2, "fixed"), []
    for eps in (0.02, 0.01):
        rng = examples.generator(seed)
        task = Task.teacher(examples.matrix(rng, 4, 4, 0.8, 1.8))
        feedback = examples.feedback(rule, rng, (4, 5, 4))
        network = Network((eps * examples.matrix(rng, 5, 4, 0.5, 1.0), eps * examples.matrix(rng, 4, 5, 0.5, 1.0)))
        R = plateau_matrix(network.weights[0], product(feedback[0]), task.Syx)
        gap = measured(rule, task, network, feedback, (40.0, 140.0)) - R
        corrections.append(np.linalg.norm(gap) / np.linalg.norm(R))
    return abs(np.log2(corrections[0] / corrections[1]) - 2)


RESULTS = (
    Result("D5", "from weights O(eps) the error that B does not see decays at conserved rates, up to a relative eps^2",
           "derived here", 0.1, _order),
)  # fmt: skip
