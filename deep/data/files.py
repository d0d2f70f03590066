"""A loader that reads and decodes image files while a network trains: for data that do not fit the device."""

import logging
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from deep.data.images import CorruptData, normalise
from deep.data.listing import Listing, Skipped
from deep.data.loader import seed_of

log = logging.getLogger(__name__)


class View(Protocol):
    """How an epoch goes through a listing."""

    @property
    def size(self) -> int:
        """Of an image in pixels."""
        ...

    def steps(self, images: int, batch_size: int) -> int:
        """Batches of an epoch."""
        ...

    def order(self, listing: Listing, generator: np.random.Generator) -> np.ndarray:
        """(N,) all images, in the order of an epoch."""
        ...

    def pixels(self, content: bytes, generator: np.random.Generator) -> np.ndarray:
        """(size, size, 3) uint8 from the bytes of a file.

        Raises:
            CorruptData: if they are no image.
        """
        ...


@dataclass(frozen=True, eq=False)
class Epoch(Dataset):
    """The batches of one process in one epoch: what a worker process holds.

    Item k is (x, y, skipped): x (n, size, size, 3) uint8, y (n,) int64, and what could not be read; its place is taken
    by the next image in the order that can, with the draws of that place.  Where more than ``spared`` images in a row
    cannot be read, x and y are None.
    """

    listing: Listing
    view: View
    order: np.ndarray
    batch_size: int
    rank: int
    world: int
    spared: int
    draws: tuple[int, ...]

    def __len__(self):
        return self.view.steps(len(self.order), self.batch_size)

    def __getitem__(self, step: int) -> tuple[Tensor | None, Tensor | None, list[Skipped]]:
        first = step * self.batch_size
        n = min(self.batch_size, len(self.order) - first)
        places = range(first + n * self.rank // self.world, first + n * (self.rank + 1) // self.world)
        x = np.empty((len(places), self.view.size, self.view.size, 3), np.uint8)
        y = np.empty(len(places), np.int64)
        skipped = []
        for row, place in enumerate(places):
            for turn in range(self.spared + 1):
                index = self.order[(place + turn) % len(self.order)]
                try:
                    content = self.listing.read(index)
                    x[row] = self.view.pixels(content, np.random.default_rng(seed_of(*self.draws, place)))
                except (OSError, CorruptData) as error:
                    reason = getattr(error, "strerror", None) or str(error)
                    skipped.append(Skipped(self.listing.describe(index), reason))
                else:
                    y[row] = self.listing.label[index]
                    break
            else:
                return None, None, skipped
        return torch.from_numpy(x), torch.from_numpy(y), skipped


def _unasked(worker):
    """Let a worker process decode on when all processes are asked to stop: the one that trains says when it is over."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


@dataclass(eq=False)
class ImageFiles:
    """A `Loader` of images that are decoded when they are needed, in worker processes.

    The order and the augmentation depend on (seed, epoch) and on the place in the epoch alone: neither on the number of
    workers nor on that of processes, whose parts together are the same batches.  No image comes twice in an epoch, but
    for one that takes the place of a broken one.

    A broken image is named, and counted, in the log and in ``skipped``, and the next one in the order of the epoch
    takes its place: batches stay whole, and the same in number on every rank.  Each process knows those that it met.

    Args:
        name: of the data and the split.
        listing: the images.
        view: how an epoch goes through them.
        mean, std: of each channel, in units of [0, 1].
        batch_size: of all processes together.
        seed: of the order and the augmentation, at least 0.
        rank, world: which of how many processes this is.
        device: where the batches are wanted; bytes travel, they become numbers there.
        workers: processes that decode; 0 decodes in this one.
        max_broken: the largest share of all images that may be broken.

    Raises:
        ValueError: for a batch that the images do not fill, or that the processes cannot share.
        CorruptData: if more than that share is known to be broken already; `batches` raises it when it comes to that.
    """

    name: str
    listing: Listing
    view: View
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    batch_size: int
    seed: int = 0
    rank: int = 0
    world: int = 1
    device: str | torch.device = "cpu"
    workers: int = 0
    max_broken: float = 0.01
    _broken: dict[str, Skipped] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self):
        N = len(self.listing)
        if not 0 <= self.rank < self.world:
            raise ValueError(f"rank {self.rank} is none of {self.world} processes")
        if self.batch_size < 1 or self.batch_size % self.world:
            raise ValueError(f"{self.world} processes cannot share batches of {self.batch_size} equally")
        if not self.steps:
            raise ValueError(f"the {N} images of {self.name} make no batch of {self.batch_size}")
        if 0 < N - (self.steps - 1) * self.batch_size < self.world:
            raise ValueError(
                f"{N} images in batches of {self.batch_size} leave {N % self.batch_size} for the last one, too few for "
                f"{self.world} processes: choose another batch size"
            )
        if not 0 <= self.max_broken < 1:
            raise ValueError(f"max_broken is a share in [0, 1); got {self.max_broken}")
        if self.seed < 0:
            raise ValueError(f"the seed is at least 0; got {self.seed}")
        self._note(self.listing.skipped, logging.WARNING if self.rank == 0 else logging.DEBUG)

    @property
    def source(self) -> str:
        """Where the images come from; the fingerprint is that of their names, places and labels."""
        count = f"{len(self.listing):,} images of {self.classes} classes"
        return f"{self.name}, {count}, listing {self.listing.fingerprint}"

    @property
    def classes(self) -> int:
        return len(self.listing.classes)

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, self.view.size, self.view.size

    @property
    def steps(self) -> int:
        return self.view.steps(len(self.listing), self.batch_size)

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """What could not be used so far, each file once, in the order in which it was met."""
        return tuple(self._broken.values())

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch from one of them on; nothing of those before is read.

        Args:
            epoch: counted from 0.
            start: the first batch, counted from 0.

        Yields:
            float32 images (n, 3, size, size), (x / 255 - mean) / std, and int64 labels (n,), on the device.

        Raises:
            ValueError: for a batch that the epoch does not have.
            CorruptData: naming the first files, once more images are broken than may be.
        """
        if epoch < 0 or not 0 <= start <= self.steps:
            raise ValueError(f"there is no batch {start} in epoch {epoch}: an epoch has {self.steps}, counted from 0")
        return self._batches(epoch, start)

    def _batches(self, epoch, start):
        device = torch.device(self.device)
        order = self.view.order(self.listing, np.random.default_rng(seed_of(0, self.seed, epoch)))
        draws = 1, self.seed, epoch  # not those of the order
        batches = DataLoader(
            Epoch(self.listing, self.view, order, self.batch_size, self.rank, self.world, self._spared, draws),
            sampler=range(start, self.steps),
            batch_size=None,
            num_workers=min(self.workers, self.steps - start),
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # lest it draw from the one of the training run
            worker_init_fn=_unasked,
        )
        for x, y, skipped in batches:
            self._note(skipped, logging.WARNING)
            x, y = (part.to(device, non_blocking=True) for part in (x, y))
            yield normalise(x.permute(0, 3, 1, 2).contiguous(), self.mean, self.std), y

    @property
    def _spared(self):
        return int(self.max_broken * (len(self.listing) + len(self.listing.skipped)))

    def _note(self, skipped, level):
        for record in skipped:
            if record.file not in self._broken:
                self._broken[record.file] = record
                log.log(level, "skipped %s: %s (%d so far)", record.file, record.reason, len(self._broken))
        if len(self._broken) > self._spared:
            first = "; ".join(f"{record.file}: {record.reason}" for record in self.skipped[:3])
            raise CorruptData(
                f"{len(self._broken)} files of {self.name} cannot be used, more than {self.max_broken:.2%} of its "
                f"{len(self.listing)} images; is it the right place? The first: {first}"
            )
