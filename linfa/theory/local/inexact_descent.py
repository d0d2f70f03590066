"""Descent with gradients that are not quite right: how far it gets on a strongly convex loss."""

import itertools

import numpy as np

from linfa import observe
from linfa.dynamics import velocity
from linfa.network import Network
from linfa.rules import Dense, KolenPollack, LayerRates, Local, Rule, bp
from linfa.simulate import descend
from linfa.task import Task
from linfa.theory import examples
from linfa.theory.base import AssumptionError
from linfa.theory.result import Result

__all__ = ["inexact_descent_bound"]


def inexact_descent_bound(steps, start, lr, mu, beta, error):
    """F_T - F* <= (1 - lr mu)^T (F_0 - F*) + max_t E_t / (2 mu), if every gradient is off by E_t in squared norm.

    Assumptions: F is beta-smooth and mu-PL, |grad F|^2 >= 2 mu (F - F*), as where it is mu-strongly convex;
    lr <= 1 / beta.  Under local learning E_t = sum_k |J_k^T (g_k - p_k)|^2 with g_k - p_k from `gradient_gaps` and J_k
    the derivative of the output of module k by its weights; reconciliation adds its own gradient to the difference.

    Args:
        steps: T, an array of numbers of steps.
        start: F_0 - F*.
        lr: learning rate.
        mu, beta: constants of F.
        error: largest E_t on the way.

    Raises:
        AssumptionError: for a step that is too large, and constants that are not 0 < mu <= beta.

    Source: derived here.

    >>> inexact_descent_bound(np.array([0, 1]), start=1.0, lr=0.5, mu=1.0, beta=2.0, error=0.0).tolist()
    [1.0, 0.5]
    """
    if not 0 < mu <= beta:
        raise AssumptionError(f"not 0 < mu <= beta: mu is {mu:.3g}, beta {beta:.3g}")
    if not 0 < lr <= (1 + 1e-12) / beta:
        raise AssumptionError(f"not 0 < lr <= 1 / beta: lr is {lr:.3g}, 1 / beta {1 / beta:.3g}")
    return (1 - lr * mu) ** np.asarray(steps) * start + error / (2 * mu)


def _violation(seed):
    """How far the loss passes the bound, in units of its start, when one of three layers learns locally."""
    rng = examples.generator(seed)
    layer, sizes = int(rng.integers(0, 3)), rng.integers(1, 5, 4)
    below, above = sorted(sizes[: layer + 1], reverse=True), sorted(sizes[layer + 1 :])
    widths = tuple(map(int, (*below, *above)))  # narrowest around the layer that learns: strongly convex
    n, m = widths[0], widths[-1]
    rates = tuple(float(number == layer) for number in range(3))
    rule = Rule(Local(lam=float(rng.choice([0.0, 0.3]))), Dense(), KolenPollack(), geometry=LayerRates(rates))
    task = Task.teacher(examples.matrix(rng, m, n, 0.5, 1.5), examples.moment(rng, n, 0.6, 1.3), noise=0.2)
    network = Network(tuple(examples.matrix(rng, b, a, 0.6, 1.3) for a, b in itertools.pairwise(widths)))
    below, above = np.eye(n), np.eye(m)
    for W in network.weights[:layer]:
        below = W @ below
    for W in network.weights[:layer:-1]:
        above = above @ W
    out, into = (np.linalg.eigvalsh(S) for S in (above.T @ above, below @ task.Sxx @ below.T))
    mu, beta = out[0] * into[0], out[-1] * into[-1]
    lr = float(min(rng.uniform(0.3, 1.0) / beta, 0.1))
    run = descend(rule, task, network, lr, 150, feedback=examples.feedback(rule, rng, widths))
    right = observe.gradients(bp(), run.states._replace(feedback=((), ())), task)[layer]
    error = ((velocity(rule, run.states, task.batch).weights[layer] + right) ** 2).sum((-1, -2))
    root = np.linalg.cholesky(task.Sxx)
    left = above @ np.linalg.pinv(above) @ task.Syx @ np.linalg.inv(root).T  # what the layer can learn of the task
    into = below @ root
    least = 0.5 * (np.trace(task.Syy) - ((left @ np.linalg.pinv(into) @ into) ** 2).sum())
    bound = inexact_descent_bound(np.arange(151), run.loss[0] - least, lr, mu, beta, error.max())
    return max(0.0, float(((run.loss - least - bound) / (run.loss[0] - least)).max()))


RESULTS = (
    Result("G4", "F_T - F* <= (1 - lr mu)^T (F_0 - F*) + max E_t / (2 mu) where one layer learns locally on a strongly "
           "convex F, E_t the squared distance of its gradient from that of backprop", "derived here", 1e-9,
           _violation),
)  # fmt: skip
