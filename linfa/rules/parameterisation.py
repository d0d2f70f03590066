"""Parameterisation: what a weight is made of."""

import abc
from dataclasses import dataclass
from typing import final


@dataclass(frozen=True)
class Parameterisation(abc.ABC):
    """Maps what a layer stores to its weight matrix, and a gradient of the weight back to what is stored."""

    @abc.abstractmethod
    def matrix(self, stored):
        """The weight W (..., n_out, n_in)."""

    @abc.abstractmethod
    def pull(self, stored, G):
        """The gradient with respect to what is stored, from G = dL/dW (..., n_out, n_in); same structure."""


@final
@dataclass(frozen=True)
class Full(Parameterisation):
    """The layer stores W itself."""

    def matrix(self, stored):
        return stored

    def pull(self, stored, G):
        return G
