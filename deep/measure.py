"""What is read off a promoted model while it trains: alignment with backpropagation, and ranks of the errors."""

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from deep import local
from deep.factored import FactoredLayer, factored_layers
from deep.promote import PLAIN, demote
from linfa.observe import effective_rank


def gradients(model: nn.Module, x, y, loss: Callable = F.cross_entropy) -> dict[str, torch.Tensor]:
    """The weight gradient of each linear map on one batch, by module path; the model itself is left as it is.

    Of factored weights the gradients of U, s and V, one after the other in one vector, penalties included.

    Args:
        model: promoted or not.
        x, y: a batch.
        loss: (logits, labels) -> scalar.
    """
    model = _twin(model)
    local.loss(model, x, y, loss).backward()
    return {path: _gradient(module) for path, module in model.named_modules() if _is_linear_map(module)}


def _gradient(module):
    return _flat(p.grad for p in module.stored()) if isinstance(module, FactoredLayer) else module.weight.grad


def _flat(tensors):
    return torch.cat([t.flatten() for t in tensors])


def _is_linear_map(module):
    return type(module) in PLAIN or type(module) in PLAIN.values()


def _twin(model):
    """A copy without gradients, whose forward passes and batch statistics stay its own."""
    twin = copy.deepcopy(model)
    twin.zero_grad(set_to_none=True)
    return twin


def alignment(model: nn.Module, x, y, loss: Callable = F.cross_entropy) -> dict[str, float]:
    """Cosine between each layer's weight gradient under its rule and under backpropagation, by module path.

    Both passes start from the same random numbers and so share the masks of dropout, unless the rule draws as well.
    """
    devices = [x.device] if x.is_cuda else []
    with torch.random.fork_rng(devices):
        mine = gradients(model, x, y, loss)
    with torch.random.fork_rng(devices):
        exact = gradients(demote(_twin(model)), x, y, loss)
    for path, layer in factored_layers(model).items():
        exact[path] = _flat(layer.pulled(exact[path]))
    return {path: float(F.cosine_similarity(g.flatten(), exact[path].flatten(), dim=0)) for path, g in mine.items()}


def error_ranks(model: nn.Module, x, y, loss: Callable = F.cross_entropy, kind: Callable = effective_rank):
    """A rank of the error at the output of each linear map, by module path.

    The error is a matrix (samples, units); for a convolution (samples and positions, channels).

    Args:
        model, x, y, loss: as in `gradients`.
        kind: of `linfa.observe`: effective_rank, participation_ratio or stable_rank.
    """
    model, errors = _twin(model), {}

    def watch(path):
        def record(module, inputs, output):
            def keep(error):
                flat = error.movedim(1, -1) if isinstance(module, nn.Conv2d) else error
                errors[path] = flat.reshape(-1, flat.shape[-1])

            output.register_hook(keep)

        return record

    for path, module in model.named_modules():
        if _is_linear_map(module):
            module.register_forward_hook(watch(path))
    local.loss(model, x, y, loss).backward()
    paths = [path for path, _ in model.named_modules() if path in errors]  # errors arrive from the last layer first
    return {path: float(kind(_singular_values(errors[path]).cpu().numpy())) for path in paths}


def _singular_values(matrix):
    """Singular values, descending, by way of the smaller Gram matrix: positions are many and channels few."""
    matrix = matrix.double()
    gram = matrix.mT @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.mT
    return torch.linalg.eigvalsh(gram).clamp(min=0).sqrt().flip(-1)
