"""Weights of rank r: U diag(s) V^T."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, final

from linfa.algebra import T, diagonal, orthonormal, polar, scaled, svd_frames
from linfa.rules.claims import Conserved
from linfa.rules.feedback import Transpose
from linfa.rules.parameterisation.base import Parameterisation
from linfa.rules.parameterisation.penalties import Penalty
from linfa.theory import invariants


class SVD(NamedTuple):
    """What stands for the weight W = U diag(s) V^T; also a gradient or a velocity of it.

    Args:
        U: (..., n_out, r).
        s: (..., r, 1).
        V: (..., n_in, r).

    >>> import numpy as np
    >>> W = SVD(np.eye(2), np.array([[3.0], [1.0]]), np.eye(2))
    >>> W.matrix.tolist(), W.rank
    ([[3.0, 0.0], [0.0, 1.0]], 2)
    """

    U: Any
    s: Any
    V: Any

    @property
    def matrix(self):
        """W (..., n_out, n_in)."""
        return scaled(self.U, self.s) @ T(self.V)

    @property
    def rank(self) -> int:
        """r, the number of components."""
        return self.U.shape[-1]


RETRACTIONS = {"polar": polar, "qr": orthonormal}


@final
@dataclass(frozen=True)
class Factored(Parameterisation):
    """W = U diag(s) V^T from one SVD at the start; U, s and V are what learns (arXiv 2510.25594, from the abstract).

    With S = diag(s) and the G = dL/dW of any rule the chain rule gives dU = G V S, ds = diag(U^T G V), dV = G^T U S.
    Penalties and retraction are ours.

    Args:
        rank: r; a layer of fewer inputs or outputs has as many components as it can, min(r, n_out, n_in).
        penalties: what the objective adds to the loss, each a `Penalty`.
        retraction: after every step of descent the columns of U and V are made orthonormal again, by the polar factor
            or by QR, and velocities are tangent to the orthonormal frames: dU loses U (U^T dU + dU^T U) / 2.  None
            leaves U and V free.

    Raises:
        ValueError: for a rank below 1, or an unknown retraction.
    """

    rank: int
    penalties: tuple[Penalty, ...] = ()  # pyright: ignore[reportIncompatibleVariableOverride]
    retraction: Literal["polar", "qr"] | None = None
    names: ClassVar[tuple[str, ...]] = ("U", "s", "V")

    def __post_init__(self):
        if self.rank < 1:
            raise ValueError(f"the rank of a weight is at least 1; got {self.rank}")
        if self.retraction is not None and self.retraction not in RETRACTIONS:
            raise ValueError(f"unknown retraction {self.retraction!r}: choose one of 'polar', 'qr', or None")

    @property
    def continuous(self):
        return all(penalty.continuous for penalty in self.penalties)

    @property
    def symbolic(self):
        return all(penalty.symbolic for penalty in self.penalties)

    def rank_between(self, n_out, n_in):
        """The rank of a layer of that size; r itself where the size is a symbol."""
        return min(self.rank, n_out, n_in) if isinstance(n_out, int) else self.rank

    def shapes(self, n_out, n_in):
        r = self.rank_between(n_out, n_in)
        return ((n_out, r), (r, 1), (n_in, r))

    def build(self, *matrices):
        return SVD(*matrices)

    def check(self, sizes):
        largest = max(map(min, sizes))
        if self.rank > largest:
            raise ValueError(f"weights of rank {self.rank} fit no layer: the largest possible rank here is {largest}")

    def start(self, weight):
        U, s, Vt = svd_frames(weight)
        r = self.rank_between(*weight.shape[-2:])
        return SVD(U[..., :r], s[..., :r, None], T(Vt)[..., :r])

    def pull(self, stored, G):
        U, s, V = stored
        seen = G @ V
        return SVD(scaled(seen, s), diagonal(T(U) @ seen), scaled(T(G) @ U, s))

    def tangent(self, stored, v):
        if self.retraction is None:
            return v
        return SVD(_tangent(stored.U, v.U), v.s, _tangent(stored.V, v.V))

    def retract(self, stored):
        if self.retraction is None:
            return stored
        lead = RETRACTIONS[self.retraction]
        return SVD(lead(stored.U), stored.s, lead(stored.V))

    def turned(self, stored, left, right):
        return SVD(left @ stored.U, stored.s, right @ stored.V)

    def claims(self, rule):
        if self.penalties or self.retraction:
            return ()
        exact = (Conserved(invariants.frame_balance, 2),) if type(rule.feedback) is Transpose else ()
        return (Conserved(invariants.component_balance, 2), *exact)


def _tangent(F, v):
    """The part of a velocity of a frame F that keeps its columns orthonormal."""
    A = T(F) @ v
    return v - F @ (A + T(A)) / 2
