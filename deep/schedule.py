"""How the learning rate changes during training."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

SHAPES: dict[str, Callable] = {
    "constant": lambda schedule, share, epoch: 1.0,
    "linear": lambda schedule, share, epoch: 1 - share,
    "cosine": lambda schedule, share, epoch: 0.5 * (1 + math.cos(math.pi * share)),
    "exponential": lambda schedule, share, epoch: schedule.rate ** int(epoch),
    "step": lambda schedule, share, epoch: (
        schedule.rate ** sum(share >= milestone for milestone in schedule.milestones)
    ),
}
"""What is left of the learning rate, from the share of the time after warm-up in [0, 1) and the epoch."""


@dataclass(frozen=True)
class Schedule:
    """The factor of every learning rate, by time in epochs.

    Args:
        shape: "constant"; "linear" and "cosine" fall to 0; "exponential" is ``rate`` to the number of whole epochs;
            "step" multiplies by ``rate`` at every milestone.
        warmup: epochs in which the factor first rises linearly from 0.
        rate: of "exponential", an epoch, and "step".
        milestones: of "step", shares of the time after warm-up.

    Raises:
        ValueError: for an unknown shape, or numbers out of range.

    >>> Schedule("cosine", warmup=1).factor(0.5, epochs=11), Schedule("cosine", warmup=1).factor(6, epochs=11)
    (0.5, 0.5)
    """

    shape: Literal["constant", "linear", "cosine", "exponential", "step"] = "linear"
    warmup: float = 0.0
    rate: float = 0.1
    milestones: tuple[float, ...] = (0.5, 0.75)

    def __post_init__(self):
        if self.shape not in SHAPES:
            raise ValueError(f"unknown schedule {self.shape!r}: choose one of {', '.join(SHAPES)}")
        if not self.warmup >= 0 or not 0 < self.rate <= 1 or not all(0 <= m <= 1 for m in self.milestones):
            raise ValueError(
                f"warmup is at least 0, rate in (0, 1] and milestones in [0, 1]; got {self.warmup}, {self.rate} and "
                f"{self.milestones}"
            )

    def factor(self, epoch: float, epochs: int) -> float:
        """The factor at a time in [0, epochs)."""
        if epoch < self.warmup:
            return epoch / self.warmup
        share = (epoch - self.warmup) / max(epochs - self.warmup, 1e-12)
        return SHAPES[self.shape](self, share, epoch)

    def stretched(self, times: float) -> "Schedule":
        """The same for a run so many times as long: with its warm-up, and where it falls by the epoch, its end.

        >>> Schedule("exponential", rate=0.9).stretched(0.5).rate
        0.81...
        """
        rate = self.rate ** (1 / times) if self.shape == "exponential" else self.rate
        return replace(self, warmup=self.warmup * times, rate=rate)

    def set(self, optimizer, epoch: float, epochs: int) -> None:
        """Give every parameter group its own learning rate times the factor; the groups remember their own."""
        factor = self.factor(epoch, epochs)
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
