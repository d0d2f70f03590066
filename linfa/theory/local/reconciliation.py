"""Reconciliation: the gradients of the discord, and what its weight trades."""

import itertools

import numpy as np

from linfa import observe
from linfa.algebra import T, product
from linfa.dynamics import signals
from linfa.network import Network
from linfa.rules import sgr
from linfa.simulate import simulate
from linfa.task import Task
from linfa.theory.base import relative_error
from linfa.theory.local.discord import discord_gradient, discords
from linfa.theory.local.problem import drawn, module_ends, module_maps, module_signals
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


def _slopes(seed, step=1e-30):
    """Error of what the rule adds, and of the moment form, against the derivative of R entry by entry.

    R is a polynomial, so its derivative is the imaginary part at an imaginary step, without cancellation.
    """
    rule, task, state = drawn(seed, lam=0.5)  # so that the loss is l + R
    seen, ends, worst = signals(rule, state, task.batch), module_ends(rule, len(state.weights)), 0.0
    heads = [*(T(B) for (B,) in state.feedback), np.eye(task.n_out)]
    for number, (a, b) in enumerate(itertools.pairwise(ends[1:]), 1):
        x, g, C = seen.activities[a], seen.errors[a], heads[number]

        def energy(factors, x=x, g=g):
            M = product(factors)
            return ((T(M) @ (M @ x - task.batch.Y) - g) ** 2).sum() / 2

        factors = [C, *reversed(state.weights[a:b])]
        found = [seen.head_terms.get(b), *(seen.weight_terms[layer] for layer in range(b, a, -1))]
        for place, term in enumerate(found):
            exact = np.zeros(factors[place].shape)
            for entry in np.ndindex(*exact.shape):
                moved = [factor.astype(complex) for factor in factors]
                moved[place][entry] += 1j * step
                exact[entry] = energy(moved).imag / step
            if term is not None:
                worst = max(worst, relative_error(exact, term))
        P = product((*reversed(state.weights[:a]),))
        moments = P @ task.Sxx @ P.T, task.Syx @ P.T, task.Syy
        slope = discord_gradient(product(factors), heads[number - 1], *moments)
        worst = max(worst, relative_error(T(product(factors[:-1])) @ slope, seen.weight_terms[a + 1]))
    return worst


def _trade(seed):
    """0.0 if the discord falls and the alignment rises from each weight to the next."""
    apart, aligned = np.transpose([reconciliation_run(lam, seed) for lam in (0.0, 0.1, 1.0)])
    return float(not ((np.diff(apart) < 0).all() and (np.diff(aligned) > 0).all()))


RESULTS = (
    Result("G3", "reconciliation adds 2 lam times the gradients of R: dR/dM = E[e q^T + M q x^T], dR/dC = dR/dM A^T, "
           "dR/dW_j = (C W_b .. W_(j+1))^T dR/dM (W_(j-1) .. W_(a+1))^T", "derived here", 1e-11, _slopes),
    Result("G5", "more reconciliation, lam = 0, 0.1, 1: less discord, and hidden layers learn more as by backprop",
           "derived here", 0.0, _trade),
)  # fmt: skip
