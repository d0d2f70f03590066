"""Residual networks (He et al. 2016), for small images and for large ones."""

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import nn


def _norm(channels, norm) -> nn.Module:
    return nn.BatchNorm2d(channels) if norm else nn.Identity()


def _shortcut(channels, out, stride, norm) -> nn.Module:
    """The identity, or a 1x1 convolution where the shape changes."""
    if stride == 1 and channels == out:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=not norm), _norm(out, norm))


class Block(nn.Module):
    """Two 3x3 convolutions, each with BatchNorm, and a shortcut."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int, norm: bool = True):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=not norm)
        self.norm1 = _norm(width, norm)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=not norm)
        self.norm2 = _norm(width, norm)
        self.shortcut = _shortcut(channels, width, stride, norm)

    def forward(self, x):
        inner = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(inner + self.shortcut(x))


class Bottleneck(nn.Module):
    """A 3x3 convolution between two of 1x1, the last to four times the width, and a shortcut."""

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int, norm: bool = True):
        super().__init__()
        out = self.expansion * width
        self.conv1 = nn.Conv2d(channels, width, 1, bias=not norm)
        self.norm1 = _norm(width, norm)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=not norm)  # torchvision's place for the stride
        self.norm2 = _norm(width, norm)
        self.conv3 = nn.Conv2d(width, out, 1, bias=not norm)
        self.norm3 = _norm(out, norm)
        self.shortcut = _shortcut(channels, out, stride, norm)

    def forward(self, x):
        x, skip = F.relu(self.norm1(self.conv1(x))), self.shortcut(x)
        return F.relu(self.norm3(self.conv3(F.relu(self.norm2(self.conv2(x))))) + skip)


STEMS = {"cifar": (3, 1, 1), "imagenet": (7, 2, 3)}
"""Kernel, stride and padding of the first convolution; the one for large images is followed by max pooling."""


class ResNet(nn.Module):
    """A residual network; every stage but the first halves the image and doubles the channels.

    Args:
        blocks: of each stage; (3, 3, 3) make ResNet-20.
        classes: outputs.
        channels: of the images (N, channels, H, W).
        width: channels of the first stage.
        stem: of the first layer, for small images or for large ones.
        block: `Block` or `Bottleneck`.
        norm: BatchNorm after every convolution; without it they have biases.

    Raises:
        ValueError: for an unknown stem.
    """

    def __init__(
        self,
        blocks: Sequence[int] = (3, 3, 3),
        classes: int = 10,
        channels: int = 3,
        width: int = 16,
        stem: Literal["cifar", "imagenet"] = "cifar",
        block: type = Block,
        norm: bool = True,
    ):
        super().__init__()
        if stem not in STEMS:
            raise ValueError(f"unknown stem {stem!r}: choose one of {', '.join(STEMS)}")
        self.conv = nn.Conv2d(channels, width, *STEMS[stem], bias=not norm)
        self.norm = _norm(width, norm)
        self.pool = nn.MaxPool2d(3, 2, 1) if stem == "imagenet" else nn.Identity()
        stages, n = [], width
        for stage, number in enumerate(blocks):
            for index in range(number):
                stages.append(block(n, width * 2**stage, 2 if stage and not index else 1, norm))
                n = block.expansion * width * 2**stage
        self.blocks = nn.Sequential(*stages)
        self.head = nn.Linear(n, classes)

    def forward(self, x):
        x = self.blocks(self.pool(F.relu(self.norm(self.conv(x)))))
        return self.head(x.mean((2, 3)))


def resnet20(classes: int = 10, channels: int = 3) -> ResNet:
    """ResNet-20 for small images, with convolutions as shortcuts.

    >>> sum(p.numel() for p in resnet20().parameters())
    272474
    """
    return ResNet((3, 3, 3), classes, channels)


def resnet32(classes: int = 10, channels: int = 3) -> ResNet:
    """ResNet-32 for small images, with convolutions as shortcuts.

    >>> sum(p.numel() for p in resnet32().parameters())
    466906
    """
    return ResNet((5, 5, 5), classes, channels)


def resnet18(
    classes: int = 1000, channels: int = 3, stem: Literal["cifar", "imagenet"] = "imagenet", norm: bool = True
) -> ResNet:
    """ResNet-18.

    >>> sum(p.numel() for p in resnet18().parameters())
    11689512
    """
    return ResNet((2, 2, 2, 2), classes, channels, 64, stem, norm=norm)


def resnet50(classes: int = 1000, channels: int = 3, stem: Literal["cifar", "imagenet"] = "imagenet") -> ResNet:
    """ResNet-50.

    >>> sum(p.numel() for p in resnet50().parameters())
    25557032
    """
    return ResNet((3, 4, 6, 3), classes, channels, 64, stem, Bottleneck)
