"""Factored weights: composed component by component, their gradients by autograd through that, penalties as scalars."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from .feedback import stored  # isort: skip

PARTS = ("U", "s", "V")


def compose(layer, U, s, V):
    """The weight of a layer from its factors, component by component."""
    if isinstance(layer, nn.Linear):
        return torch.einsum("ij,jk,lj->il", U, s, V)
    H, W = layer.kernel_size
    groups = layer.groups
    U, s, V = (M.reshape(groups, -1, M.shape[-1]) for M in (U, s, V))
    kernels = []
    for g in range(groups):
        u = U[g].reshape(layer.out_channels // groups, W, -1)
        v = V[g].reshape(layer.in_channels // groups, H, -1)
        kernels.append(torch.einsum("nwj,j,chj->nchw", u, s[g, :, 0], v))
    return torch.cat(kernels)


def factors(state, path):
    """U, s and V of a layer, as leaves."""
    return [state[f"{path}.{name}"].detach().clone().requires_grad_() for name in PARTS]


def factored_paths(state):
    """Paths of the layers that store factors."""
    return [name.removesuffix(".U") for name in state if name.endswith(".U")]


def composed(net, state):
    """The state with weights in place of factors; ``net`` is plain."""
    full = dict(state)
    for path in factored_paths(state):
        full[f"{path}.weight"] = compose(net.get_submodule(path), *factors(state, path)).detach()
    return full


def frame(layer, Q):
    """Q summed over the positions of a channel, the same for every column of the kernel; entry by entry."""
    if isinstance(layer, nn.Linear):
        return Q
    N, W = layer.out_channels, layer.kernel_size[1]
    positions = len(Q) // N
    F_ = torch.stack([Q[n * positions : (n + 1) * positions].sum(0) / W**0.5 for n in range(N) for _ in range(W)])
    return F_ if layer.groups == 1 else F_.reshape(layer.groups, -1, F_.shape[-1])


def penalty(terms, U, s, V, Q):
    """What the objective of a layer adds to the loss, as a scalar for autograd."""
    total = 0
    for term in terms:
        kind = type(term).__name__
        if kind == "Orthogonality":
            eye = torch.eye(U.shape[-1], dtype=U.dtype)
            total = total + term.weight * sum((M.mT @ M - eye).square().sum() for M in (U, V))
        elif kind == "Sparsity":
            total = total + term.weight * (s.abs().sum((-1, -2)) / s.square().sum((-1, -2)).sqrt()).sum()
        elif Q is not None and kind == "Cosine":
            total = total + term.weight * (1 - F.cosine_similarity(U, Q[..., : U.shape[-1]], dim=-2)).mean(-1).sum()
        elif Q is not None:
            assert kind == "Alignment"
            Q, r = Q[..., : U.shape[-1]], U.shape[-1]
            seen = -2 * (U.mT @ Q).square().sum() if term.subspace else (U - Q).square().sum() / r
            total = total + term.weight * seen
    return total


def pulled(net, rule, state, found, order):
    """Gradients with those of U, s and V in place of the composed weights', penalties included.

    Args:
        net: plain.
        state: of the promoted model.
        found: gradients by name.
        order: of the layers' calls; U is aligned with the Q of the feedback to the next one.
    """
    above = dict(pairwise(order))
    out = dict(found)
    for path in factored_paths(state):
        layer, (U, s, V) = net.get_submodule(path), factors(state, path)
        compose(layer, U, s, V).backward(out.pop(f"{path}.weight").to(U))
        key = above.get(path, "").replace(".", "_")
        Q = stored(state, f"{order[-1]}.feedback.{key}").get("Q") if key else None
        added = penalty(rule.parameterisation.penalties, U, s, V, None if Q is None else frame(layer, Q))
        if isinstance(added, torch.Tensor):
            added.backward()
        out |= {f"{path}.{name}": M.grad for name, M in zip(PARTS, (U, s, V), strict=True)}
    return out


def tangent(state, found):
    """Gradients of U and V without what leads away from orthonormal frames."""
    out = dict(found)
    for path in factored_paths(state):
        for name in "UV":
            M, g = state[f"{path}.{name}"].detach(), found[f"{path}.{name}"]
            inner = M.mT @ g
            out[f"{path}.{name}"] = g - M @ (inner + inner.mT) / 2
    return out
