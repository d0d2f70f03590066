"""`nn.MultiheadAttention` by hand: queries, keys and values are three linear maps, the output projection a fourth."""

import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    """Attention on batches (N, T, n) without masks and dropout, with the parameters of a module of torch."""

    batch_first = True  # transformers of torch ask for it

    def __init__(self, module):
        super().__init__()
        assert module.batch_first
        self.num_heads, self.out_proj = module.num_heads, module.out_proj
        for name in ("in_proj_weight", "in_proj_bias", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
            self.register_parameter(name, getattr(module, name))

    def weights(self):
        """Those of queries, keys and values."""
        if self.in_proj_weight is None:
            return self.q_proj_weight, self.k_proj_weight, self.v_proj_weight
        return self.in_proj_weight.chunk(3)

    def project(self, name, x, weight, bias):
        """Queries "q", keys "k" or values "v"."""
        return F.linear(x, weight, bias)

    def forward(self, query, key, value, need_weights=False, **masks):
        assert not any(masks.values())
        parts = zip("qkv", (query, key, value), self.weights(), self.in_proj_bias.chunk(3), strict=True)
        q, k, v = (self.project(*part).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in parts)
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        return self.out_proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2)), None
