"""A vision transformer."""

import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    """Multi-head self-attention on tokens (N, T, dim), with one fused projection to queries, keys and values."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} is not a multiple of {heads} heads")
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (N, heads, T, dim/heads)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, dim: int, heads: int, hidden: int):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(dim), Attention(dim, heads)
        self.norm2, self.fc1, self.fc2 = nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class ViT(nn.Module):
    """Vision transformer with mean-pooled tokens; the defaults are the network of LDFA on CIFAR-10.

    The position embedding is an `nn.Embedding`, so that every parameter belongs to a standard layer.

    Args:
        image: side of the square images (N, channels, image, image).
        patch: side of a patch.
        dim, depth, heads: of the transformer.
        mlp_ratio: hidden units of a block in units of dim.
        classes, channels: outputs and input channels.

    Raises:
        ValueError: if the patch does not divide the image, or the heads the dimension.

    >>> ViT(image=8, patch=4, dim=16, depth=1, heads=2)(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(self, image=32, patch=4, dim=384, depth=8, heads=8, mlp_ratio=2, classes=10, channels=3):
        super().__init__()
        if image % patch:
            raise ValueError(f"patches of {patch} do not tile an image of {image}")
        self.patch_embed = nn.Conv2d(channels, dim, patch, patch)
        self.position = nn.Embedding((image // patch) ** 2, dim)
        nn.init.normal_(self.position.weight, std=0.02)
        self.blocks = nn.Sequential(*(Block(dim, heads, mlp_ratio * dim) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, x):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)  # (N, T, dim)
        x = x + self.position(torch.arange(x.shape[1], device=x.device))
        return self.head(self.norm(self.blocks(x)).mean(1))
