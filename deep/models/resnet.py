"""Residual networks for small images."""

import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    """Two 3x3 convolutions with BatchNorm and a shortcut, a 1x1 convolution where the shape changes."""

    def __init__(self, channels: int, out: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        inner = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(inner + self.shortcut(x))


class ResNet(nn.Module):
    """The CIFAR residual network of He et al. (2016), of depth 6 blocks + 2, with convolutions as shortcuts.

    Args:
        blocks: in each of the three stages; 3 make ResNet-20.
        classes: outputs.
        channels: of the images (N, channels, H, W).
        width: channels of the first stage.
    """

    def __init__(self, blocks: int = 3, classes: int = 10, channels: int = 3, width: int = 16):
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        stages, n = [], width
        for stage in range(3):
            for block in range(blocks):
                out = width * 2**stage
                stages.append(Block(n, out, 2 if stage and not block else 1))
                n = out
        self.blocks = nn.Sequential(*stages)
        self.head = nn.Linear(n, classes)

    def forward(self, x):
        x = self.blocks(F.relu(self.norm(self.conv(x))))
        return self.head(x.mean((2, 3)))


def resnet20(classes: int = 10, channels: int = 3) -> ResNet:
    """ResNet-20.

    >>> sum(p.numel() for p in resnet20().parameters())
    272474
    """
    return ResNet(3, classes, channels)
