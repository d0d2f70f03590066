"""Files of a run that are whole whenever they are read."""

import contextlib
import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path


def move(part: Path, path: Path) -> None:
    """Give a file another name, in place of what has it, once all of it is on the disk."""
    with part.open("r+b") as file:
        os.fsync(file.fileno())
    os.replace(part, path)
    if os.name == "posix":  # elsewhere a folder cannot be opened
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write a file that takes its name at the end of the block: a reader sees the old one or the new one.

    Raises:
        OSError: naming the file, if it cannot be written; the old one stays, and nothing of the new one.
    """
    part = path.with_name(path.name + ".part")
    try:
        yield part
        move(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def write(path: Path, text: str) -> None:
    """Write a text file in one go."""
    with whole(path) as part:
        part.write_text(text + "\n")


def write_csv(path: Path, rows: list[dict]) -> None:
    """Write rows as CSV, whose columns are all keys in the order of their appearance."""
    with whole(path) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)


def write_rows(folder: Path, name: str, rows: list[dict]) -> None:
    """Write rows as ``name.jsonl`` and as ``name.csv``."""
    write(folder / f"{name}.jsonl", "\n".join(map(json.dumps, rows)))
    write_csv(folder / f"{name}.csv", rows)


def claim(folder: Path, name: str, settings: dict) -> None:
    """Make a folder that of a run with these settings, written as ``name``, or see that it is already.

    Args:
        folder: made if there is none.
        name: of a JSON file.
        settings: what makes the run what it is, as JSON has it.

    Raises:
        ValueError: as `check_claim`.
    """
    check_claim(folder, name, settings)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / name).exists():
        write(folder / name, json.dumps(settings, indent=1))


def check_claim(folder: Path, name: str, settings: dict) -> None:
    """See that a folder is not that of a run with other settings; arguments as for `claim`.

    Raises:
        ValueError: naming the settings in which the folder's run differs, or the file if it is damaged; the folder
            stays as it is.
    """
    if not (folder / name).exists():
        return
    try:
        old = dict(json.loads((folder / name).read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{folder / name} is damaged and does not say what run the folder holds ({error}): take a copy from "
            "elsewhere, or choose another folder"
        ) from error
    changed = list(_changes(old, json.loads(json.dumps(settings))))
    if changed:
        raise ValueError(
            f"{folder} holds a run with another {', '.join(key for key, *_ in changed)} ("
            + "; ".join(f"{key}: {old} there, {new} here" for key, old, new in changed)
            + "): resume with the same, or choose another folder"
        )


def _changes(old, new, path=""):
    """(Name, old value, new value) of every setting that differs, of those inside of others as "optimizer.lr"."""
    for key in new:
        mine, theirs, name = new[key], old.get(key), f"{path}{key}"
        if mine and theirs and isinstance(mine, dict) and isinstance(theirs, dict):
            yield from _changes(theirs, mine, f"{name}.")
        elif mine != theirs:
            yield name, theirs, mine
    for key in (key for key in old if path and key not in new):
        yield f"{path}{key}", old[key], None
