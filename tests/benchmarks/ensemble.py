"""Time of a step of feedback alignment for each of 1,000 linear networks: an ensemble, its products alone, single runs.

    python tests/benchmarks/ensemble.py [--widths 8 16 32] [--networks 1000] [--rounds 13] [--device cuda] [--json FILE]

Depth 3, whole population, double precision, one thread (set OMP_NUM_THREADS=1), processor time, on a GPU wall time.
Arms take turns in every round:

ensemble     `linfa.simulate.descent` in the blocks of `linfa.sweep`, what a sweep of these networks runs
products     the eight matrix products of such a step and nothing else, on the same blocks
one block    the same products, on all networks at once
torch        one network in torch: FA written out by hand on preallocated weights, without autograd
promoted     one network in torch: nn.Sequential of Linear layers, promoted, with SGD

and a ratio is that of the times for a step of one network, within a round; the median with quartiles.  With --device
ensemble and products are torch tensors there, all networks in one block.  The whole of `linfa.sweep.measure`, with its
draws, its losses on the way and what is observed at the end, is timed once for 1,000 steps.
"""

import argparse
import itertools
import json
import platform
import time
from pathlib import Path

import numpy as np
import torch
from rounds import interleaved, ratios
from torch import nn

import deep
import linfa
from linfa.dynamics import start
from linfa.simulate import descent
from linfa.sweep import Sweep, measure
from linfa.tree import tree_map

STEPS = 40
DEPTH = 3


def ensemble(states, task, lr):
    """Takes the steps of every block in turn, as a sweep does."""
    paths = [descent(linfa.fa(), task, state, lr) for state in states]

    def run():
        for path in paths:
            for _ in itertools.islice(path, STEPS):
                pass

    return run


def products(states, X):
    """The products of a step of FA: three forward, two back, three gradients."""

    def run():
        for (W1, W2, W3), ((B1,), (B2,)) in states:
            for _ in range(STEPS):
                a = W1 @ X
                b = W2 @ a
                e = W3 @ b
                d = B2 @ e
                c = B1 @ d
                e @ b.mT, d @ a.mT, c @ X.mT

    return run


def by_hand(state, batch, lr, steps):
    """One network in torch, without autograd."""
    (W1, W2, W3), ((B1,), (B2,)) = tree_map(torch.as_tensor, state)
    X, Y = torch.as_tensor(batch.X), torch.as_tensor(batch.Y)

    def run():
        with torch.inference_mode():
            for _ in range(steps):
                a = W1 @ X
                b = W2 @ a
                e = W3 @ b - Y
                d = B2 @ e
                c = B1 @ d
                W3.addmm_(e, b.mT, alpha=-lr)
                W2.addmm_(d, a.mT, alpha=-lr)
                W1.addmm_(c, X.mT, alpha=-lr)

    return run


def promoted(width, batch, lr, steps):
    """One network in torch, trained as anybody would."""
    model = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(DEPTH))).double()
    model = deep.promote(model, linfa.fa())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr)
    x, y = torch.as_tensor(batch.X.T.copy()), torch.as_tensor(batch.Y.T.copy())

    def run():
        for _ in range(steps):
            optimizer.zero_grad()
            (0.5 * ((model(x) - y) ** 2).sum()).backward()
            optimizer.step()

    return run


def compare(width, networks, rounds, device=None) -> dict:
    """Ratios at one width."""
    spectrum = tuple(np.linspace(1.0, 0.3, width))
    sweep = Sweep((linfa.fa(),), tasks=(spectrum,), widths=(width,), depths=(DEPTH,), scales=(0.5,), lrs=(0.01,),
                  seeds=range(networks), steps=1000)  # fmt: skip
    (everything,) = sweep.ensembles()
    task, lr = linfa.Task.from_spectrum(spectrum), 0.0
    state = start(linfa.fa(), linfa.Network.small(everything.shape, 0.5, batch=(networks,)))
    places = np.cumsum([0, *(len(block.members) for block in everything.blocks(networks if device else None))])
    blocks = [tree_map(lambda x, a=a, b=b: x[a:b].copy(), state) for a, b in itertools.pairwise(places)]
    one, X, whole = tree_map(lambda x: x[0].copy(), state), task.batch.X, [state]
    if device:
        blocks = whole = [tree_map(lambda x: torch.as_tensor(x, device=device), state)]
        X = torch.as_tensor(X, device=device)
    single = {"torch": 50 * STEPS, "promoted": 5 * STEPS}  # arms of about the same length
    arms = {
        "ensemble": ensemble(blocks, task, lr),
        "products": products(blocks, X),
        "one block": products(whole, X),
        "torch": by_hand(one, task.batch, lr, single["torch"]),
        "promoted": promoted(width, task.batch, lr, single["promoted"]),
    }
    for run in arms.values():
        run()
    clock = time.perf_counter if device else time.process_time
    times = interleaved(arms, rounds, device or "cpu", clock)
    each = {name: [t / single.get(name, STEPS * networks) for t in seen] for name, seen in times.items()}
    begin = clock()
    for block in everything.blocks(networks if device else None):
        measure(block, device)
    swept = (clock() - begin) / networks / sweep.steps
    return {
        "width": width, "block": int(places[1]), "device": device or "numpy",
        "us": {name: round(1e6 * float(np.median(seen)), 3) for name, seen in each.items()} | {"sweep": 1e6 * swept},
        "ensemble to products": ratios(each["ensemble"], each["products"]),
        "ensemble to products in one block": ratios(each["ensemble"], each["one block"]),
        "torch to ensemble": ratios(each["torch"], each["ensemble"]),
        "promoted to ensemble": ratios(each["promoted"], each["ensemble"]),
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--networks", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=13)
    parser.add_argument("--device")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for width in options.widths:
        row = compare(width, options.networks, options.rounds, options.device)
        rows.append(row)
        print(f"width {width}, blocks of {row['block']} on {row['device']}: a step of a network takes "
              + ", ".join(f"{name} {us:.2f}" for name, us in row["us"].items()) + " us")  # fmt: skip
        for name in [name for name in row if " to " in name]:
            time_ = row[name]["time"]
            print(f"    {name:<36} {time_['median']:7.2f}   quartiles {time_['quartiles'][0]:.2f} "
                  f"{time_['quartiles'][1]:.2f}   fastest {row[name]['fastest']:.2f}", flush=True)  # fmt: skip
    if options.json:
        about = {"machine": platform.machine(), "numpy": np.__version__, "torch": torch.__version__}
        options.json.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
