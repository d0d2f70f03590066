"""Normalised activities: what a promoted layer makes of its output over the batch."""

import torch
from torch import nn
from torch.autograd import Function


class Normalise(Function):
    """What an activity of `linfa.rules.activity` makes of a (n, N), and its exact derivative on all N samples at once.

    Returns the activity (n, N), the mean (n, 1) and the matrix K (n, n) for which it is K (a - mean).
    """

    @staticmethod
    def forward(ctx, a, activity):
        n, samples = a.shape
        root = samples**0.5
        one = a.new_full((samples, 1), 1 / root)
        h, kept = activity.forward(a / root, one)  # columns whose sums are expectations
        ctx.activity, ctx.kind = activity, type(kept)
        ctx.save_for_backward(*kept)
        mean, matrix = a.mean(1, keepdim=True), activity.matrix(torch.eye(n, dtype=a.dtype, device=a.device), kept)
        ctx.mark_non_differentiable(mean, matrix)
        return root * h, mean, matrix

    @staticmethod
    def backward(ctx, error, _mean, _matrix):
        if torch.is_grad_enabled():
            raise RuntimeError(f"{ctx.activity} has no second derivative here: create_graph=True cannot go through it")
        with torch.autocast(error.device.type, enabled=False):
            return ctx.activity.backward(error, ctx.kind(*ctx.saved_tensors)), None


class Normalisation(nn.Module):
    """Normalises the units of a layer: over the batch in training, by running statistics in evaluation.

    Every position of an image or a sequence is a sample.  The running statistics are ours: the means of E[a] and of the
    matrix K for which h = K (a - E[a]), with the weight of the past of `nn.BatchNorm2d`.  Under DDP every process
    normalises its own part of the batch.  It works in single precision at least, whatever autocast says.

    Args:
        activity: a part of a rule, `linfa.rules.Standardised` or `linfa.rules.Whitened`.
        units: n.
        axis: of the units, counted from the last.
        momentum: weight of a batch in the running statistics.

    Raises:
        ValueError: in training, for a single sample.
        RuntimeError: for a nested tensor.

    >>> import linfa
    >>> norm = Normalisation(linfa.rules.Standardised(), units=2)
    >>> norm(torch.tensor([[1.0, 0.0], [3.0, 0.0]])).round(decimals=6).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """

    def __init__(self, activity, units: int, axis: int = -1, momentum: float = 0.1):
        super().__init__()
        self.activity, self.axis, self.momentum = activity, axis, momentum
        self.register_buffer("mean", torch.zeros(units, 1))
        self.register_buffer("matrix", torch.eye(units))

    def extra_repr(self):
        return f"{self.activity}, {len(self.mean)}"

    def forward(self, x):
        if x.is_nested:
            raise RuntimeError(
                f"{self.activity} has no nested tensors, which nn.TransformerEncoder makes of padded batches in "
                "evaluation: build it with enable_nested_tensor=False"
            )
        with torch.autocast(x.device.type, enabled=False):
            units = x.movedim(self.axis, 0)
            a = units.flatten(1).to(torch.promote_types(x.dtype, torch.float32))
            if not self.training:
                h = self.matrix.to(a) @ (a - self.mean.to(a))
            elif a.shape[1] == 1:
                raise ValueError(f"a single sample has no variance to normalise by: {self.activity} needs a batch")
            else:
                h, mean, matrix = Normalise.apply(a, self.activity)
                with torch.no_grad():
                    self.mean.lerp_(mean.to(self.mean), self.momentum)
                    self.matrix.lerp_(matrix.to(self.matrix), self.momentum)
            return h.to(x.dtype).unflatten(1, units.shape[1:]).movedim(0, self.axis).contiguous()
