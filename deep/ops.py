"""The autograd functions: an exact forward, and the backward that a rule describes.

Errors arrive as torch delivers them, dLoss/dy with samples in rows.  ``stored`` are the matrices of an edge, as in
`linfa.rules.feedback`; their gradients are minus the velocities of the rule's plasticity, so any optimiser moves them.
Forward-mode derivatives (``jvp``) use the true weight.
"""

import torch
import torch.nn.functional as F
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.autograd import Function, forward_ad

from linfa.rules import Moments
from linfa.tree import tree_map


def deliver(rule, stored, weight, error):
    """The delivered error in rows, error @ B^T through each factor in turn: (N, n_e) -> (N, n_h)."""
    check_stored(rule, stored)
    for factor in reversed(rule.feedback.factors(stored, weight)):
        error = error @ factor.mT
    return clamped(rule, error)


def clamped(rule, error):
    """A delivered error within the clamp of the rule; None stays None."""
    bound = rule.feedback.clamp
    return error if error is None or bound is None else error.clip(-bound, bound)


def apply(kind, *args):
    """Run one of the functions of this module, in its form for forward mode and vmap only where one of them is on.

    That form keeps the input alive until the graph goes, after its memory would have been free for gradients, and
    torch.compile cannot trace it.
    """
    if not torch.compiler.is_compiling() and any(_transformed(x) for x in args if isinstance(x, torch.Tensor)):
        return TRANSFORMED[kind].apply(*args)
    return kind.apply(*args) if torch.is_grad_enabled() else kind.forward(*args)


def _transformed(x):
    """Whether a tensor carries a forward-mode tangent or belongs to a transform of torch.func."""
    return is_functorch_wrapped_tensor(x) or forward_ad.unpack_dual(x).tangent is not None


def check_stored(rule, stored):
    """Raise RuntimeError where an error is wanted from a layer that was promoted without feedback."""
    if len(stored) != len(rule.feedback.names):
        raise RuntimeError(
            f"a gradient of {rule.name} is asked for at the input of a layer that has no feedback, because on the "
            "sample given to promote its input needed none: promote without sample=, or with one that requires grad"
        )


class Covariance:
    """E[d d^T] - E[d] E[d]^T of per-sample errors d, as the errors themselves: P @ C costs the rank of P, not n_e.

    Args:
        error: (n, ..., n_e, p), the gradient of a mean over N = n p samples, d = N error, in n blocks of p columns.
        crossed: (P, P @ error) if that product is at hand, for one matrix P.
    """

    def __init__(self, error, crossed=(None, None), mean=None, scale=1.0):
        self.error, self.crossed, self.scale = error, crossed, scale
        self.count = error.shape[0] * error.shape[-1]
        self.mean = error.sum((0, -1))[..., None] if mean is None else mean  # (..., n_e, 1)

    def __rmatmul__(self, P):
        signal = self.crossed[1] if P is self.crossed[0] else P @ self.error
        return self.scale * (self.count * (signal @ self.error.mT).sum(0) - (P @ self.mean) @ self.mean.mT)

    def __mul__(self, factor):
        return Covariance(self.error, self.crossed, self.mean, self.scale * factor)

    def matrix(self):
        """The matrix itself, (..., n_e, n_e)."""
        second = (self.error @ self.error.mT).sum(0)
        varies = (self.largest() > 0).to(second.dtype)
        return self.scale * varies * (self.count * second - self.mean @ self.mean.mT)

    def largest(self):
        """The largest variance (..., 1, 1); 0 where all errors are equal but for rounding, as those of one sample."""
        second = self.count * self.error.square().sum((0, -1))
        variance = second - self.mean[..., 0].square()
        rounding = 8 * torch.finfo(second.dtype).eps * second.amax(-1)
        largest = variance.amax(-1)
        return torch.where(largest > rounding, largest, 0)[..., None, None]

    def normalised(self):
        """The covariance divided by its largest variance, 0 if that is."""
        largest = self.largest()
        scale = torch.where(largest > 0, 1 / torch.where(largest > 0, largest, 1), 0)
        return Covariance(self.error, self.crossed, self.mean, scale)


def feedback_gradients(rule, stored, G, error, J, crossed=(None, None)):
    """Minus the velocity of each stored matrix; None for one that does not learn.

    Args:
        G: E[error activity^T], (n_e, n_h), or None if the plasticity does not read it.
        error, crossed: as `Covariance` takes them.
        J: the forward map as it is shown, (n_e, n_h), or None if the plasticity does not read it.
    """
    reads, C = rule.plasticity.reads, None
    if "C" in reads:
        C = Covariance(error, crossed)
        if torch.compiler.is_compiling():  # dynamo traces products of tensors only
            C = C.matrix()
    moments = Moments(
        G=G if "G" in reads else None,
        C=C,
        J=J if "J" in reads else None,
    )
    return tuple(None if v is None else -v for v in rule.plasticity.velocity(stored, moments))


def shown(plasticity, weight):
    """A weight (..., n_e, n_h) as a plasticity sees it: itself, or the mean of (W xi) xi^T over its random directions.

    That of a convolution shows itself as the matrix that it is, xi a patch.
    """
    if plasticity.directions is None:
        return weight
    size = (*weight.shape[:-2], weight.shape[-1], plasticity.directions)
    xi = torch.randn(size, dtype=weight.dtype, device=weight.device)
    return (weight @ xi) @ xi.mT / plasticity.directions


def as_rows(x, lead, units=None):
    """A tensor as a matrix (N, units) whose rows are the samples that its ``lead`` first axes number.

    With fewer units than the sample has entries they are its channels, in the mean over positions.
    """
    rows = x.reshape(x.shape[:lead].numel(), -1)
    if units is None or units == rows.shape[1]:
        return rows
    return rows.reshape(len(rows), units, -1).mean(-1)


def from_rows(rows, shape, lead):
    """Rows (N, units) in the shape of a tensor; channels are repeated at every position."""
    if rows.numel() < shape.numel():
        rows = rows.reshape(*shape[: lead + 1], *(1 for _ in shape[lead + 1 :])).expand(shape)
    return rows.reshape(shape)


def mean_product(d, v, lead, units):
    """Mean over samples of d v^T, (n_e, units)."""
    d, v = as_rows(d, lead), as_rows(v, lead, units)
    return d.mT @ v / len(d)


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


class LinearMapForward(LinearMap):
    """`LinearMap` with forward-mode derivatives and vmap."""

    generate_vmap_rule = True

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
        return y.view_as(y)

    @staticmethod
    def backward(ctx, error):
        dx, dW, _, *rest = _linear_backward(ctx, error)
        return dx, dW, error, *rest


class LinearEdgeForward(LinearEdge):
    """`LinearEdge` with forward-mode derivatives and vmap."""

    generate_vmap_rule = True

    @staticmethod
    def jvp(ctx, x_t, weight_t, y_t, _, *stored_t):
        return y_t.view_as(y_t)


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


class ConvMapForward(ConvMap):
    """`ConvMap` with forward-mode derivatives and vmap."""

    generate_vmap_rule = True

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
        return y.view_as(y)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, weight, _, ctx.rule, ctx.geometry, *stored = inputs
        ctx.bias_sizes = None  # what is third is no bias
        ctx.save_for_backward(x, weight, *stored)

    @staticmethod
    def backward(ctx, error):
        dx, dW, _, *rest = _conv_backward(ctx, error)
        return dx, dW, error, *rest


class ConvEdgeForward(ConvEdge):
    """`ConvEdge` with forward-mode derivatives and vmap."""

    generate_vmap_rule = True

    @staticmethod
    def jvp(ctx, x_t, weight_t, y_t, _rule, _geometry, *stored_t):
        return y_t.view_as(y_t)


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
            signal = each.reshape(len(signal), -1, *signal.shape[2:])
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


class FanOut(Function):
    """The identity on a signal whose error is broadcast: backward hands e on, and e B_l^T to every cut.

    Args:
        signal: where the error is read, (*lead, n_e...).
        rule: a rule of the direct route.
        lead: number of leading axes that number the samples.
        cuts: K.
        tensors: the K cut activities (*lead, n_h...), as many forward maps of the edges (n_e, n_h), None for one that
            this pass does not show, then what each edge stores, with units or channels for its n_h.
    """

    @staticmethod
    def forward(signal, rule, lead, cuts, *tensors):
        return signal.view_as(signal)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, ctx.rule, ctx.lead, ctx.cuts, *tensors = inputs
        activities = tensors[: ctx.cuts]
        ctx.shapes = [(a.shape, a.dtype) for a in activities]
        keep = "G" in ctx.rule.plasticity.reads
        ctx.save_for_backward(*(activities if keep else ctx.cuts * (None,)), *tensors[ctx.cuts :])

    @staticmethod
    def backward(ctx, error):
        saved, rule, cuts, reads = ctx.saved_tensors, ctx.rule, ctx.cuts, ctx.rule.plasticity.reads
        activities, maps, stored = saved[:cuts], saved[cuts : 2 * cuts], saved[2 * cuts :]
        width = len(stored) // cuts
        rows = as_rows(error, ctx.lead)
        delivered, grads = [], []
        for cut, (shape, dtype) in enumerate(ctx.shapes):
            mine = tuple(B.to(rows.dtype) for B in stored[cut * width : (cut + 1) * width])
            wanted = ctx.needs_input_grad[4 + cut]
            delivered.append(from_rows(deliver(rule, mine, None, rows), shape, ctx.lead).to(dtype) if wanted else None)
            learns = any(ctx.needs_input_grad[4 + 2 * cuts + cut * width :][:width])
            G, J = None, maps[cut]
            if learns and "G" in reads:
                G = rows.mT @ as_rows(activities[cut], ctx.lead, len(mine[0])).to(rows.dtype)
            if J is not None:
                J = J.to(rows.dtype)
            learns = learns and (J is not None or "J" not in reads)  # evaluation mode shows no map
            grads.extend(feedback_gradients(rule, mine, G, rows.mT[None], J) if learns else (None,) * width)
        return (error, None, None, None, *delivered, *(None,) * cuts, *grads)


class FanOutForward(FanOut):
    """`FanOut` with forward-mode derivatives and vmap."""

    generate_vmap_rule = True

    @staticmethod
    def jvp(ctx, signal_t, *others):
        return signal_t.view_as(signal_t)


class Decayed(Function):
    """The identity on a matrix whose gradient receives decay times the matrix."""

    @staticmethod
    def forward(matrix, decay):
        return matrix.view_as(matrix)

    @staticmethod
    def setup_context(ctx, inputs, output):
        matrix, ctx.decay = inputs
        ctx.save_for_backward(matrix)

    @staticmethod
    def backward(ctx, gradient):
        (matrix,) = ctx.saved_tensors
        return gradient + ctx.decay * matrix, None


class DecayedForward(Decayed):
    """`Decayed` with forward-mode derivatives and vmap."""

    generate_vmap_rule = True

    @staticmethod
    def jvp(ctx, matrix_t, _):
        return matrix_t.view_as(matrix_t)


class Objective(Function):
    """The identity on what a layer stores; its gradient receives what the rule adds to that of the loss.

    These are penalties and decay; where the rule retracts, what leads away from orthonormal frames is taken out.

    Args:
        rule: a rule.
        frame: (..., n_out, r) that U is aligned with, or None.
        matrices: what the rule's parameterisation stores.
    """

    @staticmethod
    def forward(rule, frame, *matrices):
        return tuple(matrix.view_as(matrix) for matrix in matrices)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.rule, frame, *matrices = inputs
        ctx.save_for_backward(frame, *matrices)

    @staticmethod
    def backward(ctx, *gradients):
        frame, *matrices = ctx.saved_tensors
        part, decay = ctx.rule.parameterisation, ctx.rule.decay
        stored = part.build(*matrices)
        gradient = part.objective(stored, part.build(*gradients), frame)
        if decay:
            gradient = tree_map(lambda g, matrix: g + decay * matrix, gradient, stored)
        return None, None, *part.tangent(stored, gradient)


class ObjectiveForward(Objective):
    """`Objective` with forward-mode derivatives and vmap."""

    generate_vmap_rule = True

    @staticmethod
    def jvp(ctx, _rule, _frame, *matrices_t):
        return tuple(m.view_as(m) for m in matrices_t)


def detach(x):
    """``x.detach()``, except that a forward-mode tangent goes on: a cut stops errors, not the forward pass."""
    if not torch.compiler.is_compiling():
        tangent = forward_ad.unpack_dual(x).tangent
        if tangent is not None:
            return forward_ad.make_dual(x.detach(), tangent)
    return x.detach()


def decayed(matrix, decay):
    """The matrix itself, with decay in its gradient."""
    return apply(Decayed, matrix, decay) if decay else matrix


TRANSFORMED = {
    LinearMap: LinearMapForward, ConvMap: ConvMapForward, LinearEdge: LinearEdgeForward, ConvEdge: ConvEdgeForward,
    FanOut: FanOutForward, Decayed: DecayedForward, Objective: ObjectiveForward,
}  # fmt: skip
