"""The arithmetic of a run: its dtype, its memory layout, and whether it is compiled."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from deep.local import LocalModel
from deep.unsupported import Unsupported


@dataclass(frozen=True)
class Precision:
    """How the passes through a model are computed; its weights are float32.

    Args:
        dtype: "bfloat16" for autocast, in evaluation, too.
        compile: a backend of `torch.compile`, such as "inductor", for training; None for none.
        channels_last: keep images and kernels as (N, H, W, C), which convolutions of bfloat16 like.

    Raises:
        ValueError: for another dtype.

    >>> x = torch.zeros(2, 3)
    >>> with Precision("bfloat16").autocast("cpu"):
    ...     nn.Linear(3, 4)(x).dtype
    torch.bfloat16
    """

    dtype: Literal["float32", "bfloat16"] = "float32"
    compile: str | None = None
    channels_last: bool = False

    def __post_init__(self):
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"a run is computed in float32 or bfloat16, not {self.dtype!r}")

    def autocast(self, device: str) -> torch.autocast:
        """The context of a forward pass on a type of device."""
        return torch.autocast(device, torch.bfloat16, enabled=self.dtype == "bfloat16")

    def laid_out(self, thing):
        """A model, or images, in the memory layout."""
        if not self.channels_last or (isinstance(thing, torch.Tensor) and thing.dim() != 4):
            return thing
        return thing.to(memory_format=torch.channels_last)

    def compiled(self, model: nn.Module) -> nn.Module:
        """The model with a compiled forward pass, over the same parameters.

        Raises:
            Unsupported: for local losses, which a compiled whole runs uncompiled.
        """
        if self.compile is None:
            return model
        if isinstance(model, LocalModel):
            raise Unsupported(
                f"{model.local.rule.name} takes gradients inside of the forward pass, which torch.compile cannot "
                "trace: leave compile out, and compile what is inside of a module in place, model.part.compile()"
            )
        return torch.compile(model, backend=self.compile)
