"""The catalogue as a page: every result, its source and its error against simulated weights, largest over three seeds.

python examples/records/theory/run.py        writes README.md and results.json beside this file
"""

import json
import multiprocessing
import platform
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
import scipy
import sympy

import linfa
from linfa import theory
from linfa.survey import measured

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)


def measure(pair):
    """Error of one result at one seed."""
    return measured(*pair).error


def main():
    results = theory.results()
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        errors = list(pool.map(measure, product((r.key for r in results), SEEDS)))
    worst = [max(errors[i : i + len(SEEDS)]) for i in range(0, len(errors), len(SEEDS))]
    rows = [
        {"key": r.key, "statement": r.statement, "source": r.source, "error": e, "tolerance": r.tolerance}
        for r, e in zip(results, worst, strict=True)
    ]
    passed = sum(row["error"] <= row["tolerance"] for row in rows)
    versions = (
        f"linfa {linfa.__version__}, numpy {np.__version__}, scipy {scipy.__version__}, sympy {sympy.__version__}"
    )
    lines = [
        "# The catalogue of results", "",
        f"Made by `python examples/records/theory/run.py` on {platform.machine()}, 2 CPU cores, with {versions}: "
        f"{len(rows)} results on random problems, seeds {', '.join(map(str, SEEDS))}; {passed} within their tolerance. "
        "The error is the largest over the seeds: relative for a flow (tolerance 1e-8) and in discrete time (1e-11); "
        "the largest violation of an inequality; the distance of a fitted order from the one that is stated; or, for a "
        "limit, the constant of its finite-size law. Derived here means that no source with the statement was "
        "found; it is no claim of priority.", "",
        "| key | result | source | error | tolerance |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for row in rows:
        cells = (str(row[name]).replace("|", "\\|") for name in ("key", "statement", "source"))
        lines.append(f"| {' | '.join(cells)} | {row['error']:.1e} | {row['tolerance']:.0e} |")
    (HERE / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (HERE / "results.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(f"{passed} of {len(rows)} results within their tolerance")


if __name__ == "__main__":
    main()
