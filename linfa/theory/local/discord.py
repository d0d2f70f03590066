"""The discord of neighbouring modules: it is all that tells local gradients from those of backprop."""

import itertools

import numpy as np

from linfa.algebra import T
from linfa.dynamics import State, signals
from linfa.rules import bp
from linfa.theory.base import relative_error
from linfa.theory.local.energy import discord_energy
from linfa.theory.local.problem import drawn, module_maps, module_signals
from linfa.theory.result import Result

__all__ = ["discords", "gradient_gaps", "head_gap_bound"]


def discords(gradients, maps) -> tuple:
    """d_k = g_k - A_(k+1)^T g_(k+1), what a module's gradient lacks of the one that the module above would pass down.

    Args:
        gradients: g_1 .. g_K, of the loss of each module at its output, (..., n_k, N) or SymPy matrices.
        maps: A_2 .. A_K, (..., n_(k+1), n_k); in a nonlinear network the Jacobians, for one sample each.

    Raises:
        ValueError: if the gradients are not one more than the maps.

    >>> discords((np.array([[3.0]]), np.array([[1.0]])), (np.array([[2.0]]),))[0].item()
    1.0
    """
    _fits(gradients, maps, 1)
    return tuple(g - T(A) @ above for g, A, above in zip(gradients, maps, gradients[1:], strict=False))


def gradient_gaps(discords, maps) -> tuple:
    """g_k - p_k = sum_(j >= k) A_(k+1)^T .. A_j^T d_j for k = 1 .. K-1, p_k the gradient of the last loss.

    Exact for any modules and losses, sample by sample: local learning is backprop where no module is in discord with
    its neighbours, and a discord high up reaches every module below.

    Args:
        discords: d_1 .. d_(K-1), as from `discords`.
        maps: A_2 .. A_K; the last is not used.

    Raises:
        ValueError: if they are not as many.

    Source: derived here (`derivations.telescoping_identity`).

    >>> one = np.array([[1.0]])
    >>> [gap.item() for gap in gradient_gaps((one, one), (2 * one, one))]
    [3.0, 1.0]
    """
    _fits(discords, maps, 0)
    gaps = list(discords[-1:])
    for d, A in zip(discords[-2::-1], maps[-2::-1], strict=True):
        gaps.insert(0, d + T(A) @ gaps[0])
    return tuple(gaps)


def _fits(signals, maps, more):
    if len(signals) != len(maps) + more:
        raise ValueError(f"{len(maps)} maps between modules do not fit {len(signals)} signals")


def head_gap_bound(energy, Sxx, Syx, Syy):
    """|M - C|^2 is at most 2 R / lambda_min(Syy - Syx Sxx^+ Syx^T): heads are as close as their discord is small.

    So no discord for all inputs and targets means M = C, which is no discord.  What counts is the part of the target
    that x does not tell: for targets y = T x the heads M = T and C = 0 have no discord either.

    Args:
        energy: R of `discord_energy`.
        Sxx, Syx, Syy: as there.

    Returns:
        The bound on the squared Frobenius norm, infinite where x tells all of a direction of the target.

    Source: derived here.

    >>> float(head_gap_bound(1.0, np.eye(2), np.zeros((1, 2)), 4 * np.eye(1)))
    0.5
    """
    lowest = np.linalg.eigvalsh(Syy - Syx @ np.linalg.pinv(Sxx, hermitian=True) @ T(Syx))[..., 0]
    told = lowest <= 1e-12 * np.abs(Syy).max()
    return np.where(told, np.inf, 2 * energy / np.where(told, 1.0, lowest))


def _identity(seed):
    """Error of the identity at random, and with reconciliation under way."""
    rule, task, state = drawn(seed)
    (g, p), maps = module_signals(rule, state, task.batch), module_maps(rule, state)[1:]
    closed = gradient_gaps(discords(g, maps), maps)
    return max(relative_error(a, b - c) for a, b, c in zip(closed, g, p, strict=False))


def _agreeing(rule, state) -> State:
    """The same weights with heads that agree, C_k = C_(k+1) A_(k+1)."""
    maps = module_maps(rule, state)
    heads = itertools.accumulate(reversed(maps[1:]), lambda C, A: C @ A)
    return State(state.weights, tuple((T(C),) for C in reversed(list(heads))))


def _agreement(seed):
    """What is left of discord, reconciliation and the difference to backprop, with heads that agree."""
    rule, task, state = drawn(seed)
    state = _agreeing(rule, state)
    (g, _), maps = module_signals(rule, state, task.batch), module_maps(rule, state)[1:]
    local = signals(rule, state, task.batch)
    exact = signals(bp(), State(state.weights, ((),) * (len(state.weights) - 1)), task.batch)
    discord = max(np.abs(d).max() / max(1.0, np.abs(a).max()) for d, a in zip(discords(g, maps), g, strict=False))
    return max(float(discord), relative_error(exact.gradients(), local.gradients()))


def _converse(seed):
    """How far heads are apart beyond their bound, and the energy of the bound from that of the signals."""
    rule, task, state = drawn(seed)
    (g, _), maps = module_signals(rule, state, task.batch), module_maps(rule, state)[1:]
    heads = [*(T(B) for (B,) in state.feedback), np.eye(task.n_out)]
    below, worst = np.eye(task.n_in), 0.0
    for d, C, above, A, W in zip(discords(g, maps), heads, heads[1:], maps, module_maps(rule, state), strict=False):
        below, M = W @ below, above @ A
        moments = below @ task.Sxx @ below.T, task.Syx @ below.T, task.Syy
        energy = (d**2).sum() / 2
        apart = ((M - C) ** 2).sum()
        worst = max(worst, relative_error(np.array(energy), discord_energy(M, C, *moments)),
                    float(apart / head_gap_bound(energy, *moments)) - 1)  # fmt: skip
    return worst


RESULTS = (
    Result("G1", "g_k - p_k = sum_j A_(k+1)^T .. A_j^T d_j: discords are all that tells local gradients from backprop",
           "derived here", 1e-11, _identity),
    Result("G2", "heads that agree, C_k = C_(k+1) A_(k+1), have no discord and no reconciliation: every gradient is "
           "that of backprop", "derived here", 1e-11, _agreement),
    Result("G2c", "and only those, for all inputs and targets: |C_(k+1) A_(k+1) - C_k|^2 <= E|d_k|^2 / lambda_min of "
           "the part of Syy that the module's input does not tell", "derived here", 1e-9, _converse),
)  # fmt: skip
