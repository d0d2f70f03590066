"""The frames that a task, two weights and their feedback share, if they are aligned."""

import numpy as np

from linfa.theory.assumptions import TOLERANCE
from linfa.theory.base import AssumptionError

GENERIC = (1.0, 0.6180339887, 0.4142135624, 0.3027756377, 0.2360679775, 0.1925824036)
"""Coefficients of a combination that has no singular values in common but by chance."""

__all__ = ["diagonal_in", "hidden_frame", "outer_frames"]


def _mixed(parts):
    return sum(c * M / (np.linalg.norm(M) or 1.0) for c, M in zip(GENERIC, parts, strict=False))


def outer_frames(*maps) -> tuple[np.ndarray, np.ndarray]:
    """U (m, r) and V^T (r, n) of up to six matrices (m, n) that should all be U diag V^T, r = min(m, n).

    They are the singular vectors of a generic combination, which tells modes apart that some of the matrices do not.

    >>> U, Vt = outer_frames(np.eye(2), np.diag([0.0, 3.0]))
    >>> bool(np.allclose(np.abs(U), [[0, 1], [1, 0]]))
    True
    """
    U, _, Vt = np.linalg.svd(_mixed(maps), full_matrices=False)
    return U, Vt


def hidden_frame(*parts) -> np.ndarray:
    """R (k, r) of up to six matrices (k, r) that should all be R diag; zero columns stay zero.

    Raises:
        AssumptionError: if two columns overlap, by how much.

    >>> hidden_frame(np.array([[2.0, 0.0], [0.0, 0.0]]), np.array([[0.0, 0.0], [0.0, 3.0]])).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    mixed = _mixed(parts)
    sizes = np.linalg.norm(mixed, axis=0)
    R = mixed / np.where(sizes > TOLERANCE, sizes, np.inf)
    overlap = np.abs(R.T @ R - np.diag(sizes > TOLERANCE)).max(initial=0)
    if overlap > TOLERANCE:
        raise AssumptionError(f"not aligned: hidden units of two modes overlap by {overlap:.2g}")
    return R


def diagonal_in(name: str, matrix, left, right) -> np.ndarray:
    """The d (r,) of matrix = left diag(d) right.

    Args:
        name: what the matrix is called in the error.
        matrix: (a, b).
        left, right: (a, r) and (r, b).

    Raises:
        AssumptionError: if it is not, by how much.

    >>> diagonal_in("W_1", np.eye(2), np.eye(2), np.ones((2, 2)))
    Traceback (most recent call last):
        ...
    linfa.theory.base.AssumptionError: not aligned: W_1 is off the common frames by 1
    """
    d = np.einsum("ai,ab,ib->i", left, matrix, right)
    apart = np.abs((left * d) @ right - matrix).max(initial=0)
    if apart > TOLERANCE * max(1.0, np.abs(matrix).max(initial=0)):
        raise AssumptionError(f"not aligned: {name} is off the common frames by {apart:.2g}")
    return d
