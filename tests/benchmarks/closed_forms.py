"""Closed forms against integration: 1000 times of a whole trajectory, side by side in one run.

    python tests/benchmarks/closed_forms.py [--times 1000] [--rounds 5] [--json FILE]

Every theory of `linfa.theory` predicts its own example, of the first rule that it speaks of, at 1000 times; `simulate`
integrates the same start to the same times at the tolerance of the catalogue's own comparison, 1e-11 relative.  Ratios
are of the medians over the rounds.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np

import linfa
from linfa import theory
from linfa.theory.examples import rules


def timed(run) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def measure(name: str, kind, times: int, rounds: int) -> dict:
    """Seconds of prediction and of integration, and their ratio."""
    rule = next(rule for rule in rules().values() if name in theory.about(rule))
    setup = kind.example(rule, 0)
    grid = np.linspace(setup.times[0], setup.times[-1], times)
    start = linfa.simulate(rule, setup.task, setup.network, [0.0], feedback=setup.feedback).at(0)

    def predict():
        kind(rule, setup.task, start).predict(grid)

    def integrate():
        linfa.simulate(rule, setup.task, setup.network, grid, feedback=setup.feedback, rtol=1e-11, atol=1e-13)

    predict(), integrate()
    closed, flow = ([timed(run) for _ in range(rounds)] for run in (predict, integrate))
    closed, flow = statistics.median(closed), statistics.median(flow)
    return {"theory": name, "rule": rule.name, "closed": closed, "flow": flow, "ratio": flow / closed}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for name, kind in theory.named().items():
        rows.append(measure(name, kind, options.times, options.rounds))
        row = rows[-1]
        print(f"{name:22s} {row['rule']:18s} closed {1e3 * row['closed']:8.2f} ms   "
              f"flow {1e3 * row['flow']:8.1f} ms   ratio {row['ratio']:7.1f}", flush=True)  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
