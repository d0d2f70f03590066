"""The modules of a network under local learning: their maps, their gradients, and random ones."""

import itertools

from linfa.algebra import product
from linfa.dynamics import State, signals, start
from linfa.network import Network
from linfa.rules import Rule, bp, sgr
from linfa.task import Task
from linfa.theory import examples

__all__ = ["module_ends", "module_maps", "module_signals"]


def module_ends(rule, depth: int) -> tuple[int, ...]:
    """0 and the cuts at which the modules of a rule on the local route end.

    >>> module_ends(sgr(modules=2), 5)
    (0, 3, 5)
    """
    return (0, *(edge.activity for edge in rule.route.edges(depth)), depth)


def module_maps(rule, state) -> tuple:
    """A_1 .. A_K, the product of the weights of each module, from the lowest.

    >>> import numpy as np
    >>> first, second = module_maps(sgr(modules=2), State((np.eye(2), 3 * np.eye(2), 2 * np.eye(2))))
    >>> first.diagonal().tolist(), second.diagonal().tolist()
    ([3.0, 3.0], [2.0, 2.0])
    """
    ends = module_ends(rule, len(state.weights))
    return tuple(product(tuple(reversed(state.weights[a:b]))) for a, b in itertools.pairwise(ends))


def module_signals(rule, state, batch) -> tuple[tuple, tuple]:
    """g_1 .. g_K, the gradient of the loss of each module at its output, and p_1 .. p_K, that of the last loss there.

    Args:
        rule: on the local route.
        state, batch: as for `linfa.dynamics.signals`; numbers or SymPy matrices.
    """
    depth = len(state.weights)
    local = signals(rule, state, batch).errors
    exact = signals(bp(), State(state.weights, ((),) * (depth - 1)), batch).errors
    ends = module_ends(rule, depth)[1:]
    return tuple(local[cut] for cut in ends), tuple(exact[cut] for cut in ends)


def drawn(seed: int, lam: float = 0.1) -> tuple[Rule, Task, State]:
    """A rule with random modules, data with means, and a state of random weights and heads; two to six layers."""
    rng = examples.generator(seed)
    depth = int(rng.integers(2, 7))
    rule = sgr(None if rng.random() < 0.4 else int(rng.integers(2, depth + 1)), lam)
    widths = tuple(int(width) for width in rng.integers(1, 6, depth + 1))
    inputs, targets = (rng.standard_normal((30, n)) + 0.3 for n in (widths[0], widths[-1]))
    return rule, Task.from_data(inputs, targets), start(rule, Network.small(widths, 0.9, seed), seed)
