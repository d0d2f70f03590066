"""Vision transformers."""

import torch
from torch import nn

from deep.models.transformer import Block, embedding


class ViT(nn.Module):
    """Vision transformer; the defaults are the network of LDFA on CIFAR-10, which averages its tokens (the mean, and
    the standard deviation of the position embedding, are ours).

    Args:
        image: side of the square images (N, channels, image, image).
        patch: side of a patch.
        dim, depth, heads: of the transformer.
        mlp_ratio: hidden units of a block in units of dim.
        classes, channels: outputs and input channels.
        class_token: read the class off a token of its own, as Dosovitskiy et al. (2021) do, and not off the mean.

    Raises:
        ValueError: if the patch does not divide the image, or the heads the dimension.

    >>> ViT(image=8, patch=4, dim=16, depth=1, heads=2)(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self, image=32, patch=4, dim=384, depth=8, heads=8, mlp_ratio=2, classes=10, channels=3, class_token=False
    ):
        super().__init__()
        if image % patch:
            raise ValueError(f"patches of {patch} do not tile an image of {image}")
        self.patch_embed = nn.Conv2d(channels, dim, patch, patch)
        self.token = embedding(1, dim) if class_token else None
        self.position = embedding((image // patch) ** 2 + class_token, dim)
        self.blocks = nn.Sequential(*(Block(dim, heads, mlp_ratio * dim) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, x):
        x = self.patch_embed(x).flatten(2).mT.contiguous()  # (N, T, dim); in any other layout every block would copy it
        if self.token is not None:
            x = torch.cat([self.token.weight.to(x.dtype).expand(len(x), 1, -1), x], 1)
        x = x + self.position(torch.arange(x.shape[1], device=x.device))
        x = self.norm(self.blocks(x))
        return self.head(x.mean(1) if self.token is None else x[:, 0])


def vit_b16(classes: int = 1000, channels: int = 3, image: int = 224) -> ViT:
    """ViT-B/16 (Dosovitskiy et al. 2021).

    >>> with torch.device("meta"):
    ...     sum(p.numel() for p in vit_b16().parameters())
    86567656
    """
    return ViT(image, 16, 768, 12, 12, 4, classes, channels, class_token=True)
