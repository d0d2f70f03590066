"""Every cell of the ecosystem matrix that one process runs, in a random order that is always the same:

    python -m tests.deep.product FILE [CELLS]

Each cell appends a line of JSON to FILE, and a run that was stopped goes on with the next one, so that whatever is
there is a random sample.  CELLS ends it after so many in FILE.  The status is 1 if a cell is silently wrong.
"""

import collections
import json
import random
import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

from .matrix import Cell, outcome, product, wrong  # isort: skip

BACKEND = "aot_eager"


def shuffled() -> list[Cell]:
    """The cells, all of one process."""
    cells = [cell for cell in product() if cell.ranks == "one"]
    random.Random(0).shuffle(cells)
    return cells


def read(file: Path) -> list[dict]:
    """What became of the cells so far: "cell", "found" and "seconds"; without a line that was not finished."""
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def run(file: Path, cells: list[Cell], backend: str = BACKEND) -> list[dict]:
    """Run the cells that a file does not hold yet, append what becomes of them, and return all that it holds."""
    rows = read(file)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = {tuple(row["cell"]) for row in rows}
    for cell in tqdm([cell for cell in cells if cell not in done], disable=None):
        start = time.perf_counter()
        found = outcome(cell, backend)
        rows.append({"cell": list(cell), "found": found, "seconds": round(time.perf_counter() - start, 3)})
        with file.open("a") as out:
            out.write(json.dumps(rows[-1]) + "\n")
    return rows


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


def main(file: str, cells: str | None = None) -> int:
    """Run, and print what was found."""
    torch.set_num_threads(1)
    rows = run(Path(file), shuffled()[: cells and int(cells)])
    print(summary(rows))
    return any(wrong(Cell(*row["cell"]), row["found"]) for row in rows)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
