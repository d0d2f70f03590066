"""Images on the device, or on their way to it, and where they come from.

images.py   a labelled set as one uint8 tensor                       augment.py   flip, shift, rotate whole batches
cifar.py    CIFAR-10 and CIFAR-100, official files                   idx.py       MNIST and Fashion-MNIST, IDX files
fashion.py  the Fashion-MNIST subset in this package                 digest.py    checksums of decoded images
load.py     every data set by its name                               loader.py    its batches
mixup.py    batches mixed in pairs                                   limited.py   shorter epochs
mapped.py   a copy in one file that is mapped, not read              get.py       fetches the official files
imagenet.py ImageNet in class folders or in shards                   files.py     decodes files while a run trains
folder.py   a tree of image files, shards.py: images in tar files    listing.py   which images there are
decode.py   from the bytes of a file to a crop
trivial_augment.py   one operation of fourteen for each image
"""

from deep.data.augment import OnPixels, cutout, flip, grayscale, rotate, shift_crop
from deep.data.cifar import cifar10, cifar100
from deep.data.fashion import fashion_mnist_subset
from deep.data.files import ImageFiles
from deep.data.idx import mnist
from deep.data.imagenet import imagenet
from deep.data.images import CorruptData, Images, UnknownData
from deep.data.limited import Limited
from deep.data.listing import Skipped
from deep.data.load import NAMES, SHIPPED, STREAMS, load
from deep.data.loader import InOrder, Loader, Shuffled
from deep.data.mixup import Mixed
from deep.data.trivial_augment import trivial_augment

__all__ = [
    "NAMES", "SHIPPED", "STREAMS", "CorruptData", "ImageFiles", "Images", "InOrder", "Limited", "Loader", "Mixed",
    "OnPixels", "Shuffled", "Skipped", "UnknownData", "cifar10", "cifar100", "cutout", "fashion_mnist_subset", "flip",
    "grayscale", "imagenet", "load", "mnist", "rotate", "shift_crop", "trivial_augment",
]  # fmt: skip
