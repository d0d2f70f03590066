"""Feedback of rank r makes a wide network learn as one of width r: exactly, in flow and in descent."""

import dataclasses
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from linfa.algebra import T, product
from linfa.dynamics import State
from linfa.network import Network
from linfa.rules import Dense, Direct, Fixed, RandomFactors, Rule, ldfa
from linfa.simulate import descend, simulate
from linfa.task import Task
from linfa.theory import assumptions, examples
from linfa.theory.base import AssumptionError, relative_error
from linfa.theory.result import Result

__all__ = ["Bottleneck", "bottleneck"]


@dataclass(frozen=True, eq=False)
class Bottleneck:
    """A narrow network that learns as a wide one does, W_l = U_l V_l U_(l-1)^T with U_0 = U_L = I.

    Args:
        rule: the rule of the narrow network, with dense feedback.
        network: V_1 .. V_L at time 0, hidden widths the ranks of the feedback.
        feedback: what the narrow rule stores, U_l^T B_l U_s for an edge from the error at cut s to cut l.
        frames: U_0 .. U_L, orthonormal columns (n_l, r_l).
    """

    rule: Any
    network: Any
    feedback: tuple
    frames: tuple

    def widen(self, weights) -> tuple:
        """The wide weights W_l (..., n_l, n_(l-1)) of narrow ones V_l (..., r_l, r_(l-1))."""
        return tuple(U @ V @ T(below) for V, (below, U) in zip(weights, itertools.pairwise(self.frames), strict=True))


def bottleneck(rule, state) -> Bottleneck:
    """The narrow network that learns as a wide one with fixed feedback, at any depth, on any data, in any batches.

    Two layers and B = Q P: W_1 = U V_1 and W_2 = V_2 U^T with U = Q K^(-1/2), K = Q^T Q, where V_1, V_2 learn with the
    feedback U^T B = K^(1/2) P.  Here U is an orthonormal basis of the columns of B, which turns V_1 and V_2 but not
    their product; a factor that is degenerate makes the network narrower still.

    Args:
        rule: a rule with fixed feedback; decay is allowed.
        state: the wide network at time 0, weights zero or of the form U_l V_l U_(l-1)^T.

    Raises:
        AssumptionError: if the feedback follows the weights, learns or is clamped, or the start has another form.

    Source: derived here (`derivations.bottleneck`).

    >>> import linfa
    >>> rule, wide = linfa.ldfa(2, "fixed"), linfa.Network.zero((3, 50, 4))
    >>> narrow = bottleneck(rule, linfa.dynamics.start(rule, wide))
    >>> narrow.network
    Network(3-2-4)
    """
    assumptions.plain(rule)
    if type(rule.plasticity) is not Fixed:
        raise AssumptionError(f"feedback learns: {rule.plasticity}")
    if rule.feedback.reads_weight:
        raise AssumptionError(f"feedback follows the weights: {rule.feedback}")
    weights, edges = state.weights, rule.route.edges(len(state.weights))
    widths = (weights[0].shape[-1], *(W.shape[-2] for W in weights))
    carriers = [product(rule.feedback.factors(stored, None)) for stored in state.feedback]
    frames = [np.eye(n) for n in widths]
    for edge, B in zip(edges, carriers, strict=True):
        frames[edge.activity] = _columns(B)
    pairs = list(itertools.pairwise(frames))
    narrow = tuple(U.T @ W @ below for W, (below, U) in zip(weights, pairs, strict=True))
    for number, (W, V, (below, U)) in enumerate(zip(weights, narrow, pairs, strict=True), 1):
        outside = np.abs(W - U @ V @ below.T).max()
        if outside > assumptions.TOLERANCE:
            raise AssumptionError(f"W_{number}(0) leaves the columns of the feedback by {outside:.2g}")
    feedback = tuple(
        (frames[edge.activity].T @ B @ frames[edge.source],) for edge, B in zip(edges, carriers, strict=True)
    )
    return Bottleneck(dataclasses.replace(rule, feedback=Dense()), Network(narrow), feedback, tuple(frames))


def _columns(B):
    """An orthonormal basis of the column space of B, of one column at least."""
    U, s, _ = np.linalg.svd(B, full_matrices=False)
    return U[:, : max(1, int((s > 1e-12 * s[0]).sum()))]


def _gap(rule, depth, seed, wider=6):
    """Relative distance of the wide network from the widened one, along mini-batch descent."""
    rng, rank = examples.generator(seed), examples.rank_of(rule)
    m = rank + int(rng.integers(0, 3))
    n, hidden = int(rng.integers(1, 5)), (rank + int(rng.integers(1, wider)) for _ in range(depth - 1))
    widths = (n, *hidden, m)
    task = Task.teacher(examples.matrix(rng, m, n, 0.3, 1.2), examples.moment(rng, n, 0.4, 1.5), noise=0.2)
    network, feedback = Network.zero(widths), examples.feedback(rule, rng, widths)
    narrow = bottleneck(rule, State(network.weights, feedback))
    runs = [
        descend(r, task, net, 0.05, 60, batch_size=10, seed=seed, feedback=B)
        for r, net, B in ((rule, network, feedback), (narrow.rule, narrow.network, narrow.feedback))
    ]
    return relative_error(narrow.widen(runs[1].weights), runs[0].weights)


def _two_layers(seed):
    return max(_gap(ldfa(rank, "fixed", decay=decay), 2, seed) for rank, decay in ((1, 0.0), (3, 0.1)))


def _deep(seed):
    rules = Rule(Direct(), RandomFactors(2)), ldfa(2, "fixed")
    return max(_gap(rule, depth, seed) for rule in rules for depth in (3, 4))


def _aligned_rank(seed):
    """What a flow from zero learns beyond the r output modes that the feedback sees, and beyond rank r."""
    rng = examples.generator(seed)
    m, r = int(rng.integers(3, 6)), 2
    task = Task.teacher(examples.matrix(rng, m, m, 0.3, 2.0))
    P = np.linalg.svd(task.Syx)[0][:, rng.permutation(m)[:r]].T
    feedback = ((examples.matrix(rng, 5, r, 0.8, 1.25), P),)
    run = simulate(ldfa(r, "fixed"), task, Network.zero((m, 5, m)), np.linspace(0, 8, 9), feedback=feedback, rtol=1e-11)
    unseen = run.map - P.T @ P @ run.map
    return max(np.abs(unseen).max(), run.singular_values[:, r:].max()) / np.abs(run.map).max()


RESULTS = (
    Result("D1", "with feedback of rank r a wide network from zero learns as one of width r, exactly in any batches",
           "derived here", 1e-11, _two_layers),
    Result("D1b", "at any depth too, by a broadcast or layer by layer, each layer as wide as its feedback has rank",
           "derived here", 1e-11, _deep),
    Result("D6", "from zero the map has at most the rank of B, and along the task no mode outside the rows of B grows",
           "derived here", 1e-9, _aligned_rank),
)  # fmt: skip
