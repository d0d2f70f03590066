"""Images in one file that is mapped into memory instead of read: opening it costs milliseconds and no memory.

The file holds three .npy arrays, one after the other: the images, (N, C, H, W) uint8, which alone is what
``numpy.load(path)`` shows; the labels; and JSON that says what they are and from which files they were made.
"""

import contextlib
import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.lib import format as npy

from deep.data.images import Images

ABOUT = ("classes", "mean", "std", "source")

VERSION = 1
"""Of what the readers give: copies of another one are made again."""


def mapped(path: Path, made_from: list[Path], read: Callable[[], Images]) -> Images:
    """What ``read`` gives, from a mapped copy of it, which is made if it is not there.

    A copy counts while the files that it was made from have the same sizes and times.  Its tensors are private: what is
    written into them does not reach the file.  Where no copy can be written, in a folder that is read only, there is
    none.

    Args:
        path: of the copy.
        made_from: the files that ``read`` reads.
        read: reads them.
    """
    stamp = [VERSION, *([p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in made_from)]
    images = _open(path, stamp)
    if images is None:
        images = read()
        _write(path, images, stamp)
        images = _open(path, stamp) or images
    return images


def _open(path, stamp) -> Images | None:
    try:
        x = npy.open_memmap(path, mode="c")  # a tensor cannot be read only, a private page can be written
        with open(path, "rb") as file:
            file.seek(x.offset + x.nbytes)
            y, text = (npy.read_array(file, allow_pickle=False) for _ in range(2))
        about = json.loads(text.tobytes())
        whole = x.dtype == np.uint8 and y.dtype == np.int64 and x.shape[:-3] == y.shape and about.pop("stamp") == stamp
        return Images(torch.from_numpy(x), torch.from_numpy(y), **_tuples(about)) if whole else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # missing, cut off, or another kind of file
        return None


def _tuples(about):
    return {key: tuple(about[key]) if key in ("mean", "std") else about[key] for key in ABOUT}


def _write(path, images, stamp):
    about = {key: getattr(images, key) for key in ABOUT} | {"stamp": stamp}
    arrays = images.x.numpy(), images.y.numpy(), np.frombuffer(json.dumps(about).encode(), np.uint8)
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")  # of this process alone
    with contextlib.suppress(OSError):
        try:
            with open(part, "xb") as file:
                for array in arrays:
                    npy.write_array(file, array, allow_pickle=False)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
