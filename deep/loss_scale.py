"""The scale of the loss: what does not come from the loss has to grow with it.

A gradient scaler multiplies the loss by S and divides the gradients by S, and to accumulate over k batches the loss is
divided by k.  Gradients of the loss follow; a decay, a penalty, a clamp on delivered errors and a plasticity that
normalises the error or reads the forward map do not.
"""

from dataclasses import dataclass, replace
from typing import final

from torch import nn

from deep.layers import Promoted
from deep.local import LocalModel
from linfa.rules import Fixed, Moments, Plasticity, Rule


@final
@dataclass(frozen=True)
class Scaled(Plasticity):
    """A plasticity whose velocity is S times as large when the loss is: S v(G / S, C / S^2, J)."""

    inner: Plasticity
    scale: float

    reads = property(lambda self: self.inner.reads)
    factors = property(lambda self: self.inner.factors)
    directions = property(lambda self: self.inner.directions)

    def velocity(self, stored, moments):
        G, C = moments.G, moments.C
        seen = Moments(
            G=None if G is None else G * (1 / self.scale),
            C=None if C is None else C * (1 / self.scale**2),
            J=moments.J,
        )
        return tuple(None if v is None else self.scale * v for v in self.inner.velocity(stored, seen))

    def learns(self, stored):
        return self.inner.learns(stored)

    def claims(self, rule):
        return ()


def scaled(rule: Rule, scale: float) -> Rule:
    """The rule with all its gradients multiplied by a positive number, if the loss is multiplied by it."""
    if scale == 1:
        return rule
    part, feedback, plasticity = rule.parameterisation, rule.feedback, rule.plasticity
    if part.penalties:
        part = replace(part, penalties=tuple(replace(p, weight=scale * p.weight) for p in part.penalties))
    if feedback.clamp is not None:
        feedback = replace(feedback, clamp=scale * feedback.clamp)
    if not isinstance(plasticity, Fixed):
        plasticity = Scaled(plasticity, scale)
    return replace(rule, decay=scale * rule.decay, feedback=feedback, plasticity=plasticity, parameterisation=part)


def set_loss_scale(model: nn.Module, scale: float) -> nn.Module:
    """Tell a promoted model by which factor its loss is multiplied, until it is told otherwise; returns the model.

    Only rules with a decay, penalties or a clamp, or with feedback that reads more than G = E[error activity^T],
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
