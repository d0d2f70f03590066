"""Numbers that are no longer finite: whether there are any, and where they come from."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from deep.distributed import gathered, mine


class Diverged(FloatingPointError):
    """Loss, weights or gradients are no longer finite."""


def finite(tensors: Iterable[Tensor]) -> bool:
    """Whether all numbers are, read from each device once.

    >>> finite([torch.ones(2), torch.tensor([0.0, float("nan")])])
    False
    """
    answers: dict[torch.device, list[Tensor]] = {}
    for tensor in map(mine, tensors):
        if tensor.is_floating_point():
            answers.setdefault(tensor.device, []).append(tensor.isfinite().all())
    return all(bool(torch.stack(each).all()) for each in answers.values())


def state(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The parameters, and what the optimiser remembers of them."""
    kept = [value for parts in optimizer.state.values() for value in parts.values() if isinstance(value, Tensor)]
    return [p.detach() for p in model.parameters()] + kept


def culprit(model: nn.Module, objective: Callable[[], Tensor]) -> str | None:
    """Name what is not finite first in a pass through a model; None if all is.

    That is a weight of the first layer of the forward pass that has one, else the output of the first module, else the
    loss, else the gradient that the backward pass came to first.

    Args:
        model: promoted or not, neither compiled nor wrapped; its gradients are gone afterwards.
        objective: the pass; gives the loss.  Without a graph, as under `torch.no_grad`, there are no gradients.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    >>> _ = nn.init.ones_(net[0].weight)
    >>> _ = nn.init.constant_(net[1].weight, 3e38)
    >>> culprit(net, lambda: net(torch.full((1, 2), 1e4)).sum())
    'the output of 1 (Linear)'
    """
    order, outputs, paths = {}, [], {module: path for path, module in model.named_modules()}

    def watch(module, _, output):
        order.setdefault(paths[module], len(order))
        if not finite(_tensors(output)):
            outputs.append(f"the output of {paths[module] or 'the model'} ({type(module).__name__})")

    def place(name):
        """When the layer that holds a parameter ran."""
        while name and name not in order:
            name = name.rpartition(".")[0]
        return order.get(name, len(order))

    model.zero_grad(set_to_none=True)
    hooks = [module.register_forward_hook(watch) for module in model.modules()]
    try:
        value = objective()
        if value.requires_grad:
            value.backward()
    finally:
        for hook in hooks:
            hook.remove()
    named = list(model.named_parameters())
    weights = sorted((place(name), name) for name, p in named if not finite([p.detach()]))
    gradients = sorted((place(name), name) for name, p in named if p.grad is not None and not finite([p.grad]))
    model.zero_grad(set_to_none=True)
    found = [f"the weight {name}" for _, name in weights] + outputs
    found += [] if finite([value.detach()]) else ["the loss"]
    found += [f"the gradient of {name}" for _, name in reversed(gradients)]
    return found[0] if found else None


def agreed(found: str | None) -> str | None:
    """What the first process that found something found; on all of them."""
    return next(filter(None, gathered(found)), None)


def _tensors(output):
    if isinstance(output, Tensor):
        return [output]
    parts = output.values() if isinstance(output, dict) else output if isinstance(output, (tuple, list)) else ()
    return [tensor for part in parts for tensor in _tensors(part)]
