"""Which images there are, where their bytes lie, and their labels.

A listing is a few arrays, so that a million images take 100 MB and nothing to share with worker processes.  To make one
takes minutes on a network disk; `kept` keeps it in a file.
"""

import hashlib
import os
import uuid
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from deep.data.images import CorruptData

IMAGE = ("jpg", "jpeg", "png")
"""What an image is called, in lower case; what it is, its bytes tell."""


@dataclass(frozen=True)
class Skipped:
    """A file that cannot be used, and why."""

    file: str
    reason: str


@dataclass(frozen=True, eq=False)
class Listing:
    """The images of a split, N of them in F files.

    Args:
        root: the folder that all paths start from.
        path: (F,) of each file, in bytes.
        holder: (N,) which of the files holds each image.
        name: (N,) of the image in its file, in bytes; empty where the file is the image.
        offset, size: (N,) where its bytes lie in the file; size -1 where the file is the image.
        label: (N,) its class.
        classes: (K,) their names.
        skipped: what was found and cannot be used.
        watched: (M,) paths, in bytes, whose change makes the listing stale.
        changed: (M,) when each of them had been changed last, in nanoseconds.
    """

    root: str
    path: np.ndarray
    holder: np.ndarray
    name: np.ndarray
    offset: np.ndarray
    size: np.ndarray
    label: np.ndarray
    classes: np.ndarray
    skipped: tuple[Skipped, ...]
    watched: np.ndarray
    changed: np.ndarray

    def __len__(self):
        return len(self.label)

    def describe(self, index: int) -> str:
        """The path of an image, and its name in there."""
        name = os.fsdecode(self.name[index])
        return f"{self._path(index)}/{name}" if name else self._path(index)

    def read(self, index: int) -> bytes:
        """The bytes of an image.

        Raises:
            OSError: if they are not all there.
        """
        with open(self._path(index), "rb") as file:
            file.seek(self.offset[index])
            content = file.read(self.size[index])
        if len(content) < self.size[index]:
            raise OSError(f"its file ends after {len(content)} of its {self.size[index]} bytes")
        if not content:
            raise OSError("it is empty")
        return content

    def _path(self, index):
        return os.path.join(self.root, os.fsdecode(self.path[self.holder[index]]))

    @property
    def fingerprint(self) -> str:
        """Of the images, their order and their labels; not of where they lie."""
        digest = hashlib.sha256()
        for part in (self.path, self.holder, self.name, self.offset, self.size, self.label, self.classes):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()[:16]


def times(root: str, paths: list[str]) -> np.ndarray:
    """When files or folders below a root were changed last, in nanoseconds."""
    return np.array([os.stat(os.path.join(root, path)).st_mtime_ns for path in paths], np.int64)


def each(function: Callable, items: list, unit: str) -> list:
    """``function`` of every item, 16 at a time because a network disk answers slowly."""
    from tqdm import tqdm

    with ThreadPoolExecutor(16) as pool:
        return list(tqdm(pool.map(function, items), total=len(items), desc="listing", unit=unit, disable=None))


def kept(path: Path, root: str, make: Callable[[], Listing], suits: Callable[[Listing], bool]) -> Listing:
    """The listing that is in a file, or a new one, which is written there, if that is stale or there is none.

    Args:
        path: of the file, numpy arrays without objects (.npz).
        root: of the listing asked for.
        make: makes it.
        suits: whether one of this root is what was asked for.

    Raises:
        CorruptData: if the file is something else, which is left as it is.
    """
    old = _read(path) if path.exists() else None
    if old is not None and old.root == root and suits(old) and _fresh(old):
        return old
    new = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")  # of this process alone
    try:
        with open(part, "xb") as file:
            skipped = np.array([(s.file, s.reason) for s in new.skipped], str).reshape(-1, 2)
            np.savez(file, **{f.name: getattr(new, f.name) for f in fields(new)} | {"skipped": skipped})
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return new


def _fresh(listing):
    try:
        return np.array_equal(times(listing.root, [os.fsdecode(p) for p in listing.watched]), listing.changed)
    except OSError:
        return False


def _read(path):
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            parts = {f.name: arrays[f.name] for f in fields(Listing)}
    except (OSError, ValueError, EOFError, KeyError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise CorruptData(
            f"{path} is not a list of images that was written here ({error}): delete it, or name another file"
        ) from None
    skipped = tuple(Skipped(str(file), str(reason)) for file, reason in parts["skipped"])
    return Listing(**parts | {"root": str(parts["root"]), "skipped": skipped})
