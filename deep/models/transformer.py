"""What the transformers share: attention and the pre-norm block."""

import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    """Multi-head self-attention on tokens (N, T, dim), with one fused projection to queries, keys and values.

    Args:
        dim, heads: units, and how many heads share them.
        causal: a token sees itself and what came before it.

    Raises:
        ValueError: if the heads do not divide the dimension.
    """

    def __init__(self, dim: int, heads: int, causal: bool = False):
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} is not a multiple of {heads} heads")
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (N, heads, T, dim/heads)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Pre-norm transformer block with ``hidden`` units between its two last maps."""

    def __init__(self, dim: int, heads: int, hidden: int, causal: bool = False):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(dim), Attention(dim, heads, causal)
        self.norm2, self.fc1, self.fc2 = nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


def embedding(number: int, dim: int) -> nn.Embedding:
    """Learned vectors of standard deviation 0.02, in a layer of their own so that a model has no loose parameters."""
    layer = nn.Embedding(number, dim)
    nn.init.normal_(layer.weight, std=0.02)
    return layer
