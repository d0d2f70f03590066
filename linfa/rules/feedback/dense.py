"""A matrix of its own."""

from dataclasses import dataclass
from typing import ClassVar, final

from linfa.rules.feedback.base import Feedback


@final
@dataclass(frozen=True)
class Dense(Feedback):
    """B (n_h, n_e) with independent normal entries, drawn with the spread of the forward weights and a seed of its own.

    Args:
        scale: factor on that spread.
    """

    scale: float = 1.0
    names: ClassVar[tuple[str, ...]] = ("B",)

    def shapes(self, n_h, n_e):
        return ((n_h, n_e),)

    def start(self, rng, forward, std):
        *batch, n_e, n_h = forward.shape
        return (self.scale * std * rng.standard_normal((*batch, n_h, n_e)),)

    def factors(self, stored, weight):
        return stored
