"""What the weight of reconciliation trades."""

import numpy as np

from linfa import observe
from linfa.network import Network
from linfa.rules import sgr
from linfa.simulate import simulate
from linfa.task import Task
from linfa.theory.local.discord import discords
from linfa.theory.local.problem import module_maps, module_signals
from linfa.theory.result import Result

__all__ = ["reconciliation_run"]


def reconciliation_run(lam: float, seed: int = 0) -> tuple[float, float]:
    """Learn the standard task, six modes with label noise in three layers, and average over the time 0 .. 5.

    Args:
        lam: weight of the discord.
        seed: of task, network and heads.

    Returns:
        E|d_k|^2 summed over modules, and the cosine between the update of a hidden layer and that of backprop, the
        reconciliation included, averaged over the layers.

    >>> apart, together = reconciliation_run(0.0), reconciliation_run(1.0)
    >>> together[0] < apart[0] / 2, together[1] > apart[1] + 0.1
    (True, True)
    """
    task = Task.from_spectrum([2.0, 1.4, 1.0, 0.7, 0.5, 0.35], noise=0.3, seed=seed)
    network, rule = Network.small((6, 8, 8, 6), 0.5, seed), sgr(lam=lam)
    run = simulate(rule, task, network, np.linspace(0, 5, 41), seed=seed, rtol=1e-6, atol=1e-9)
    g, _ = module_signals(rule, run.states, task.batch)
    d = discords(g, module_maps(rule, run.states)[1:])
    cosines = observe.update_alignment(rule, run.states, task)[:, :-1]
    return float(sum((x**2).sum((-1, -2)).mean() for x in d)), float(cosines.mean())


def _trade(seed):
    """0.0 if the discord falls and the alignment rises from each weight to the next."""
    apart, aligned = np.transpose([reconciliation_run(lam, seed) for lam in (0.0, 0.1, 1.0)])
    return float(not ((np.diff(apart) < 0).all() and (np.diff(aligned) > 0).all()))


RESULTS = (
    Result("G5", "more reconciliation, lam = 0, 0.1, 1: less discord, and hidden layers learn more as by backprop",
           "derived here", 0.0, _trade),
)  # fmt: skip
