"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) from their official distributions, binary or python."""

import hashlib
import io
import pickle
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch

from deep.data.digest import check
from deep.data.images import CorruptData, Images, UnknownData

PIXELS = 3 * 32 * 32

KNOWN = {
    "10d94edc57bf6b034670d5061cb6ac228cfc0fd07d5ba6ba4082883c4999a6d6": "CIFAR-10, 104 images from a JPEG copy",
    "4674ac8c77f372061aaf9216c8857c99599d5df0bb9f6b16a3de613ef8eb348a": "CIFAR-10, 104 images from a JPEG copy",
    "4cb8e5d9309da489bf6b19cc10cd96c3ae6f8daf225380b605aaee4c0d6aee19": "CIFAR-100",
}
"""SHA-256 of decoded images (N, 32, 32, 3) -> what they are."""

MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
}
"""MD5 of each file of the official python distributions: by name, lest the test batch pass for a training batch."""

MEAN = {10: (0.4914, 0.4822, 0.4465), 100: (0.5071, 0.4865, 0.4409)}
STD = {10: (0.2470, 0.2435, 0.2616), 100: (0.2673, 0.2564, 0.2762)}
FILES = {
    10: {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]},
    100: {"train": ["train"], "test": ["test"]},
}
COUNT = {"train": 50_000, "test": 10_000}
FOLDERS = {10: ("cifar-10-batches-bin", "cifar-10-batches-py"), 100: ("cifar-100-binary", "cifar-100-python")}


def cifar10(folder: str | Path, split: str = "train", trust: str | Collection[str] | None = None) -> Images:
    """CIFAR-10.

    Args:
        folder: what holds ``cifar-10-batches-bin`` or ``cifar-10-batches-py``, or one of these.
        split: "train" (50,000 images) or "test" (10,000).
        trust: SHA-256 of decoded images, one or several, to accept although they are not the published ones, or not
            all of them; the error for those that are not accepted says which SHA-256 they have.

    Raises:
        FileNotFoundError: naming the folder or the file that is missing.
        CorruptData: for a file that is truncated, too long or holds impossible labels.
        UnknownData: for images that are not the published ones.
    """
    return _read(10, folder, split, "labels", trust)


def cifar100(
    folder: str | Path, split: str = "train", labels: str = "fine", trust: str | Collection[str] | None = None
) -> Images:
    """CIFAR-100.

    Args:
        folder: what holds ``cifar-100-binary`` or ``cifar-100-python``, or one of these.
        split: "train" (50,000 images) or "test" (10,000).
        labels: "fine" (100 classes) or "coarse" (20).
        trust: as for `cifar10`.

    Raises:
        FileNotFoundError, CorruptData, UnknownData: as `cifar10`.
    """
    if labels not in ("fine", "coarse"):
        raise ValueError(f"labels are 'fine' or 'coarse'; got {labels!r}")
    return _read(100, folder, split, f"{labels}_labels", trust)


def cifar_files(kind: int, folder: str | Path, split: str) -> list[Path]:
    """The files that `cifar10` (kind 10) or `cifar100` (kind 100) reads.

    Raises:
        FileNotFoundError: naming the folder or the file that is missing.
    """
    if split not in COUNT:
        raise ValueError(f"split is 'train' or 'test'; got {split!r}")
    folder, names = Path(folder), FILES[kind][split]
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    places = [folder / name for name in FOLDERS[kind]] + [folder]
    found = [(p, ".bin") for p in places if (p / f"{names[0]}.bin").is_file()]
    found += [(p, "") for p in places if (p / names[0]).is_file()]
    if not found:
        raise FileNotFoundError(
            f"{folder} holds no CIFAR-{kind} {split} set: looked for {names[0]}.bin or {names[0]} there and in "
            f"{' and '.join(FOLDERS[kind])}"
        )
    place, suffix = found[0]
    paths = [place / f"{name}{suffix}" for name in names]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"CIFAR-{kind} {split} is incomplete, missing: {', '.join(missing)}")
    return paths


def _read(kind, folder, split, labels, trust):
    paths = cifar_files(kind, folder, split)
    place, form = paths[0].parent, _binary if paths[0].suffix else _python
    parts = [form(path, kind, COUNT[split] // len(paths), labels) for path in paths]
    planes = np.concatenate([x for x, _, _, _ in parts]).reshape(-1, 3, 32, 32)
    y = np.concatenate([y for _, y, _, _ in parts])
    classes = 20 if labels == "coarse_labels" else kind
    if y.max() >= classes:
        raise CorruptData(f"{place} has the label {y.max()}, but CIFAR-{kind} has {classes} classes here")
    name = f"CIFAR-{kind} {split}"
    official, short = all(part[2] for part in parts), "; ".join(part[3] for part in parts if part[3])
    try:
        source = f"CIFAR-{kind}" if official else check(name, planes.transpose(0, 2, 3, 1), KNOWN, trust)
    except UnknownData as error:
        raise (CorruptData(f"{short}; {error}") if short else error) from None
    x = torch.from_numpy(np.ascontiguousarray(planes))
    return Images(x, torch.from_numpy(y.astype(np.int64)), classes, MEAN[kind], STD[kind], source)


def _binary(path, kind, count, labels):
    """Records of one label byte (CIFAR-10) or a coarse and a fine one (CIFAR-100), then the planes of the image."""
    head = 1 if kind == 10 else 2
    size, record = path.stat().st_size, head + PIXELS
    short = "" if size == count * record else (
        f"{path} has {size} bytes, where {count} records of {record} bytes make {count * record}: it is truncated or "
        "another file"
    )  # fmt: skip
    if size % record or not size:
        raise CorruptData(short)
    records = np.fromfile(path, np.uint8).reshape(-1, record)
    return records[:, head:], records[:, 1 if labels == "fine_labels" else 0], False, short


def _latin1(text, encoding):
    """How Python 3 writes bytes into an old pickle."""
    if encoding != "latin1":
        raise CorruptData(f"the file asks for the encoding {encoding!r}, which no CIFAR file needs")
    return text.encode("latin1")


class _Bytes:
    """An array of bytes being rebuilt.

    It stands for numpy's own classes, which no stranger's file may call: numpy.ndarray makes object arrays, that is
    pointers, from any bytes it is given.
    """

    array: np.ndarray

    def __setstate__(self, state):
        _, shape, _, fortran, content = state  # the dtype has been checked when it was asked for
        self.array = np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")


class _ByteType:
    """The type uint8 being rebuilt; its state (byte order, alignment) says nothing for single bytes."""

    def __setstate__(self, state):
        pass


def _array(*_):
    return _Bytes()


def _dtype(code, *_):
    if code not in ("u1", b"u1"):
        raise CorruptData(f"the file holds an array of {code!r}, not of bytes (u1)")
    return _ByteType()


# Functions and a string, no classes: a pickle can write into the attributes of a class that it is handed.
_STANDS_FOR = {
    ("numpy.core.multiarray", "_reconstruct"): _array,
    ("numpy._core.multiarray", "_reconstruct"): _array,
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _latin1,
}


class _Arrays(pickle.Unpickler):
    """Reads the byte arrays, lists and strings of the official files and nothing else."""

    def find_class(self, module, name):
        if (module, name) not in _STANDS_FOR:
            raise CorruptData(f"the file asks for {module}.{name}, which no CIFAR file needs: it is refused")
        return _STANDS_FOR[module, name]


def _python(path, kind, count, labels):
    """A pickled dictionary of arrays, read without running anything that it asks for."""
    content = path.read_bytes()
    try:
        table = _Arrays(io.BytesIO(content), encoding="bytes").load()
    except CorruptData as error:
        raise CorruptData(f"{path}: {error}") from None
    except Exception as error:
        raise CorruptData(f"{path} is not a whole CIFAR python file: {error}") from None
    keys = {b"data", labels.encode()}
    if not isinstance(table, dict) or not keys <= set(table):
        raise CorruptData(f"{path} has no entries {', '.join(sorted(k.decode() for k in keys))}")
    x, y = getattr(table[b"data"], "array", None), table[labels.encode()]
    if x is None or x.ndim != 2 or not len(x) or x.shape[1] != PIXELS:
        found = type(table[b"data"]).__name__ if x is None else f"an array of shape {x.shape}"
        raise CorruptData(f"{path} holds {found} as its data, not images of {PIXELS} bytes")
    if not isinstance(y, list) or len(y) != len(x) or not all(type(label) is int and 0 <= label < 256 for label in y):
        raise CorruptData(f"{path} has {labels} that are not a list of {len(x)} numbers in 0..255, one for each image")
    short = "" if len(x) == count else f"{path} holds {len(x)} images, not {count}"
    official = hashlib.md5(content, usedforsecurity=False).hexdigest() == MD5[path.name]
    return x, np.array(y, np.uint8), official, short
