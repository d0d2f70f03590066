"""A linear map on a layerwise edge."""

import torch.nn.functional as F
from torch.autograd import Function

from deep.ops.delivery import deliver
from deep.ops.function import alias, form_of, identity_form
from deep.ops.plasticity import feedback_gradients, shown


class LinearMap(Function):
    """y = x W^T + b, x (..., n_in); backward by the rule's layerwise edge."""

    @staticmethod
    def forward(x, weight, bias, rule, *stored):
        return F.linear(x, weight, bias)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, weight, _, ctx.rule, *stored = inputs
        ctx.save_for_backward(x, weight, *stored)

    @staticmethod
    def backward(ctx, error):
        return _linear_backward(ctx, error)


def _linear_backward(ctx, error):
    """The gradients of `LinearMap`."""
    x, weight, *stored = ctx.saved_tensors
    need_x, need_weight, need_bias, _, *need_stored = ctx.needs_input_grad
    stored, rule = tuple(stored), ctx.rule
    rows = error.reshape(-1, error.shape[-1])
    G = grads = None
    if need_weight or (any(need_stored) and "G" in rule.plasticity.reads):
        G = rows.mT @ x.reshape(-1, x.shape[-1])  # (n_out, n_in)
    if any(need_stored):
        grads = feedback_gradients(rule, stored, G, rows.mT[None], shown(rule.plasticity, weight))
    return (
        deliver(rule, stored, weight, rows).reshape(x.shape) if need_x else None,
        G if need_weight else None,
        rows.sum(0) if need_bias else None,
        None,
        *(grads or (None,) * len(stored)),
    )


@form_of(LinearMap)
class LinearMapForward(LinearMap):
    """`LinearMap` with forward-mode derivatives and vmap."""

    @staticmethod
    def setup_context(ctx, inputs, output):
        LinearMap.setup_context(ctx, inputs, output)
        ctx.save_for_forward(inputs[0], inputs[1])

    @staticmethod
    def jvp(ctx, x_t, weight_t, bias_t, _, *stored_t):
        x, weight = ctx.saved_tensors
        out = 0
        if x_t is not None:
            out = out + F.linear(x_t, weight)
        if weight_t is not None:
            out = out + F.linear(x, weight_t)
        return out if bias_t is None else out + bias_t


class LinearEdge(LinearMap):
    """The identity on y = f(x), f left to autograd behind a detached x: backward delivers the error to x, too.

    Args:
        x: (..., n_in).
        weight: (n_out, n_in), whose values are read only by rules that follow the weight.
        y: (..., n_out).
    """

    @staticmethod
    def forward(x, weight, y, rule, *stored):
        return alias(y)

    @staticmethod
    def backward(ctx, error):
        dx, dW, _, *rest = _linear_backward(ctx, error)
        return dx, dW, error, *rest


identity_form(LinearEdge, 2)
