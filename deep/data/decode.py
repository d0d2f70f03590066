"""From the bytes of an image file to a square of pixels, by the definitions that ImageNet's numbers rest on.

Training: a box of 8 to 100 % of the area and of ratio 3/4 to 4/3 (Szegedy et al. 2015), resized bilinearly, mirrored
half of the time.  Testing: the shorter side to 256, the central 224.  Bilinear means pillow's, which averages when it
shrinks.  The rotation that EXIF may ask for is not done, as nowhere in the literature.  Our own code.
"""

import io
import math
import warnings

import numpy as np

from deep.data.images import CorruptData

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
"""What an image may be, whatever it is called: some of ImageNet's .JPEG are PNG.  No format that runs programs."""


LARGEST = 1 << 26
"""Pixels of a resized image: a damaged header must not take the memory of all workers."""


def pillow() -> None:
    """Check that pillow is there.

    Raises:
        ImportError: with the command that installs it.
    """
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        raise ImportError("image files are read with pillow: pip install 'linfa-lab[imagenet]'") from None


def random_resized_crop(content: bytes, size: int, generator: np.random.Generator) -> np.ndarray:
    """A random part of an image, resized and perhaps mirrored.

    A JPEG at least twice as large as needed is decoded at 1/2, 1/4 or 1/8 of its size, by its leading frequencies.

    Args:
        content: of the file.
        size: of the square in pixels.
        generator: of the box and of the mirroring.

    Returns:
        (size, size, 3) uint8.

    Raises:
        CorruptData: if it is no image, or not whole; the reason is in it.

    >>> from PIL import Image
    >>> file = io.BytesIO()
    >>> Image.new("L", (50, 40), 7).save(file, "JPEG")
    >>> square = random_resized_crop(file.getvalue(), 8, np.random.default_rng(0))
    >>> square.shape, np.unique(square)
    ((8, 8, 3), array([7], dtype=uint8))
    """

    def crop(image, Image):
        W, H = image.size
        x, y, w, h = random_box(W, H, generator)
        mirrored = generator.random() < 0.5
        whole = image.draft(None, (math.ceil(W * size / w), math.ceil(H * size / h)))  # at least size pixels of the box
        scale = W / whole[1][2] if whole else 1
        box = x / scale, y / scale, (x + w) / scale, (y + h) / scale
        left, top = math.floor(box[0]), math.floor(box[1])
        part = image.crop((left, top, min(math.ceil(box[2]), image.width), min(math.ceil(box[3]), image.height)))
        inside = box[0] - left, box[1] - top, min(box[2] - left, part.width), min(box[3] - top, part.height)
        square = _rgb(part).resize((size, size), Image.Resampling.BILINEAR, inside)
        return np.asarray(square.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else square)

    return _decode(content, crop)


def random_box(W: int, H: int, generator: np.random.Generator) -> tuple[int, int, int, int]:
    """A box in an image of W x H pixels: left, top, width, height.

    Its area is uniform in 8 to 100 % of the image, the logarithm of its ratio uniform between 3/4 and 4/3, its place
    uniform; where ten draws do not fit into the image, the largest central box of such a ratio.
    """
    for _ in range(10):
        area = W * H * generator.uniform(0.08, 1)
        ratio = math.exp(generator.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= W and 0 < h <= H:
            return int(generator.integers(W - w + 1)), int(generator.integers(H - h + 1)), w, h
    w, h = min(W, max(1, round(H * 4 / 3))), min(H, max(1, round(W * 4 / 3)))
    return (W - w) // 2, (H - h) // 2, w, h


def center_crop(content: bytes, size: int) -> np.ndarray:
    """The centre of an image whose shorter side is resized to 256/224 of ``size``.

    Args, Returns, Raises:
        as `random_resized_crop`.

    >>> from PIL import Image
    >>> file = io.BytesIO()
    >>> Image.new("RGB", (50, 40), (7, 7, 7)).save(file, "PNG")
    >>> center_crop(file.getvalue(), 8).shape
    (8, 8, 3)
    """

    def crop(image, Image):
        W, H = image.size
        short = round(size * 256 / 224)
        w, h = (short, int(short * H / W)) if W <= H else (int(short * W / H), short)
        if w * h > LARGEST:
            raise ValueError(f"{W} x {H} pixels are too thin to be resized to {w} x {h}")
        left, top = round((w - size) / 2), round((h - size) / 2)
        resized = _rgb(image).resize((w, h), Image.Resampling.BILINEAR)
        return np.asarray(resized.crop((left, top, left + size, top + size)))

    return _decode(content, crop)


def _rgb(image):
    if image.mode.startswith("I"):  # 16 bits of grey, which pillow would cut at 255
        from PIL import Image

        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")


def _decode(content, crop):
    """``crop`` of the opened image; whatever a decoder says of bytes that it cannot read is one kind of error."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF data, which nobody reads
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                return crop(image, Image)
    except UnidentifiedImageError:
        raise CorruptData("it is no JPEG, PNG, GIF, BMP or WebP") from None
    except Exception as error:  # decoders raise nearly everything
        raise CorruptData(f"it does not decode: {error or type(error).__name__}") from None
