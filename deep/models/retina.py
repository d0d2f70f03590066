"""The retina: a few channels lead from the eye to the rest of the network."""

from torch import nn


def retina(classes: int = 10, channels: int = 1, width: int = 32, bottleneck: int = 4, size: int = 32) -> nn.Sequential:
    """A retina of two convolutions, which ends in a few channels, two more convolutions, and a classifier.

    LDFA trains such a network on grayscale CIFAR-10, with all convolutions under low-dimensional feedback.  The kernels
    of 9, the stride, the widths and the hidden layer are ours; neither sizes nor training of the paper's are claimed.

    Args:
        classes: outputs.
        channels: of the images (N, channels, size, size), 1 for grayscale.
        width: channels of every convolution but the second.
        bottleneck: channels at the exit of the retina.
        size: side of the images.

    >>> import torch
    >>> retina()(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 10])
    """
    widths, layers = (width, bottleneck, width, width), []
    for n_in, n_out, stride in zip((channels, *widths), widths, (1, 1, 2, 2), strict=False):
        layers += [nn.Conv2d(n_in, n_out, 9, stride, 4), nn.ReLU()]
    side = -(-size // 4)
    head = nn.Linear(width * side**2, 256), nn.ReLU(), nn.Linear(256, classes)
    return nn.Sequential(*layers, nn.Flatten(), *head)
