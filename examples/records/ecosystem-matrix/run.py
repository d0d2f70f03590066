"""The ecosystem matrix as a table, from what `python -m tests.deep.product FOLDER` left in a folder.

python examples/records/ecosystem-matrix/run.py FOLDER        writes README.md and counts.json beside this file
"""

import collections
import json
import platform
import re
import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[2]))

from tests.deep.matrix import AXES, MORE, TOLERANCE, Cell, wrong  # noqa: E402
from tests.deep.product import read, shuffled  # noqa: E402

AXES = AXES | {"layer": AXES["layer"] + MORE}
PARTS = ("layer", "dtype", "mode", "ranks", "recompute", "step")
SAID = {True: "recomputed", False: "kept"}


def kind(found: str) -> str:
    """The first line of a refusal, without the names of modules and the numbers of one net."""
    line = found.splitlines()[0].removeprefix("refused: ")
    line = re.sub(r"<function .*", "..", line)
    return re.sub(r"\b\d+(\.\w+)+\b|\b\d+\b", "..", line)[:160]


def ended(cell: Cell, found: str) -> str:
    return "wrong" if wrong(cell, found) else "equal" if found == "equal" else "refused"


def table(ends: dict[Cell, str]) -> list[str]:
    """Cells that are equal, of all that ran, by rule and choice."""
    choices = [(part, choice) for part in PARTS for choice in AXES[part]]
    count = collections.Counter()
    for cell, end in ends.items():
        for part in PARTS:
            count[cell.rule, part, getattr(cell, part), end] += 1
    lines = [
        "| | " + " | ".join(SAID.get(choice, choice) for _, choice in choices) + " |",
        "|---" * (len(choices) + 1) + "|",
    ]
    for rule in AXES["rule"]:
        row = []
        for part, choice in choices:
            equal, refused, bad = (count[rule, part, choice, end] for end in ("equal", "refused", "wrong"))
            whole = equal + refused + bad
            row.append("" if not whole else "all" if equal == whole else f"{equal} of {whole}" if equal else "refused")
        lines.append(f"| {rule} | " + " | ".join(row) + " |")
    return lines


def page(rows: list[dict]) -> tuple[str, dict]:
    """The README, and the counts by rule, choice and end."""
    ends = {Cell(*row["cell"]): ended(Cell(*row["cell"]), row["found"]) for row in rows}
    texts = collections.Counter(kind(row["found"]) for row in rows if row["found"] != "equal")
    seconds = sum(row["seconds"] for row in rows)
    one = {cell for cell in ends if cell.ranks == "one"}
    every = shuffled()
    total = collections.Counter(ends.values())
    alone = sum(cell.ranks == "one" for cell in every)
    about = [
        "# The ecosystem matrix",
        "",
        "Every promotable rule on every kind of layer, in every precision, eager and compiled (AOT autograd, whole "
        "graph), in one process and on two ranks (DDP and FSDP2 over gloo), with and without activation checkpointing, "
        "in one step, accumulated over two parts, and under a gradient scaler. The gradients of a cell equal those of "
        "an oracle that shares no code with promotion (`tests/deep/oracles`, a plain net in float64, from the numbers "
        "in the state_dict), or the cell raises an error that says what to do.",
        "",
        f"**{total['equal']} cells equal, {total['refused']} refused, {total['wrong']} wrong**: {len(one)} of the "
        f"{alone} cells of one process, and {len(ends) - len(one)} of the {len(every) - alone} of two ranks"
        + (" in random order" if len(ends) < len(every) else "")
        + ". Largest distance allowed, in units of the gradient's norm: "
        + ", ".join(f"{bound:g} in {dtype}" for dtype, bound in TOLERANCE.items())
        + " (autocast, and there beyond twice what rounding the weights and the input moves the oracle).",
        "",
        "    python -m tests.deep.product FOLDER",
        "    python examples/records/ecosystem-matrix/run.py FOLDER",
        "",
        f"{seconds / 3600:.1f} hours of one core; torch {torch.__version__}, {platform.machine()}. By default the "
        "tests run every rule on every layer in every precision, eagerly, and a cover of all pairs of choices; the "
        "profile `thorough` runs every cell.",
        "",
        "All cells of one process had run, 0 wrong, before the cells of two ranks found that Oja's feedback did not "
        "learn in bfloat16 where errors vary little. After that was mended cells of Oja's rules, and whitened ones in "
        "bfloat16, were run again, as far as they are counted here; the others ran some changes before.",
        "",
        "## Cells that are equal",
        "",
        *table(ends),
        "",
        "## What the others say",
        "",
        "| cells | |",
        "|---|---|",
        *(f"| {count} | {text.replace('|', ' ')} |" for text, count in texts.most_common()),
    ]
    counts = collections.Counter((cell.rule, part, str(getattr(cell, part)), end)
                                 for cell, end in ends.items() for part in PARTS)  # fmt: skip
    return "\n".join(about) + "\n", {" / ".join(key): count for key, count in sorted(counts.items())}


def main(folder):
    rows = [row for file in ("one", "two.0", "two.1") for row in read(Path(folder) / file)]
    worst = {}
    for row in rows:  # of two ranks, one that is not equal
        cell = tuple(row["cell"])
        if cell not in worst or row["found"] != "equal":
            worst[cell] = row
    text, counts = page(list(worst.values()))
    (HERE / "README.md").write_text(text)
    (HERE / "counts.json").write_text(json.dumps(counts, indent=0) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
