"""A tree of image files, one folder a class."""

import os
from pathlib import Path

import numpy as np

from deep.data.images import CorruptData
from deep.data.listing import IMAGE, Listing, Skipped, each, times


def class_names(root: str | Path) -> list[str]:
    """The folders in a folder, sorted; hidden ones are none.

    Raises:
        FileNotFoundError: if there is no such folder.
        CorruptData: if it holds no folders.
    """
    if not os.path.isdir(root):
        raise FileNotFoundError(f"there is no folder {root}")
    names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise CorruptData(f"{root} holds no class folders: images lie in one folder for each class, CLASS/NAME.JPEG")
    return names


def class_folders(root: str | Path) -> Listing:
    """The images below the class folders of a root, sorted; the label is the place of the class among the sorted names.

    Hidden files are no images; other files that are not called .jpg, .jpeg or .png are named as skipped.

    Args:
        root: what holds the class folders; images may lie in folders inside these.

    Raises:
        FileNotFoundError, CorruptData: if there is no such folder, no class folder, or a class without images.
    """
    root = str(Path(root).resolve())
    classes = class_names(root)
    found = each(lambda name: _walk(root, name), classes, "class")
    empty = [name for name, (images, _, _) in zip(classes, found, strict=True) if not images]
    if empty:
        raise CorruptData(
            f"{len(empty)} of {len(classes)} class folders of {root} hold no images (.jpg, .jpeg, .png), the first: "
            f"{', '.join(empty[:5])}"
        )
    counts = [len(images) for images, _, _ in found]
    watched = [".", *(folder for _, _, folders in found for folder in folders)]
    N = sum(counts)
    return Listing(
        root,
        path=np.array([os.fsencode(path) for images, _, _ in found for path in images]),
        holder=np.arange(N, dtype=np.int32),
        name=np.zeros(N, "S1"),
        offset=np.zeros(N, np.int64),
        size=np.full(N, -1, np.int64),
        label=np.repeat(np.arange(len(classes)), counts),
        classes=np.array(classes),
        skipped=tuple(Skipped(os.path.join(root, p), "not called an image") for _, others, _ in found for p in others),
        watched=np.array([os.fsencode(path) for path in watched]),
        changed=times(root, watched),
    )


def _walk(root, name) -> tuple[list[str], list[str], list[str]]:
    """Images, other files and folders of a class, as paths below the root."""
    images, others, folders = [], [], []
    for place, _, files in os.walk(os.path.join(root, name), onerror=_raise):
        folders.append(os.path.relpath(place, root))
        for file in files:
            if not file.startswith("."):
                kind = images if file.rpartition(".")[2].lower() in IMAGE else others
                kind.append(os.path.join(folders[-1], file))
    return sorted(images), sorted(others), sorted(folders)


def _raise(error):
    raise error
