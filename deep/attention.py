"""`nn.MultiheadAttention` promoted: queries, keys and values are three linear maps, the output projection a fourth.

The three may stand in one parameter; the output projection is a layer of its own ("out_proj").  What is between them
keeps its exact derivative, and so do biases, those that are appended to keys and values too.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from deep import maps, ops
from deep.layers import Cut, CutLinear, EdgeLinear, Promoted, edge_stored


class Attention(Promoted):
    """Mixed into a promoted `nn.MultiheadAttention`."""

    def project(self, name, x, weight, bias):
        """Queries, keys or values of an input (N, T, n)."""
        return F.linear(x, weight, bias)

    def attend(
        self, query, key, value, key_padding_mask=None, need_weights=True, attn_mask=None, average_attn_weights=True,
        is_causal=False,
    ):  # fmt: skip
        """The forward pass of `nn.MultiheadAttention`, with its arguments."""
        if is_causal and attn_mask is None:
            raise RuntimeError("is_causal is a hint on attn_mask, as in nn.MultiheadAttention: pass the mask as well")
        shaped, restored = _batches(query.dim() == 3, self.batch_first)
        weights = [self.decayed(weight) for weight in maps.projections(self)]
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        each = zip("qkv", map(shaped, (query, key, value)), weights, biases, strict=True)
        q, k, v = (self.project(*one) for one in each)
        causal = is_causal and key_padding_mask is None and not need_weights
        mask = None if causal else _merged(attn_mask, key_padding_mask, self.num_heads, q.dtype)
        if self.bias_k is not None:
            k = torch.cat([k, self.bias_k.to(k.dtype).expand(len(k), 1, -1)], 1)
            v = torch.cat([v, self.bias_v.to(v.dtype).expand(len(v), 1, -1)], 1)
        if self.add_zero_attn:
            k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
        if mask is not None:
            mask = F.pad(mask, (0, k.shape[1] - mask.shape[-1]))
        q, k, v = (x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in (q, k, v))  # (N, heads, T, n)
        dropped, probabilities = self.dropout if self.training else 0.0, None
        if need_weights:
            scores = q * q.shape[-1] ** -0.5 @ k.mT
            scores = (scores if mask is None else scores + mask).softmax(-1)
            probabilities = F.dropout(scores, dropped) if dropped else scores
            mixed = probabilities @ v
            probabilities = probabilities.mean(1) if average_attn_weights else probabilities
            probabilities = probabilities if query.dim() == 3 else probabilities[0]
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, mask, dropped, causal)
        return restored(self.out_proj(mixed.transpose(1, 2).flatten(2))), probabilities


def _batches(batched, batch_first):
    """Functions to (N, T, n) from the layout that attention is called with, and back."""
    if not batched:
        return lambda x: x[None], lambda x: x[0]
    if batch_first:
        return (lambda x: x,) * 2
    return (lambda x: x.transpose(0, 1),) * 2


def _merged(attn_mask, key_padding_mask, heads, dtype):
    """Both masks as what is added to the scores (N, heads, T, S); None without any."""
    masks = []
    if attn_mask is not None:
        masks.append(attn_mask if attn_mask.dim() == 2 else attn_mask.unflatten(0, (-1, heads)))
    if key_padding_mask is not None:
        masks.append(torch.atleast_2d(key_padding_mask)[:, None, None])
    masks = [torch.zeros_like(m, dtype=dtype).masked_fill(m, -torch.inf) if m.dtype is torch.bool else m.to(dtype)
             for m in masks]  # fmt: skip
    return sum(masks) if masks else None


class EdgeAttention(Attention, nn.MultiheadAttention):
    """`nn.MultiheadAttention` on layerwise edges, one each for queries, keys and values.

    Without gradients it is the plain module, with its fast path.
    """

    def project(self, name, x, weight, bias):
        x, weight, bias, *stored = ops.autocast(x, weight, bias, *edge_stored(self, name))
        return ops.apply(ops.LinearMap, x, weight, bias, self.rule, *stored)

    def forward(self, query, key, value, *args, **kwargs):
        if not torch.is_grad_enabled():
            return super().forward(query, key, value, *args, **kwargs)
        return self.attend(query, key, value, *args, **kwargs)


class CutAttention(Attention, Cut, nn.MultiheadAttention):
    """Self-attention on the direct route: one cut, the input of queries, keys and values alike."""

    def linear_map(self, x, *args, **kwargs):
        return self.attend(x, x, x, *args, **kwargs)

    def forward(self, query, key, value, *args, **kwargs):
        if not torch.is_grad_enabled():
            return nn.MultiheadAttention.forward(self, query, key, value, *args, **kwargs)
        if key is not query or value is not query:
            raise RuntimeError(
                f"{self.path} attends from one input to another, and on the direct route a layer has one cut: leave it "
                f"on backpropagation with exact=('{self.path}',) or choose a layerwise rule"
            )
        return Cut.forward(self, query, *args, **kwargs)


class EdgeOutProjection(EdgeLinear, NonDynamicallyQuantizableLinear):
    """The output projection of attention on a layerwise edge."""


class CutOutProjection(CutLinear, NonDynamicallyQuantizableLinear):
    """The output projection of attention on the direct route."""


LAYERWISE = {nn.MultiheadAttention: EdgeAttention, NonDynamicallyQuantizableLinear: EdgeOutProjection}
DIRECT = {nn.MultiheadAttention: CutAttention, NonDynamicallyQuantizableLinear: CutOutProjection}
PLAIN = {kind: plain for table in (LAYERWISE, DIRECT) for plain, kind in table.items()}
