"""ImageNet (Russakovsky et al. 2015), or anything that lies in files like it."""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from deep.data import decode
from deep.data.files import ImageFiles
from deep.data.folder import class_folders, class_names
from deep.data.images import CorruptData
from deep.data.listing import Listing, kept
from deep.data.shards import expand, tar_shards

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FOLDER = {"train": "train", "test": "val"}
"""The official test images have no public labels: what the literature tests on is the validation set."""


@dataclass(frozen=True)
class RandomCrops:
    """Shuffled random crops, half of them mirrored; an incomplete last batch is dropped.

    Args:
        size: of the crops in pixels.
        window: so many shards, taken at random, are shuffled with each other before the next ones are read, which
            reads a disk nearly in order; 0 for files that are not in shards.
    """

    size: int = 224
    window: int = 0

    def steps(self, images: int, batch_size: int) -> int:
        return images // batch_size

    def order(self, listing: Listing, generator: np.random.Generator) -> np.ndarray:
        if not self.window:
            return generator.permutation(len(listing))
        turn = generator.permutation(len(listing.path)) // self.window  # (F,) when a shard is read
        return np.lexsort((generator.random(len(listing)), turn[listing.holder]))

    def pixels(self, content: bytes, generator: np.random.Generator) -> np.ndarray:
        return decode.random_resized_crop(content, self.size, generator)


@dataclass(frozen=True)
class CentralCrops:
    """Central crops, in the order of the listing; the last batch may be smaller.

    Args:
        size: of the crops in pixels.
    """

    size: int = 224

    def steps(self, images: int, batch_size: int) -> int:
        return -(-images // batch_size)

    def order(self, listing: Listing, generator: np.random.Generator) -> np.ndarray:
        return np.arange(len(listing))

    def pixels(self, content: bytes, generator: np.random.Generator) -> np.ndarray:
        return decode.center_crop(content, self.size)


def imagenet(
    root: str | Path,
    split: str = "train",
    batch_size: int = 256,
    seed: int = 0,
    *,
    rank: int = 0,
    world: int = 1,
    device: str | torch.device = "cpu",
    workers: int | None = None,
    size: int = 224,
    classes: int | None = None,
    window: int = 16,
    cache: str | Path | None = None,
    max_broken: float = 0.01,
) -> ImageFiles:
    """A loader of ImageNet's training or validation images.

    Args:
        root: a folder with ``train/`` and ``val/``, which hold one folder of images for each class, or webdataset
            shards (``*.tar``); or a pattern of the shards of one split, ``shards/train-{000..031}.tar``.
        split: "train" (random crops, shuffled) or "test" (central crops of ``val/``, in order).
        batch_size: of all processes together.
        seed: of the order and of the augmentation.
        rank, world: which of how many processes this is.
        device: where the batches are wanted.
        workers: processes that decode; by default 4, or as many as there are cores.  The batches do not depend on it.
        size: of the images in pixels.
        classes: how many there are, for shards; by default as many as there are labels.
        window: shards shuffled together, see `RandomCrops`.
        cache: a folder for the list of the images; it takes minutes to make on a network disk, and is made anew if
            files have been added or removed.
        max_broken: the largest share of images that may be broken.

    Raises:
        ImportError: if pillow is missing.
        FileNotFoundError: if a folder or shards are missing.
        CorruptData: for folders that hold no images or different classes in train and val, and when too many images
            are broken.
        ValueError: for a batch that does not fit, see `ImageFiles`.
    """
    decode.pillow()
    if split not in FOLDER:
        raise ValueError(f"split is 'train' or 'test' (the images of val/); got {split!r}")
    place, paths = _find(str(root), split)
    if not paths:
        _same_classes(Path(root))
    make = partial(tar_shards, place, paths, classes) if paths else partial(class_folders, place)

    def suits(old):
        return not paths or (list(map(os.fsdecode, old.path)) == paths and classes in (None, len(old.classes)))

    listing = kept(Path(cache) / f"{split}.npz", str(place), make, suits) if cache else make()
    if workers is None:
        workers = min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    view = RandomCrops(size, window if paths else 0) if split == "train" else CentralCrops(size)
    name = f"ImageNet {split} in {f'{len(paths)} shards' if paths else 'class folders'}"
    return ImageFiles(name, listing, view, MEAN, STD, batch_size, seed, rank, world, device, workers, max_broken)


def _find(root, split) -> tuple[Path, list[str]]:
    """The folder of a split and the shards in it, none where there are class folders."""
    if "{" in root or root.endswith(".tar"):
        folder, _, pattern = root.rpartition("/")
        return Path(folder or ".").resolve(), expand(pattern)
    place = Path(root).resolve() / FOLDER[split]
    if not place.is_dir():
        there = sorted(path.name for path in Path(root).iterdir())[:5] if Path(root).is_dir() else None
        found = f"it holds {', '.join(there) or 'nothing'}" if there is not None else "there is no such folder"
        raise FileNotFoundError(f"{root} has no folder {FOLDER[split]}/ with the {split} images: {found}")
    return place, sorted(path.name for path in place.glob("*.tar"))


def _same_classes(root):
    """Check that train and val, where both are there, have the same class folders, and thus the same labels."""
    if all((root / folder).is_dir() for folder in FOLDER.values()):
        train, val = (set(class_names(root / folder)) for folder in FOLDER.values())
        if train != val:
            only = "; ".join(
                f"only in {folder}: {', '.join(sorted(names)[:5])}"
                for folder, names in (("train", train - val), ("val", val - train))
                if names
            )
            raise CorruptData(f"{root} has {len(train)} classes in train and {len(val)} in val ({only})")
