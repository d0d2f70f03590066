"""Closed forms against integration: 1000 times of a whole trajectory, side by side in one run.

    python tests/benchmarks/closed_forms.py [--times 1000] [--rounds 5] [--json FILE]

Every theory of `linfa.theory` predicts its own example, of the first rule that it speaks of, at 1000 times; `simulate`
integrates the same start to the same times at the tolerance of the catalogue's own comparison, 1e-11 relative; and a
few predict a network of 30-256-10 units, the size of a textbook example.  Ratios are of the medians over the rounds.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np

import linfa
from linfa import theory
from linfa.theory.base import Setup
from linfa.theory.examples import rules


def timed(run) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def own(name: str, kind):
    """A theory's own example, small."""
    rule = next(rule for rule in rules().values() if name in theory.about(rule))
    return rule, kind.example(rule, 0)


def textbook(name: str, kind):
    """A network of 30-256-10 units, of 30-256-256-10 where depth is the point."""
    task = linfa.Task.from_spectrum(np.linspace(2.0, 0.3, 10), n_in=30, seed=0)
    hidden = [256, 256] if name == "DepthMode" else [256]
    zero = linfa.Network.zero((30, *hidden, 10))
    aligned = linfa.Network.aligned(task, hidden, 0.1)
    network = {"ZeroInitFA": zero, "FinalMap": zero}.get(name, aligned)
    return own(name, kind)[0], Setup(task, network, np.linspace(0, 8, 3))


def measure(name: str, kind, rule, setup, times: int, rounds: int) -> dict:
    """Seconds of prediction and of integration, and their ratio."""
    grid = np.linspace(setup.times[0], setup.times[-1], times)
    start = linfa.simulate(rule, setup.task, setup.network, [0.0], feedback=setup.feedback).at(0)

    def predict():
        kind(rule, setup.task, start).predict(grid)

    def integrate():
        linfa.simulate(rule, setup.task, setup.network, grid, feedback=setup.feedback, rtol=1e-11, atol=1e-13)

    predict(), integrate()
    closed, flow = ([timed(run) for _ in range(rounds)] for run in (predict, integrate))
    closed, flow = statistics.median(closed), statistics.median(flow)
    sizes = "-".join(map(str, setup.network.widths))
    return {"theory": name, "rule": rule.name, "widths": sizes, "closed": closed, "flow": flow, "ratio": flow / closed}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    jobs = [(name, kind, *own(name, kind)) for name, kind in theory.named().items()]
    known = ("ZeroInitFA", "FinalMap", "SaxeMode", "UnbalancedMode", "KolenPollackDecay", "Riccati", "DepthMode")
    jobs += [(name, theory.by_name(name), *textbook(name, theory.by_name(name))) for name in known]
    for name, kind, rule, setup in jobs:
        rows.append(measure(name, kind, rule, setup, options.times, options.rounds))
        row = rows[-1]
        print(f"{name:20s} {row['rule']:15s} {row['widths']:14s} closed {1e3 * row['closed']:8.2f} ms   "
              f"flow {1e3 * row['flow']:8.1f} ms   ratio {row['ratio']:7.1f}", flush=True)  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
