"""Mixup: batches of images mixed in pairs, with their labels."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from deep.data.loader import Loader, seed_of


@dataclass(frozen=True, eq=False)
class Mixed:
    """Another loader's batches by mixup (Zhang, Cisse, Dauphin & Lopez-Paz, arXiv 1710.09412).

        x <- lambda x_i + (1 - lambda) x_j,   y <- lambda e(y_i) + (1 - lambda) e(y_j),

    with one lambda ~ Beta(alpha, alpha) for a batch, of all processes together, and e(y) one-hot.  As in torchvision j
    is the sample before i; in a shuffled batch that is a random one.

    Args:
        loader: whose batches are mixed.
        alpha: of the Beta distribution, above 0; small values mix little.
        seed: of lambda.

    Raises:
        ValueError: for another alpha.

    >>> from deep.data import Shuffled, load
    >>> x, y = next(Mixed(Shuffled(load("fashion-mnist-subset"), 8), alpha=0.2).batches(epoch=0))
    >>> y.shape, round(float(y.sum()), 3)
    (torch.Size([8, 10]), 8.0)
    """

    loader: Loader
    alpha: float
    seed: int = 0

    def __post_init__(self):
        if not 0 < self.alpha < np.inf:
            raise ValueError(f"alpha of mixup is above 0; got {self.alpha}")

    source = property(lambda self: self.loader.source)
    classes = property(lambda self: self.loader.classes)
    shape = property(lambda self: self.loader.shape)
    steps = property(lambda self: self.loader.steps)
    world = property(lambda self: self.loader.world)

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Mixed images (n, C, H, W) and the probabilities of their classes (n, classes)."""
        for place, (x, y) in enumerate(self.loader.batches(epoch, start), start):
            draws = np.random.default_rng(seed_of(self.seed, epoch, place))
            share = draws.beta(self.alpha, self.alpha)
            y = F.one_hot(y, self.classes).to(x.dtype)
            yield share * x + (1 - share) * x.roll(1, 0), share * y + (1 - share) * y.roll(1, 0)


def dominant(y: Tensor) -> Tensor:
    """The labels (n,) of a batch: as they are, or the most probable classes.

    >>> import torch
    >>> dominant(torch.tensor([[0.3, 0.7], [0.9, 0.1]])).tolist(), dominant(torch.tensor([1, 0])).tolist()
    ([1, 0], [1, 0])
    """
    return y.argmax(1) if y.is_floating_point() else y
