"""Batches of a data set, the same for the same seed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from deep.data.images import Images


class Loader(Protocol):
    """What a training run reads its batches from.

    The order and every draw depend on the seed, the epoch and the place in it alone, so that ``batches(epoch, k)`` goes
    on exactly where an interrupted ``batches(epoch)`` was.  With several processes each has a loader of its own rank,
    which yields its part of each batch.

    Attributes:
        source: where the data come from, a sentence for a record.
        classes: number of classes.
        shape: (C, H, W) of an image.
        steps: batches of an epoch.
        world: how many processes share each batch.
    """

    source: str
    classes: int
    shape: tuple[int, int, int]
    steps: int
    world: int

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Images float32 (n, C, H, W), normalised, and labels int64 (n,), on their device."""
        ...


def seed_of(*numbers: int) -> int:
    """The seed of a stream of draws of its own for every tuple of numbers, each at least 0.

    >>> seed_of(0, 1) == seed_of(0, 1), seed_of(0, 1) == seed_of(1, 0), seed_of(0, 1) == seed_of(0, 1, 0)
    (True, False, False)
    """
    low, high = np.random.SeedSequence((len(numbers), *numbers)).generate_state(2)  # which ignores zeros at the end
    return int(high) << 31 | int(low) >> 1  # 63 bits, which every generator takes


@dataclass(frozen=True, eq=False)
class Shuffled:
    """Shuffled mini-batches for training, in the same order on every device; an incomplete last batch is dropped.

    Args:
        images: the data.
        batch_size: samples of a batch, of all processes together.
        seed: of the order and of the augmentation.
        augment: (normalised images, generator) -> images.
        rank, world: which of how many processes this is.

    Raises:
        ValueError: for a batch that the images do not fill, or that the processes cannot share equally, and for a rank
            that none of them has.

    >>> four = Images(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.arange(4), 4, (0.5,), (0.25,), "zeros")
    >>> epoch = list(Shuffled(four, batch_size=2).batches(epoch=0))
    >>> rest = list(Shuffled(four, batch_size=2).batches(epoch=0, start=1))
    >>> len(epoch), len(rest), torch.equal(rest[0][1], epoch[1][1])
    (2, 1, True)
    """

    images: Images
    batch_size: int
    seed: int = 0
    augment: Callable | None = None
    rank: int = 0
    world: int = 1

    def __post_init__(self):
        if not 0 < self.batch_size <= len(self.images):
            raise ValueError(f"{len(self.images)} training images make no batch of {self.batch_size}")
        if self.batch_size % self.world:
            raise ValueError(f"{self.world} processes cannot share batches of {self.batch_size} equally")
        if not 0 <= self.rank < self.world:
            raise ValueError(f"ranks of {self.world} processes are 0 .. {self.world - 1}; got {self.rank}")

    source = property(lambda self: self.images.source)
    classes = property(lambda self: self.images.classes)
    shape = property(lambda self: tuple(self.images.x.shape[1:]))
    steps = property(lambda self: len(self.images) // self.batch_size)

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch from one of them on."""
        device = self.images.y.device
        order = torch.randperm(len(self.images), generator=_generator("cpu", self.seed, epoch)).to(device)
        share = self.batch_size // self.world
        for place in range(start, self.steps):
            first = place * self.batch_size + self.rank * share
            index = order[first : first + share]
            x = self.images.normalised(index)
            if self.augment is not None:
                x = self.augment(x, _generator(device, self.seed, epoch, place, self.rank))
            yield x, self.images.y[index]


@dataclass(frozen=True, eq=False)
class InOrder:
    """All images in their order, for testing; the last batch may be smaller, and of a process empty.

    Args:
        images: the data.
        batch_size: samples of a batch, of all processes together.
        rank, world: which of how many processes this is.
    """

    images: Images
    batch_size: int = 1000
    rank: int = 0
    world: int = 1

    source = property(lambda self: self.images.source)
    classes = property(lambda self: self.images.classes)
    shape = property(lambda self: tuple(self.images.x.shape[1:]))
    steps = property(lambda self: -(-len(self.images) // self.batch_size))

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches from one of them on, the same in every epoch."""
        for place in range(start, self.steps):
            end = min((place + 1) * self.batch_size, len(self.images))
            index = slice(place * self.batch_size + self.rank, end, self.world)
            yield self.images.normalised(index), self.images.y[index]


def _generator(device, *numbers):
    return torch.Generator(device).manual_seed(seed_of(*numbers))
