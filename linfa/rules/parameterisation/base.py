"""The abstract parameterisation."""

import abc
from dataclasses import dataclass
from typing import ClassVar

from linfa.tree import tree_map


@dataclass(frozen=True)
class Parameterisation(abc.ABC):
    """Says what a layer stores in place of its weight, and what a gradient of the weight is to that.

    What is stored is the weight itself, or a NamedTuple of matrices with a property ``matrix``, the weight that they
    stand for.
    """

    names: ClassVar[tuple[str, ...]]
    """Names of the stored matrices, as in the formulas."""
    continuous: ClassVar[bool] = True
    """Whether the velocity depends continuously on what is stored, so that descent converges to the flow."""
    symbolic: ClassVar[bool] = True
    """Whether the velocity has a symbolic form."""

    @property
    @abc.abstractmethod
    def penalties(self) -> tuple:
        """What the objective adds to the loss, each a `Penalty`."""

    @abc.abstractmethod
    def shapes(self, n_out, n_in) -> tuple[tuple, ...]:
        """Shapes of the stored matrices."""

    @abc.abstractmethod
    def build(self, *matrices):
        """What is stored, from its matrices."""

    @abc.abstractmethod
    def start(self, weight):
        """What is stored for a weight (..., n_out, n_in), numpy or torch."""

    @abc.abstractmethod
    def pull(self, stored, G):
        """The gradient with respect to what is stored, from G = dL/dW (..., n_out, n_in): the chain rule."""

    @abc.abstractmethod
    def tangent(self, stored, v):
        """The part of a velocity that stays where `retract` leads back to."""

    @abc.abstractmethod
    def retract(self, stored):
        """What is stored after a step of descent, led back to where it belongs."""

    @abc.abstractmethod
    def turned(self, stored, left, right):
        """What is stored for left W right^T, with orthogonal matrices left and right."""

    @abc.abstractmethod
    def claims(self, rule) -> tuple:
        """What holds of a rule whose weights are made this way; see `linfa.rules.claims`."""

    def objective(self, stored, gradient, frame=None):
        """The gradient of the loss and of all penalties with respect to what is stored, from that of the loss."""
        for penalty in self.penalties:
            gradient = tree_map(lambda a, b: a + b, gradient, penalty.gradient(stored, frame))
        return gradient

    def check(self, sizes: list[tuple[int, int]]) -> None:  # noqa: B027  most weights fit everywhere
        """Raise ValueError if no layer of these sizes (n_out, n_in) can be made this way."""
