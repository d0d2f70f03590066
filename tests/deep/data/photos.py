"""Small real JPEG files, in class folders and in shards."""

import io
import tarfile

import numpy as np

from deep.data import fashion_mnist_subset


def photo(number, size=(50, 40), mode="RGB"):
    """A picture: a garment before a smooth background, in colour."""
    from PIL import Image

    rng = np.random.default_rng(number)
    background = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    garment = Image.fromarray(fashion_mnist_subset("test").x[number % 1000, 0].numpy()).resize(size)
    return Image.composite(Image.new("RGB", size, (200, 180, 90)), background, garment).convert(mode)


def content(image, form="JPEG", **options):
    """The bytes of a file."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def write_tree(folder, classes, images, first=0):
    """So many images in folders called n0, n1, ...; their numbers go on through the classes."""
    for label in range(classes):
        (folder / f"n{label}").mkdir(parents=True)
        for number in range(images):
            path = folder / f"n{label}" / f"{number:03d}.JPEG"
            path.write_bytes(content(photo(first + label * images + number), quality=90))


def write_shard(path, members):
    """Members (name, bytes) of a tar file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as shard:
        for name, part in members:
            header = tarfile.TarInfo(name)
            header.size = len(part)
            shard.addfile(header, io.BytesIO(part))


def samples(folder):
    """The members of a shard, (name, bytes), for every image of a tree, in its order."""
    for label, place in enumerate(sorted(folder.iterdir())):
        for path in sorted(place.iterdir()):
            yield [
                (f"{place.name}_{path.stem}.jpg", path.read_bytes()),
                (f"{place.name}_{path.stem}.cls", b"%d" % label),
            ]
