"""The MNIST family from its IDX files (LeCun et al. 1998), plain or gzipped."""

import gzip
import hashlib
import math
import struct
import zlib
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch

from deep.data.digest import check
from deep.data.images import CorruptData, Images

STATISTICS = {"MNIST": ((0.1307,), (0.3081,)), "Fashion-MNIST": ((0.2860,), (0.3530,))}
PREFIX = {"train": "train", "test": "t10k"}

MD5 = {
    "MNIST": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "Fashion-MNIST": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
}
"""MD5 of each official file, unpacked: how it was compressed does not matter."""


def mnist(
    folder: str | Path,
    split: str = "train",
    name: str = "Fashion-MNIST",
    known: dict[str, str] | None = None,
    trust: str | Collection[str] | None = None,
) -> Images:
    """MNIST or Fashion-MNIST from ``{train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]``.

    Args:
        folder: what holds the files.
        split: "train" or "test".
        name: "MNIST" or "Fashion-MNIST": which statistics normalise the images.
        known: SHA-256 of decoded images (N, H, W) -> what they are, beside the official files; None reads any
            well-formed file.
        trust: another SHA-256, or several, to accept.

    Raises:
        FileNotFoundError: naming what is missing.
        CorruptData: for a truncated file, a wrong magic number, images that are not 28 x 28, or labels that do not
            match.
        UnknownData: if ``known`` is given and the images are neither official nor listed.
    """
    if name not in STATISTICS:
        raise ValueError(f"name is one of {', '.join(STATISTICS)}; got {name!r}")
    (x, one), (y, other) = (_array(path, name) for path in mnist_files(folder, split))
    if x.shape[1:] != (28, 28):
        raise CorruptData(f"{folder} has {split} images of {x.shape[1]} x {x.shape[2]} pixels, not of 28 x 28")
    if len(x) != len(y) or not len(y) or y.max() > 9:
        raise CorruptData(f"{folder} has {len(x)} {split} images and {len(y)} labels, the largest {y.max(initial=0)}")
    if one and other:
        source = name
    else:
        source = f"{name} {split}" if known is None else check(f"{name} {split}", x, known, trust)
    mean, std = STATISTICS[name]
    return Images(torch.from_numpy(x[:, None].copy()), torch.from_numpy(y.astype(np.int64)), 10, mean, std, source)


def mnist_files(folder: str | Path, split: str) -> list[Path]:
    """The files that `mnist` reads: images and labels.

    Raises:
        FileNotFoundError: naming what is missing.
    """
    if split not in PREFIX:
        raise ValueError(f"split is 'train' or 'test'; got {split!r}")
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    return [_find(folder, f"{PREFIX[split]}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1")]


def _find(folder, name):
    path = next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{folder} holds neither {name} nor {name}.gz")
    return path


def _array(path, kind) -> tuple[np.ndarray, bool]:
    """What an IDX file holds, and whether it is the official one."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise CorruptData(f"{path} is not a whole gzip file: {error}") from None
    name = path.name.removesuffix(".gz")
    dimensions = 3 if "images" in name else 1
    head = 4 + 4 * dimensions
    if len(content) < head:
        raise CorruptData(f"{path} has {len(content)} bytes, less than the {head} of an IDX header")
    magic, *shape = struct.unpack(f">I{dimensions}I", content[:head])
    if magic != 2048 + dimensions:
        raise CorruptData(f"{path} has the magic number {magic}, not {2048 + dimensions}: it is another kind of file")
    size = math.prod(shape)  # in Python's integers: a hostile header overflows those of numpy
    if len(content) - head != size:
        raise CorruptData(f"{path} has {len(content) - head} bytes of data, its header says {size}")
    official = hashlib.md5(content, usedforsecurity=False).hexdigest() == MD5[kind][name]
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape), official
