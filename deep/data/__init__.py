"""Images on the device, and where they come from.

images.py   a labelled set as one uint8 tensor                       augment.py   flip, shift, rotate whole batches
cifar.py    CIFAR-10 and CIFAR-100, official files                   idx.py       MNIST and Fashion-MNIST, IDX files
fashion.py  the Fashion-MNIST subset in this package                 digest.py    checksums of decoded images
load.py     every data set by its name                               loader.py    its batches
mixup.py    batches mixed in pairs                                   limited.py   shorter epochs
mapped.py   a copy in one file that is mapped, not read              get.py       fetches the official files
trivial_augment.py   one operation of fourteen for each image
"""

from deep.data.augment import OnPixels, cutout, flip, grayscale, rotate, shift_crop
from deep.data.cifar import cifar10, cifar100
from deep.data.fashion import fashion_mnist_subset
from deep.data.idx import mnist
from deep.data.images import CorruptData, Images, UnknownData
from deep.data.limited import Limited
from deep.data.load import NAMES, SHIPPED, STREAMS, load
from deep.data.loader import InOrder, Loader, Shuffled
from deep.data.mixup import Mixed
from deep.data.trivial_augment import trivial_augment

__all__ = [
    "NAMES", "SHIPPED", "STREAMS", "CorruptData", "Images", "InOrder", "Limited", "Loader", "Mixed", "OnPixels",
    "Shuffled", "UnknownData", "cifar10", "cifar100", "cutout", "fashion_mnist_subset", "flip", "grayscale", "load",
    "mnist", "rotate", "shift_crop", "trivial_augment",
]  # fmt: skip
