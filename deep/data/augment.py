"""Augmentation of whole batches (N, C, H, W), each image by its own draw from an explicit generator."""

import math

import torch
import torch.nn.functional as F


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
