"""How the learning rate changes during training."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

SHAPES: dict[str, Callable] = {
    "constant": lambda schedule, share, epoch: 1.0,
    "linear": lambda schedule, share, epoch: 1 - share,
    "cosine": lambda schedule, share, epoch: 0.5 * (1 + math.cos(math.pi * share)),
    "exponential": lambda schedule, share, epoch: schedule.rate**epoch,
    "step": lambda schedule, share, epoch: (
        schedule.rate ** sum(share >= milestone for milestone in schedule.milestones)
    ),
}
"""What is left of the learning rate, from the share of the time after warm-up in [0, 1) and the number of the epoch."""


@dataclass(frozen=True)
class Schedule:
    """The factor of every learning rate.

    Args:
        shape: "constant"; "linear" and "cosine" fall to 0; "exponential" is ``rate`` to the number of whole epochs;
            "step" multiplies by ``rate`` at every milestone.
        warmup: epochs in which the factor first rises linearly; of n steps the first has 1 / n, the last 1.
        rate: of "exponential", an epoch, and "step".
        milestones: of "step", shares of the time after warm-up.

    Raises:
        ValueError: for an unknown shape, or numbers out of range.

    >>> [Schedule("cosine", warmup=1).factor(step, steps=2, epochs=11) for step in (0, 1, 2, 12)]
    [0.5, 1.0, 1.0, 0.5]
    """

    shape: Literal["constant", "linear", "cosine", "exponential", "step"] = "linear"
    warmup: float = 0.0
    rate: float = 0.1
    milestones: tuple[float, ...] = (0.5, 0.75)

    def __post_init__(self):
        if self.shape not in SHAPES:
            raise ValueError(f"unknown schedule {self.shape!r}: choose one of {', '.join(SHAPES)}")
        if not 0 <= self.warmup < math.inf:
            raise ValueError(f"warmup is a number of epochs, at least 0; got {self.warmup}")
        if not 0 < self.rate <= 1:
            raise ValueError(f"rate is in (0, 1]; got {self.rate}")
        if not all(0 <= milestone <= 1 for milestone in self.milestones):
            raise ValueError(f"milestones are shares of the time, in [0, 1]; got {self.milestones}")

    def factor(self, step: int, steps: int, epochs: int) -> float:
        """The factor of a step, counted from 0 over the whole run.

        Args:
            step: its number, less than ``steps * epochs``.
            steps: of an epoch.
            epochs: of the run.
        """
        warm = self.warmup * steps
        if step < warm:
            return min(1.0, (step + 1) / warm)
        share = (step - warm) / max(epochs * steps - warm, 1e-12)
        return SHAPES[self.shape](self, share, step // steps)

    def stretched(self, times: float) -> "Schedule":
        """The same for a run so many times as long: with its warm-up, and where it falls by the epoch, its end.

        >>> Schedule("exponential", rate=0.9).stretched(0.5).rate
        0.81...
        """
        rate = self.rate ** (1 / times) if self.shape == "exponential" else self.rate
        return replace(self, warmup=self.warmup * times, rate=rate)

    def set(self, optimizer, step: int, steps: int, epochs: int) -> None:
        """Give every parameter group its own learning rate times the factor; the groups remember their own."""
        factor = self.factor(step, steps, epochs)
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
