"""Normalised activities by plain autograd."""

import torch

from .columns import CONVOLUTIONS  # isort: skip


def whitened(A):
    """(A A^T)^(-1/2) A on the directions that there are, from the smaller of A A^T and A^T A, to be differentiated."""
    if len(A) > A.shape[1]:
        return whitened(A.T).T
    values, basis = torch.linalg.eigh(A @ A.T)
    there = values > 1e-13 * values[-1]
    return basis[:, there] @ torch.diag(values[there] ** -0.5) @ basis[:, there].T @ A


def normalised(kind, y, axis):
    """A layer's output, its units (on an axis) standardised or whitened over all samples and positions."""
    units = y.movedim(axis, 0)
    a = units.flatten(1) - units.flatten(1).mean(1, keepdim=True)
    h = a / a.square().mean(1, keepdim=True).sqrt() if kind == "standardised" else a.shape[1] ** 0.5 * whitened(a)
    return h.reshape(units.shape).movedim(0, axis)


def normalise(net, paths, activity):
    """Normalise the outputs of layers by hooks, as the activity of a rule says; returns the net."""
    kind = type(activity).__name__.lower()
    for path in paths if kind != "plain" else ():
        layer = net.get_submodule(path)
        axis = 1 if isinstance(layer.edge.layer if hasattr(layer, "edge") else layer, CONVOLUTIONS) else -1
        layer.register_forward_hook(lambda module, inputs, out, axis=axis: normalised(kind, out, axis))
    return net
