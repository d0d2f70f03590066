"""The scale of the loss: what does not come from the loss has to grow with it.

A gradient scaler multiplies the loss by S and divides the gradients by S, and to accumulate over k batches the loss is
divided by k.  Gradients of the loss follow, and what does not is `deep.scaled`.
"""

from dataclasses import replace

from torch import nn

from deep.layers import Promoted
from deep.local import LocalModel
from deep.scaled import scaled


def set_loss_scale(model: nn.Module, scale: float) -> nn.Module:
    """Tell a promoted model by which factor its loss is multiplied, until it is told otherwise; returns the model.

    Only rules with a decay, penalties or a clamp, or with a plasticity that is not ``proportional`` to the loss,
    differ.  Under float16 autocast, which needs a gradient scaler, these refuse to run until they have been told.

        deep.set_loss_scale(model, scaler.get_scale())        # before each step
        scaler.scale(criterion(model(x), y)).backward()

        deep.set_loss_scale(model, 1 / k)                     # once, to accumulate over k batches
        (criterion(model(x), y) / k).backward()

    Raises:
        ValueError: for a scale that is not positive.
        TypeError: for a model that is not promoted.

    >>> import deep, linfa, torch
    >>> net = deep.promote(nn.Sequential(nn.Linear(2, 3)), linfa.bp(decay=0.5))
    >>> _ = set_loss_scale(net, 8.0)
    >>> (8.0 * net(torch.zeros(1, 2)).sum()).backward()
    >>> torch.allclose(net[0].weight.grad / 8.0, 0.5 * net[0].weight)
    True
    """
    if not scale > 0:
        raise ValueError(f"the scale of a loss is positive; got {scale}")
    promoted = [module for module in model.modules() if isinstance(module, (Promoted, LocalModel))]
    if not promoted:
        raise TypeError(f"{type(model).__name__} is not promoted, and backpropagation needs no scale of the loss")
    for module in promoted:
        if isinstance(module, LocalModel):  # whose gradients are multiplied as they are, all but the decay
            module.local = replace(module.local, loss_scale=scale)
            continue
        if module.unscaled is None:
            module.unscaled = module.rule
        module.rule = scaled(module.unscaled, scale)
    return model
