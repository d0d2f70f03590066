"""The abstract feedback."""

import abc
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from linfa.algebra import clip


@dataclass(frozen=True)
class Feedback(abc.ABC):
    """Carries an error of n_e dimensions to an activity of n_h dimensions.

    What an edge *stores* (its state) and the *factors* that the error goes through are kept apart: the transpose stores
    nothing, sign symmetry stores magnitudes, the others store their factors.
    """

    names: ClassVar[tuple[str, ...]] = ()
    """Names of the stored matrices, as in the formulas."""
    reads_weight: ClassVar[bool] = False
    """Whether the factors depend on the forward weight, which exists only on edges over a single layer."""
    starts_at_random: ClassVar[bool] = True
    """Whether the stored matrices are drawn without looking at the forward map."""
    continuous: ClassVar[bool] = True
    """Whether the factors depend continuously on the state, so that descent converges to the flow at first order."""
    redrawn: ClassVar[bool] = False
    """Whether the stored matrices are drawn anew at every step."""
    clamp = None
    """Largest entry of a delivered error, in the units of the error, or None for no limit."""

    @abc.abstractmethod
    def shapes(self, n_h, n_e) -> tuple[tuple, ...]:
        """Shapes of the stored matrices."""

    @abc.abstractmethod
    def start(self, rng: np.random.Generator, forward: np.ndarray, std: float) -> tuple[np.ndarray, ...]:
        """Draw the stored matrices.

        Args:
            rng: the edge's own stream.
            forward: the edge's forward map (..., n_e, n_h); leading axes are batch axes.
            std: standard deviation of an entry of a random feedback matrix (..., n_h, n_e).
        """

    @abc.abstractmethod
    def factors(self, stored: tuple, weight) -> tuple:
        """The matrices whose product, left to right, is B (..., n_h, n_e); ``weight`` is (..., n_e, n_h) or None."""

    def check(self, sizes: list[tuple[int, int]]) -> None:  # noqa: B027  most feedback fits everywhere
        """Raise ValueError if the feedback cannot run on edges of these sizes (n_h, n_e)."""

    def carry(self, stored, weight, error):
        """The delivered error B @ error: (..., n_e, N) -> (..., n_h, N), through each factor in turn."""
        for factor in reversed(self.factors(stored, weight)):
            error = factor @ error
        return error if self.clamp is None else clip(error, self.clamp)
