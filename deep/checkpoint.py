"""Checkpoints that survive: whole whenever they are read, the one before kept, damage found and said.

A folder holds ``checkpoint.pt`` and ``checkpoint.before.pt``.  A file takes a name of these once all of it is on the
disk, so that at any moment one of the two is whole, whatever happens to the process or the power.
"""

import warnings
import zipfile
from pathlib import Path

import torch

from deep.log import move

NAME, BEFORE, PART, DAMAGED = "checkpoint.pt", "checkpoint.before.pt", "checkpoint.part", "checkpoint.damaged.pt"


class Damaged(ValueError):
    """No checkpoint of a folder can be read."""


def save(folder: Path, state: dict) -> None:
    """Write plain numbers and tensors as the checkpoint; the last one becomes the one before.

    Raises:
        OSError: naming the file, if it cannot be written; the last one stays.
    """
    try:
        torch.save(state, folder / PART)
        if (folder / NAME).exists():
            move(folder / NAME, folder / BEFORE)
        move(folder / PART, folder / NAME)
    except (OSError, RuntimeError) as error:  # that of torch does not say that the disk is full
        (folder / PART).unlink(missing_ok=True)
        raise OSError(
            f"{folder / NAME} could not be written, is the disk full? The last one stays ({error})"
        ) from error


def load(folder: Path) -> dict | None:
    """The last checkpoint of a folder that is whole, on the processor; None if there is none.

    A damaged one is set aside, as ``checkpoint.damaged.pt``, with a warning, and the one before read in its place.

    Args:
        folder: of the run.

    Raises:
        Damaged: if none is whole.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(Path(folder), {"step": 3})
    ...     load(Path(folder))
    {'step': 3}
    """
    there = [folder / name for name in (NAME, BEFORE) if (folder / name).exists()]
    wrong = {}
    for path in there:
        try:
            state = _read(path)
        except OSError:
            raise
        except Exception as error:  # a bit that flips can raise anything
            wrong[path] = error
            continue
        for bad, error in wrong.items():
            warnings.warn(f"{bad} is damaged ({error}): going on from {path}", RuntimeWarning, stacklevel=2)
            move(bad, folder / DAMAGED)  # lest it becomes the one before, in place of the one that is whole
        return state
    if wrong:
        texts = "; ".join(f"{path}: {error}" for path, error in wrong.items())
        raise Damaged(f"no checkpoint can be read ({texts}): take a copy from elsewhere, or begin in another folder")
    return None


def _read(path):
    with zipfile.ZipFile(path) as file:  # torch.load does not look at the checksums
        record = file.testzip()
    if record is not None:
        raise zipfile.BadZipFile(f"wrong checksum of {record}")
    return torch.load(path, map_location="cpu", weights_only=True)
