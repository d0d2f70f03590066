"""Layers by kind: what takes a rule's backward, what it becomes, and what keeps its exact derivative."""

from torch import nn

from deep import attention, factored, layers, maps

EXACT = (
    nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.Embedding, nn.EmbeddingBag, nn.PReLU,
)  # fmt: skip
"""Layers with parameters that keep their exact derivative in every rule."""

LAYERWISE = layers.LAYERWISE | attention.LAYERWISE
DIRECT = layers.DIRECT | attention.DIRECT

PLAIN = layers.PLAIN | attention.PLAIN | factored.PLAIN
"""The class that each promoted class goes back to."""


def original(module: nn.Module) -> type:
    """The class of a module without promotion and without what `torch.nn.utils.parametrize` put on top.

    >>> import linfa
    >>> from deep.promote import promote
    >>> original(promote(nn.Linear(4, 4), linfa.fa())) is nn.Linear
    True
    """
    kind = maps.plain_type(module)
    return PLAIN.get(kind, kind)
