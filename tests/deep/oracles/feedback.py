"""Feedback matrices, put together by hand from what a promoted model stores."""

import torch
from torch import nn


def stored(state, at):
    """What an edge stores, by name, from a state dict; ``at`` is its place there, such as "2.feedback"."""
    found = {key.removeprefix(f"{at}."): value.detach() for key, value in state.items() if key.startswith(f"{at}.")}
    return {name: value for name, value in found.items() if "." not in name}


def feedback_matrix(stored, W=None):
    """B (n_h, n_e) of an edge that stores these matrices by name; W (n_e, n_h) is its forward map, if it has one."""
    if "B" in stored:
        return stored["B"].detach()
    if "M" in stored:
        return stored["M"].detach() * torch.sign(W).transpose(-1, -2)
    if "Q" in stored:
        return torch.einsum("...hr,...re->...he", stored["Q"].detach(), stored["P"].detach())
    return W.transpose(-1, -2)


def matricised(layer, weight):
    """The forward map (n_e, n_h) of a layer from its weight, or one for each group."""
    if isinstance(layer, nn.Linear):
        return weight
    W = weight.flatten(1) if layer.groups == 1 else weight.reshape(layer.groups, len(weight) // layer.groups, -1)
    return W.transpose(-1, -2) if layer.transposed else W


def kernel(layer, B):
    """A feedback matrix (n_h, n_e), or one for each group, as a weight of the layer's shape."""
    if isinstance(layer, nn.Linear):
        return B.transpose(-1, -2)
    if layer.transposed:
        return B.reshape(layer.weight.shape)
    if layer.groups == 1:
        return B.T.reshape(layer.weight.shape)
    return torch.cat([b.T.reshape(-1, *layer.weight.shape[1:]) for b in B])
