"""Feedback that follows the forward map itself, as it shows itself to random directions."""

from dataclasses import dataclass
from typing import ClassVar, final

from linfa.algebra import T
from linfa.rules.plasticity.base import Plasticity


@final
@dataclass(frozen=True)
class Mirror(Plasticity):
    """dB = gain J^T - leak B with the forward map J of the edge; with two factors dQ = gain J^T P^T - leak Q, P stays.

    J is what random directions xi at the edge's lower end become at its upper end: E[(J xi) xi^T] = J.  On layerwise
    edges this is the weight mirror (Akrout et al. 2019, dB = E[xi (W xi)^T] - leak B).  On a broadcast with gain = leak
    it is directional feedback alignment (Bacho & Chu, arXiv 2212.07282), read in the authors' released code: one
    forward-mode pass with a perturbation at every cut, and B <- (1 - a) B + a J^T with a = learning rate * leak.

    Args:
        gain: rate at which the forward map is taken in.
        leak: rate at which feedback is forgotten; it ends at gain / leak J^T.
        directions: how many directions a step of descent samples; None, the default, takes their expectation, as the
            flow always does.  Edges into the same cut share a pass, so that each carries the noise of the others.  A
            promoted net draws them in each backward for every layer, and on a broadcast one for each sample.
    """

    gain: float = 1.0
    leak: float = 1.0
    directions: int | None = None
    reads: ClassVar[tuple[str, ...]] = ("J",)

    def __post_init__(self):
        if not (self.gain >= 0 and self.leak >= 0):
            raise ValueError(f"gain and leak are rates, at least 0; got {self.gain} and {self.leak}")
        if self.directions is not None and self.directions < 1:
            raise ValueError(f"directions is a number of samples, at least 1, or None; got {self.directions}")

    def velocity(self, stored, moments):
        seen = T(moments.J)
        if len(stored) == 1:
            return (_times(self.gain, seen) - _times(self.leak, stored[0]),)
        Q, P = stored
        return _times(self.gain, seen @ T(P)) - _times(self.leak, Q), None

    def learns(self, stored):
        return (True,) + (False,) * (stored - 1)

    def claims(self, rule):
        return ()


def _times(rate, matrix):
    return matrix if rate == 1 else rate * matrix
