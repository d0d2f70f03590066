"""The random numbers of a pass, drawn again: of the same seed, in the same precision and order."""

import torch


class Draws:
    """Where the random numbers of a pass come from.

    Args:
        seed: of torch's generator as the forward pass began.
        dtype: of the model's parameters; torch draws other numbers for another one.
        autocast: whether the pass ran under autocast to bfloat16.
    """

    def __init__(self, seed: int = 0, dtype: torch.dtype = torch.float64, autocast: bool = False):
        self.generator, self.dtype = torch.Generator().manual_seed(seed), dtype
        self.low = torch.bfloat16 if autocast else dtype

    def parameters(self, size):
        """Normal numbers drawn like a parameter, in float64."""
        return torch.randn(size, dtype=self.dtype, generator=self.generator).double()

    def operands(self, size):
        """Normal numbers drawn like the operand of a linear map, in float64."""
        return torch.randn(size, dtype=self.low, generator=self.generator).double()

    def like(self, x):
        """Normal numbers drawn like an activity, in float64."""
        return torch.empty_like(x).normal_(generator=self.generator).double()

    def context(self):
        """That of the forward pass."""
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.low == torch.bfloat16)
