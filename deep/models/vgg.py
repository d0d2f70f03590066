"""VGG (Simonyan & Zisserman 2015): stages of 3x3 convolutions, then a fully connected classifier."""

from collections.abc import Sequence

from torch import nn


def stages(channels: int, widths: Sequence[Sequence[int]], norm: bool) -> list[nn.Module]:
    """For each stage its 3x3 convolutions, each with ReLU and BatchNorm where wanted, and max pooling at its end.

    Args:
        channels: of the input.
        widths: output channels of each convolution, by stage.
        norm: normalise; the convolutions then have no bias.
    """
    layers: list[nn.Module] = []
    for stage in widths:
        for out in stage:
            layers.append(nn.Conv2d(channels, out, 3, padding=1, bias=not norm))
            layers += [nn.BatchNorm2d(out), nn.ReLU()] if norm else [nn.ReLU()]
            channels = out
        layers.append(nn.MaxPool2d(2))
    return layers


def classifier(inputs: int, hidden: int, classes: int) -> list[nn.Module]:
    """Two hidden layers with dropout, and a Linear head."""
    return [
        nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0.5), nn.Linear(hidden, classes),
    ]  # fmt: skip


def vgg(widths, hidden: int, classes: int, channels: int, size: int, norm: bool) -> nn.Sequential:
    """Stages of convolutions and a classifier, for images (N, channels, size, size)."""
    side = size // 2 ** len(widths)
    if not side:
        raise ValueError(f"{len(widths)} halvings leave nothing of an image of {size}")
    return nn.Sequential(*stages(channels, widths, norm), *classifier(widths[-1][-1] * side**2, hidden, classes))


def vgg_like(classes: int = 10, channels: int = 3, size: int = 32) -> nn.Sequential:
    """Three stages of two convolutions with BatchNorm, 128 to 512 channels, for small images; its sizes are ours.

    >>> sum(isinstance(layer, nn.Conv2d) for layer in vgg_like())
    6
    """
    return vgg(((128, 128), (256, 256), (512, 512)), 1024, classes, channels, size, norm=True)


def vgg13(classes: int = 1000, channels: int = 3, size: int = 224, hidden: int = 4096, norm: bool = False):
    """VGG-13, configuration B of the paper.

    Args:
        classes, channels, size: outputs, and images (N, channels, size, size), size at least 32.
        hidden: units of the two hidden layers of the classifier; 512 are usual for small images.
        norm: BatchNorm after every convolution.

    >>> import torch
    >>> with torch.device("meta"):
    ...     sum(p.numel() for p in vgg13().parameters())
    133047848
    """
    return vgg([(n, n) for n in (64, 128, 256, 512, 512)], hidden, classes, channels, size, norm)
