"""The atlas: the main results as figures, closed forms as lines and simulated weights as dots, on one page."""

from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from linfa import plot
from linfa.dynamics import State, velocity
from linfa.network import Network
from linfa.page import Page, figure
from linfa.rules import bp, dfa, fa, ldfa
from linfa.simulate import Diverged, descend, simulate
from linfa.task import Task
from linfa.theory import FinalMap, SaxeMode, ZeroInitDFA, ZeroInitFA, fa_decay_residual, final_loss
from linfa.theory.dimension.random_feedback import random_feedback_bound

SPECTRUM = np.array([2.0, 1.4, 1.0, 0.7, 0.5, 0.35])
"""The task of most plates: six modes."""


def atlas(path, seed: int = 0, plates=None) -> Path:
    """Write the atlas as one self-contained page, plate by plate.

    Args:
        path: of the HTML file.
        seed: of every task, network and feedback.
        plates: which of `PLATES`; by default all.

    Returns:
        The path.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lead = "What is known in closed form of learning through feedback. Lines: closed forms. Dots: simulated weights."
    page = Page(path, "linfa: an atlas of feedback alignment", lead)
    drawn = []
    for plate in PLATES if plates is None else plates:
        drawn.append(plate.__name__)
        with plot.style():
            drawing = plate(seed)
        title, text = plate.__doc__.split("\n\n", 1)
        page.add(title.rstrip("."), " ".join(text.split()), figure(drawing))
    page.close(f"{len(drawn)} plates, seed {seed}.")
    return path


def portrait(seed):
    """Two weights: backprop has a saddle, feedback alignment has none.

    The flow of one hidden unit on a task of strength 1, feedback of strength 1. Every point of the dashed hyperbola is
    a solution. Backprop leaves the origin along the diagonal and is slow there; its invariant is a hyperbola. Feedback
    alignment drifts along parabolas with the sign of the feedback, and starts from zero at once.
    """
    fig, axes = plt.subplots(1, 2, figsize=(9.6, 4.4), layout="constrained", sharey=True)
    grid = np.linspace(-2.2, 2.2, 41)
    w1, w2 = (w.reshape(-1, 1, 1) for w in np.meshgrid(grid, grid))
    task, one = Task.from_spectrum([1.0]), np.ones((1, 1))
    for ax, rule, stored in zip(axes, (bp(), fa()), ((), (one,)), strict=True):
        v = velocity(rule, State((w1, w2), (stored,)), task.batch).weights
        speed = [x.reshape(41, 41) for x in v]
        ax.streamplot(grid, grid, *speed, color="#BBBBBB", density=1.1, linewidth=0.7, arrowsize=0.7)
        for sign in (-1, 1):
            x = sign * np.geomspace(1 / 2.2, 2.2, 60)
            ax.plot(x, 1 / x, "--", color="#333333", linewidth=1.2)
        starts = [(-1.6, 0.4), (-0.6, -1.8), (0.02, 0.02), (0.2, 1.9), (1.8, -1.2), (-0.3, 0.9)]
        weights = tuple(np.array(x).reshape(-1, 1, 1) for x in zip(*starts, strict=True))
        run = simulate(rule, task, Network(weights), np.linspace(0, 15, 300), feedback=(stored,))
        for i, (x, y) in enumerate(zip(*(w[..., 0, 0].T for w in run.weights), strict=True)):
            ax.plot(x, y, color=plot.PALETTE[i])
            ax.plot(x[0], y[0], "o", color=plot.PALETTE[i], markersize=4)
            ax.plot(x[-1], y[-1], "*", color=plot.PALETTE[i], markersize=10)
        ax.set(title=rule.name, xlabel="$w_1$", xlim=(-2.2, 2.2), ylim=(-2.2, 2.2))
    axes[0].set_ylabel("$w_2$")
    return fig


def order(seed):
    """Backprop learns strong modes first; feedback decides otherwise.

    Three modes of strength 3, 2 and 1 from a small start under backprop, and under feedback alignment from zero weights
    with feedback that sees the weak modes better: mode i is learned in a time proportional to (h_i s_i^2)^(-1/3).
    """
    task = Task.from_spectrum([3.0, 2.0, 1.0], seed=seed)
    U = np.linalg.svd(task.Syx)[0]
    B = np.diag([0.2, 0.7, 4.0]) @ U.T
    fig, axes = plt.subplots(1, 2, figsize=(9.6, 3.6), layout="constrained")
    starts = Network.aligned(task, [3], 0.01, seed=seed), Network.zero((3, 3, 3))
    for ax, rule, kind, network, stored, end in zip(
        axes, (bp(), fa()), (SaxeMode, ZeroInitFA), starts, ((), (B,)), (4.0, 8.0), strict=True
    ):
        run = simulate(rule, task, network, np.linspace(0, end, 25), feedback=(stored,), rtol=1e-10)
        fine = np.linspace(0, end, 400)
        U, _, Vt = np.linalg.svd(task.Syx)
        modes = np.einsum("oi,ton,in->ti", U, kind(rule, task, run.at(0)).predict(fine), Vt)
        for i in range(3):
            ax.plot(fine, modes[:, i], color=plot.PALETTE[i], label=f"s = {3 - i}")
            ax.plot(run.times, run.mode_strengths[:, i], "o", color=plot.PALETTE[i], markersize=3.5)
        ax.set(title=rule.name, xlabel="time", ylabel="strength of the mode", xlim=(0, end))
    axes[0].legend()
    return fig


def spurious(seed):
    """Fixed feedback of low rank ends in a spurious solution.

    Random feedback of rank r, drawn for each r, from zero weights. Learning converges to the task projected on
    what the feedback sees of it; the rest of the error never reaches the first layer.
    """
    task, network = Task.from_spectrum(SPECTRUM, seed=seed), Network.zero((6, 12, 6))
    fig, axes = plt.subplots(1, 2, figsize=(9.6, 3.6), layout="constrained")
    times, fine = np.r_[0, np.geomspace(0.3, 60, 22)], np.r_[0, np.geomspace(0.3, 60, 300)]
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.9, 6))
    for rank, shade in zip(range(1, 7), shades, strict=True):
        run = simulate(ldfa(rank, "fixed"), task, network, times, seed=seed)
        closed = ZeroInitFA(run.rule, task, run.at(0))
        axes[0].plot(fine[1:], closed.loss(fine)[1:], color=shade, label=f"r = {rank}")
        axes[0].plot(times[1:], run.loss[1:], "o", color=shade, markersize=3)
        axes[1].plot(rank, FinalMap(run.rule, task, run.at(0)).loss, "_", color="#333333", markersize=18)
        axes[1].plot(rank, run.loss[-1], "o", color=shade)
    axes[0].set(title="Loss while learning", xlabel="time", xscale="log")
    axes[0].legend(ncols=2)
    axes[1].set(title="Where it ends", xlabel="rank r of the feedback", ylim=(-0.1, None))
    return fig


def knee(seed):
    """How many error dimensions a task needs.

    The loss that feedback of rank r leaves of a task with three large and nine small modes. Random fixed feedback (mean
    and range of 200 draws, closed form) needs a few dimensions more than there are large modes, as the bound on its
    mean says; feedback learned by Oja's rule (dots, simulated) reaches the best rank-r loss, that of Eckart and Young,
    where it has time to turn before the error is gone.
    """
    s = np.r_[2.0, 1.7, 1.5, np.full(9, 0.25)]
    task, rng, ranks = Task.from_spectrum(s, seed=seed), np.random.default_rng(seed), np.arange(1, 13)
    losses = np.array([[final_loss(task.Syx, rng.standard_normal((r, 12))) for _ in range(200)] for r in ranks])
    fig, ax = plt.subplots(figsize=(6.6, 3.9), layout="constrained")
    ax.fill_between(ranks, losses.min(1), losses.max(1), color=plot.PALETTE[1], alpha=0.15, linewidth=0)
    ax.plot(ranks, losses.mean(1), color=plot.PALETTE[1], label="random, fixed: mean of 200")
    ax.plot(ranks[1:], [random_feedback_bound(s, r) for r in ranks[1:]], ":", color=plot.PALETTE[1], label="bound")
    best = [0.5 * (s[r:] ** 2).sum() for r in ranks]
    ax.plot(ranks, best, color=plot.PALETTE[0], label="best of rank r")
    for r in ranks:
        run = simulate(ldfa(int(r), "oja"), task, Network.small((12, 20, 12), 1e-2, seed), [0.0, 40.0], seed=seed)
        label = "learned by Oja's rule" if r == 1 else None
        ax.plot(r, run.loss[-1], "o", color=plot.PALETTE[2], markersize=4.5, label=label)
    ax.set(xlabel="rank r of the feedback", ylabel="loss in the end")
    ax.set_yscale("symlog", linthresh=0.05)
    ax.legend()
    return fig


def angles(seed):
    """Alignment is a participation ratio.

    The cosine of the angle between W_2^T and the feedback, and that between the update of the first layer and
    backprop's, from zero weights. With feedback of orthonormal columns the squared cosine of the first is the
    participation ratio of the modes in W_1, a count of how many are under way, in units of all of them.
    """
    task = Task.from_spectrum(SPECTRUM, seed=seed)
    fig, axes = plt.subplots(1, 2, figsize=(9.6, 3.6), layout="constrained")
    fine, times = np.linspace(0.05, 12, 300), np.linspace(0.05, 12, 25)
    for number, rank in enumerate((1, 2, 4, 6)):
        run = simulate(ldfa(rank, "fixed"), task, Network.zero((6, 12, 6)), np.r_[0, times], seed=seed, rtol=1e-10)
        closed, shade = ZeroInitFA(run.rule, task, run.at(0)), plot.PALETTE[number]
        axes[0].plot(fine, closed.alignment(fine), color=shade, label=f"r = {rank}")
        axes[0].plot(times, run.feedback_alignment[1:, 0], "o", color=shade, markersize=3)
        axes[1].plot(times, run.update_alignment[1:, 0], "o-", color=shade, markersize=3, linewidth=0.8)
    axes[0].set(title="Feedback and readout", xlabel="time", ylabel="cosine", ylim=(0, 1.05))
    axes[1].set(title="Update of $W_1$ and backprop's", xlabel="time", ylim=(0, 1.05))
    axes[0].legend()
    return fig


def edge(seed):
    """The largest learning rate.

    Loss after 1500 steps of descent, three tasks, against the learning rate, in units of the largest that theory
    allows: from zero weights the edge of feedback alignment is 1.0256 / (2 |B Sigma|)^(2/3), and beyond it learning
    diverges.
    """
    fig, ax = plt.subplots(figsize=(6.6, 3.6), layout="constrained")
    units = np.r_[np.linspace(0.6, 0.96, 7), np.linspace(0.98, 1.02, 9), np.linspace(1.05, 1.4, 5)]
    for number in range(3):
        task, network = Task.from_spectrum(SPECTRUM, seed=seed + number), Network.zero((6, 12, 6))
        start = simulate(fa(), task, network, [0.0], seed=seed + number).at(0)
        limit, losses = ZeroInitFA(fa(), task, start).max_lr, []
        for unit in units:
            try:
                run = descend(fa(), task, network, unit * limit, 1500, seed=seed + number, record=1500)
                losses.append(max(float(run.loss[-1]), 1e-30))
            except Diverged:
                losses.append(np.inf)
        finite = np.isfinite(losses)
        shade = plot.PALETTE[number]
        ax.plot(units[finite], np.array(losses)[finite], "o-", color=shade, markersize=3, linewidth=0.8)
        ax.plot(units[~finite], np.full((~finite).sum(), 1e4), "x", color=shade, markersize=5)
    ax.axvline(1, color="#333333", linestyle="--", linewidth=1)
    ax.set(xlabel="learning rate / edge", ylabel="loss (crosses: diverged)", yscale="log", ylim=(1e-31, 1e6))
    return fig


def decay(seed):
    """Weight decay has a threshold under backprop, and none under feedback alignment.

    What a mode of strength s ends at, feedback of strength 1, for three decays lambda of both weights: backprop learns
    max(s - lambda, 0), feedback alignment s - e with e^3 + lambda^3 e = lambda^3 s, a part of every mode.
    """
    fig, axes = plt.subplots(1, 2, figsize=(9.6, 3.6), layout="constrained", sharey=True)
    fine, s = np.linspace(0, 2, 300), np.linspace(0.1, 2, 10)
    task = Task.from_spectrum(s[::-1], seed=seed)
    U, _, Vt = np.linalg.svd(task.Syx)
    for number, rate in enumerate((0.2, 0.5, 1.0)):
        shade = plot.PALETTE[number]
        ends = np.maximum(fine - rate, 0), fine - fa_decay_residual(fine, rate)
        for ax, rule, stored, curve in zip(axes, (bp(), fa()), ((), (U.T,)), ends, strict=True):
            run = simulate(replace(rule, decay=rate), task, Network.small((10, 10, 10), 0.3, seed), [0.0, 150.0],
                           feedback=(stored,))  # fmt: skip
            learned = np.einsum("oi,on,in->i", U, run.map[-1], Vt)
            ax.plot(fine, curve, color=shade, label=rf"$\lambda$ = {rate}")
            ax.plot(s[::-1], learned, "o", color=shade, markersize=3.5)
    for ax, name in zip(axes, ("bp", "fa"), strict=True):
        ax.plot(fine, fine, "--", color="#999999", linewidth=0.8)
        ax.set(title=name, xlabel="strength s in the task", xlim=(0, 2), ylim=(0, 2))
    axes[0].set_ylabel("strength learned")
    axes[0].legend()
    return fig


def layers(seed):
    """Depth makes learning a step.

    Broadcast feedback in networks of two to five layers from zero weights: a mode follows x^p with p = 2^L - 1 and
    x = Phi_p^(-1)(t/T).
    """
    fig, ax = plt.subplots(figsize=(6.6, 3.6), layout="constrained")
    task = Task.from_spectrum([1.0, 0.8], n_in=3, n_out=2, seed=seed)
    frame = np.linalg.qr(np.random.default_rng(seed).standard_normal((5, 2)))[0]
    for number, depth in enumerate((2, 3, 4, 5)):
        stored = tuple((1.6 * frame,) for _ in range(depth - 1))
        network = Network.zero((3, *(5,) * (depth - 1), 2))
        run = simulate(dfa(), task, network, np.linspace(0, 6, 31), feedback=stored, rtol=1e-10)
        fine = np.linspace(0, 6, 400)
        predicted = ZeroInitDFA(dfa(), task, run.at(0)).predict(fine)
        for values, look in ((predicted, {"linestyle": "-"}), (run.map, {"marker": "o", "linestyle": "none"})):
            along = np.einsum("ton,on->t", values, task.Syx) / (task.Syx**2).sum()
            where = fine if len(values) == len(fine) else run.times
            ax.plot(where, along, color=plot.PALETTE[number], markersize=3,
                    label=f"L = {depth}" if "marker" not in look else None, **look)  # fmt: skip
    ax.set(xlabel="time", ylabel="learned part of the task", xlim=(0, 6))
    ax.legend()
    return fig


PLATES = (portrait, order, spurious, knee, angles, edge, decay, layers)
"""Every plate: seed -> figure, its docstring a title and a text."""
