"""Fully connected networks."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def mlp(widths: Sequence[int], norm: bool = True, bias: bool = True) -> nn.Sequential:
    """Flatten, then Linear, BatchNorm and ReLU for each hidden layer, and a Linear head.

    ``mlp((3072, 512, 512, 512, 10))`` is the fully connected network of LDFA on CIFAR-10.

    Args:
        widths: n_0 .. n_L, at least two.
        norm: batch normalisation after each hidden layer.
        bias: of the linear maps.

    Raises:
        ValueError: for fewer than two widths.

    >>> import torch
    >>> mlp((12, 8, 3))(torch.zeros(5, 3, 2, 2)).shape
    torch.Size([5, 3])
    """
    if len(widths) < 2:
        raise ValueError(f"widths are the input, the hidden layers and the output; got {tuple(widths)}")
    layers: list[nn.Module] = [nn.Flatten()]
    for n_in, n_out in pairwise(widths[:-1]):
        layers.append(nn.Linear(n_in, n_out, bias))
        if norm:
            layers.append(nn.BatchNorm1d(n_out))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1], bias))
