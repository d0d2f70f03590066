"""What is read off a promoted model while it trains: alignment with backpropagation, and ranks of the errors.

Everything is measured on copies: the model, its gradients, statistics and random numbers stay as they are.
"""

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from deep import layers, local, maps, ops
from deep.factored import FactoredLayer, factored_layers, matrices
from deep.kinds import LAYERWISE, original
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
    with torch.random.fork_rng([x.device] if x.is_cuda else []), torch.enable_grad():
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
    """A copy without gradients, whose forward passes and batch statistics stay its own."""
    twin = copy.deepcopy(model)
    twin.zero_grad(set_to_none=True)
    return twin


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
    return {
        path: float(F.cosine_similarity(a.double().flatten(), theirs[path].double().flatten(), dim=0))
        for path, a in mine.items()
        if path in theirs
    }


def alignment(model: nn.Module, x, y, loss: Callable = F.cross_entropy) -> dict[str, float]:
    """Cosine between each layer's update under its rule and its gradient under backpropagation, by module path.

    The update is the gradient, or the direction that the rule's geometry makes of it.
    """
    mine = updates(model, one_pass(model, x, y, loss).gradients)
    return cosines(mine, exact_pass(model, x, y, loss).gradients)


def feedback_angles(model: nn.Module) -> dict[str, float]:
    """Angle in degrees between the feedback of a layer and the transpose of its weight, by module path.

    Of attention it is that of queries, keys and values together, three matrices as one vector.  Only layerwise edges
    stand for a single weight; a broadcast has no angle here, but its errors have a cosine with the exact ones
    (`cosines` of the errors of `one_pass` and `exact_pass`).
    """
    angles = {}
    for path, layer in model.named_modules():
        if not isinstance(layer, layers.Promoted) or not layer.rule.route.single_layer:
            continue
        names, mine, theirs = layer.rule.feedback.names, [], []
        for name, W in matrices(layer).items():
            feedback = layer.feedback[name] if name else layer.feedback
            if len(feedback) == len(names):
                stored = tuple(feedback[each].detach() for each in names)
                mine.append(product(layer.rule.feedback.factors(stored, W)))
                theirs.append(W.mT)
        if mine:
            cosine = cosines({path: _flat(mine)}, {path: _flat(theirs)})[path]
            angles[path] = float(torch.tensor(cosine).clamp(-1, 1).acos().rad2deg())
    return angles


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
