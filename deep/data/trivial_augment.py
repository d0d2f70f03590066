"""TrivialAugment (Mueller & Hutter 2021, arXiv 2103.10158) on whole batches of bytes.

Each image is changed by one of fourteen operations, at one of 31 strengths, both drawn uniformly.  Read: the "wide"
ranges, in the paper and in its authors' code; the operations are those of Pillow, with the nearest pixel and black
outside.  It is not torchvision's TrivialAugmentWide, where strength 0 of brightness, color, contrast and sharpness
changes nothing (here it leaves 0.01 of the image) and strength 0 of solarize inverts white.
"""

import functools

import torch
import torch.nn.functional as F

from deep.data.images import luma

STRENGTHS = 31


def trivial_augment(x, generator):
    """Change each image by one random operation of random strength.

    Args:
        x: (N, C, H, W) uint8, C 1 or 3; normalised images go through `OnPixels`.
        generator: of the operations, strengths and signs.

    Raises:
        TypeError: for images that are not bytes.
    """
    if x.dtype != torch.uint8:
        raise TypeError(f"trivial_augment changes uint8 images, not {x.dtype}: OnPixels makes them of normalised ones")
    draw = functools.partial(torch.randint, size=(len(x),), generator=generator, device=x.device)
    number, level, sign = draw(len(OPERATIONS)), draw(STRENGTHS), 2 * draw(2) - 1
    order = number.argsort()
    parts = order.split(torch.bincount(number, minlength=len(OPERATIONS)).tolist())
    out = torch.empty_like(x)
    for change, part in zip(OPERATIONS.values(), parts, strict=True):
        out[part] = change(x[part].float(), level[part], sign[part]).to(torch.uint8)
    return out


def _share(level):
    """Strength in [0, 1], a number for each image that fits its pixels."""
    return (level / (STRENGTHS - 1))[:, None, None, None]


def _steps(level, most):
    """Strength in 0 .. most, rounded down, a number for each image that fits its pixels."""
    return (level * most // (STRENGTHS - 1))[:, None, None, None]


def _blend(base, x, level):
    """From 0.01 of an image and 0.99 of a plainer one to twice the difference between them."""
    return (base + (0.01 + 1.99 * _share(level)) * (x - base)).clamp(0, 255).floor()


def _grey(x):
    return luma(x.byte()).float()


def brightness(x, level, sign):
    return _blend(torch.zeros_like(x), x, level)


def color(x, level, sign):
    return _blend(_grey(x), x, level)


def contrast(x, level, sign):
    return _blend(_grey(x).mean((1, 2, 3), keepdim=True).add(0.5).floor(), x, level)


def sharpness(x, level, sign):
    kernel, smooth = x.new_ones(x.shape[1], 1, 3, 3), x.clone()
    kernel[:, :, 1, 1] = 5.0
    smooth[..., 1:-1, 1:-1] = (F.conv2d(x, kernel, groups=x.shape[1]) / 13).add(0.5).floor()
    return _blend(smooth, x, level)


def posterize(x, level, sign):
    """Keep the 8 .. 2 highest bits."""
    lost = _steps(level, 6)
    return (x.int() >> lost) << lost


def solarize(x, level, sign):
    """Invert what is bright."""
    return torch.where(x < 256 - _steps(level, 256), x, 255 - x)


def autocontrast(x, level, sign):
    """Stretch each channel over all values."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return torch.where(high > low, ((x - low) * 255).div((high - low).clamp(min=1), rounding_mode="floor"), x)


def equalize(x, level, sign):
    """Spread each channel so that its values are equally frequent."""
    values = x.flatten(2).long()  # (n, C, H W)
    count = values.new_zeros(*values.shape[:2], 256).scatter_add_(2, values, torch.ones_like(values))
    last = count.gather(2, values.amax(2, keepdim=True))  # (n, C, 1)
    step = (count.sum(2, keepdim=True) - last) // 255
    table = (step // 2 + count.cumsum(2) - count).div(step.clamp(min=1), rounding_mode="floor").clamp(max=255)
    return torch.where(step > 0, table.gather(2, values), values).view_as(x)


def _affine(x, xx=1.0, xy=0.0, x0=0.0, yx=0.0, yy=1.0, y0=0.0):
    """The pixel at (column, row) is the one that was at (xx column + xy row + x0, yx column + yy row + y0), or black.

    Coefficients are numbers or (n, 1, 1), places are the centres of pixels.
    """
    n, C, H, W = x.shape
    row, column = (torch.arange(k, device=x.device) + 0.5 for k in (H, W))
    row = row[:, None]
    place = torch.zeros(n, 1, 1, device=x.device)  # of every image
    there_x = (place + xx * column + xy * row + x0).floor().long()  # (n, H, W)
    there_y = (place + yx * column + yy * row + y0).floor().long()
    inside = (there_x >= 0) & (there_x < W) & (there_y >= 0) & (there_y < H)
    index = there_y.clamp(0, H - 1) * W + there_x.clamp(0, W - 1)
    taken = x.flatten(2).gather(2, index.flatten(1)[:, None].expand(n, C, H * W)).view_as(x)
    return taken * inside[:, None]


def shear_x(x, level, sign):
    return _affine(x, xy=0.99 * _share(level * sign)[:, 0])


def shear_y(x, level, sign):
    return _affine(x, yx=0.99 * _share(level * sign)[:, 0])


def translate_x(x, level, sign):
    return _affine(x, x0=sign[:, None, None] * _steps(level, 32)[:, 0])


def translate_y(x, level, sign):
    return _affine(x, y0=sign[:, None, None] * _steps(level, 32)[:, 0])


def rotate(x, level, sign):
    """Around the middle, by at most 135 degrees."""
    H, W = x.shape[2:]
    angle = torch.deg2rad((sign[:, None, None] * _steps(level, 135)[:, 0]).float())
    cos, sin = angle.cos(), angle.sin()
    x0, y0 = (W - cos * W + sin * H) / 2, (H - sin * W - cos * H) / 2
    return _affine(x, xx=cos, xy=-sin, x0=x0, yx=sin, yy=cos, y0=y0)


def identity(x, level, sign):
    return x


OPERATIONS = {
    change.__name__: change
    for change in (
        identity, autocontrast, equalize, rotate, solarize, color, posterize, contrast, brightness, sharpness, shear_x,
        shear_y, translate_x, translate_y,
    )
}  # fmt: skip
"""(pixels (n, C, H, W) float32 in 0..255, strengths (n,) in 0..30, signs (n,)) -> pixels, by name."""
