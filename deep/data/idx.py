"""The MNIST family from its IDX files (LeCun et al. 1998), plain or gzipped."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch

from deep.data.digest import check
from deep.data.images import CorruptData, Images

STATISTICS = {"MNIST": ((0.1307,), (0.3081,)), "Fashion-MNIST": ((0.2860,), (0.3530,))}
PREFIX = {"train": "train", "test": "t10k"}


def mnist(
    folder: str | Path,
    split: str = "train",
    name: str = "Fashion-MNIST",
    known: dict[str, str] | None = None,
    trust: str | None = None,
) -> Images:
    """MNIST or Fashion-MNIST from ``{train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]``.

    Args:
        folder: what holds the files.
        split: "train" or "test".
        name: "MNIST" or "Fashion-MNIST": which statistics normalise the images.
        known: SHA-256 of decoded images (N, H, W) -> what they are; None reads any well-formed file.
        trust: another SHA-256 to accept.

    Raises:
        FileNotFoundError: naming what is missing.
        CorruptData: for a truncated file, a wrong magic number, images that are not 28 x 28, or labels that do not
            match.
        UnknownData: if ``known`` is given and does not list the images.
    """
    if split not in PREFIX:
        raise ValueError(f"split is 'train' or 'test'; got {split!r}")
    if name not in STATISTICS:
        raise ValueError(f"name is one of {', '.join(STATISTICS)}; got {name!r}")
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    x = _array(Path(folder), f"{PREFIX[split]}-images-idx3-ubyte", 3)
    y = _array(Path(folder), f"{PREFIX[split]}-labels-idx1-ubyte", 1)
    if x.shape[1:] != (28, 28):
        raise CorruptData(f"{folder} has {split} images of {x.shape[1]} x {x.shape[2]} pixels, not of 28 x 28")
    if len(x) != len(y) or not len(y) or y.max() > 9:
        raise CorruptData(f"{folder} has {len(x)} {split} images and {len(y)} labels, the largest {y.max(initial=0)}")
    source = f"{name} {split}" if known is None else check(f"{name} {split}", x, known, trust)
    mean, std = STATISTICS[name]
    return Images(torch.from_numpy(x[:, None].copy()), torch.from_numpy(y.astype(np.int64)), 10, mean, std, source)


def _array(folder, name, dimensions) -> np.ndarray:
    path = next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{folder} holds neither {name} nor {name}.gz")
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise CorruptData(f"{path} is not a whole gzip file: {error}") from None
    head = 4 + 4 * dimensions
    if len(content) < head:
        raise CorruptData(f"{path} has {len(content)} bytes, less than the {head} of an IDX header")
    magic, *shape = struct.unpack(f">I{dimensions}I", content[:head])
    if magic != 2048 + dimensions:
        raise CorruptData(f"{path} has the magic number {magic}, not {2048 + dimensions}: it is another kind of file")
    size = math.prod(shape)  # in Python's integers: a hostile header overflows those of numpy
    if len(content) - head != size:
        raise CorruptData(f"{path} has {len(content) - head} bytes of data, its header says {size}")
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)
