"""AlexNet (Krizhevsky 2014, the version with one column), for large images and for small ones."""

from torch import nn

from deep.models.vgg import classifier


def _alexnet(stem, kernel, pool, side, hidden, classes) -> nn.Sequential:
    return nn.Sequential(
        stem, nn.ReLU(), nn.MaxPool2d(pool, 2),
        nn.Conv2d(64, 192, kernel, padding=kernel // 2), nn.ReLU(), nn.MaxPool2d(pool, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(pool, 2),
        nn.AdaptiveAvgPool2d(side), *classifier(256 * side**2, hidden, classes),
    )  # fmt: skip


def alexnet(classes: int = 1000, channels: int = 3) -> nn.Sequential:
    """AlexNet for images of 224, with the channels of torchvision's.

    >>> import torch
    >>> with torch.device("meta"):
    ...     sum(p.numel() for p in alexnet().parameters())
    61100840
    """
    return _alexnet(nn.Conv2d(channels, 64, 11, 4, 2), 5, 3, 6, 4096, classes)


def alexnet_cifar(classes: int = 10, channels: int = 3) -> nn.Sequential:
    """The same channels for images of about 32, with a 3x3 stem of stride 2 and smaller kernels, which are ours.

    >>> import torch
    >>> alexnet_cifar()(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    return _alexnet(nn.Conv2d(channels, 64, 3, 2, 1), 3, 2, 2, 1024, classes)
