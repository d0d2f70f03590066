"""Claims: what a rule says of itself, as data.  `linfa.verify` checks each of them in every reading of the rule."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final


@dataclass(frozen=True)
class Claim:
    """The base of all claims; ``str(claim)`` is the sentence that a certificate prints."""


@final
@dataclass(frozen=True)
class Conserved(Claim):
    """Along the flow, d/dt quantity = -rate * decay * quantity: conserved when the rule has no decay.

    Args:
        quantity: a function of (rule, state) from `linfa.theory.invariants`, giving a tuple of matrices.
        rate: decay rate in units of the rule's own decay.
    """

    quantity: Callable
    rate: int

    def __str__(self):
        return f"conserved: {self.quantity.__doc__.splitlines()[0].rstrip('.')}"


@final
@dataclass(frozen=True)
class ErrorRank(Claim):
    """The error that an edge delivers, and with it the weight gradient below, has rank at most r."""

    rank: int

    def __str__(self):
        return f"delivered errors have rank at most {self.rank}"


@final
@dataclass(frozen=True)
class Homogeneous(Claim):
    """Scaling the error by c scales every weight gradient by c^degree."""

    degree: int = 1

    def __str__(self):
        return f"weight gradients are homogeneous of degree {self.degree} in the error"


@final
@dataclass(frozen=True)
class Order(Claim):
    """Descent with learning rate eta differs from the flow by O(eta^order) at a fixed time."""

    order: int = 1

    def __str__(self):
        return f"descent converges to the flow at order {self.order} in the learning rate"


@final
@dataclass(frozen=True)
class ClosedForm(Claim):
    """A theory object of `linfa.theory` predicts the rule's trajectory or end state under its assumptions.

    Args:
        theory: name of the theory class.
    """

    theory: str

    def __str__(self):
        return f"closed form: {self.theory}"
