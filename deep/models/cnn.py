"""Plain convolutional networks."""

from torch import nn

from deep.models.vgg import stages


def cnn(channels: int = 3, classes: int = 10, width: int = 64, norm: bool = True) -> nn.Sequential:
    """Six 3x3 convolutions in three stages of two, each with ReLU, max pooling between stages.

    The head is a mean over positions and a Linear layer.

    Args:
        channels: of the images (N, channels, H, W).
        classes: outputs.
        width: channels of the first stage; later stages have twice and four times as many.
        norm: BatchNorm after every convolution.

    >>> import torch
    >>> cnn(width=4)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    widths = [(n, n) for n in (width, 2 * width, 4 * width)]
    *layers, _ = stages(channels, widths, norm)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, classes))


def lenet(channels: int = 3, classes: int = 10, size: int = 32, norm: bool = False) -> nn.Sequential:
    """LeNet-5 with ReLU and max pooling.

    Args:
        channels: of the images (N, channels, size, size).
        classes: outputs.
        size: 28 or more.
        norm: BatchNorm after every hidden layer.

    >>> import torch
    >>> lenet(1, size=28)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    side = ((size - 4) // 2 - 4) // 2

    def hidden(layer, normal, *after):
        return [layer, *([normal] if norm else []), nn.ReLU(), *after]

    return nn.Sequential(
        *hidden(nn.Conv2d(channels, 6, 5), nn.BatchNorm2d(6), nn.MaxPool2d(2)),
        *hidden(nn.Conv2d(6, 16, 5), nn.BatchNorm2d(16), nn.MaxPool2d(2)), nn.Flatten(),
        *hidden(nn.Linear(16 * side * side, 120), nn.BatchNorm1d(120)),
        *hidden(nn.Linear(120, 84), nn.BatchNorm1d(84)), nn.Linear(84, classes),
    )  # fmt: skip
