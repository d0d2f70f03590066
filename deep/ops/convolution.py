"""A convolution on a layerwise edge."""

import torch
import torch.nn.functional as F
from torch.autograd import Function

from deep.ops.delivery import check_stored, clamped
from deep.ops.function import alias, form_of, identity_form
from deep.ops.plasticity import feedback_gradients, shown


class ConvMap(Function):
    """A convolution of any dimension; backward by the rule's layerwise edge on the matricised kernel.

    The kernel (C_out, C_in/g, *k) is g matrices W (C_out/g, C_in/g k), and every position is a sample: y = W x on
    columns, x the patch that a position sees.  A stored matrix is (n_h, n_e), or (g, n_h, n_e) where there are groups.
    Of two factors Q P, P is a 1x1 convolution to r channels a group and Q has the kernel and the stride.

    The kernel (C_in, C_out/g, *k) of a transposed convolution is g matrices W (C_out/g k, C_in/g): x are the channels
    of one position and y is the patch that they are spread over, where patches add up.  So the error is the patch that
    a position sees of it, P has the kernel and the stride, and Q is a 1x1 convolution.

    Args:
        geometry: (stride, padding, dilation, transposed, output_padding, groups), as `torch.convolution` takes them.
    """

    @staticmethod
    def forward(x, weight, bias, rule, geometry, *stored):
        return torch.convolution(x, weight, bias, *geometry)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, weight, bias, ctx.rule, ctx.geometry, *stored = inputs
        ctx.bias_sizes = None if bias is None else [output.shape[1]]
        ctx.save_for_backward(x, weight, *stored)

    @staticmethod
    def backward(ctx, error):
        return _conv_backward(ctx, error)


def _conv_backward(ctx, error):
    x, weight, *stored = ctx.saved_tensors
    need_x, need_weight, need_bias, _, _, *need_stored = ctx.needs_input_grad
    stored, rule, (*_, transposed, _, groups) = tuple(stored), ctx.rule, ctx.geometry
    matrix = matricise(weight, groups, transposed)
    need_G = need_weight or (any(need_stored) and "G" in rule.plasticity.reads)
    factors, dx, crossed = (), None, (None, None)
    if need_x:
        check_stored(rule, stored)
        factors = rule.feedback.factors(stored, matrix)
    if len(factors) > 1:
        dx, crossed = _carried(factors, error, x, weight, ctx)
    joint = len(factors) == 1
    kernel = _kernel(factors[0], weight, transposed) if joint else weight
    got, dW, db = _backward(error, x, kernel, ctx, (joint, need_G, need_bias and ctx.bias_sizes is not None))
    dx = clamped(rule, got if joint else dx)
    grads = (None,) * len(stored)
    if any(need_stored):
        G = None if dW is None else matricise(dW, groups, transposed)
        errors = _columns(error, groups)
        if transposed and "C" in rule.plasticity.reads:
            errors = _patches(error, x, weight, ctx.geometry)
        grads = feedback_gradients(rule, stored, G, errors, shown(rule.plasticity, matrix), crossed)
    return (dx, dW if need_weight else None, db, None, None, *grads)


@form_of(ConvMap)
class ConvMapForward(ConvMap):
    """`ConvMap` with forward-mode derivatives and vmap."""

    @staticmethod
    def setup_context(ctx, inputs, output):
        ConvMap.setup_context(ctx, inputs, output)
        ctx.save_for_forward(inputs[0], inputs[1])

    @staticmethod
    def jvp(ctx, x_t, weight_t, bias_t, _rule, _geometry, *stored_t):
        x, weight = ctx.saved_tensors
        out = 0
        if x_t is not None:
            out = out + torch.convolution(x_t, weight, None, *ctx.geometry)
        if weight_t is not None:
            out = out + torch.convolution(x, weight_t, None, *ctx.geometry)
        return out if bias_t is None else out + bias_t.reshape(-1, *(1,) * (x.dim() - 2))


class ConvEdge(ConvMap):
    """`LinearEdge` of a convolution: the identity on y = f(x), whose backward delivers the error to x, too."""

    @staticmethod
    def forward(x, weight, y, rule, geometry, *stored):
        return alias(y)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, weight, _, ctx.rule, ctx.geometry, *stored = inputs
        ctx.bias_sizes = None  # what is third is no bias
        ctx.save_for_backward(x, weight, *stored)

    @staticmethod
    def backward(ctx, error):
        dx, dW, _, *rest = _conv_backward(ctx, error)
        return dx, dW, error, *rest


identity_form(ConvEdge, 2)


def matricise(kernel, groups, transposed=False):
    """The matrix of a kernel (C_out, C_in/g, *k), (C_out, C_in k), or g of them in front; see `ConvMap`."""
    matrix = kernel.flatten(1) if groups == 1 else kernel.reshape(groups, kernel.shape[0] // groups, -1)
    return matrix.mT if transposed else matrix


def _kernel(factor, weight, transposed):
    """A factor (g, n_h, c), or (g, c, n_e) where transposed, as the kernel to c channels a group in place of C_0."""
    return (factor if transposed else factor.mT).reshape(-1, *weight.shape[1:])


def _columns(error, groups):
    """An error (N, C, *positions) with its positions as columns, (N, C, p) or (N, g, C/g, p)."""
    flat = error.flatten(2)
    return flat if groups == 1 else flat.unflatten(1, (groups, -1))


def _carried(factors, error, x, weight, ctx):
    """The error through several factors, and what crosses the layer as `Covariance` takes it.

    The factor at the patches' end has the kernel; the others are 1x1 convolutions of r channels, each one batched
    product without copies.
    """
    *_, transposed, _, groups = ctx.geometry
    wide = len(factors) - 1 if transposed else 0
    signal, crossed = error, (None, None)
    for number, factor in reversed(tuple(enumerate(factors))):
        if number == wide:  # of what it is delivered to it takes the shape alone
            like = x.new_empty(()).expand(len(x), factor.shape[-2] * groups, *x.shape[2:]) if transposed else x
            signal = _backward(signal, like, _kernel(factor, weight, transposed), ctx, (True, False, False))[0]
        else:
            each = factor.expand(len(signal), *factor.shape) @ _columns(signal, groups)
            signal = each.reshape(len(signal), each.shape[1:-1].numel(), *signal.shape[2:])
        if len(factors) == 2 and factor is factors[1]:
            crossed = factor, _columns(signal, groups)
    return signal, crossed


def _patches(error, x, weight, geometry):
    """The error of a transposed convolution as each position of x sees it, (N, C_out k, p) or (N, g, C_out/g k, p)."""
    stride, padding, dilation, _, _, groups = geometry
    error = F.pad(error, [p for p in reversed(padding) for _ in range(2)])
    for axis, (k, step, gap) in enumerate(zip(weight.shape[2:], stride, dilation, strict=True), 2):
        windows = error.unfold(axis, gap * (k - 1) + 1, step)[..., ::gap]
        error = windows.narrow(axis, 0, x.shape[axis])  # (N, C_out, *positions, *k)
    k = weight[0, 0].dim()
    error = error.unflatten(1, (groups, -1)).movedim(tuple(range(3, 3 + k)), tuple(range(-k, 0)))
    return _columns(error.flatten(2, 2 + k).flatten(1, 2), groups)


def _backward(error, x, kernel, ctx, mask):
    if not any(mask):
        return None, None, None
    return torch.ops.aten.convolution_backward(error, x, kernel, ctx.bias_sizes, *ctx.geometry, mask)
