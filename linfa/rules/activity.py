"""Activity: what hidden units do with their inputs, besides adding them up.

A normalisation over the data is part of the network and not of the teaching signal: every rule takes errors back
through it by its exact derivative.
"""

import abc
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, final

from linfa.algebra import T, reciprocal, row_norms, svd


@dataclass(frozen=True)
class Activity(abc.ABC):
    """Maps the inputs a = W h of a hidden layer to its activity, on all data at once."""

    basis_free: ClassVar[bool] = True
    """Whether a rotation of the units is a rotation of their activity."""
    continuous: ClassVar[bool] = False
    """Whether the activity is continuous in the weights, and the flow so smooth that descent converges to it.

    A normalisation is not, where a variance vanishes; its speed goes as 1/std, which can bring it there in finite time.
    """

    @abc.abstractmethod
    def prepared(self, batch):
        """The batch as `forward` wants it, the same `linfa.task.Batch` or an equivalent one."""

    @abc.abstractmethod
    def forward(self, a, one) -> tuple[Any, Any]:
        """The activity h (..., n, N), and what `backward` and `matrix` need of this pass.

        Args:
            a: (..., n, N), columns whose sums are expectations.
            one: (N, 1) of length 1, what a constant 1 looks like; None for a population of zero mean.
        """

    @abc.abstractmethod
    def backward(self, error, kept):
        """dLoss/da from dLoss/dh, both (..., n, N), by the exact derivative on all data at once."""

    @abc.abstractmethod
    def matrix(self, W, kept):
        """K W (..., n, n_in) with the matrix K for which h = K (a - E[a])."""


@final
@dataclass(frozen=True)
class Plain(Activity):
    """h = a."""

    continuous: ClassVar[bool] = True

    def prepared(self, batch):
        return batch

    def forward(self, a, one):
        return a, None

    def backward(self, error, kept):
        return error

    def matrix(self, W, kept):
        return W


class _Standard(NamedTuple):
    h: Any
    inverse: Any
    one: Any


@final
@dataclass(frozen=True)
class Standardised(Activity):
    """h_i = (a_i - E[a_i]) / std(a_i): batch normalisation (Ioffe & Szegedy 2015) over the population, without affine
    parameters and without epsilon.

    The derivative is that of the whole: delta_a = (delta_h - E[delta_h] - h E[delta_h h]) / std(a) for each unit.  A
    unit that does not vary, by 1e-12 of the one that varies most, stays at 0.

    >>> import numpy as np
    >>> h, _ = Standardised().forward(np.array([[3.0, 4.0], [0.0, 0.0]]), None)
    >>> h.round(12).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """

    basis_free: ClassVar[bool] = False

    def prepared(self, batch):
        return batch.with_unit_constant()

    def forward(self, a, one):
        a = _centred(a, one)
        inverse = reciprocal(row_norms(a))
        return inverse * a, _Standard(inverse * a, inverse, one)

    def backward(self, error, kept):
        h, inverse, one = kept
        along = (error * h).sum(-1)[..., None]
        return inverse * (_centred(error, one) - along * h)

    def matrix(self, W, kept):
        return kept.inverse * W


class _White(NamedTuple):
    U: Any
    inverse: Any
    Vt: Any
    pairs: Any
    one: Any


@final
@dataclass(frozen=True)
class Whitened(Activity):
    """h = C^(-1/2) (a - E[a]) with the covariance C of a: ZCA whitening over the population.

    With A = U S V^T, the centred a with its samples as columns, C = U S^2 U^T and h = U V^T: the polar factor, which is
    also the direction of `Polar`.  The derivative, through all of U, S and V, is that of a gradient (h is the gradient
    of the nuclear norm of A), so that delta_a is the change of h along delta_h:

        U [(P - P^T)_ij / (s_i + s_j)] V^T + (I - U U^T) delta_h V S^-1 V^T + U S^-1 U^T delta_h (I - V V^T),

    P = U^T delta_h V.  Directions without variance, below 1e-12 of the largest, stay at 0; as long as there are as many
    of them this is the derivative with them, too.

    >>> import numpy as np
    >>> h, _ = Whitened().forward(np.array([[3.0, 0.0], [1.0, 2.0]]), None)
    >>> (h @ h.T).round(12).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    def prepared(self, batch):
        return batch.with_unit_constant()

    def forward(self, a, one):
        U, s, Vt = svd(_centred(a, one))
        pairs = reciprocal(s[..., :, None] + s[..., None, :])
        return U @ Vt, _White(U, reciprocal(s)[..., None, :], Vt, pairs, one)

    def backward(self, error, kept):
        U, inverse, Vt, pairs, one = kept
        error = _centred(error, one)
        left, right = T(U) @ error, error @ T(Vt)
        P = left @ T(Vt)
        inside = U @ (pairs * (P - T(P))) @ Vt
        return inside + ((right - U @ P) * inverse) @ Vt + (U * inverse) @ (left - P @ Vt)

    def matrix(self, W, kept):
        return (kept.U * kept.inverse) @ (T(kept.U) @ W)


def _centred(a, one):
    return a if one is None else a - (a @ one) @ T(one)
