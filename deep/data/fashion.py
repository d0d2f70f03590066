"""Real images that ship with the package: a subset of Fashion-MNIST."""

from importlib.resources import as_file, files

from deep.data.idx import mnist
from deep.data.images import Images

KNOWN = {
    "58e4771950337033c6f5665c995cab5743ed89bf7399fd5c583cf4de053257d1": "Fashion-MNIST, first 20,000 training images",
    "29c8d9f398a29fc328af7ba681dfc3bd86ec4075b43ba2ff985128028b9b3f00": "Fashion-MNIST, first 5,000 training images",
    "8d46efb2efae7259de048298adb99140d06082b91c430833a54d7ce30f21c9c9": "Fashion-MNIST, first 1,000 test images",
}
"""SHA-256 of the decoded images."""


def fashion_mnist_subset(split: str = "train") -> Images:
    """The first 5,000 training or the first 1,000 test images of Fashion-MNIST, in their official order.

    Zalando Research (Xiao, Rasul & Vollgraf 2017), MIT licence; the notice lies beside the files.  Made by cutting the
    four official IDX files after 5,000 and 1,000 records.

    Args:
        split: "train" or "test".

    >>> images = fashion_mnist_subset("test")
    >>> tuple(images.x.shape), images.source
    ((1000, 1, 28, 28), 'Fashion-MNIST, first 1,000 test images')
    """
    with as_file(files("deep.data") / "fashion_mnist_subset") as folder:
        return mnist(folder, split, "Fashion-MNIST", KNOWN)
