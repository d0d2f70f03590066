"""Every data set by its name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deep.data.cifar import cifar10, cifar100
from deep.data.fashion import fashion_mnist_subset
from deep.data.idx import mnist
from deep.data.images import Images

SHIPPED = "fashion-mnist-subset"


def load(name: str, folder: str | Path | None = None, split: str = "train", trust: str | None = None) -> Images:
    """The images of a data set, by name.

    Args:
        name: "cifar10", "cifar100", "mnist", "fashion-mnist", or "fashion-mnist-subset", which is in the package.
        folder: what holds the official files, as ``linfa data get NAME --out FOLDER`` leaves them; None for the subset.
        split: "train" or "test".
        trust: SHA-256 of decoded images to accept although they are not the published ones.

    Raises:
        ValueError: for another name or split, a folder that is missing, or one that is not needed.
        FileNotFoundError, CorruptData, UnknownData: as the readers of the official files.

    >>> load("fashion-mnist-subset", split="test").source
    'Fashion-MNIST, first 1,000 test images'
    """
    if name == SHIPPED:
        if folder is not None:
            raise ValueError(f"{name} is in the package: give no folder ({folder}), or the name of what is in it")
        return fashion_mnist_subset(split)
    if name not in NAMES:
        raise ValueError(f"unknown data {name!r}: choose one of {', '.join(NAMES)}")
    if name in STREAMS:
        raise ValueError(f"{name} does not fit the memory: read it with deep.data.{name}")
    if folder is None:
        raise ValueError(f"{name} needs the folder of its files; `linfa data get {name} --out FOLDER` fetches them")
    return READERS[name](Path(folder), split, trust)


def _mnist(name, title):
    def read(folder, split, trust):
        inside = folder / name
        return mnist(inside if inside.is_dir() else folder, split, title, trust=trust)

    return read


READERS: dict[str, Callable[[Path, str, str | None], Images]] = {
    "cifar10": cifar10,
    "cifar100": lambda folder, split, trust: cifar100(folder, split, trust=trust),
    "mnist": _mnist("mnist", "MNIST"),
    "fashion-mnist": _mnist("fashion-mnist", "Fashion-MNIST"),
}


def _imagenet(folder, **settings):
    from deep.data.imagenet import imagenet  # which needs pillow

    return imagenet(folder, **settings)


@dataclass(frozen=True)
class Stream:
    """Data that do not fit the memory.

    Args:
        make: what makes a loader, with the arguments of `deep.data.imagenet`.
        images: how many training images are published.
    """

    make: Callable
    images: int


STREAMS = {"imagenet": Stream(_imagenet, 1_281_167)}
"""Data that do not fit the memory, by name."""

NAMES = (*READERS, *STREAMS, SHIPPED)
"""All names."""
