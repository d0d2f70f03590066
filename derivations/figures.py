"""Figures of a proof: the closed form beside a simulation, and errors on random problems."""

import matplotlib.pyplot as plt
import numpy as np

from linfa import plot, theory
from linfa.simulate import simulate
from linfa.theory.examples import rules


def trajectory(name: str, seed: int = 0):
    """What a theory predicts, as lines, and what simulated weights do, as dots.

    Args:
        name: of a class in `linfa.theory`; the first rule that it speaks of is simulated.
        seed: of the problem.
    """
    kind = theory.by_name(name)
    rule = next(rule for rule in rules().values() if name in theory.about(rule))
    setup = kind.example(rule, seed)
    run = simulate(
        rule, setup.task, setup.network, setup.times, seed=seed, feedback=setup.feedback, rtol=1e-11, atol=1e-13
    )
    closed = kind(rule, setup.task, run.at(0))
    fine = np.linspace(run.times[0], run.times[-1], 300)
    curves, dots = _flat(closed.predict(fine), len(fine)), _flat(closed.observed(run), len(run.times))
    with plot.style():
        fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
        for number, (line, points) in enumerate(zip(curves.T, dots.T, strict=True)):
            shade = plot.PALETTE[number % len(plot.PALETTE)]
            ax.plot(fine, line, color=shade)
            ax.plot(run.times[::2], points[::2], "o", color=shade, markersize=3)
        ax.set(title=f"{name}, {rule.name}", xlabel="time", xlim=(fine[0], fine[-1]))
    return fig


def _flat(values, times):
    """The eight entries that move most, or all of fewer, as columns (times, entries)."""
    parts = values if isinstance(values, tuple) else (values,)
    table = np.concatenate([np.asarray(part).reshape(times, -1) for part in parts], 1)
    return table[:, :8]


def errors(keys: tuple[str, ...], seeds: int = 8):
    """Errors of results of the catalogue on random problems, and their tolerances.

    Args:
        keys: of the results.
        seeds: number of problems.
    """
    found = {result.key: result for result in theory.results()}
    with plot.style():
        fig, ax = plt.subplots(figsize=(6.4, 0.9 + 0.45 * len(keys)), layout="constrained")
        for place, key in enumerate(keys):
            measured = [max(found[key].measure(seed), 1e-17) for seed in range(seeds)]
            ax.plot(measured, np.full(seeds, place), "o", color=plot.PALETTE[0], markersize=4)
            ax.plot(found[key].tolerance or 1e-16, place, "|", color=plot.PALETTE[3], markersize=16, markeredgewidth=2)
        ax.set(xscale="log", xlabel="error (dots) and tolerance (bar)", yticks=range(len(keys)), yticklabels=keys)
        ax.set_ylim(-0.6, len(keys) - 0.4)
    return fig
