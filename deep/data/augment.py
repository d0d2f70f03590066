"""Augmentation of whole batches (N, C, H, W), each image by its own draw from an explicit generator."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from deep.data.images import channels, luma, normalise


def flip(x, generator):
    """Mirror each image left to right with probability 1/2."""
    mirrored = torch.rand(len(x), generator=generator, device=x.device) < 0.5
    return torch.where(mirrored[:, None, None, None], x.flip(-1), x)


def shift_crop(x, generator, padding: int = 4):
    """Pad with zeros and crop back to size at a random place.

    Args:
        x: (N, C, H, W).
        generator: of the places.
        padding: largest shift in pixels.
    """
    N, _, H, W = x.shape
    dy, dx = torch.randint(0, 2 * padding + 1, (2, N), generator=generator, device=x.device)
    rows = dy[:, None] + torch.arange(H, device=x.device)  # (N, H)
    columns = dx[:, None] + torch.arange(W, device=x.device)  # (N, W)
    padded = F.pad(x, (padding,) * 4).permute(0, 2, 3, 1)  # (N, H + 2p, W + 2p, C)
    sample = torch.arange(N, device=x.device)[:, None, None]
    return padded[sample, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def rotate(x, generator, degrees: float = 10.0):
    """Rotate each image by an angle uniform in [-degrees, degrees], bilinearly, with zeros outside.

    Args:
        x: (N, C, H, W), square images.
        generator: of the angles.
        degrees: largest angle.
    """
    angle = (2 * torch.rand(len(x), generator=generator, device=x.device) - 1) * math.radians(degrees)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    turn = torch.stack([torch.stack([cos, -sin, zero], -1), torch.stack([sin, cos, zero], -1)], -2).to(x)
    return F.grid_sample(x, F.affine_grid(turn, list(x.shape), align_corners=False), align_corners=False)


def cutout(x, generator, size: int = 16):
    """Set a square around a random pixel to zero, which for normalised images is the mean; it may reach over the edge.

    DeVries & Taylor 2017 (arXiv 1708.04552), read: 16 pixels for CIFAR-10 and 8 for CIFAR-100.

    Args:
        x: (N, C, H, W).
        generator: of the places.
        size: side of the square in pixels.
    """
    N, _, H, W = x.shape
    top, left = (
        torch.randint(0, n, (N, 1), generator=generator, device=x.device) - size // 2 for n in (H, W)
    )  # fmt: skip
    rows, columns = torch.arange(H, device=x.device), torch.arange(W, device=x.device)
    inside_rows = (top <= rows) & (rows < top + size)  # (N, H)
    inside_columns = (left <= columns) & (columns < left + size)  # (N, W)
    return x.masked_fill((inside_rows[:, :, None] & inside_columns[:, None, :])[:, None], 0)


def grayscale(x, generator, probability: float = 0.2):
    """Replace each image by its luma, in all channels, with some probability.

    Args:
        x: (N, C, H, W), pixels; normalised images go through `OnPixels`.
        generator: of the choice.
        probability: of an image.
    """
    chosen = torch.rand(len(x), generator=generator, device=x.device) < probability
    return torch.where(chosen[:, None, None, None], luma(x), x)


@dataclass(frozen=True)
class OnPixels:
    """An augmentation of bytes, for normalised images: they become the pixels they were and are normalised again.

    Args:
        augment: (uint8 images, generator) -> uint8 images.
        mean, std: of each channel, in units of [0, 1].
    """

    augment: Callable
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, x, generator):
        pixels = ((x * channels(self.std, x) + channels(self.mean, x)) * 255).round().clamp(0, 255).byte()
        return normalise(self.augment(pixels, generator), self.mean, self.std)
