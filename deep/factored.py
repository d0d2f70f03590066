"""Layers that store U, s and V in place of their weight, W = U diag(s) V^T, and never form it in a step.

A linear map is U (s o V^T h) + b.  A convolution is two, one along each axis of the image: its kernel K (N, C, H, W) is
the matrix K' (N W, C H) with K'[(n, w), (c, h)] = K[n, c, h, w] = (U diag(s) V^T)[(n, w), (c, h)], so that V makes the
vertical kernel (r, C, H, 1) and U diag(s) the horizontal one (N, r, 1, W); a kernel of 1 x 1 is a matrix of channels.
Every group of a grouped convolution has factors of its own, stacked in front.  The scale is not split into sqrt(s) on
both sides: values of s that learn may change sign.

For square matrices U, s and V hold r (2 n + 1) numbers in place of n^2, as do their gradients and the moments of an
optimiser: half the rank saves nothing, 0.3 n of it 40 %.  Dense feedback, signs, and plasticity that reads E[error
activity^T] or the weight are of the size of the weight themselves and form what they read; structured or low-rank
feedback that is fixed, and backpropagation, form nothing of that size.

Penalties and decay are added to the gradients in every backward pass: to accumulate over k of them, see
`deep.set_loss_scale`.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributed.tensor import DTensor

from deep import layers, maps, ops
from deep.layers import Promoted, edge_stored, padded, prepared
from deep.unsupported import Unsupported
from linfa.algebra import scaled
from linfa.rules import SVD, Layerwise, SVDStructured, Transpose


class FactoredLayer(Promoted):
    """A promoted layer with the parameters U (n_out, r), s (r, 1) and V (n_in, r) beside its bias.

    ``teacher`` says whose feedback delivers the error of the layer's output: the layer that stores it and the key it
    has there, or None.
    """

    def extra_repr(self):
        return f"{super().extra_repr()}, rank={self.stored().rank}"

    def stored(self) -> SVD:
        """What stands for the weight."""
        return SVD(self.U, self.s, self.V)

    def composed(self):
        """The weight that U, s and V stand for, in the shape of a plain layer's."""
        with torch.no_grad():
            return unfolded(self, self.stored().matrix).contiguous()

    def pulled(self, G) -> SVD:
        """The gradient of U, s and V from that of the composed weight, in its shape."""
        return self.rule.parameterisation.pull(SVD(*map(torch.detach, self.stored())), folded(self, G))

    def factors(self) -> SVD:
        """U, s and V with penalties and decay of the rule in their gradients."""
        self.check_scale()
        rule, part = self.rule, self.rule.parameterisation
        if not (part.penalties or part.retraction or rule.decay):
            return self.stored()
        aligned = any(penalty.reads_frame for penalty in part.penalties)
        return SVD(*ops.apply(ops.Objective, rule, self.frame() if aligned else None, *self.stored()))

    def frame(self):
        """The frame (..., n_out, r or more) that U is aligned with, None without a teacher."""
        if self.teacher is None:
            return None
        layer, key = self.teacher
        stored = edge_feedback(layer.feedback, key)[self.rule.feedback.names[0]].detach()
        return framed(self, stored.full_tensor() if isinstance(stored, DTensor) else stored)  # another's shards

    def seen_weight(self):
        """The weight for a rule that follows it, and for the others a tensor of its shape without memory of its own."""
        rule = self.rule
        if rule.feedback.reads_weight or "J" in rule.plasticity.reads:
            return self.composed()
        shape = sizes(self)
        return self.s.new_zeros(()).expand(shape)


class FactoredLinear(FactoredLayer):
    """A linear map through r numbers."""

    def linear_map(self, x):
        """U (s o V^T x) + b."""
        U, s, V = self.factors()
        return F.linear(F.linear(x, V.mT), scaled(U, s), self.bias)


class FactoredConv2d(FactoredLayer):
    """A convolution through r channels: down the columns of the image, then along its rows."""

    def linear_map(self, x):
        """The vertical convolution with V, then the horizontal one with U diag(s)."""
        (x, padding), (U, s, V) = padded(self, x), self.factors()
        N, C, H, W = sizes(self)
        down, along = V.mT.reshape(-1, C, H, 1), scaled(U, s).reshape(N, W, -1).mT[:, :, None]
        (up, left), (row, column), (far, wide) = padding, self.stride, self.dilation
        x = F.conv2d(x, down, None, (row, 1), (up, 0), (far, 1), self.groups)
        return F.conv2d(x, along, self.bias, (1, column), (0, left), (1, wide), self.groups)


class FactoredEdgeLinear(FactoredLinear, nn.Linear):
    """`nn.Linear` of factors on a layerwise edge."""

    def forward(self, x):
        if is_exact(self.rule):
            return self.linear_map(x)
        y = self.linear_map(ops.detach(x))
        x, weight, *stored = ops.autocast(x, self.seen_weight(), *edge_stored(self))
        return ops.apply(ops.LinearEdge, x, weight, y, self.rule, *stored)


class FactoredEdgeConv2d(FactoredConv2d, nn.Conv2d):
    """`nn.Conv2d` of factors on a layerwise edge."""

    def forward(self, x):
        if is_exact(self.rule):
            return self.linear_map(x)
        if x.dim() == 3:
            return self(x[None])[0]
        y = self.linear_map(ops.detach(x))
        x, weight, *stored = ops.autocast(x, self.seen_weight(), *edge_stored(self))
        x, geometry = prepared(self, x)
        return ops.apply(ops.ConvEdge, x, weight, y, self.rule, geometry, *stored)


class FactoredCutLinear(FactoredLinear, layers.CutLinear):
    """`nn.Linear` of factors on the direct route."""


class FactoredCutConv2d(FactoredConv2d, layers.CutConv2d):
    """`nn.Conv2d` of factors on the direct route."""


KINDS = {
    layers.EdgeLinear: FactoredEdgeLinear, layers.EdgeConv2d: FactoredEdgeConv2d,
    layers.CutLinear: FactoredCutLinear, layers.CutConv2d: FactoredCutConv2d,
}  # fmt: skip
"""The class of factored weights for each promoted class."""

PLAIN = {kind: layers.PLAIN[full] for full, kind in KINDS.items()}
"""The class that each goes back to."""


def is_exact(rule) -> bool:
    """Whether the edges of a layerwise rule carry what autograd does, through the factors themselves."""
    return type(rule.feedback) is Transpose


def sizes(layer) -> tuple:
    """The shape of a layer's weight."""
    if isinstance(layer, nn.Linear):
        return layer.out_features, layer.in_features
    return layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size


def inner_columns(layer, x, y):
    """On how many columns V acts in a call that takes x to y: of a convolution, rows of y at the width of x."""
    if isinstance(layer, nn.Linear):
        return x.shape[:-1].numel()
    return len(x) * y.shape[-2] * padded(layer, x)[0].shape[-1]


def matrices(module) -> dict:
    """`deep.maps.matrices` of any layer: of one with factors, the matrix of the weight that they stand for."""
    if isinstance(module, FactoredLayer):
        return {"": ops.matricise(module.composed(), getattr(module, "groups", 1))}
    return maps.matrices(module)


def folded(layer, weight):
    """The matrix that a layer's weight is factored as: (N W, C H) of a kernel, or one for each group."""
    if isinstance(layer, nn.Linear):
        return weight
    N, C, H, W = weight.shape
    matrix = weight.permute(0, 3, 1, 2).reshape(layer.groups, N // layer.groups * W, C * H)
    return matrix[0] if layer.groups == 1 else matrix


def unfolded(layer, matrix):
    """The weight of a layer from the matrix that it is factored as."""
    if isinstance(layer, nn.Linear):
        return matrix
    N, C, H, W = sizes(layer)
    return matrix.reshape(N, W, C, H).permute(0, 2, 3, 1)


def framed(layer, Q):
    """The frame of a layer from the feedback Q (n_h, r) to its output, shaped like U.

    Of a linear layer it is Q.  A convolution has one row for each channel and column of its kernel, and Q one for each
    channel and position (or tap): it is summed over positions, because the error summed over positions lies in what
    that spans, and shared by the W columns, F[(n, w)] = sum_p Q[(n, p)] / sqrt(W).  Ours.
    """
    if isinstance(layer, nn.Linear):
        return Q
    N, _, _, W = sizes(layer)
    channels = Q.reshape(N, -1, Q.shape[-1]).sum(1)
    rows = channels.repeat_interleave(W, 0) / W**0.5
    return rows if layer.groups == 1 else rows.unflatten(0, (layer.groups, -1))


def edge_feedback(feedback, key):
    """What one edge stores: all that a layerwise layer has, one entry of the layer that broadcasts."""
    return feedback if key is None else feedback[key]


def factorised(rule, plan, targets, calls) -> list:
    """A plan of promotion (module, kind, attributes) with U, s and V in place of every weight.

    Raises:
        ValueError: for a rank that fits no layer, or without a sample where the order of the layers matters.
        Unsupported: for a layer that alignment cannot compare with the feedback to its output.
    """
    part = rule.parameterisation
    matrices = {path: folded(module, module.weight.detach()) for path, module in targets.items()}
    part.check([tuple(matrix.shape[-2:]) for matrix in matrices.values()])
    path_of = {id(module): path for path, module in targets.items()}
    teachers = _teachers(rule, plan, path_of, calls) if isinstance(rule.feedback, SVDStructured) else {}
    out = []
    for module, kind, attributes in plan:
        path, weight = path_of[id(module)], module.weight
        teacher, Q = teachers.get(path, (None, None))
        stored = part.start(matrices[path].double())
        if any(penalty.reads_frame for penalty in part.penalties) and Q is not None:
            _check_frame(path, module, stored, Q)
        learned = {
            name: nn.Parameter(matrix.to(weight).contiguous(), requires_grad=weight.requires_grad)
            for name, matrix in zip(part.names, stored, strict=True)
        }
        out.append((module, KINDS[kind], {**attributes, **learned, "weight": None, "teacher": teacher}))
    return out


def _teachers(rule, plan, path_of, calls) -> dict:
    """Path -> (teacher, Q) of every layer below an edge: that of the layer which is called next."""
    if calls is None:
        raise ValueError(f"{rule.name} needs the order of the layers: pass sample=<an input of the model>")
    holders, first = {}, rule.feedback.names[0]
    for module, _, attributes in plan:
        feedback = attributes.get("feedback")
        if isinstance(rule.route, Layerwise):
            keys = {path_of[id(module)]: None} if feedback else {}
        else:
            keys = attributes["edges"]
        for path, key in keys.items():
            holders[path] = (module, key), edge_feedback(feedback, key)[first]
    return {below: holders[above] for below, above in pairwise(calls) if above in holders}


def _check_frame(path, module, stored, Q):
    out, rows, columns = sizes(module)[0], Q.numel() // Q.shape[-1], Q.shape[-1]
    fits = rows == out if isinstance(module, nn.Linear) else rows % out == 0
    if not fits or columns < stored.rank:
        raise Unsupported(
            f"alignment compares U of {path}, {out} outputs and rank {stored.rank}, with the feedback to the layer "
            f"that is called next, {rows} units and rank {columns}: these do not match; use alignment=0.0, cosine=0.0"
            + " or a smaller rank"
            * fits
        )


def factored_layers(model: nn.Module) -> dict[str, FactoredLayer]:
    """The layers of a model that store factors, by path."""
    return {path: module for path, module in model.named_modules() if isinstance(module, FactoredLayer)}


@torch.no_grad()
def retract(model: nn.Module) -> nn.Module:
    """Lead U and V of every layer back to orthonormal columns, where the rule says so: to be called after every step.

    ``optimizer.register_step_post_hook(lambda *_: deep.retract(model))`` does it without a line in the loop.

    >>> import deep, linfa
    >>> net = nn.Sequential(nn.Linear(4, 3, dtype=torch.float64))
    >>> net = deep.promote(net, linfa.factored(linfa.bp(), 2, retraction="polar"))
    >>> _ = nn.init.normal_(net[0].V)
    >>> V = deep.retract(net)[0].V
    >>> torch.allclose(V.T @ V, torch.eye(2).double())
    True
    """
    for layer in factored_layers(model).values():
        part, stored = layer.rule.parameterisation, layer.stored()
        if part.retraction is not None:
            for matrix, led in zip(stored, part.retract(stored), strict=True):
                matrix.copy_(led)
    return model
