"""Optimisers of discrete descent: what a step makes of the velocity."""

import abc
from dataclasses import dataclass
from typing import Any, final

from linfa.tree import tree_map


@dataclass(frozen=True)
class Optimizer(abc.ABC):
    """Says by what a step of `linfa.descend` moves the state, in units of the learning rate."""

    @abc.abstractmethod
    def start(self, state) -> Any:
        """What it remembers before the first step."""

    @abc.abstractmethod
    def step(self, memory, velocity) -> tuple[Any, Any]:
        """The direction of a step, of the structure of the velocity, and what is remembered after it.

        Args:
            memory: what was remembered after the last step.
            velocity: of what moves, with the signs of `linfa.dynamics.moves` (another sign gives the other direction),
                and None where nothing does, where the direction is None too.
        """


@final
@dataclass(frozen=True)
class Plain(Optimizer):
    """The velocity itself: gradient descent."""

    def start(self, state):
        return None

    def step(self, memory, velocity):
        return velocity, None


@final
@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma & Ba 2015), entry by entry, on weights and feedback alike.

    Args:
        betas: of the running means of the velocity and of its square, in [0, 1).
        eps: added to the root of the second.

    Raises:
        ValueError: for a beta outside [0, 1), or an eps that is not positive.

    >>> import numpy as np
    >>> adam, v = Adam(), (np.array([3.0, -0.01]),)
    >>> adam.step(adam.start(v), v)[0][0].round(5).tolist()  # a first step has the size of the learning rate
    [1.0, -1.0]
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self):
        if not all(0 <= beta < 1 for beta in self.betas) or not self.eps > 0:
            raise ValueError(f"betas lie in [0, 1) and eps is positive; got {self.betas} and {self.eps}")

    def start(self, state):
        zero = tree_map(lambda x: 0.0 * x, state)
        return 0, zero, zero

    def step(self, memory, velocity):
        (count, first, second), (a, b) = memory, self.betas
        count += 1
        first = tree_map(lambda m, v: None if v is None else a * m + (1 - a) * v, first, velocity)
        second = tree_map(lambda m, v: None if v is None else b * m + (1 - b) * v**2, second, velocity)

        def direction(m, s):
            return None if m is None else m / (1 - a**count) / ((s / (1 - b**count)) ** 0.5 + self.eps)

        return tree_map(direction, first, second), (count, first, second)
