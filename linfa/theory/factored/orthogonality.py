"""The penalty ||U^T U - I||^2 alone: every singular value of U goes to 1 on a clock of its own."""

import numpy as np

from linfa.dynamics import State
from linfa.rules import SVD, Factored, Orthogonality, Rule, bp
from linfa.simulate import Diverged, descend, simulate
from linfa.task import Task
from linfa.theory import examples
from linfa.theory.base import relative_error
from linfa.theory.result import Result
from linfa.theory.scalar import exp, sqrt

__all__ = ["orthogonality_error", "orthogonality_max_lr", "orthogonality_step", "orthogonality_value"]


def orthogonality_value(t, sigma, weight=1):
    """sigma(t) = sigma / sqrt(sigma^2 + (1 - sigma^2) e^(-8 w t)), which solves sigma' = -4 w sigma (sigma^2 - 1).

    The squares are logistic.  Near 1 the distance falls at rate 8 w; zero stays zero, so that columns that have
    become linearly dependent do not recover.

    Args:
        t: times.
        sigma: singular value of U at time 0.
        weight: w, of the penalty.  All three are numbers, arrays that broadcast, or SymPy expressions.

    Source: derived here (`derivations.svd_orthogonality`).

    >>> float(orthogonality_value(np.log(3) / 8, 0.5)), float(orthogonality_value(1.0, 0.0))
    (0.7071067811865475, 0.0)
    """
    return sigma / sqrt(sigma**2 + (1 - sigma**2) * exp(-8 * weight * t))


def orthogonality_error(t, sigma, weight=1) -> np.ndarray:
    """||U^T U - I||_F (t,) along the penalty's flow, from the singular values (r,) of U at time 0.

    Args:
        t: times (t,); sigma: (r,); weight: of the penalty.

    Source: derived here.

    >>> orthogonality_error(np.array([0.0, 100.0]), np.array([2.0, 1.0])).tolist()
    [3.0, 0.0]
    """
    values = orthogonality_value(np.asarray(t, float)[:, None], np.asarray(sigma, float), weight)
    return np.sqrt(((values**2 - 1) ** 2).sum(-1))


def orthogonality_step(sigma, rate):
    """The singular value after a step of descent, |sigma - 4 rate sigma (sigma^2 - 1)|.

    Args:
        sigma: before the step; rate: learning rate times weight.  Numbers or arrays.

    Source: derived here.

    >>> orthogonality_step(2.0, 0.125)
    1.0
    """
    return abs(sigma - 4 * rate * sigma * (sigma**2 - 1))


def orthogonality_max_lr(weight: float) -> float:
    """The learning rate 1/(4 weight) up to which descent settles at orthonormal columns.

    A step multiplies a small distance of a singular value from 1 by 1 - 8 lr weight.  From far away smaller rates are
    needed: sigma^2 below 1 + 1/(2 lr weight), beyond which it grows.

    Args:
        weight: of the penalty, positive.

    Raises:
        ValueError: for a weight that is not positive.

    Source: derived here.

    >>> orthogonality_max_lr(0.1)
    2.5
    """
    if not weight > 0:
        raise ValueError(f"the weight of the penalty is positive; got {weight}")
    return 1 / (4 * weight)


def _alone(seed, low=0.2, high=2.0):
    """A rule and a state in which nothing but the penalty moves: a task of zeros, and values s of zero."""
    rng = examples.generator(seed)
    weight, r = float(rng.uniform(0.05, 0.5)), int(rng.integers(1, 5))
    rule = Rule(bp().route, bp().feedback, parameterisation=Factored(r, (Orthogonality(weight),)))
    m, n = (int(k) for k in rng.integers(r, r + 3, 2))
    sigma = rng.uniform(low, high, (2, r))
    U, V = ((examples.frame(rng, k, r) * v) @ examples.frame(rng, r, r) for k, v in zip((m, n), sigma, strict=True))
    return rule, Task.teacher(np.zeros((m, n))), State((SVD(U, np.zeros((r, 1)), V),)), sigma, weight


def _values(F):
    return np.linalg.svd(F, compute_uv=False)


def _flow(seed):
    rule, task, state, sigma, weight = _alone(seed)
    run = simulate(rule, task, state, np.linspace(0, 1 / weight, 11), rtol=1e-11, atol=1e-13)
    worst = 0.0
    for F, start in zip((run.weights[0].U, run.weights[0].V), sigma, strict=True):
        closed = orthogonality_value(run.times[:, None], -np.sort(-start), weight)
        gap = np.linalg.norm(np.swapaxes(F, -1, -2) @ F - np.eye(F.shape[-1]), axis=(-2, -1))
        error = np.abs(orthogonality_error(run.times, start, weight) - gap).max()
        worst = max(worst, relative_error(closed, _values(F)), float(error))
    return worst


def _descent(seed):
    rule, task, state, sigma, weight = _alone(seed)
    lr = 0.05 / weight
    run = descend(rule, task, state, lr, 20)
    worst = 0.0
    for F, closed in zip((run.weights[0].U, run.weights[0].V), sigma, strict=True):
        for moved in F:
            worst = max(worst, relative_error(-np.sort(-closed), _values(moved)))
            closed = orthogonality_step(closed, lr * weight)
    return worst


def _edge(seed):
    """Whether descent from near an orthonormal frame settles below the learning rate, and does not above."""
    rule, task, state, _, weight = _alone(seed, 0.98, 1.02)
    behaved = True
    for share, settles in ((0.9, True), (1.1, False)):
        try:
            run = descend(rule, task, state, share * orthogonality_max_lr(weight), 400)
            gap = np.abs(_values(run.weights[0].U[-1]) - 1).max()
        except Diverged:
            gap = np.inf
        behaved &= (gap < 1e-6) == settles
    return float(not behaved)


RESULTS = (
    Result("S6", "under the orthogonality penalty alone singular values obey sigma' = -4 w sigma (sigma^2 - 1), their "
           "squares are logistic with rate 8 w, and so is known ||U^T U - I||", "derived here", 1e-8, _flow),
    Result("S6d", "a step of descent takes singular values to |sigma - 4 lr w sigma (sigma^2 - 1)|, and vectors stay",
           "derived here", 1e-11, _descent),
    Result("S7", "descent on the orthogonality penalty settles for learning rates below 1/(4 w), and not above",
           "derived here", 0.0, _edge),
)  # fmt: skip
