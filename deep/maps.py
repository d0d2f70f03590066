"""The linear maps of a layer, promoted or not: y = W x on columns, by name.

Linear layers and convolutions have one map, whose name is empty; attention has "q", "k" and "v", in one parameter or in
three.  A convolution is its matricised kernel on the patches that positions see, a transposed one its matricised kernel
from positions to patches (`ops.ConvMap`).
"""

from contextlib import contextmanager
from math import prod

import torch
from torch import nn
from torch.nn.utils import parametrize

from deep import ops


def plain_type(module: nn.Module) -> type:
    """The class of a module without what `torch.nn.utils.parametrize` put on top of it."""
    return parametrize.type_before_parametrizations(module)


def become(module: nn.Module, kind: type) -> None:
    """Give a module another class, and leave on top what `torch.nn.utils.parametrize` put there.

    >>> layer = nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))
    >>> become(layer, nn.modules.linear.NonDynamicallyQuantizableLinear)
    >>> type(layer).__name__, plain_type(layer).__name__, parametrize.is_parametrized(layer)
    ('ParametrizedLinear', 'NonDynamicallyQuantizableLinear', True)
    """
    if parametrize.is_parametrized(module):
        own = {k: v for k, v in vars(type(module)).items() if k not in ("__dict__", "__weakref__", "__doc__")}
        kind = type(type(module).__name__, (kind,), own)
    module.__class__ = kind


@contextmanager
def evaluated(model: nn.Module):
    """A model in eval mode for a while, so that looking at it changes no statistics of normalisations."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield model.eval()
    finally:
        for module, mode in modes.items():
            module.training = mode


def projections(attention: nn.MultiheadAttention) -> tuple[torch.Tensor, ...]:
    """The weights of queries, keys and values, (E, E), (E, kdim) and (E, vdim)."""
    if attention._qkv_same_embed_dim:
        return attention.in_proj_weight.chunk(3)
    return attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight


def matrices(module: nn.Module) -> dict[str, torch.Tensor]:
    """Name -> W (n_e, n_h) of each map, or (g, n_e, n_h) where there are groups.

    >>> {name: tuple(W.shape) for name, W in matrices(nn.ConvTranspose1d(2, 3, kernel_size=4)).items()}
    {'': (12, 2)}
    """
    with torch.no_grad(), evaluated(module):
        if isinstance(module, nn.MultiheadAttention):
            found = dict(zip("qkv", projections(module), strict=True))
        elif isinstance(module, nn.modules.conv._ConvNd):
            found = {"": ops.matricise(module.weight, module.groups, module.transposed)}
        else:
            found = {"": module.weight}
        return {name: W.detach() for name, W in found.items()}


def parameters(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that the weights of a layer are, or are made of."""
    found = [parameter for parameter, _ in kernels(module).values()]
    for name in WEIGHTS:
        if parametrize.is_parametrized(module, name):
            found.extend(module.parametrizations[name].parameters())
        if name in vars(module):  # made by a hook, as pruning does
            found.extend(p for key, p in module._parameters.items() if key.startswith(f"{name}_") and p is not None)
    return found


LAYERS = (nn.Linear, nn.modules.conv._ConvNd, nn.MultiheadAttention)
"""Layers with linear maps."""

WEIGHTS = ("weight", "in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
"""The attributes that hold the weights of linear maps."""


def kernels(module: nn.Module) -> dict[str, tuple[nn.Parameter, int]]:
    """Name -> parameter and number of matrices in it that a direction is taken of; none for computed weights.

    Queries, keys and values in one parameter are three matrices on top of each other, as are the groups of a kernel.
    """
    found = {name: module._parameters[name] for name in WEIGHTS if module._parameters.get(name) is not None}
    return {name: (p, 3 if name == "in_proj_weight" else getattr(module, "groups", 1)) for name, p in found.items()}


def is_computed(module: nn.Module) -> bool:
    """Whether a weight of the layer is no parameter, but made of some in every forward pass."""
    return any(name in vars(module) or parametrize.is_parametrized(module, name) for name in WEIGHTS)


def inputs(module: nn.Module, args: tuple, kwargs: dict) -> dict[str, torch.Tensor]:
    """Name -> the input of each map in a call of the module."""
    if isinstance(module, nn.MultiheadAttention):
        given = dict(zip(("query", "key", "value"), args, strict=False)) | kwargs
        return {"q": given["query"], "k": given["key"], "v": given["value"]}
    return {"": args[0] if args else kwargs["input"]}


def columns(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> int:
    """On how many columns a map acts that takes x to y."""
    if isinstance(module, nn.modules.conv._ConvNd):
        positions = x if module.transposed else y
        spatial = len(module.kernel_size)
        return prod(positions.shape[-spatial:]) * prod(positions.shape[: -spatial - 1])
    return prod(x.shape[:-1])
