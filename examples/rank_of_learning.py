"""Does feedback alignment collapse to few dimensions, and do Muon and normalisation help?

Effective ranks exp(H(s / sum s)) at the moment when the loss has fallen to a tenth, in linear networks: of errors at
the first layer (units x data), of the step of its weight, and of the trajectory, 40 steps on the way there as vectors
of the first layer's parameters and of all.  The question is that of Boeshertz, Pascanu & Clopath (arXiv 2606.11123),
who ask it of deep nonlinear networks.  What is seen here, in four linear layers that learn sixteen modes 3, 2.25,
1.69 .. from random weights, is only part of their story:

- What collapses is the trajectory of the first layer, about 4 dimensions under FA and 8 under BP: its steps are images
  of the task's error through feedback that stays, those of BP through weights that grow.  All layers together have 7
  under both.
- Muon cures it, 19; so does normalisation, 13; both together make 30.  From small weights in three layers, where FA has
  3, Muon does, 22, and normalisation does not, 1: its steps go as one over the spread of the units, so that the first
  few are most of the way.
- FA's errors do not collapse.  At the start they have the rank of BP's, 7, and it is BP's that sink, to 3, while FA's
  rise to 8.  Muon, which learns all modes at one speed (`linfa.theory.PolarModes`), leaves the strong ones for last and
  lowers them to 3; normalisation raises them to 11.
- On a flat spectrum of modes BP and FA have the same errors, steps and trajectory of all layers, 5 each.  In two layers
  from zero weights FA's errors rise to 12, of which the first layer's trajectory makes 2.

    python examples/rank_of_learning.py [figure.png]
"""

import sys
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np

import linfa
from linfa import observe, plot
from linfa.dynamics import velocity

N, WIDTH, RECORDS = 16, 24, 40
DECAYING, FLAT = 3 * 0.75 ** np.arange(N), np.full(N, 1.5)
FA = linfa.fa()
ARMS = {
    "BP": (linfa.bp(), 0.01),
    "FA": (FA, 0.01),
    "FA + Muon": (linfa.muon(FA), 0.003),
    "FA + normalisation": (linfa.normalised(FA), 0.003),
    "FA + both": (linfa.normalised(linfa.muon(FA)), 0.003),
}


class Ranks(NamedTuple):
    """Effective ranks of one run, with the errors' at the start and the whole trajectory beside the first layer's."""

    start: float
    errors: float
    update: float
    trajectory: float
    all_layers: float


def rank(matrices):
    """Effective ranks of some matrices."""
    return observe.effective_rank(np.linalg.svd(matrices, compute_uv=False))


def measure(rule, lr, seed, spectrum=DECAYING, depth=4, scale=0.3, steps=1200):
    """Ranks of a run down to a tenth of the loss, and the errors' along the way there."""
    task = linfa.Task.from_spectrum(spectrum, seed=seed)
    network = linfa.Network.small((N, *(WIDTH,) * (depth - 1), N), scale, seed=seed)
    run = linfa.descend(rule, task, network, lr, steps, seed=seed)
    if run.loss[-1] > 0.1 * run.loss[0]:
        raise ValueError(f"{rule.name} is at {run.loss[-1] / run.loss[0]:.2g} of its loss after {steps} steps")
    end = int(np.argmax(run.loss <= 0.1 * run.loss[0]))
    picked = run.at(np.linspace(0, end, RECORDS).round().astype(int))
    moves = velocity(rule, picked, task.batch).weights
    errors = rank(observe.errors(rule, picked, task)[0])
    rows = [move.reshape(RECORDS, -1) for move in moves]
    along = rank(rows[0]), rank(np.concatenate(rows, axis=1))
    return Ranks(errors[0], errors[-1], rank(moves[0][-1]), *along), errors


def table(title, rows):
    """Print the mean over seeds of every rank, and return it."""
    print(f"{title:<34}{'errors at start':>16}{'errors':>9}{'update':>9}{'trajectory':>12}{'of all layers':>15}")
    means = {name: Ranks(*np.mean(values, axis=0)) for name, values in rows.items()}
    for name, m in means.items():
        print(f"  {name:<32}{m.start:>16.1f}{m.errors:>9.1f}{m.update:>9.1f}{m.trajectory:>12.1f}{m.all_layers:>15.1f}")
    return means


def main(figure, seeds=3):
    """Print the table, draw the figure and return the means."""
    runs = {name: [measure(rule, lr, seed) for seed in range(seeds)] for name, (rule, lr) in ARMS.items()}
    decaying = table("decaying spectrum, four layers", {name: [r for r, _ in run] for name, run in runs.items()})

    def others(title, names, **kwargs):
        return table(title, {n: [measure(*ARMS[n], seed, **kwargs)[0] for seed in range(seeds)] for n in names})

    flat = others("flat spectrum, three layers", ("BP", "FA"), spectrum=FLAT, depth=3, scale=0.5)
    small = others("three layers, from small weights", ("FA", "FA + Muon", "FA + normalisation"), depth=3, scale=0.05)
    zero = others("two layers, from zero", ("FA",), depth=2, scale=0.0)

    with plot.style():
        fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6), layout="constrained")
        for (name, run), shade in zip(runs.items(), plot.PALETTE, strict=False):
            curves = np.array([errors for _, errors in run])
            left.plot(np.linspace(0, 1, RECORDS), curves.mean(0), color=shade, label=name)
            values = [ranks.trajectory for ranks, _ in run]
            label = name.replace(" + ", "\n+ ").replace("normalisation", "norm.")
            right.bar(label, np.mean(values), color=shade, yerr=np.std(values))
        left.set(title="Errors of the first layer", xlabel="time, until a tenth of the loss is left",
                 ylabel="effective rank", ylim=(0, 18))  # fmt: skip
        left.legend(ncols=3, loc="upper center")
        right.set(title="Trajectory of the first weight", ylim=(0, None))
        fig.savefig(figure, dpi=150)
    return decaying, flat, small, zero


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "rank_of_learning.png")
