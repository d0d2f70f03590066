"""Files of a run that are whole whenever they are read."""

import csv
import json
import os
from pathlib import Path


def write(path: Path, text: str) -> None:
    """Write a text file in one go: a reader sees the old one or the new one."""
    part = path.with_name(path.name + ".part")
    part.write_text(text + "\n")
    os.replace(part, path)


def write_rows(folder: Path, name: str, rows: list[dict]) -> None:
    """Write rows as ``name.jsonl`` and ``name.csv``, whose columns are all keys in the order of their appearance."""
    write(folder / f"{name}.jsonl", "\n".join(map(json.dumps, rows)))
    part = folder / f"{name}.csv.part"
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
    os.replace(part, folder / f"{name}.csv")
