"""Factored weights whose rank falls during training: which rank to keep, and descent in stages.

The energy rule and a rank that falls on a schedule are named in the abstract of arXiv 2510.25594; what is kept, and the
combination of the two, are ours.
"""

from dataclasses import dataclass

import numpy as np

from linfa.dynamics import State, start
from linfa.rules import SVD, SVDStructured
from linfa.simulate import descend

__all__ = ["RankSchedule", "descend_in_stages", "energy_rank", "truncate"]


def energy_rank(s, tau: float) -> np.ndarray:
    """The smallest r whose r largest values hold sum s_j^2 >= tau of the sum over all, at least 1.

    Args:
        s: values (..., n), of any sign and order.
        tau: share of the energy, in (0, 1].

    Raises:
        ValueError: for another share.

    >>> energy_rank([[3.0, 2.0, 1.0], [3.0, 0.0, 0.0]], tau=0.9)
    array([2, 1])
    """
    if not 0 < tau <= 1:
        raise ValueError(f"tau is a share of the energy, in (0, 1]; got {tau}")
    energy = np.cumsum(np.sort(np.asarray(s, float) ** 2, -1)[..., ::-1], -1)
    short = energy < tau * energy[..., -1:] * (1 - 1e-15)
    return 1 + short.sum(-1)


def truncate(rule, state: State, ranks) -> State:
    """The state with only the components s_j u_j v_j^T of the largest norms in every factored weight, in their order.

    `SVDStructured` feedback keeps the same ones of those that the layer has, so that U stays aligned with it.

    Args:
        rule: a `Rule` of factored weights.
        state: with factored weights; leading axes are kept.
        ranks: for every layer the number of components, or one number for all; layers of fewer stay as they are.

    Raises:
        TypeError: for weights that are not factored.
        ValueError: for a rank below 1, or not one for every layer.

    >>> import linfa
    >>> rule = linfa.svd_local(4)
    >>> [W.rank for W in truncate(rule, start(rule, linfa.Network.small((5, 6, 5))), (3, 2)).weights]
    [3, 2]
    """
    ranks = (ranks,) * len(state.weights) if np.ndim(ranks) == 0 else tuple(ranks)
    if len(ranks) != len(state.weights) or not all(r >= 1 for r in ranks):
        raise ValueError(f"ranks are at least 1, one for each of {len(state.weights)} layers; got {ranks}")
    if not all(isinstance(W, SVD) for W in state.weights):
        raise TypeError("only factored weights have components to leave out: use a rule such as linfa.svd_local")
    kept = [largest(W, r) for W, r in zip(state.weights, ranks, strict=True)]
    weights = tuple(
        SVD(_columns(W.U, keep), _rows(W.s, keep), _columns(W.V, keep))
        for W, keep in zip(state.weights, kept, strict=True)
    )
    feedback = []
    for edge, stored in zip(rule.route.edges(len(kept)), state.feedback, strict=True):
        if isinstance(rule.feedback, SVDStructured):
            Q, P = stored
            keep = with_rest(kept[edge.taught], state.weights[edge.taught].rank, Q.shape[-1])
            stored = _columns(Q, keep), _rows(P, keep)
        feedback.append(stored)
    return State(weights, tuple(feedback))


def _strengths(W):
    """Norms |s_j| |u_j| |v_j| of the components (..., r)."""
    return abs(W.s[..., 0]) * np.linalg.norm(W.U, axis=-2) * np.linalg.norm(W.V, axis=-2)


def largest(W, rank: int) -> np.ndarray:
    """The components (..., min(rank, r)) of the largest norms of an `SVD` of r components, in their order."""
    order = np.argsort(-_strengths(W), axis=-1, kind="stable")
    return np.sort(order[..., : min(rank, W.rank)], -1)


def with_rest(kept, rank: int, columns: int) -> np.ndarray:
    """The columns that feedback keeps (...): of the first ``rank``, which belong to components, those that are kept.

    >>> with_rest(np.array([0, 2]), rank=3, columns=5)
    array([0, 2, 3, 4])
    """
    rest = np.arange(rank, columns)
    return np.concatenate([kept, np.broadcast_to(rest, (*kept.shape[:-1], len(rest)))], -1)


def _columns(A, keep):
    return np.take_along_axis(A, keep[..., None, :], -1)


def _rows(A, keep):
    return np.take_along_axis(A, keep[..., :, None], -2)


@dataclass(frozen=True)
class RankSchedule:
    """The rank of a layer after a stage of training: max(smallest, linear, energy rule).

    Args:
        first, last: the linear part, ranks at the first stage and at the last.
        stages: number of stages, at least 2.
        smallest: r_min.
        tau: share of the energy that has to stay; None leaves the energy rule out.

    Raises:
        ValueError: for ranks that rise, fewer than two stages, or a share outside (0, 1].

    >>> schedule = RankSchedule(first=8, last=2, stages=4)
    >>> [schedule.linear(stage) for stage in range(4)]
    [8, 6, 4, 2]
    """

    first: int
    last: int
    stages: int
    smallest: int = 1
    tau: float | None = None

    def __post_init__(self):
        if not 1 <= self.last <= self.first:
            raise ValueError(f"ranks fall from first to last, at least 1; got {self.first} and {self.last}")
        if self.stages < 2 or self.smallest < 1:
            raise ValueError(f"at least 2 stages and a smallest rank of 1; got {self.stages} and {self.smallest}")
        if self.tau is not None:
            energy_rank([1.0], self.tau)

    def linear(self, stage: int) -> int:
        """The linear part at a stage 0 .. stages - 1, rounded up."""
        return -int(-(self.first + (self.last - self.first) * stage / (self.stages - 1)) // 1)

    def ranks(self, stage: int, state: State) -> tuple[int, ...]:
        """The rank of every layer of a state at a stage; of an ensemble the largest that a member needs."""
        out = []
        for W in state.weights:
            energy = 1 if self.tau is None else int(np.max(energy_rank(_strengths(W), self.tau)))
            out.append(min(W.rank, max(self.smallest, self.linear(stage), energy)))
        return tuple(out)


def descend_in_stages(rule, task, network, lr: float, steps: int, schedule: RankSchedule, seed: int = 0, **settings):
    """Descent in stages of equally many steps, each of the rank that the schedule gives at its start.

    Args:
        rule: a `Rule` of factored weights.
        task, network, lr, seed: as for `linfa.descend`, as are further settings.
        steps: of each stage.
        schedule: a `RankSchedule`.

    Returns:
        One `Trajectory` for each stage: the arrays of stages differ in shape.

    >>> import linfa
    >>> task, network = linfa.Task.from_spectrum([2.0, 1.0], n_in=4, n_out=4), linfa.Network.small((4, 6, 4), seed=1)
    >>> runs = descend_in_stages(linfa.svd_local(4), task, network, 0.02, 50, RankSchedule(4, 2, 3))
    >>> [run.weights[0].rank for run in runs]
    [4, 3, 2]
    """
    state, runs = start(rule, network, seed), []
    for stage in range(schedule.stages):
        state = truncate(rule, state, schedule.ranks(stage, state))
        runs.append(descend(rule, task, state, lr, steps, seed=seed + stage, **settings))
        state = runs[-1].at(-1)
    return tuple(runs)
