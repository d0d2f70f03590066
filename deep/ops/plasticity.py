"""The gradients of feedback: minus the velocities of the rule's plasticity, from moments that a layer has at hand."""

import torch

from linfa.rules import Moments


class Covariance:
    """E[d d^T] - E[d] E[d]^T of per-sample errors d, as the errors themselves: P @ C costs the rank of P, not n_e.

    Where errors vary less than they are large, the difference of the two would be one of nearly equal numbers, so what
    is multiplied is centred first; sums are of single precision at least.

    Args:
        error: (n, ..., n_e, p), the gradient of a mean over N = n p samples, d = N error, in n blocks of p columns.
        crossed: (P, P @ error) if that product is at hand, for one matrix P.
    """

    def __init__(self, error, crossed=(None, None), mean=None, scale=1.0):
        self.error, self.crossed, self.scale = error, crossed, scale
        self.count = error.shape[0] * error.shape[-1]
        self.sums = torch.promote_types(error.dtype, torch.float32)
        self.mean = self._sum(error)[..., None] if mean is None else mean  # (..., n_e, 1)

    def _sum(self, columns):
        return columns.sum(-1, dtype=self.sums).sum(0)

    def _centred(self, signal, mean):
        return (signal - mean / max(self.count, 1)).to(self.error.dtype)

    def __rmatmul__(self, P):
        signal = self.crossed[1] if P is self.crossed[0] else P @ self.error
        centred = self._centred(signal, self._sum(signal)[..., None])
        left = self._sum(centred)[..., None] / max(self.count, 1)  # by rounding
        second = (centred @ self.error.mT).sum(0, dtype=self.sums) - left @ self.mean.mT
        return (self.scale * self.count * second).to(self.error.dtype)

    def __mul__(self, factor):
        return Covariance(self.error, self.crossed, self.mean, self.scale * factor)

    def matrix(self):
        """The matrix itself, (..., n_e, n_e)."""
        centred = self._centred(self.error, self.mean)
        varies = (self.largest() > 0).to(self.sums)
        return (self.scale * varies * self.count * (centred @ centred.mT).sum(0)).to(self.error.dtype)

    def largest(self):
        """The largest variance (..., 1, 1); 0 where all errors are equal but for rounding, as those of one sample."""
        second = self.count * self._sum(self.error.to(self.sums).square())
        variance = second - self.mean[..., 0].square()
        own, sums = (8 * torch.finfo(dtype).eps for dtype in (self.error.dtype, self.sums))
        rounding = max(own**2, sums) * second.amax(-1)  # of the errors, and of their sums
        largest = variance.amax(-1)
        return torch.where(largest > rounding, largest, 0)[..., None, None]

    def normalised(self):
        """The covariance divided by its largest variance, 0 if that is."""
        largest = self.largest()
        scale = torch.where(largest > 0, 1 / torch.where(largest > 0, largest, 1), 0)
        return Covariance(self.error, self.crossed, self.mean, scale)


def feedback_gradients(rule, stored, G, error, J, crossed=(None, None)):
    """Minus the velocity of each stored matrix; None for one that does not learn.

    Args:
        G: E[error activity^T], (n_e, n_h), or None if the plasticity does not read it.
        error, crossed: as `Covariance` takes them.
        J: the forward map as it is shown, (n_e, n_h), or None if the plasticity does not read it.
    """
    reads, C = rule.plasticity.reads, None
    if "C" in reads:
        C = Covariance(error, crossed)
        if torch.compiler.is_compiling():  # dynamo traces products of tensors only
            C = C.matrix()
    moments = Moments(
        G=G if "G" in reads else None,
        C=C,
        J=J if "J" in reads else None,
    )
    return tuple(None if v is None else -v for v in rule.plasticity.velocity(stored, moments))


def shown(plasticity, weight):
    """A weight (..., n_e, n_h) as a plasticity sees it: itself, or the mean of (W xi) xi^T over its random directions.

    That of a convolution shows itself as the matrix that it is, xi a patch.
    """
    if plasticity.directions is None:
        return weight
    size = (*weight.shape[:-2], weight.shape[-1], plasticity.directions)
    xi = torch.randn(size, dtype=weight.dtype, device=weight.device)
    return (weight @ xi) @ xi.mT / plasticity.directions
