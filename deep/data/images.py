"""A labelled set of images that lives on the device as one uint8 tensor."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


class CorruptData(ValueError):
    """A data file that is not what its format says."""


class UnknownData(ValueError):
    """Well-formed data that are not the published ones."""


@dataclass(frozen=True, eq=False)
class Images:
    """Images with labels.

    Args:
        x: (N, C, H, W) uint8.
        y: (N,) int64 labels.
        classes: number of classes.
        mean, std: of each channel, in units of [0, 1].
        source: where the data come from, in a sentence that a record can quote.

    >>> import torch
    >>> tiny = Images(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.arange(4), 4, (0.5,), (0.25,), "zeros")
    >>> tiny.normalised().unique().item(), len(tiny.subset(2))
    (-2.0, 2)
    """

    x: Tensor
    y: Tensor
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str

    def __len__(self):
        return len(self.y)

    def to(self, device) -> "Images":
        """The same images on a device."""
        return replace(self, x=self.x.to(device), y=self.y.to(device))

    def subset(self, count: int) -> "Images":
        """The first so many images.

        Raises:
            ValueError: if there are not that many.
        """
        if not 0 < count <= len(self):
            raise ValueError(f"a subset of {count} images does not fit {len(self)}")
        return replace(self, x=self.x[:count], y=self.y[:count], source=f"{self.source}, first {count} images")

    def first_classes(self, count: int) -> "Images":
        """The images of the first so many classes.

        Raises:
            ValueError: if there are not that many.

        >>> import torch
        >>> six = Images(torch.zeros(6, 1, 2, 2), torch.arange(6) % 3, 3, (0.5,), (0.25,), "zeros")
        >>> six.first_classes(2).y.tolist()
        [0, 1, 0, 1]
        """
        if not 0 < count <= self.classes:
            raise ValueError(f"there are {self.classes} classes, not {count}")
        if count == self.classes:
            return self
        chosen = self.y < count
        source = f"{self.source}, first {count} of {self.classes} classes"
        return replace(self, x=self.x[chosen], y=self.y[chosen], classes=count, source=source)

    def grayscale(self) -> "Images":
        """The luminance (ITU-R BT.601) of colour images, with the means of the channels' statistics.

        >>> red = Images(torch.tensor([200, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1), torch.zeros(1), 1, (0.5,) * 3,
        ...              (0.25,) * 3, "red")
        >>> red.grayscale().x.flatten().tolist()
        [60]
        """
        x = torch.cat([luma(part) for part in self.x.split(1000)])
        mean, std = ((sum(v) / len(v),) for v in (self.mean, self.std))
        return replace(self, x=x, mean=mean, std=std, source=f"{self.source}, luminance")

    def normalised(self, index=slice(None)) -> Tensor:
        """float32 images (n, C, H, W), (x / 255 - mean) / std by channel."""
        return normalise(self.x[index], self.mean, self.std)


def normalise(x: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(x / 255 - mean) / std by channel, in float32.

    Args:
        x: (n, C, H, W) pixels in 0..255, left as it is.
        mean, std: of each channel, in units of [0, 1].
    """
    own = x.to(torch.float32, copy=True)  # in its place three operations cost a third of what they cost with copies
    return own.div_(255).sub_(channels(mean, own)).div_(channels(std, own))


def channels(numbers: Sequence[float], like: Tensor) -> Tensor:
    """A number for each channel, (C, 1, 1), filled in where a tensor is: a copy from the host would wait for a GPU."""
    return torch.stack([like.new_full((), number) for number in numbers])[:, None, None]


def luma(x: Tensor) -> Tensor:
    """Brightness (N, 1, H, W) of images of three channels, or one, by the weights of ITU-R BT.601; bytes are rounded.

    Raises:
        ValueError: for another number of channels.
    """
    if x.shape[1] == 1:
        return x
    if x.shape[1] != 3:
        raise ValueError(f"images of {x.shape[1]} channels have no luma: it takes 1 or 3")
    own = x.float()
    weights = channels((19595, 38470, 7471), own) / 65536  # so that sums of bytes are exact
    grey = (own * weights).sum(1, keepdim=True)
    return (grey if x.is_floating_point() else grey + 0.5).to(x.dtype)
