"""Plain convolutional networks."""

from torch import nn

from deep.models.vgg import stages


def cnn(channels: int = 3, classes: int = 10, width: int = 64) -> nn.Sequential:
    """Six 3x3 convolutions in three stages of two, each with BatchNorm and ReLU, max pooling between stages.

    The head is a mean over positions and a Linear layer.

    Args:
        channels: of the images (N, channels, H, W).
        classes: outputs.
        width: channels of the first stage; later stages have twice and four times as many.

    >>> import torch
    >>> cnn(width=4)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    widths = [(n, n) for n in (width, 2 * width, 4 * width)]
    *layers, _ = stages(channels, widths, norm=True)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, classes))


def lenet(channels: int = 3, classes: int = 10, size: int = 32) -> nn.Sequential:
    """LeNet-5 with ReLU and max pooling.

    Args:
        channels: of the images (N, channels, size, size).
        classes: outputs.
        size: 28 or more.

    >>> import torch
    >>> lenet(1, size=28)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    side = ((size - 4) // 2 - 4) // 2
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(16 * side * side, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, classes),
    )  # fmt: skip
