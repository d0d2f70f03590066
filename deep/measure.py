"""What is read off a promoted model while it trains: alignment with backpropagation, and ranks of the errors.

Everything is measured on copies: the model, its gradients, statistics and random numbers stay as they are.
"""

import copy
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from math import acos, degrees, sqrt
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from deep import layers, local, maps, ops
from deep.factored import FactoredLayer, factored_layers, matrices
from deep.kinds import LAYERWISE, original
from deep.loss_scale import set_loss_scale
from deep.optimizer import taught
from deep.promote import demote
from linfa.algebra import product
from linfa.observe import effective_rank
from linfa.rules import Euclidean


class Pass(NamedTuple):
    """What a forward and a backward pass leave at the linear maps, by module path in the order of the model.

    Args:
        gradients: of the weights, in their shapes, without those that are frozen; of factored weights those of U, s and
            V, one after the other in one vector, penalties included; in one vector, too, of what makes a computed
            weight, and of projections of attention that are three parameters.
        errors: at the output of the map, before any normalisation of it, as rows (samples, or samples and positions;
            units); without maps that the loss does not depend on.
    """

    gradients: dict[str, torch.Tensor]
    errors: dict[str, torch.Tensor]


def one_pass(model: nn.Module, x, y, loss: Callable = F.cross_entropy) -> Pass:
    """Gradients and errors of one batch, from a copy of the model and of the random numbers.

    Args:
        model: promoted or not.
        x, y: a batch.
        loss: (logits, labels) -> scalar.
    """
    return _run(_twin(model), x, y, loss)


def exact_pass(model: nn.Module, x, y, loss: Callable = F.cross_entropy) -> Pass:
    """The same under backpropagation through the same network, activities normalised as the rule has them.

    Dropout drops what it does in `one_pass`, unless the rule draws random numbers as well.
    """
    twin = _twin(model)
    norms = {path: m.normalisation for path, m in twin.named_modules() if isinstance(m, layers.Normalised)}
    demote(twin)
    for path, norm in norms.items():
        twin.get_submodule(path).register_forward_hook(lambda module, inputs, out, norm=norm: norm(out))
    exact = _run(twin, x, y, loss)
    for path, layer in factored_layers(model).items():
        if path in exact.gradients:
            exact.gradients[path] = _flat(layer.pulled(exact.gradients[path]))
    return exact


def _run(twin, x, y, loss):
    errors = {}

    def watch(path, spatial):
        def record(output):
            def keep(error):
                flat = error.movedim(-1 - spatial, -1)
                errors[path] = flat.reshape(-1, flat.shape[-1])

            if output.requires_grad:
                output.register_hook(keep)

        return record

    mapped = {path: module for path, module in twin.named_modules() if _is_linear_map(module)}
    for path, module in mapped.items():
        if isinstance(module, nn.MultiheadAttention):  # its output is that of its projection
            continue
        record = watch(path, len(getattr(module, "kernel_size", ())))
        if isinstance(module, layers.Normalised):
            module.normalisation.register_forward_pre_hook(lambda module, inputs, record=record: record(inputs[0]))
        else:  # before hooks that normalise
            module.register_forward_hook(lambda module, inputs, out, record=record: record(out), prepend=True)
    with _apart(twin):
        local.loss(twin, x, y, loss).backward()
    found = {path: _gradient(module) for path, module in mapped.items()}
    return Pass(
        {path: gradient for path, gradient in found.items() if gradient is not None},
        {path: errors[path] for path in mapped if path in errors},
    )


def _gradient(module):
    parts = [p.grad for p in (module.stored() if isinstance(module, FactoredLayer) else maps.parameters(module))]
    if len(parts) == 1:
        return parts[0]
    return None if any(part is None for part in parts) else _flat(parts)


def _flat(tensors):
    return torch.cat([t.flatten() for t in tensors])


def _is_linear_map(module):
    return original(module) in LAYERWISE


def _twin(model):
    """A copy without gradients, whose forward passes and statistics stay its own, and whose loss nobody multiplies."""
    made = [t for module in model.modules() for t in vars(module).values() if isinstance(t, torch.Tensor)]  # by hooks
    twin = copy.deepcopy(model, {id(t): t.detach().clone() for t in made})
    twin.zero_grad(set_to_none=True)
    return set_loss_scale(twin, 1.0) if taught(twin)[1] else twin


@contextmanager
def _apart(twin):
    """Gradients on, and the random numbers that the model is about to draw, which it draws again."""
    device = next(twin.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
        yield


def gradients(model: nn.Module, x, y, loss: Callable = F.cross_entropy) -> dict[str, torch.Tensor]:
    """The weight gradient of each linear map on one batch, by module path; arguments as for `one_pass`."""
    return one_pass(model, x, y, loss).gradients


def updates(model: nn.Module, gradients: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The direction that the rule of each promoted layer descends, by its geometry, for these gradients."""
    found, rules = taught(model)
    promoted = {path: layer for path, layer in found.items() if path in gradients}
    geometries = {rule.geometry for rule in rules} or {Euclidean()}
    if geometries == {Euclidean()}:
        return gradients
    (geometry,) = geometries
    pieces = [(path, *one) for path, layer in promoted.items() for one in _pieces(layer, gradients[path])]
    directions = geometry.directions(tuple(ops.matricise(piece, count) for _, piece, count in pieces))
    out = dict(gradients)
    for path in promoted:
        mine = [D for (owner, _, _), D in zip(pieces, directions, strict=True) if owner == path]
        out[path] = mine[0] if len(mine) == 1 else _flat(mine)
    return out


def _pieces(layer, gradient):
    """The gradient of each weight of a layer with the number of matrices in it."""
    weights = maps.kernels(layer).values()
    parts = gradient.flatten().split([weight.numel() for weight, _ in weights])
    return [(part.reshape(weight.shape), count) for part, (weight, count) in zip(parts, weights, strict=True)]


def cosines(mine: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> dict[str, float]:
    """Cosine between tensors of the same path, whatever their shapes; 0 where one vanishes."""
    return {path: _cosine(a, theirs[path]) for path, a in mine.items() if path in theirs}


def _cosine(a, b):
    a, b = a.double().flatten(), b.double().flatten()
    size = a.norm() * b.norm()
    return float(a @ b / size) if size else 0.0


def alignment(model: nn.Module, x, y, loss: Callable = F.cross_entropy) -> dict[str, float]:
    """Cosine between each layer's update under its rule and its gradient under backpropagation, by module path.

    The update is the gradient, or the direction that the rule's geometry makes of it.
    """
    mine = updates(model, one_pass(model, x, y, loss).gradients)
    return cosines(mine, exact_pass(model, x, y, loss).gradients)


OUTPUTS = 16
"""So many outputs of a signal are enough to compare its feedback by."""


class Broadcast(NamedTuple):
    """A broadcast edge beside the forward map that it spans, both for m of the outputs of the signal.

    Args:
        outputs: which ones, in ascending order.
        feedback: B from them, (n_h, m).
        jacobian: J to them, (m, n_h), estimated without bias.
        square: the same of |J|^2, which that of the estimate exceeds.
    """

    outputs: torch.Tensor
    feedback: torch.Tensor
    jacobian: torch.Tensor
    square: float

    @property
    def cosine(self) -> float | None:
        """Between B and J^T, 0 for B = 0; None for a J without a length."""
        if self.square <= 0:
            return None
        B, J = self.feedback.double(), self.jacobian.double()
        return float((B.mT * J).sum() / (B.norm() or 1)) / sqrt(self.square)


def broadcasts(model: nn.Module, x, passes: int = 1, seed: int = 0) -> dict[str, Broadcast]:
    """What each broadcast edge spans, J = E[dy_i / dh_i] over a batch, by the path of the layer at its cut.

    h is the input of that layer, y the signal whose error is broadcast (the logits, or the input of the layers that are
    backpropagated exactly), through the network as it is, and i a sample, or a token where y has one for each.  Where
    positions share their feedback J is its mean over positions too, which is what a plasticity sees.

    In each pass backward, which goes down to the lowest cut and takes no gradients of weights, every sample shows the
    row of one output, and outputs are dealt like cards: the gradient of sum_i s_i y_i,k(i) at h_i, with a random sign
    s_i, is s_i times the row k(i) of sample i.  An output that n of the N samples show has row and squared length

        J_k = mean of the n,    |J_k|^2 - (1/n - 1/N) (sum of the n |J_ik|^2 - n |J_k|^2) / (n - 1),

    both without bias, as of every sample from a finite population.  As many passes as outputs are exact.

    That is so where samples do not feel each other.  What they do to each other (by the statistics of a batch; tokens,
    by attention) becomes noise of mean zero and is no part of J: an error that is broadcast does not know it either,
    nor does the estimate that directional rules follow (`deep.forward_mode`).

    That feedback follows the mean Jacobian is from directional feedback alignment (Bacho & Chu, arXiv 2212.07282, read
    in the authors' released code), that the two are aligned by their cosine from Caillon et al. (2026, "Scaling direct
    feedback learning with Jacobian alignment guarantees", read in the abstract).  How J is taken here is ours.

    Args:
        model: promoted; with any but a direct rule it has no such edges.
        x: a batch, a tuple for several inputs.
        passes: backward, each about a third of a step of backpropagation.  Outputs are compared if there are at most 16
            or as many passes, and so many at random of others, fewer where samples do not show each of them twice.
        seed: of all that is drawn.

    >>> import deep, linfa
    >>> net = nn.Sequential(nn.Linear(4, 6, bias=False), nn.Linear(6, 5, bias=False), nn.Linear(5, 3, bias=False))
    >>> x = torch.randn(8, 4)
    >>> found = broadcasts(deep.promote(net, linfa.dfa(), sample=x), x)
    >>> list(found), torch.allclose(found["1"].jacobian, net[2].weight @ net[1].weight, atol=1e-6)
    (['1', '2'], True)
    """
    if not any(isinstance(module, layers.Cut) and module.edges for module in model.modules()):
        return {}
    y, held, source, edges = _uncut(_twin(model), x)
    lead, names, generator = layers.leading(source, y.dim()), source.rule.feedback.names, torch.Generator()
    generator.manual_seed(seed)
    rows = ops.as_rows(y, lead)
    N, width = rows.shape
    m = min(width, max(passes, OUTPUTS), passes * N // min(2, N))
    passes = min(passes, m)
    chosen = torch.randperm(width, generator=generator)[:m].sort().values.to(rows.device)
    dealt = torch.arange(N * passes).reshape(N, passes)[torch.randperm(N, generator=generator)] % m
    signs = 2 * torch.randint(2, (N, 1), generator=generator) - 1
    rows, sums, squares = rows[:, chosen], dict.fromkeys(held, 0), dict.fromkeys(held, 0)
    for shown in dealt.mT:
        hand = (signs * F.one_hot(shown, m)).to(rows)  # (N, m)
        total = (hand * rows).sum()
        gradients = torch.autograd.grad(total, list(held.values()), retain_graph=True, materialize_grads=True)
        for path, gradient in zip(held, gradients, strict=True):
            each = ops.as_rows(gradient, lead, len(edges[path][names[0]]))  # (N, n_h)
            sums[path] = sums[path] + hand.mT @ each
            squares[path] = squares[path] + hand.mT.abs() @ torch.linalg.vector_norm(each, dim=1).square()
    n, found = dealt.flatten().bincount().to(rows), {}
    for path in held:
        J = sums[path] / n[:, None]
        length = J.square().sum(1)
        spread = (squares[path] - n * length) / (n - 1).clamp(min=1)
        *first, last = source.rule.feedback.factors(tuple(edges[path][name].detach() for name in names), None)
        square = float((length - (1 / n - 1 / N) * spread).sum())
        found[path] = Broadcast(chosen, product((*first, last[:, chosen])), J, square)
    return found


def _uncut(twin, x):
    """A pass of a twin without cuts: the signal, the input of each layer at a cut, the source of the error, and what
    each edge stores; the latter two by path of the layer."""
    cuts = {path: module for path, module in twin.named_modules() if isinstance(module, layers.Cut)}
    (source,) = (module for module in cuts.values() if module.edges)
    edges = {path: source.feedback[source.edges[m.path]] for path, m in cuts.items() if m.path in source.edges}
    at_input, held, signal = source.source_is_input, {}, []

    def first(module, args, kwargs):
        return next(iter(maps.inputs(module, args, kwargs).values()))

    def hold(path, module, args, kwargs):
        x = first(module, args, kwargs)
        held[path] = own = x.clone().requires_grad_()  # for this layer alone, and not for a skip beside it
        return tuple(own if a is x else a for a in args), {k: own if a is x else a for k, a in kwargs.items()}

    for path, module in cuts.items():
        module.is_cut, module.is_passed, module.edges = False, False, {}
        if path in edges:
            module.register_forward_pre_hook(partial(hold, path), with_kwargs=True)
    if at_input:
        source.register_forward_pre_hook(lambda *call: signal.append(first(*call)), with_kwargs=True)
    else:
        source.register_forward_hook(lambda module, inputs, out: signal.append(out))
    with _apart(twin):
        local.call(twin, x)
    return signal[-1], held, source, edges


def feedback_angles(model: nn.Module, x, passes: int = 1, seed: int = 0) -> dict[str, float]:
    """Angle in degrees between the feedback of an edge and the transpose of the forward map that it spans, by the path
    of the layer at whose input it arrives.

    Over a single layer that map is the weight, and of attention the three of queries, keys and values as one vector.
    That of a broadcast edge is a mean Jacobian, estimated: see `broadcasts`, also for the arguments.
    """
    mine, theirs = {}, {}
    for path, layer in model.named_modules():
        if not isinstance(layer, layers.Promoted) or not layer.rule.route.single_layer:
            continue
        names, parts = layer.rule.feedback.names, []
        for name, W in matrices(layer).items():
            feedback = layer.feedback[name] if name else layer.feedback
            if len(feedback) == len(names):
                stored = tuple(feedback[each].detach() for each in names)
                parts.append((product(layer.rule.feedback.factors(stored, W)), W.mT))
        if parts:
            mine[path], theirs[path] = map(_flat, zip(*parts, strict=True))
    found = cosines(mine, theirs)
    found |= {path: edge.cosine for path, edge in broadcasts(model, x, passes, seed).items()}
    return {path: degrees(acos(min(max(c, -1.0), 1.0))) for path, c in found.items() if c is not None}


def error_ranks(model: nn.Module, x, y, loss: Callable = F.cross_entropy, kind: Callable = effective_rank):
    """A rank of the error at the output of each linear map, by module path.

    The error is a matrix (samples, units); for a convolution (samples and positions, channels).

    Args:
        model, x, y, loss: as for `one_pass`.
        kind: of `linfa.observe`: effective_rank, participation_ratio or stable_rank.
    """
    errors = one_pass(model, x, y, loss).errors
    return {path: float(kind(singular_values(error))) for path, error in errors.items()}


def singular_values(matrix: torch.Tensor):
    """Singular values, descending, in numpy, by way of the smaller Gram matrix: positions are many and channels few."""
    matrix = matrix.double()
    gram = matrix.mT @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.mT
    return torch.linalg.eigvalsh(gram).clamp(min=0).sqrt().flip(-1).cpu().numpy()
