"""How descent by backprop moves the balance of its layers, which the flow conserves."""

import itertools

import numpy as np

from linfa.algebra import T, product
from linfa.dynamics import State, velocity
from linfa.network import Network
from linfa.rules import bp
from linfa.simulate import advance
from linfa.task import Task
from linfa.theory import examples, invariants
from linfa.theory.base import relative_error
from linfa.theory.result import Result

__all__ = ["balance_drift"]


def balance_drift(weights, gradient, lr) -> tuple:
    """lr^2 (V_(l+1)^T V_(l+1) - V_l V_l^T), by which a step of descent moves W_(l+1)^T W_(l+1) - W_l W_l^T, exactly.

    V_l = (W_L .. W_(l+1))^T G (W_(l-1) .. W_1)^T is the gradient of W_l.  In two layers the balance moves by
    lr^2 (W_1 G^T G W_1^T - W_2^T G G^T W_2): the trace grows where the upper layer has the larger gradient.

    Args:
        weights: W_1 .. W_L before the step, (..., n_l, n_(l-1)), or SymPy matrices.
        gradient: G = E[delta x^T], the gradient of any loss with respect to the map W_L .. W_1, of the whole population
            or of a batch, (..., n_L, n_0).
        lr: learning rate.

    Returns:
        For each cut l = 1 .. L-1 the balance after the step minus that before, (..., n_l, n_l).

    Raises:
        ValueError: if the gradient does not fit the weights.

    Source: two layers known (Arora et al. 2018); any depth derived here (`derivations.balance_drift`).

    >>> balance_drift((np.array([[2.0]]), np.array([[1.0]])), np.array([[3.0]]), lr=0.1)[0].round(12).tolist()
    [[0.27]]
    """
    wanted = (weights[-1].shape[-2], weights[0].shape[-1])
    if tuple(gradient.shape[-2:]) != wanted:
        raise ValueError(f"the map has shape {wanted}, its gradient {tuple(gradient.shape[-2:])}")
    moves = []
    for layer in range(len(weights)):
        above, below = weights[:layer:-1], weights[:layer][::-1]
        seen = T(product(above)) @ gradient if above else gradient
        moves.append(seen @ T(product(below)) if below else seen)
    return tuple(lr**2 * (T(up) @ up - down @ T(down)) for down, up in itertools.pairwise(moves))


def _drift(seed):
    """Batches of four samples, coloured inputs, random weights at a random depth."""
    rng = examples.generator(seed)
    widths = tuple(int(n) for n in rng.integers(1, 6, 3 + seed % 3))
    task = Task.teacher(examples.matrix(rng, widths[-1], widths[0], 0.3, 1.0),
                        examples.moment(rng, widths[0], 0.3, 1.2))  # fmt: skip
    states, lr, drift = (
        [State(Network.small(widths, scale=1.0, seed=seed).weights, ((),) * (len(widths) - 2))],
        0.05,
        [],
    )
    for _ in range(40):
        batch = task.sample(4, rng)
        G = (product(states[-1].weights[::-1]) @ batch.X - batch.Y) @ batch.X.T
        drift.append(balance_drift(states[-1].weights, G, lr))
        states.append(advance(states[-1], velocity(bp(), states[-1], batch), lr))
    worst = 0.0
    for cut in range(len(widths) - 2):
        values = np.stack([invariants.balance(None, state)[cut] for state in states])
        moved = np.cumsum([step[cut] for step in drift], axis=0)
        worst = max(worst, relative_error(values[0] + moved, values[1:]))
    return worst


RESULTS = (
    Result(
        "A3d", "descent on batches moves the balance of two layers by lr^2 (V_(l+1)^T V_(l+1) - V_l V_l^T), exactly",
        "two layers known (Arora et al. 2018); any depth derived here", 1e-11, _drift,
    ),
)  # fmt: skip
