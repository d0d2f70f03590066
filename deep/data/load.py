"""Every data set by its name."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deep.data.cifar import cifar10, cifar100, cifar_files
from deep.data.fashion import KNOWN as FASHION
from deep.data.fashion import fashion_mnist_subset
from deep.data.idx import mnist, mnist_files
from deep.data.images import Images
from deep.data.mapped import mapped

SHIPPED = "fashion-mnist-subset"


@dataclass(frozen=True)
class Official:
    """How the official files of a data set are found, (folder, split) -> paths, and read, (folder, split, trust)."""

    files: Callable[[Path, str], list[Path]]
    read: Callable[[Path, str, str | Collection[str] | None], Images]


def load(
    name: str, folder: str | Path | None = None, split: str = "train", trust: str | Collection[str] | None = None
) -> Images:
    """The images of a data set, by name.

    They are mapped into memory from a copy beside the official files, ``NAME-SPLIT.npy``, which the first call makes.

    Args:
        name: "cifar10", "cifar100", "mnist", "fashion-mnist", or "fashion-mnist-subset", which is in the package.
        folder: what holds the official files, as ``linfa data get NAME --out FOLDER`` leaves them; None for the subset.
        split: "train" or "test".
        trust: SHA-256 of decoded images, one or several, to accept although they are not the published ones; they are
            read each time.

    Raises:
        ValueError: for another name or split, a folder that is missing, or one that is not needed.
        FileNotFoundError, CorruptData, UnknownData: as the readers of the official files.

    >>> load("fashion-mnist-subset", split="test").source
    'Fashion-MNIST, first 1,000 test images'
    """
    if name == SHIPPED:
        if folder is not None:
            raise ValueError(f"{name} is in the package and not in {folder}: say which data set is there")
        return fashion_mnist_subset(split)
    if name not in NAMES:
        raise ValueError(f"unknown data {name!r}: choose one of {', '.join(NAMES)}")
    if name in STREAMS:
        raise ValueError(f"{name} does not fit the memory: read it with deep.data.{name}")
    if folder is None:
        raise ValueError(f"{name} needs the folder of its files; `linfa data get {name} --out FOLDER` fetches them")
    official, folder = OFFICIAL[name], Path(folder)
    if trust:
        return official.read(folder, split, trust)
    files = official.files(folder, split)
    return mapped(files[0].parent / f"{name}-{split}.npy", files, lambda: official.read(folder, split, None))


def _mnist(name, title, known):
    def inside(folder):  # the files of both have the same names, so that each has a folder of its own
        return folder / name if (folder / name).is_dir() else folder

    return Official(
        lambda folder, split: mnist_files(inside(folder), split),
        lambda folder, split, trust: mnist(inside(folder), split, title, known, trust),
    )


OFFICIAL = {
    "cifar10": Official(partial(cifar_files, 10), cifar10),
    "cifar100": Official(
        partial(cifar_files, 100), lambda folder, split, trust: cifar100(folder, split, trust=trust)
    ),
    "mnist": _mnist("mnist", "MNIST", {}),
    "fashion-mnist": _mnist("fashion-mnist", "Fashion-MNIST", FASHION),
}  # fmt: skip


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

NAMES = (*OFFICIAL, *STREAMS, SHIPPED)
"""All names."""
