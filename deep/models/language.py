"""A language model."""

import torch
from torch import nn

from deep.models.transformer import Block, embedding


class LanguageModel(nn.Module):
    """Decoder-only transformer: token and position embeddings, causal pre-norm blocks, and a head of its own.

    The head is not tied to the embedding: a rule needs one edge for a weight.

    Args:
        vocabulary: number of different tokens.
        context: longest sequence.
        dim, depth, heads: of the transformer.
        mlp_ratio: hidden units of a block in units of dim.

    >>> LanguageModel(vocabulary=11, context=8, dim=16, depth=1, heads=2)(torch.zeros(3, 5, dtype=torch.long)).shape
    torch.Size([3, 5, 11])
    """

    def __init__(self, vocabulary: int, context: int = 256, dim=384, depth=6, heads=6, mlp_ratio=4):
        super().__init__()
        self.embed, self.position = embedding(vocabulary, dim), embedding(context, dim)
        self.blocks = nn.Sequential(*(Block(dim, heads, mlp_ratio * dim, causal=True) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, vocabulary, bias=False)

    def forward(self, tokens):
        """Logits (N, T, vocabulary) of the next token at each of T <= context positions of ``tokens`` (N, T)."""
        if tokens.shape[-1] > self.position.num_embeddings:
            raise ValueError(f"{tokens.shape[-1]} tokens exceed the context of {self.position.num_embeddings}")
        x = self.embed(tokens) + self.position(torch.arange(tokens.shape[-1], device=tokens.device))
        return self.head(self.norm(self.blocks(x)))
