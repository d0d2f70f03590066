"""A few networks, made of nn.Linear and nn.Conv2d alone, ready to be promoted.

mlp.py   fully connected       cnn.py   a six-layer CNN and LeNet       resnet.py   ResNet-20       vit.py   a ViT
"""

from torch import nn

from deep.models.cnn import cnn, lenet
from deep.models.mlp import mlp
from deep.models.resnet import ResNet, resnet20
from deep.models.vit import ViT

__all__ = ["ResNet", "ViT", "build", "cnn", "lenet", "mlp", "resnet20"]


def build(name: str, channels: int, size: int, classes: int) -> nn.Module:
    """A model by name for images (N, channels, size, size).

    Args:
        name: "mlp" (three hidden layers of 512), "cnn" (six convolutions), "lenet", "resnet20" or "vit" (CIFAR size).

    Raises:
        ValueError: for another name.

    >>> type(build("lenet", channels=1, size=28, classes=10)).__name__
    'Sequential'
    """
    models = {
        "mlp": lambda: mlp((channels * size * size, 512, 512, 512, classes)),
        "cnn": lambda: cnn(channels, classes),
        "lenet": lambda: lenet(channels, classes, size),
        "resnet20": lambda: resnet20(classes, channels),
        "vit": lambda: ViT(size, 4, classes=classes, channels=channels),
    }
    if name not in models:
        raise ValueError(f"unknown model {name!r}: choose one of {', '.join(models)}")
    return models[name]()
