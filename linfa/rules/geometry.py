"""Geometry: the directions of steepest descent that gradients stand for."""

import abc
from dataclasses import dataclass
from typing import final


@dataclass(frozen=True)
class Geometry(abc.ABC):
    """Maps the gradients of a network to the directions that are descended."""

    @abc.abstractmethod
    def directions(self, gradients: tuple) -> tuple:
        """The direction to descend for each weight W_1 .. W_L, of the structure of its gradient."""


@final
@dataclass(frozen=True)
class Euclidean(Geometry):
    """The gradients themselves."""

    def directions(self, gradients):
        return gradients


@final
@dataclass(frozen=True)
class LayerRates(Geometry):
    """Every layer with a learning rate of its own, in units of the common one; a rate of 0 freezes a layer.

    Args:
        rates: one for each weight W_1 .. W_L, at least 0.

    Raises:
        ValueError: for a negative rate, or rates that are not as many as the weights.

    >>> LayerRates((1.0, 0.0)).directions((2.0, 3.0))
    (2.0, 0.0)
    """

    rates: tuple[float, ...]

    def __post_init__(self):
        if not all(rate >= 0 for rate in self.rates):
            raise ValueError(f"learning rates are at least 0; got {self.rates}")

    def directions(self, gradients):
        if len(gradients) != len(self.rates):
            raise ValueError(f"{len(self.rates)} learning rates do not fit {len(gradients)} weights")
        return tuple(rate * G for rate, G in zip(self.rates, gradients, strict=True))
