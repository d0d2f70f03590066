"""Rank-r feedback B = Q P: only r numbers per sample cross an edge."""

import abc
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from linfa.algebra import beside, orthonormal
from linfa.rules.feedback.base import Feedback


@dataclass(frozen=True)
class LowRank(Feedback):
    """B = Q P with Q (n_h, r) and P (r, n_e) (Hanut & Kadmon, arXiv 2502.20580).

    Args:
        rank: r; an edge of fewer than r errors or units carries as many as it can, min(r, n_h, n_e).
        clamp: the delivered error is limited to [-clamp, clamp]; None, the default, leaves it as it is.  The authors'
            code clamps at 1.  With a clamp nothing is homogeneous in the error.
    """

    rank: int
    clamp: float | None = None
    names: ClassVar[tuple[str, ...]] = ("Q", "P")
    padded: ClassVar[bool] = False
    """Whether Q has columns for a rank above the number of errors, which then carry nothing."""

    def __post_init__(self):
        if self.rank < 1:
            raise ValueError(f"the rank of the feedback is at least 1; got {self.rank}")
        if self.clamp is not None and self.clamp <= 0:
            raise ValueError(f"clamp is a positive bound on the delivered error, or None; got {self.clamp}")

    @abc.abstractmethod
    def start(self, rng, forward, std): ...

    def shapes(self, n_h, n_e):
        r = self.rank_between(n_h, n_e)
        return ((n_h, r), (r, n_e))

    def rank_between(self, n_h, n_e):
        """The rank on an edge of that size; r itself where the size is a symbol."""
        return min(self.rank, self._largest((n_h, n_e))) if isinstance(n_h, int) else self.rank

    def _largest(self, size):
        return size[0] if self.padded else min(size)

    def factors(self, stored, weight):
        return stored

    def check(self, sizes):
        largest = max(map(self._largest, sizes), default=self.rank)
        if self.rank > largest:
            raise ValueError(f"feedback of rank {self.rank} fits no edge: the largest possible rank here is {largest}")


@final
@dataclass(frozen=True)
class RandomFactors(LowRank):
    """Independent normal factors: P of variance 1/n_e, and Q such that an entry of Q P has the spread of W.

    The authors' code draws both by Kaiming's rule; these variances are ours.
    """

    def start(self, rng, forward, std):
        *batch, n_e, n_h = forward.shape
        r = self.rank_between(n_h, n_e)
        Q = std * np.sqrt(n_e / r) * rng.standard_normal((*batch, n_h, r))
        P = rng.standard_normal((*batch, r, n_e)) / np.sqrt(n_e)
        return Q, P


@final
@dataclass(frozen=True)
class SVDFactors(LowRank):
    """The truncated SVD W^T ~ U S V^T at the start, split evenly: Q = U S^(1/2), P = S^(1/2) V^T."""

    starts_at_random: ClassVar[bool] = False

    def start(self, rng, forward, std):
        U, s, Vt = np.linalg.svd(np.swapaxes(forward, -1, -2), full_matrices=False)
        r = min(self.rank, s.shape[-1])
        root = np.sqrt(s[..., :r])
        return U[..., :, :r] * root[..., None, :], root[..., :, None] * Vt[..., :r, :]


@final
@dataclass(frozen=True)
class SVDStructured(LowRank):
    """The SVD B = U S V^T of a random matrix, Q = U of orthonormal columns and P = S V^T.

    Where the rank is above the number of errors Q is padded with further orthonormal columns, and P with zeros.  Fixed
    feedback with the structure of an SVD is from the abstract of arXiv 2510.25594; which matrix, and the padding, are
    ours.
    """

    padded: ClassVar[bool] = True

    def start(self, rng, forward, std):
        *batch, n_e, n_h = forward.shape
        r, k = self.rank_between(n_h, n_e), min(self.rank, n_h, n_e)
        U, s, Vt = np.linalg.svd(std * rng.standard_normal((*batch, n_h, n_e)), full_matrices=False)
        Q = orthonormal(beside(U[..., :k], rng.standard_normal((*batch, n_h, r - k)))) if r > k else U[..., :k]
        P = np.zeros((*batch, r, n_e))
        P[..., :k, :] = s[..., :k, None] * Vt[..., :k, :]
        return Q, P
