"""Geometry: the directions of steepest descent that gradients stand for."""

import abc
from dataclasses import dataclass
from typing import ClassVar, final

from linfa.algebra import T, norm, polar, svd
from linfa.tree import tree_map


@dataclass(frozen=True)
class Geometry(abc.ABC):
    """Maps the gradients of a network to the directions that are descended."""

    continuous: ClassVar[bool] = True
    """Whether the directions depend continuously on the gradients, so that descent converges to the flow."""
    linear: ClassVar[bool] = True
    """Whether the directions are linear in the gradients."""
    symbolic = True
    """Whether the directions of a symbolic gradient are a matrix expression."""

    @abc.abstractmethod
    def directions(self, gradients: tuple) -> tuple:
        """The direction to descend for each weight W_1 .. W_L, of the structure of its gradient."""

    def condition(self, gradients: tuple) -> float:
        """How many times larger rounding errors of the gradients are in the directions, each relative to its largest.

        Exactly 1 where directions are linear.
        """
        return 1.0


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
        return tuple(
            tree_map(lambda G, rate=rate: rate * G, tree) for rate, tree in zip(self.rates, gradients, strict=True)
        )


@final
@dataclass(frozen=True)
class Polar(Geometry):
    """Orthogonalised updates: a gradient U S V^T stands for U V^T, its polar factor.

    The exact limit of Muon's Newton-Schulz iteration (Jordan et al. 2024): every direction that the gradient has at all
    is descended at the same speed.  Directions whose singular values vanish are left alone.

    Args:
        keep_norm: rescale U V^T to the Frobenius norm of the gradient, the control arm that separates the rank of the
            update from its size (ours).
    """

    keep_norm: bool = False
    continuous: ClassVar[bool] = False
    linear: ClassVar[bool] = False

    @property
    def symbolic(self):
        return not self.keep_norm

    def directions(self, gradients):
        return tuple(_sized(polar(G), G) if self.keep_norm else polar(G) for G in gradients)

    def condition(self, gradients):
        """The spread of the singular values: a perturbation E turns U V^T by up to 2 ||E|| over twice the smallest.

        >>> import numpy as np
        >>> Polar().condition((np.diag([3.0, 1.5]), np.diag([4.0, 1.0, 0.0])))
        4.0
        """
        values = [s[s > 0] for _, s, _ in map(svd, gradients)]
        return max((float(s[0] / s[-1]) for s in values if s.size), default=1.0)


@final
@dataclass(frozen=True)
class NewtonSchulz(Geometry):
    """Muon's approximate polar factor: a polynomial in the gradient, iterated from G / ||G||.

    X <- a X + b (X X^T) X + c (X X^T)^2 X with Jordan's coefficients, which do not converge to 1: singular values above
    2e-3 of the norm land in [0.68, 1.20].

    Args:
        steps: iterations.
    """

    steps: int = 5
    coefficients: ClassVar[tuple[float, float, float]] = (3.4445, -4.7750, 2.0315)
    linear: ClassVar[bool] = False
    symbolic = False

    def directions(self, gradients):
        return tuple(map(self._orthogonalised, gradients))

    def condition(self, gradients):
        """The slope of the polynomial at 0, once for every iteration."""
        return self.coefficients[0] ** self.steps

    def _orthogonalised(self, G):
        if G.shape[-2] > G.shape[-1]:  # X X^T is of the size of the smaller side
            return T(self._orthogonalised(T(G)))
        a, b, c = self.coefficients
        size = norm(G)
        X = G / (size + (size == 0))
        for _ in range(self.steps):
            A = X @ T(X)
            X = a * X + (b * A + c * A @ A) @ X
        return X


def _sized(D, G):
    """D with the Frobenius norm of G."""
    size = norm(D)
    return D * (norm(G) / (size + (size == 0)))
