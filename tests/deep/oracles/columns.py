"""What a convolution sees as samples: patches and positions."""

import torch
from torch import nn

CONVOLUTIONS = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip


def plain_convolution(layer):
    """A convolution of the same settings, with numbers of its own."""
    (kind,) = (kind for kind in CONVOLUTIONS if isinstance(layer, kind))
    more = {"output_padding": layer.output_padding} if layer.transposed else {}
    return kind(
        layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, dilation=layer.dilation,
        groups=layer.groups, bias=layer.bias is not None, padding_mode=layer.padding_mode, **more,
    ).to(layer.weight)  # fmt: skip


def convolution_columns(layer, x, error):
    """What a convolution sees as samples: activities (g, n_h, samples) and errors (g, n_e, samples), group by group.

    Patches come from a convolution whose kernel is the identity, and those of an error from its derivative.  Activities
    are differentiable with respect to x.
    """
    k, groups = layer.kernel_size, layer.groups
    one = plain_convolution(layer)
    small, large = (error, x) if not layer.transposed else (x, error)  # positions, and what patches are taken of
    flat = small.unflatten(1, (groups, -1)).flatten(3).permute(1, 2, 0, 3).flatten(2)
    patches = []
    for part in large.chunk(groups, 1):
        c = part.shape[1]
        size = c * torch.Size(k).numel()
        one.in_channels, one.out_channels, one.groups, one.bias = c, size, 1, None
        one.weight = nn.Parameter(torch.eye(size).reshape(size, c, *k).to(x))
        if layer.transposed:  # y = fold(Z): the derivative of <error, y> with respect to Z
            Z = torch.zeros(len(x), size, *x.shape[2:], dtype=x.dtype, requires_grad=True)
            one.in_channels, one.out_channels = size, c
            (seen,) = torch.autograd.grad((one(Z) * part).sum(), Z)
        else:
            seen = one(part)
        patches.append(seen.flatten(2).permute(1, 0, 2).flatten(1))
    patches = torch.stack(patches)
    return (flat, patches) if layer.transposed else (patches, flat)


def rows(layer, x, e):
    """A layer's input and the error at its output as rows, one pair for each group."""
    if isinstance(layer, CONVOLUTIONS):
        return [(a.detach().T, b.T) for a, b in zip(*convolution_columns(layer, x, e), strict=True)]
    return [(x.reshape(-1, x.shape[-1]), e.reshape(-1, e.shape[-1]))]
