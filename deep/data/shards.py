"""Images and labels in tar files, as webdataset writes them: ``KEY.jpg``, and ``KEY.cls`` with the digits of its label.

The headers are read once.  From then on every image is read by its place in its shard, so that an epoch goes on in its
middle without reading, let alone decoding, what was before.
"""

import os
import re
import tarfile
from pathlib import Path

import numpy as np

from deep.data.images import CorruptData
from deep.data.listing import IMAGE, Listing, Skipped, each, times

BLOCK = 512
"""Bytes of a header of a tar file, to which also its members are filled up."""


def expand(pattern: str) -> list[str]:
    """The names that a pattern with number ranges in braces stands for.

    Raises:
        ValueError: for braces that hold anything else.

    >>> expand("train-{08..10}.tar")
    ['train-08.tar', 'train-09.tar', 'train-10.tar']
    """
    before, brace, after = pattern.partition("{")
    if not brace:
        return [pattern]
    inside, brace, after = after.partition("}")
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", inside)
    if not brace or not numbers or int(numbers[1]) > int(numbers[2]):
        raise ValueError(f"{pattern} is no pattern of shards: braces hold a first and a last number, {{000..031}}")
    width = len(numbers[1]) if numbers[1].startswith("0") else 0
    return [
        f"{before}{number:0{width}}{rest}"
        for number in range(int(numbers[1]), int(numbers[2]) + 1)
        for rest in expand(after)
    ]


def tar_shards(root: str | Path, paths: list[str], classes: int | None = None) -> Listing:
    """The images in shards, in the order in which they lie there.

    A shard that is cut off or damaged gives what is before the damage; it, images without a label and labels without an
    image are named as skipped.

    Args:
        root: the folder that the paths start from.
        paths: of the shards.
        classes: how many; by default as many as there are different labels, which then must be 0, 1, 2, ...

    Raises:
        FileNotFoundError: naming the shards that are missing.
        CorruptData: if there is not one image in them, or if their labels have gaps.
    """
    root = str(Path(root).resolve())
    missing = [path for path in paths if not os.path.isfile(os.path.join(root, path))]
    if missing:
        raise FileNotFoundError(f"{len(missing)} of {len(paths)} shards are not in {root}: {', '.join(missing[:5])}")
    changed = times(root, paths)
    found = each(lambda path: _index(os.path.join(root, path), classes), paths, "shard")
    images = [row for rows, _ in found for row in rows]
    skipped = tuple(record for _, records in found for record in records)
    if not images:
        first = "; ".join(f"{record.file}: {record.reason}" for record in skipped[:3])
        raise CorruptData(f"{root} holds no image with a label in {len(paths)} shards ({first})")
    name, offset, size, label = zip(*images, strict=True)
    labels = np.unique(label)
    if classes is None and labels[-1] != len(labels) - 1:
        gap = int(np.flatnonzero(labels != np.arange(len(labels)))[0])
        raise CorruptData(
            f"the labels in {root} go up to {labels[-1]}, but none is {gap}: say how many classes there are"
        )
    return Listing(
        root,
        path=np.array([os.fsencode(path) for path in paths]),
        holder=np.repeat(np.arange(len(paths), dtype=np.int32), [len(rows) for rows, _ in found]),
        name=np.array([os.fsencode(part) for part in name]),
        offset=np.array(offset, np.int64),
        size=np.array(size, np.int64),
        label=np.array(label, np.int64),
        classes=np.array([str(number) for number in range(classes or len(labels))]),
        skipped=skipped,
        watched=np.array([os.fsencode(path) for path in paths]),
        changed=changed,
    )


def _index(path, classes) -> tuple[list[tuple[str, int, int, int]], list[Skipped]]:
    """Name, offset, size and label of the images of a shard, and what is wrong with it."""
    images, labels, skipped = {}, {}, []
    end, trouble = 0, ""
    with open(path, "rb") as file:
        length = file.seek(0, os.SEEK_END)
        file.seek(0)
        try:
            with tarfile.open(fileobj=file, mode="r:") as shard:
                for member in shard:
                    end = member.offset_data + -(-member.size // BLOCK) * BLOCK
                    key, kind = _split(member.name)
                    if kind not in (*IMAGE, "cls") or member.offset_data + member.size > length:
                        continue
                    if not member.isreg():
                        skipped.append(Skipped(f"{path}/{member.name}", "not a plain file in its shard"))
                    elif key in (labels if kind == "cls" else images):
                        skipped.append(Skipped(f"{path}/{member.name}", "the second of its name in its shard"))
                    elif kind == "cls":
                        file.seek(member.offset_data)
                        labels[key] = file.read(min(member.size, BLOCK))
                    else:
                        images[key] = member.name, member.offset_data, member.size
        except (tarfile.TarError, OSError, ValueError) as error:
            trouble = f" ({error})"
        file.seek(end)
        rest = file.read(1 << 20)
    if trouble or len(rest) < BLOCK or rest.strip(b"\0"):
        skipped.append(Skipped(path, f"cut off or damaged after {len(images)} images{trouble}"))
    elif not images:
        skipped.append(Skipped(path, "no images in it"))
    rows = []
    for key, (name, offset, size) in images.items():
        reason, label = _label(labels.pop(key, None), classes)
        if reason:
            skipped.append(Skipped(f"{path}/{name}", reason))
        else:
            rows.append((name, offset, size, label))
    skipped += [Skipped(f"{path}/{key}.cls", "a label without an image") for key in labels]
    return rows, skipped


def _split(name) -> tuple[str, str]:
    """The key of a member and what kind it is: what is before and after the first dot of its file name."""
    folder, slash, file = name.rpartition("/")
    key, _, kind = file.partition(".")
    return folder + slash + key, kind.lower() if key else ""


def _label(text, classes) -> tuple[str, int]:
    """What is wrong with a label, and the label."""
    if text is None:
        return "no label (.cls) in its shard", 0
    if not re.fullmatch(rb"\s*\d{1,9}\s*", text):
        return f"its label is {text[:20]!r}, not a number", 0
    if classes and int(text) >= classes:
        return f"its label is {int(text)}, where there are {classes} classes", 0
    return "", int(text)
