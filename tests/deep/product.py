"""Every cell of the ecosystem matrix, in a random order that is always the same:

    python -m tests.deep.product FOLDER [BACKEND]

or those that FOLDER/cells names, a line of JSON each.  Cells of one process append to FOLDER/one, cells of two ranks,
which are forks of this process, to FOLDER/two.0 and FOLDER/two.1, each a line of JSON with what was found.  A run that
was stopped goes on with the next cell, so that whatever is there is a random sample.  The status is 1 if a cell is
silently wrong.
"""

import collections
import json
import random
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from tqdm import tqdm

from .matrix import WORLD, Cell, outcome, product, wrong  # isort: skip
from .processes import fork, joined, wait  # isort: skip

BACKEND = "aot_eager"


def shuffled() -> list[Cell]:
    """Every cell."""
    cells = product()
    random.Random(0).shuffle(cells)
    return cells


def read(file: Path) -> list[dict]:
    """What became of the cells so far: "cell", "found" and "seconds"; without a line that was not finished."""
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def run(file: Path, cells: list[Cell], backend: str = BACKEND) -> list[dict]:
    """Run the cells that a file does not hold yet, append what becomes of them, and return all that it holds.

    Ranks, whose files differ by the cell in which they were stopped, go on together.
    """
    rows = read(file)
    if dist.is_initialized():
        lengths = [None] * dist.get_world_size()
        dist.all_gather_object(lengths, len(rows))
        rows = rows[: min(lengths)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = {tuple(row["cell"]) for row in rows}
    for cell in tqdm([cell for cell in cells if cell not in done], disable=None):
        start = time.perf_counter()
        found = outcome(cell, backend)
        rows.append({"cell": list(cell), "found": found, "seconds": round(time.perf_counter() - start, 3)})
        with file.open("a") as out:
            out.write(json.dumps(rows[-1]) + "\n")
    return rows


def ranked(folder: Path, cells: list[Cell], backend: str) -> None:
    """Run cells as one of two ranks."""
    run(folder / f"two.{dist.get_rank()}", cells, backend)


def together(folder: Path, cells: list[Cell], backend: str) -> bool:
    """Run cells on two ranks, which are forks of this process; whether both came to the end."""
    store = folder / "store"
    store.unlink(missing_ok=True)
    ranks = [fork(joined, store, rank, ranked, folder, cells, backend) for rank in range(WORLD)]
    return [wait(rank) for rank in ranks] == [0] * WORLD


def summary(rows: list[dict]) -> str:
    """How many cells ended how, how long they took by mode, and every one that is wrong."""
    ends, seconds, bad = collections.Counter(), collections.defaultdict(list), []
    for row in rows:
        cell, found = Cell(*row["cell"]), row["found"]
        known = "refused" if found != "equal" else "equal"
        ends["wrong" if wrong(cell, found) else known] += 1
        seconds[cell.mode].append(row["seconds"])
        if wrong(cell, found):
            bad.append(f"{cell}: {found}")
    lines = [", ".join(f"{count} {end}" for end, count in sorted(ends.items()))]
    lines += [f"{mode}: {sum(s) / len(s):.2f} s a cell" for mode, s in sorted(seconds.items())]
    return "\n".join(lines + bad)


def main(folder: str, backend: str = BACKEND) -> int:
    """Run, and print what was found."""
    torch.set_num_threads(1)
    folder = Path(folder)
    named, alone, ranks = folder / "cells", [], []
    for cell in [Cell(*json.loads(line)) for line in named.open()] if named.exists() else shuffled():
        (alone if cell.ranks == "one" else ranks).append(cell)
    ended = together(folder, ranks, backend)
    rows = run(folder / "one", alone, backend)
    for rank in range(WORLD):
        rows += read(folder / f"two.{rank}")
    print(summary(rows))
    return not ended or any(wrong(Cell(*row["cell"]), row["found"]) for row in rows)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
