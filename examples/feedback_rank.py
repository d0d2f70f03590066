"""How many error dimensions does learning need?  Theory against simulation in twenty lines.

A two-layer linear network learns a task of eight modes through fixed random feedback of rank r.  From zero weights its
whole trajectory is known in closed form (`linfa.theory.ZeroInitFA`, derived here): it ends in a spurious solution
unless the rank reaches the dimension of the task.

    python examples/feedback_rank.py [figure.png]
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

import linfa
from linfa import plot
from linfa.theory import FinalMap, ZeroInitFA

task = linfa.Task.from_spectrum([1.0, 0.95, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4], n_in=16, seed=1)
network = linfa.Network.zero((16, 24, 8))
times = np.r_[0, np.geomspace(0.1, 100, 80)]

with plot.style():
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6), layout="constrained")
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.92, 8))
    for rank, shade in zip(range(1, 9), shades, strict=True):
        rule = linfa.ldfa(rank, "fixed")
        run = linfa.simulate(rule, task, network, times)
        theory = ZeroInitFA(rule, task, run.at(0))
        left.plot(times[1:], theory.loss(times)[1:], color=shade, label=f"r = {rank}")
        left.plot(times[1::6], run.loss[1::6], "o", color=shade, markersize=3.5)
        right.plot(rank, run.loss[-1], "o", color=shade)
        right.plot(rank, FinalMap(rule, task, run.at(0)).loss, "_", color="black", markersize=16)
        print(f"rank {rank}: loss {run.loss[-1]:.6f}, largest error of the closed form {theory.error(run):.0e}")
    left.set(title="Loss while learning", xlabel="time", xscale="log")
    left.legend(ncols=2)
    right.set(title="Where it ends", xlabel="rank r of the feedback", ylim=(-0.05, None))
    figure.suptitle("lines: closed form      dots: simulation", fontsize=9, color="#555555")
    figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "feedback_rank.png", dpi=150)
