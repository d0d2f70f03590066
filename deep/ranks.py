"""Factored weights whose rank falls during training: parameters, what the optimiser keeps of them, and feedback."""

from collections.abc import Mapping

import torch
from torch import nn

from deep.factored import edge_feedback, factored_layers
from deep.unsupported import Unsupported
from linfa.dynamics import State
from linfa.ranks import RankSchedule, largest, with_rest
from linfa.rules import SVDStructured
from linfa.tree import tree_map


def scheduled_ranks(model: nn.Module, schedule: RankSchedule, stage: int) -> dict[str, int]:
    """The rank of every factored layer at a stage of a `linfa.ranks.RankSchedule`, by module path.

    A grouped convolution has the largest rank that one of its groups needs.

    >>> import linfa
    >>> from deep.promote import promote
    >>> net = promote(nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 2)), linfa.factored(linfa.bp(), 4))
    >>> scheduled_ranks(net, RankSchedule(first=4, last=2, stages=3), stage=1)
    {'0': 3, '1': 2}
    """
    layers = factored_layers(model)
    state = State(tuple(_numpy(layer) for layer in layers.values()))
    return dict(zip(layers, schedule.ranks(stage, state), strict=True))


@torch.no_grad()
def shrink(model: nn.Module, ranks: int | Mapping[str, int], optimizer: torch.optim.Optimizer | None = None):
    """Leave out all but the largest components of factored weights; training goes on.

    As `linfa.ranks.truncate`: the components s_j u_j v_j^T of the largest norms stay, in their order, and
    `SVDStructured` feedback keeps the columns that belong to them.  Smaller parameters take the place of the former
    ones, with what stays of their gradients, in the model and in the optimiser, which keeps what it knows of each entry
    that stays (momentum, moments of Adam).  Wrap in DistributedDataParallel anew: it knows the former ones.

    Args:
        model: promoted with a rule of factored weights; changed in place.
        ranks: of all layers, or by module path; layers of fewer components, or not named, stay as they are.
        optimizer: of the parameters, if there is one.

    Returns:
        The rank of every factored layer, by module path.

    Raises:
        ValueError: for a rank below 1, an unknown path, or a model without factored layers.
        Unsupported: before anything is changed, for an optimiser that keeps anything but numbers and tensors of the
            shape of a parameter, or a grouped convolution with a frame, whose groups would keep different columns.

    >>> import linfa
    >>> from deep.promote import promote
    >>> net = promote(nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 4)), linfa.factored(linfa.bp(), 4))
    >>> shrink(net, 2), net[0].U.shape
    ({'0': 2, '1': 2}, torch.Size([6, 2]))
    """
    layers = factored_layers(model)
    if not layers:
        raise ValueError("no layer of the model stores factors: promote it with a rule such as linfa.svd_local")
    wanted = dict.fromkeys(layers, ranks) if isinstance(ranks, int) else dict(ranks)
    unknown = [path for path in wanted if path not in layers]
    if unknown or not all(rank >= 1 for rank in wanted.values()):
        raise ValueError(f"ranks are at least 1, of the layers {', '.join(layers)}; got {wanted}")
    cuts = []  # (owner, name of the parameter, components to keep, axis)
    for path, rank in wanted.items():
        layer = layers[path]
        stored = layer.stored()
        if rank >= stored.rank:
            continue
        keep = largest(_numpy(layer), rank)
        cuts += [(layer, "U", keep, -1), (layer, "s", keep, -2), (layer, "V", keep, -1)]
        if layer.teacher is not None and isinstance(layer.rule.feedback, SVDStructured):
            if keep.ndim > 1:
                raise Unsupported(
                    f"the groups of {path} share the frame that they are aligned with: leave it out of ranks"
                )
            source, key = layer.teacher
            feedback = edge_feedback(source.feedback, key)
            keep = with_rest(keep, stored.rank, feedback["Q"].shape[-1])
            cuts += [(feedback, "Q", keep, -1), (feedback, "P", keep, -2)]
    old = [getattr(owner, name) for owner, name, _, _ in cuts]
    _check(optimizer, old)
    for parameter, (owner, name, keep, axis) in zip(old, cuts, strict=True):
        index = torch.as_tensor(keep, device=parameter.device)
        new = nn.Parameter(_kept(parameter, index, axis), requires_grad=parameter.requires_grad)
        new.grad = None if parameter.grad is None else _kept(parameter.grad, index, axis)
        setattr(owner, name, new)
        if optimizer is not None:
            _replace(optimizer, parameter, new, lambda entry, index=index, axis=axis: _kept(entry, index, axis))
    return {path: layer.stored().rank for path, layer in layers.items()}


def shrink_to(model: nn.Module, state: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer | None = None):
    """Shrink factored weights to the ranks in a ``state_dict`` of the model, so that it can be loaded.

    Args:
        model: as it was promoted, with factored weights or without; changed in place.
        state: of a model that `shrink` may have changed since.
        optimizer: of the parameters, if there is one.

    >>> import linfa
    >>> from deep.promote import promote
    >>> large, small = (promote(nn.Sequential(nn.Linear(6, 6)), linfa.factored(linfa.bp(), 4)) for _ in range(2))
    >>> _ = shrink(small, 2)
    >>> shrink_to(large, small.state_dict())
    >>> large.load_state_dict(small.state_dict())
    <All keys matched successfully>
    """
    ranks = {path: state[f"{path}.s".lstrip(".")].shape[-2] for path in factored_layers(model)}
    if ranks:
        shrink(model, ranks, optimizer)


def _numpy(layer):
    return tree_map(lambda p: p.detach().double().cpu().numpy(), layer.stored())


def _check(optimizer, parameters):
    """Raise Unsupported for an optimiser that keeps of a parameter what has no entry for each of its own.

    What is in a list, as with LBFGS, may be of all parameters.
    """
    kept = optimizer.state.values() if optimizer is not None else ()
    found = [name for state in kept for name, value in state.items() if isinstance(value, (list, tuple))]
    for parameter in parameters if optimizer is not None else ():
        for name, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, torch.Tensor) and value.dim() and value.shape != parameter.shape:
                found.append(name)
    if found:
        raise Unsupported(
            f"{type(optimizer).__name__} keeps {found[0]}, not of the shape of a parameter: shrink without it and "
            "build a new one"
        )


def _replace(optimizer, old, new, kept):
    """Let an optimiser go on with another parameter, and with what is kept of its state."""
    for group in optimizer.param_groups:
        group["params"][:] = [new if p is old else p for p in group["params"]]  # which some know by another name
    if old in optimizer.state:
        optimizer.state[new] = {
            name: kept(value) if isinstance(value, torch.Tensor) and value.dim() else value
            for name, value in optimizer.state.pop(old).items()
        }


def _kept(tensor, index, axis):
    """The entries of an axis that are kept, for all matrices or for each."""
    if index.dim() == 1:
        return tensor.index_select(axis, index).contiguous()
    index = index.unsqueeze(-2 if axis == -1 else -1)
    return torch.take_along_dim(tensor, index, axis).contiguous()
