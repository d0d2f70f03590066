"""The exact transpose of the forward weight: backpropagation."""

from dataclasses import dataclass
from typing import ClassVar, final

from linfa.algebra import T
from linfa.rules.feedback.base import Feedback


@final
@dataclass(frozen=True)
class Transpose(Feedback):
    """B = W^T."""

    reads_weight: ClassVar[bool] = True

    def shapes(self, n_h, n_e):
        return ()

    def start(self, rng, forward, std):
        return ()

    def factors(self, stored, weight):
        return (T(weight),)
