"""Images on the device, and where they come from.

images.py   a labelled set as one uint8 tensor                       augment.py   flip, shift, rotate whole batches
cifar.py    CIFAR-10 and CIFAR-100, official files                   idx.py       MNIST and Fashion-MNIST, IDX files
fashion.py  the Fashion-MNIST subset in this package                 digest.py    checksums of decoded images
load.py     every data set by its name                                loader.py  its batches
mixup.py    batches mixed in pairs                                   limited.py   shorter epochs
mapped.py   a copy in one file that is mapped, not read
"""

from deep.data.augment import flip, rotate, shift_crop
from deep.data.cifar import cifar10, cifar100
from deep.data.fashion import fashion_mnist_subset
from deep.data.idx import mnist
from deep.data.images import CorruptData, Images, UnknownData
from deep.data.limited import Limited
from deep.data.load import NAMES, SHIPPED, STREAMS, load
from deep.data.loader import InOrder, Loader, Shuffled
from deep.data.mixup import Mixed

__all__ = [
    "NAMES", "SHIPPED", "STREAMS", "CorruptData", "Images", "InOrder", "Limited", "Loader", "Mixed", "Shuffled",
    "UnknownData", "cifar10", "cifar100", "fashion_mnist_subset", "flip", "load", "mnist", "rotate", "shift_crop",
]  # fmt: skip
