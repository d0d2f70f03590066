"""Derivatives of a few functions of torch by a shorter way than torch's own; the values are the same.

Torch pushes a tangent through a normalisation in a dozen passes over the activity, and through a linear map in two
products, one with the tangent that the weight does not have.  It differentiates the input gradient of a convolution by
one with a kernel as large as the image.  Here each is one pass, or one product, of the kind that backpropagation takes.
"""

import torch
import torch.nn.functional as F
from torch.autograd import Function, forward_ad
from torch.autograd.function import once_differentiable
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from deep.ops import autocast

backward = torch.ops.aten.convolution_backward


class Instead(TorchFunctionMode):
    """While it is open, some functions of torch are run by others.

    Args:
        others: function -> the one in its place, with the same arguments.
    """

    def __init__(self, others: dict):
        super().__init__()
        self.others = others

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return self.others.get(func, func)(*args, **(kwargs or {}))


def pushes(function):
    """Decorates (x, tangent of x, ..) -> (value, its tangent): run for a function where x alone has a tangent."""

    def decorate(pushed):
        def either(input, *args, **kwargs):
            primal, tangent = forward_ad.unpack_dual(input)
            tensors = [t for t in (*args, *kwargs.values()) if isinstance(t, torch.Tensor)]
            if tangent is None or any(forward_ad.unpack_dual(t).tangent is not None for t in tensors):
                return function(input, *args, **kwargs)
            return forward_ad.make_dual(*pushed(primal, tangent.detach(), *args, **kwargs))

        PUSHED[function] = either
        return either

    return decorate


PUSHED: dict = {}
"""Functions whose forward mode is shorter here; tangents are constants to autograd."""


@pushes(torch.convolution)
def _convolution(x, tangent, weight, bias, *geometry):
    return torch.convolution(x, weight, bias, *geometry), torch.convolution(tangent, weight.detach(), None, *geometry)


@pushes(F.linear)
def _linear(x, tangent, weight, bias=None):
    return F.linear(x, weight, bias), F.linear(tangent, weight.detach())


@pushes(F.batch_norm)
def _batch_norm(x, tangent, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """The Jacobian of each channel is symmetric, so that its gradient is its tangent."""
    if training:
        F._verify_batch_size(x.size())
    y, *used = torch.native_batch_norm(x, weight, bias, running_mean, running_var, training, momentum, eps)
    scale, mask = None if weight is None else weight.detach(), (True, False, False)
    statistics = running_mean, running_var, *(s.detach() for s in used)
    pull = torch.ops.aten.native_batch_norm_backward
    return y, pull(tangent, x.detach(), scale, *statistics, training, eps, mask)[0]


@pushes(F.layer_norm)
def _layer_norm(x, tangent, normalized_shape, weight=None, bias=None, eps=1e-5):
    """The same, but for the weight, which comes after, and in the precision of the statistics."""
    y, *used = torch.native_layer_norm(x, normalized_shape, weight, bias, eps)
    pull, mask = torch.ops.aten.native_layer_norm_backward, (True, False, False)
    used = [s.detach() for s in used]
    tangent = pull(tangent.to(used[0]), x.detach().to(used[0]), normalized_shape, *used, None, None, mask)[0]
    return y, (tangent if weight is None else tangent * weight.detach()).to(y)


@pushes(F.gelu)
def _gelu(x, tangent, approximate="none"):
    """The Jacobian is diagonal."""
    pull = torch.ops.aten.gelu_backward
    return F.gelu(x, approximate=approximate), pull(tangent, x.detach(), approximate=approximate)


def _attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """Attention by any backend, and its tangent by the weights P, which are made again and kept by nobody.

    With scores S, dP = P (dS - sum of P dS), so that the tangent is P dv + (P dS) v - (sum of P dS) y.
    """
    given = {"attn_mask": attn_mask, "dropout_p": dropout_p, "is_causal": is_causal}
    given |= {"scale": scale, "enable_gqa": enable_gqa}
    inputs = autocast(query, key, value)
    primals, tangents = zip(*map(forward_ad.unpack_dual, inputs), strict=True)
    if all(tangent is None for tangent in tangents):
        return F.scaled_dot_product_attention(query, key, value, **given)
    alike = query.shape[:-2] == key.shape[:-2] == value.shape[:-2]
    if dropout_p or not alike or (attn_mask is not None and forward_ad.unpack_dual(attn_mask).tangent is not None):
        with sdpa_kernel(SDPBackend.MATH):  # which has a forward mode
            return F.scaled_dot_product_attention(query, key, value, **given)
    y = F.scaled_dot_product_attention(*primals, **given)
    with torch.no_grad():
        tangents = [torch.zeros_like(x) if t is None else t for x, t in zip(primals, tangents, strict=True)]
        q, k, v, dq, dk, dv = (x.reshape(-1, *x.shape[-2:]) for x in (*primals, *tangents))
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        scores = (q @ k.mT).mul_(scale).view(*y.shape[:-1], k.shape[1])
        if is_causal:
            scores.masked_fill_(scores.new_ones(scores.shape[-2:], dtype=torch.bool).tril().logical_not(), -torch.inf)
        elif attn_mask is not None:
            scores = torch.where(attn_mask, scores, -torch.inf) if attn_mask.dtype is torch.bool else scores + attn_mask
        P = scores.softmax(-1) if attn_mask is None else torch.ops.aten._safe_softmax(scores, -1)
        P = P.view(-1, *P.shape[-2:]).to(q)
        PdS = torch.baddbmm(q @ dk.mT, dq, k.mT).mul_(P).mul_(scale)
        mixed, total = torch.baddbmm(P @ dv, PdS, v).view_as(y), PdS.sum(-1).view(*y.shape[:-1], 1)
        tangent = torch.addcmul(mixed, total, y, value=-1, out=torch.empty_like(y))
    return forward_ad.make_dual(y, tangent)


PUSHED[F.scaled_dot_product_attention] = _attention


def _multi_head(*args, **kwargs):
    """`F.multi_head_attention_forward`, within which nothing is replaced: by the backend that has a forward mode."""
    with sdpa_kernel(SDPBackend.MATH):
        return F.multi_head_attention_forward(*args, **kwargs)


PUSHED[F.multi_head_attention_forward] = _multi_head


class Twice(Instead):
    """While it is open, convolutions have an input gradient that can be differentiated by their weights.

    Args:
        start: the tensor by which `errors` differentiates, and nothing else does.
    """

    def __init__(self):
        super().__init__({f: self._convolve(f) for f in (torch.conv1d, torch.conv2d, torch.conv3d)})
        self.start, self.of_errors = None, False

    def errors(self, value):
        """The gradient of a value by ``start``, with a graph."""
        self.of_errors = True
        try:
            return torch.autograd.grad(value, self.start, create_graph=True)[0]
        finally:
            self.of_errors = False

    def _convolve(self, function):
        spatial = int(function.__name__[-2])

        def convolve(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
            if isinstance(padding, str) or input.dim() != spatial + 2:
                return function(input, weight, bias, stride, padding, dilation, groups)
            sizes = [[n] * spatial if isinstance(n, int) else list(n) for n in (stride, padding, dilation)]
            tensors = autocast(input, weight, bias)
            return _Convolution.apply(*tensors, (*sizes, False, [0] * spatial, groups), self, input is self.start)

        return convolve


class _Convolution(Function):
    """A convolution within `Twice`."""

    @staticmethod
    def forward(ctx, x, weight, bias, geometry, twice, at_start):
        ctx.geometry, ctx.twice, ctx.at_start = geometry, twice, at_start
        ctx.save_for_backward(x, weight)
        return torch.convolution(x, weight, bias, *geometry)

    @staticmethod
    def backward(ctx, error):
        x, weight = ctx.saved_tensors
        need_x, need_weight, need_bias = ctx.needs_input_grad[:3]
        if ctx.twice.of_errors:
            dx = _InputGradient.apply(error, weight, x, ctx.geometry) if need_x else None
            return dx, None, None, None, None, None
        if torch.is_grad_enabled():
            raise RuntimeError("a second derivative within local losses is taken of errors alone")
        mask = (need_x and not ctx.at_start, need_weight, need_bias)
        return *backward(error, x, weight, [weight.shape[0]], *ctx.geometry, mask), None, None, None


class _InputGradient(Function):
    """The gradient (N, C_in, ..) of a convolution by its input, which may be differentiated by error and weight."""

    @staticmethod
    def forward(ctx, error, weight, x, geometry):
        ctx.geometry = geometry
        ctx.save_for_backward(error, weight)
        return backward(error, x, weight, None, *geometry, (True, False, False))[0]

    @staticmethod
    @once_differentiable
    def backward(ctx, q):
        error, weight = ctx.saved_tensors
        need_error, need_weight = ctx.needs_input_grad[:2]
        d_error = torch.convolution(q, weight, None, *ctx.geometry) if need_error else None
        d_weight = backward(error, q, weight, None, *ctx.geometry, (False, True, False))[1] if need_weight else None
        return d_error, d_weight, None, None
