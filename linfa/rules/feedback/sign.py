"""Sign symmetry: the signs of the forward weight with magnitudes of their own.

Variants as in Xiao et al. (2019) and BioTorch (Sanfiz & Akrout 2021): uSF, frSF, brSF.
"""

import abc
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from linfa.algebra import T, hadamard, sign
from linfa.rules.feedback.base import Feedback


@dataclass(frozen=True)
class Sign(Feedback):
    """B = M o sign(W)^T with magnitudes M >= 0 (n_h, n_e), entrywise."""

    names: ClassVar[tuple[str, ...]] = ("M",)
    reads_weight: ClassVar[bool] = True
    continuous: ClassVar[bool] = False

    @abc.abstractmethod
    def start(self, rng, forward, std): ...

    def shapes(self, n_h, n_e):
        return ((n_h, n_e),)

    def factors(self, stored, weight):
        return (hadamard(stored[0], T(sign(weight))),)


def _normals(rng, forward):
    return rng.standard_normal(np.swapaxes(forward, -1, -2).shape)


@final
@dataclass(frozen=True)
class UnitSign(Sign):
    """uSF: every magnitude is the spread of the forward weights."""

    def start(self, rng, forward, std):
        return (np.full(np.swapaxes(forward, -1, -2).shape, float(std)),)


@final
@dataclass(frozen=True)
class FixedSign(Sign):
    """frSF: random magnitudes, drawn once."""

    def start(self, rng, forward, std):
        return (abs(std * _normals(rng, forward)),)


@final
@dataclass(frozen=True)
class RedrawnSign(Sign):
    """brSF: random magnitudes, drawn anew for every batch."""

    redrawn: ClassVar[bool] = True

    @staticmethod
    def draw(normals, std):
        """Magnitudes from standard normal numbers (numpy or torch)."""
        return abs(std * normals)

    def start(self, rng, forward, std):
        return (self.draw(_normals(rng, forward), std),)
