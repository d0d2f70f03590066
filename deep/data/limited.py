"""A shorter epoch of data that do not fit the memory."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from deep.data.loader import Loader


@dataclass(frozen=True, eq=False)
class Limited:
    """The first so many batches of every epoch of another loader, which differ from epoch to epoch if its order does.

    Args:
        loader: whose batches they are.
        most: batches of an epoch, at least 1; a loader of fewer stays as it is.

    >>> from deep.data import Shuffled, load
    >>> Limited(Shuffled(load("fashion-mnist-subset"), 100), most=3).steps
    3
    """

    loader: Loader
    most: int

    source = property(lambda self: f"{self.loader.source}, {self.steps} batches an epoch")
    classes = property(lambda self: self.loader.classes)
    shape = property(lambda self: self.loader.shape)
    steps = property(lambda self: min(self.most, self.loader.steps))
    world = property(lambda self: self.loader.world)

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch from one of them on."""
        if start < self.steps:
            batches = self.loader.batches(epoch, start)
            yield from (next(batches) for _ in range(start, self.steps))
