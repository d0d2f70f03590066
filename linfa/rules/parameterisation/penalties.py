"""Penalties on the factors of a weight U diag(s) V^T: what the objective adds to the loss of each layer.

Orthogonality and subspace alignment are named in the abstract of arXiv 2510.25594; their formulas and weights are ours.
"""

import abc
from dataclasses import dataclass
from typing import Any, ClassVar, final

from linfa.algebra import T, diagonal, norm, reciprocal, row_norms, scaled, sign


@dataclass(frozen=True)
class Penalty(abc.ABC):
    """A term of the objective.

    Args:
        weight: its factor, at least 0.

    Raises:
        ValueError: for a negative weight.
    """

    weight: float = 0.1
    reads_frame: ClassVar[bool] = False
    """Whether it compares U with a frame (..., n_out, r), the Q of the feedback to the layer."""
    continuous: ClassVar[bool] = True
    """Whether its gradient is continuous."""
    symbolic: ClassVar[bool] = True
    """Whether its gradient has a symbolic form."""

    def __post_init__(self):
        if not self.weight >= 0:
            raise ValueError(f"the weight of a penalty is at least 0; got {self.weight}")

    @abc.abstractmethod
    def value(self, stored, frame=None) -> Any:
        """The penalty of a layer (...), its weight included.

        Args:
            stored: an `SVD`.
            frame: (..., n_out, r or more) whose first columns U is compared with; None for a layer without feedback,
                which has nothing to pay.
        """

    @abc.abstractmethod
    def gradient(self, stored, frame=None):
        """Its gradient with respect to U, s and V, an `SVD`."""


@final
@dataclass(frozen=True)
class Orthogonality(Penalty):
    """||U^T U - I||^2 + ||V^T V - I||^2, with the gradients 4 U (U^T U - I) and 4 V (V^T V - I).

    Singular values of U move alone, sigma' = -4 weight sigma (sigma^2 - 1).  Divided by r^2 it would hold nothing.

    >>> import numpy as np
    >>> from linfa.rules import SVD
    >>> float(Orthogonality(1.0).value(SVD(2 * np.eye(3), np.ones((3, 1)), np.eye(3))))
    27.0
    """

    def value(self, stored, frame=None):
        return self.weight * sum(_squares(T(F) @ F) - 2 * _squares(F) + F.shape[-1] for F in (stored.U, stored.V))

    def gradient(self, stored, frame=None):
        hold = [_times(4 * self.weight, F @ (T(F) @ F) - F) for F in (stored.U, stored.V)]
        return type(stored)(hold[0], 0 * stored.s, hold[1])


@final
@dataclass(frozen=True)
class Alignment(Penalty):
    """||U - Q||^2 / r: every column of U is drawn to its own of the feedback's frame Q.

    Args:
        weight: its factor.
        subspace: only what they span counts, 2 r - 2 ||U^T Q||^2, for orthonormal columns the squared distance of the
            two projections; it keeps no bound on U, which `Orthogonality` or a retraction has to.
    """

    subspace: bool = False
    reads_frame: ClassVar[bool] = True

    def value(self, stored, frame=None):
        if frame is None:
            return 0.0
        Q, r = _columns(frame, stored.rank), stored.rank
        if self.subspace:
            return self.weight * (2 * r - 2 * _squares(T(stored.U) @ Q))
        return self.weight * _squares(stored.U - Q) / r

    def gradient(self, stored, frame=None):
        U, s, V = stored
        if frame is None:
            return type(stored)(0 * U, 0 * s, 0 * V)
        Q = _columns(frame, stored.rank)
        if self.subspace:
            pull = _times(-4 * self.weight, Q @ (T(Q) @ U))
        else:
            pull = _times(2 * self.weight / int(stored.rank), U - Q)
        return type(stored)(pull, 0 * s, 0 * V)


@final
@dataclass(frozen=True)
class Cosine(Penalty):
    """1 - the mean cosine between the columns of U and their own of the feedback's frame Q: directions, not lengths.

    Nothing is asked of a column that is zero, where it is not defined.

    >>> import numpy as np
    >>> from linfa.rules import SVD
    >>> turned = SVD(np.array([[0.0, 2.0], [5.0, 0.0]]), np.ones((2, 1)), np.eye(2))
    >>> float(Cosine(1.0).value(turned, np.eye(2))), float(Cosine(1.0).value(turned, turned.U / 3))
    (1.0, 0.0)
    """

    reads_frame: ClassVar[bool] = True
    continuous: ClassVar[bool] = False
    symbolic: ClassVar[bool] = False

    def value(self, stored, frame=None):
        if frame is None:
            return 0.0
        cosines, _, _ = self._parts(stored, frame)
        return self.weight * (1 - cosines.mean((-1, -2)))

    def gradient(self, stored, frame=None):
        U, s, V = stored
        if frame is None:
            return type(stored)(0 * U, 0 * s, 0 * V)
        cosines, per_length, Q = self._parts(stored, frame)
        pull = scaled(scaled(U, per_length) * T(cosines) - Q, per_length)
        return type(stored)(_times(self.weight / int(stored.rank), pull), 0 * s, 0 * V)

    @staticmethod
    def _parts(stored, frame):
        """Cosines and 1 / |u_j| as columns (..., r, 1), and Q with columns of length 1."""
        Q = _columns(frame, stored.rank)
        Q, per_length = scaled(Q, reciprocal(row_norms(T(Q)))), reciprocal(row_norms(T(stored.U)))
        return diagonal(T(stored.U) @ Q) * per_length, per_length, Q


@final
@dataclass(frozen=True)
class Sparsity(Penalty):
    """Hoyer's sparsity |s|_1 / |s|_2 of the singular values, between 1 for one of them and sqrt(r) for r equal ones.

    It does not change with the size of s.  Nothing is asked of s = 0, where it is not defined.
    """

    continuous: ClassVar[bool] = False
    symbolic: ClassVar[bool] = False

    def value(self, stored, frame=None):
        size = norm(stored.s)
        return self.weight * ((T(sign(stored.s)) @ stored.s) / (size + (size == 0)))[..., 0, 0]

    def gradient(self, stored, frame=None):
        U, s, V = stored
        size = norm(s)
        size = size + (size == 0)
        pull = sign(s) / size - s * (T(sign(s)) @ s) / size**3
        return type(stored)(0 * U, self.weight * pull, 0 * V)


def _columns(frame, r):
    return frame if frame.shape[-1] == r else frame[..., :r]


def _squares(M):
    return (M * M).sum((-1, -2))


def _times(rate, matrix):
    return matrix if rate == 1 else rate * matrix
