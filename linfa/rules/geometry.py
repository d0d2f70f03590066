"""Geometry: the direction of steepest descent that a gradient stands for."""

import abc
from dataclasses import dataclass
from typing import final


@dataclass(frozen=True)
class Geometry(abc.ABC):
    """Maps a gradient to the direction that is descended."""

    @abc.abstractmethod
    def direction(self, G):
        """The direction to descend, same shape as G."""


@final
@dataclass(frozen=True)
class Euclidean(Geometry):
    """The gradient itself."""

    def direction(self, G):
        return G
