"""A few networks, made of nn.Linear and nn.Conv2d alone, ready to be promoted.

mlp.py          fully connected                     cnn.py        a six-layer CNN and LeNet
vgg.py          VGG-13 and a small one              alexnet.py    for images of 224 and of 32
resnet.py       ResNet-18, 20, 32 and 50            retina.py     a CNN with a bottleneck behind its retina
vit.py          for CIFAR, and ViT-B/16             language.py   a decoder-only transformer
transformer.py  attention and the block of both
"""

from torch import nn

from deep.models.alexnet import alexnet, alexnet_cifar
from deep.models.cnn import cnn, lenet
from deep.models.language import LanguageModel
from deep.models.mlp import mlp
from deep.models.resnet import ResNet, resnet18, resnet20, resnet32, resnet50
from deep.models.retina import retina
from deep.models.vgg import vgg13, vgg_like
from deep.models.vit import ViT, vit_b16

__all__ = [
    "LanguageModel", "ResNet", "ViT", "alexnet", "alexnet_cifar", "build", "cnn", "lenet", "mlp", "resnet18",
    "resnet20", "resnet32", "resnet50", "retina", "vgg13", "vgg_like", "vit_b16",
]  # fmt: skip

LARGE = 128
"""Side from which on an image gets the stem and the classifier made for ImageNet."""


def build(name: str, channels: int, size: int, classes: int) -> nn.Module:
    """A model by name for images (N, channels, size, size).

    Args:
        name: "mlp" (three hidden layers of 512), "cnn" (six convolutions), "lenet", "vgg" (three stages), "vgg13",
            "alexnet", "resnet18", "resnet20", "resnet32", "resnet50", "retina", "vit" (CIFAR size) or "vit-b16".

    Raises:
        ValueError: for another name, or a size that the model does not take.

    >>> type(build("lenet", channels=1, size=28, classes=10)).__name__
    'Sequential'
    """
    large = size >= LARGE
    stem = "imagenet" if large else "cifar"
    models = {
        "mlp": lambda: mlp((channels * size * size, 512, 512, 512, classes)),
        "cnn": lambda: cnn(channels, classes),
        "lenet": lambda: lenet(channels, classes, size),
        "vgg": lambda: vgg_like(classes, channels, size),
        "vgg13": lambda: vgg13(classes, channels, size) if large else vgg13(classes, channels, size, 512, norm=True),
        "alexnet": lambda: (alexnet if large else alexnet_cifar)(classes, channels),
        "resnet18": lambda: resnet18(classes, channels, stem),
        "resnet20": lambda: resnet20(classes, channels),
        "resnet32": lambda: resnet32(classes, channels),
        "resnet50": lambda: resnet50(classes, channels, stem),
        "retina": lambda: retina(classes, channels, size=size),
        "vit": lambda: ViT(size, 4, classes=classes, channels=channels),
        "vit-b16": lambda: vit_b16(classes, channels, size),
    }
    if name not in models:
        raise ValueError(f"unknown model {name!r}: choose one of {', '.join(models)}")
    return models[name]()
