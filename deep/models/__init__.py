"""A few networks, made of nn.Linear and nn.Conv2d alone, ready to be promoted.

mlp.py          fully connected                     cnn.py        a six-layer CNN and LeNet
vgg.py          VGG-13 and a small one              alexnet.py    for images of 224 and of 32
resnet.py       ResNet-18, 20, 32 and 50            retina.py     a CNN with a bottleneck behind its retina
vit.py          for CIFAR, and ViT-B/16             language.py   a decoder-only transformer
transformer.py  attention and the block of both
"""

from collections.abc import Callable

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


def build(name: str, channels: int, size: int, classes: int, **sizes) -> nn.Module:
    """A model by name for images (N, channels, size, size).

    Args:
        name: "mlp" (three hidden layers of 512), "cnn" (six convolutions), "lenet", "vgg" (three stages), "vgg13",
            "alexnet", "resnet18", "resnet20", "resnet32", "resnet50", "retina", "vit" (CIFAR size) or "vit-b16".
        channels, size, classes: of the images.
        sizes: further arguments of the model, such as ``width=16`` for "cnn", ``hidden=(800,)`` for "mlp".

    Raises:
        ValueError: for another name, arguments that the model does not have, or a size that it does not take.

    >>> type(build("lenet", channels=1, size=28, classes=10)).__name__
    'Sequential'
    >>> build("mlp", channels=1, size=28, classes=10, hidden=(64,))[1].out_features
    64
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}: choose one of {', '.join(MODELS)}")
    try:
        return MODELS[name](channels, size, classes, **sizes)
    except TypeError as error:
        raise ValueError(f"{name} takes no {', '.join(sizes)}: {error}") from None


def _mlp(channels, size, classes, hidden=(512, 512, 512), **sizes):
    return mlp((channels * size * size, *hidden, classes), **sizes)


def _vgg13(channels, size, classes, **sizes):
    small = {} if size >= LARGE else {"hidden": 512, "norm": True}
    return vgg13(classes, channels, size, **small | sizes)


def _alexnet(channels, size, classes, **sizes):
    return (alexnet if size >= LARGE else alexnet_cifar)(classes, channels, **sizes)


def _resnet(make):
    def build(channels, size, classes, **sizes):
        return make(classes, channels, "imagenet" if size >= LARGE else "cifar", **sizes)

    return build


MODELS: dict[str, Callable[..., nn.Module]] = {
    "mlp": _mlp,
    "cnn": lambda channels, size, classes, **sizes: cnn(channels, classes, **sizes),
    "lenet": lambda channels, size, classes, **sizes: lenet(channels, classes, size, **sizes),
    "vgg": lambda channels, size, classes: vgg_like(classes, channels, size),
    "vgg13": _vgg13,
    "alexnet": _alexnet,
    "resnet18": _resnet(resnet18),
    "resnet20": lambda channels, size, classes: resnet20(classes, channels),
    "resnet32": lambda channels, size, classes: resnet32(classes, channels),
    "resnet50": _resnet(resnet50),
    "retina": lambda channels, size, classes, **sizes: retina(classes, channels, size=size, **sizes),
    "vit": lambda channels, size, classes, **sizes: ViT(
        size, **{"patch": 4} | sizes, classes=classes, channels=channels
    ),
    "vit-b16": lambda channels, size, classes: vit_b16(classes, channels, size),
}
"""Name -> what builds the model of (channels, size, classes)."""
