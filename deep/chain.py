"""The chain of a model: stages in a row, found in the autograd graph of a sample, and what belongs to each.

A submodule ends a stage if everything after it reads what is before it through its output alone.
"""

import contextlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from deep.unsupported import Unsupported


class Part(NamedTuple):
    """A run of stages.

    Args:
        end: path of the submodule whose output ends it; None for the last, which ends at the model's output.
        names: of the parameters that it reads.
        shape: of its output on the sample.
    """

    end: str | None
    names: tuple[str, ...]
    shape: tuple[int, ...]


def ends(model: nn.Module, sample) -> tuple[str, ...]:
    """Paths of the submodules that end a stage, all but the last stage, from the lowest.

    A stage has at least one weight matrix or kernel and takes with it what follows without one (a normalisation, an
    activation, pooling).

    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> ends(net, torch.zeros(2, 4))
    ('1', '3')
    """
    outputs: dict[str, list] = {}

    def watch(path, before, output):
        node = getattr(output, "grad_fn", None)
        passed = node in before  # its input, returned as it is
        outputs.setdefault(path, []).append(None if passed else node)

    top, inputs = _run(model, [path for path, _ in model.named_modules() if path], sample, watch)
    every = _reached(top.grad_fn)
    last = {node for node in every if any(leaf is x for leaf in _leaves([node]) for x in inputs)}  # read by every stage
    found, seen = {}, set()
    for path, nodes in outputs.items():  # in the order in which they end
        if len(nodes) > 1 or nodes[0] not in every or nodes[0] in seen:
            continue
        seen.update(nodes)
        below, above = _reached(nodes[0]), _reached(top.grad_fn, nodes[0])
        weights = _weights(below)
        if below.isdisjoint(above) and last <= below and weights and _weights(above):
            found[weights] = path  # the last one before the next weights
            last = set(nodes)
    return tuple(found.values())


def divide(model: nn.Module, stages: Sequence[str], cuts: Sequence[int], sample) -> list[Part]:
    """The parts that end after the given stages, from the lowest; the last one ends at the model's output.

    Args:
        model: any module.
        stages: paths of the submodules that end a stage.
        cuts: numbers of stages at which a part ends, ascending.
        sample: an input of the model.

    Raises:
        Unsupported: if the parts are not a chain.
    """
    paths = [stages[cut - 1] for cut in cuts]
    inputs, outputs = [], []

    def cut(path, _, output):
        if len(outputs) == len(paths) or paths[len(outputs)] != path:
            after = f"after {paths[len(outputs) - 1]}" if outputs else "first"
            raise Unsupported(
                f"{path} ran {after}, out of turn: each of {', '.join(paths)} has to run once, in this order; "
                "say which with stages=('layer1', 'layer2', ...)"
            )
        if not isinstance(output, torch.Tensor) or output.dim() < 2:
            raise Unsupported(f"{path} gives no tensor of samples and features, which a head could read: {_WAY_OUT}")
        outputs.append(output)
        inputs.append(output.detach().requires_grad_())
        return inputs[-1]

    top, _ = _run(model, paths, sample, cut)
    if len(outputs) < len(paths):
        raise Unsupported(f"{paths[len(outputs)]} did not run on the sample: {_WAY_OUT}")
    parts, taken, names = [], set(), {id(p): name for name, p in model.named_parameters()}
    for number, output in enumerate([*outputs, top]):
        leaves = _leaves(_reached(output.grad_fn))
        mine = {id(leaf) for leaf in leaves if id(leaf) in names}
        below = {id(leaf) for leaf in leaves} - mine  # the input of the part, and nothing else
        path = paths[number - 1] if number else None
        if taken & mine or (number and below != {id(inputs[number - 1])}):
            raise Unsupported(
                f"what comes after {path} does not read what is before it through its output alone (a skip "
                f"connection, a shared weight, or an output that is not used): {_WAY_OUT}"
            )
        taken |= mine
        end = paths[number] if number < len(paths) else None
        own = tuple(name for key, name in names.items() if key in mine)
        parts.append(Part(end, own, tuple(output.shape)))
    return parts


_WAY_OUT = "name submodules that follow each other, with stages=('layer1', 'layer2', ...)"


def _run(model, paths, sample, watch):
    """The output for a sample in evaluation mode with all gradients on, and the inputs that have one.

    ``watch(path, before, output)`` sees each call of the submodules, with the autograd nodes that its inputs came from;
    what it returns replaces their output.
    """
    with contextlib.ExitStack() as stack:
        for module in model.modules():
            stack.callback(setattr, module, "training", module.training)
        for p in model.parameters():
            if p.is_floating_point():
                stack.callback(p.requires_grad_, p.requires_grad)
                p.requires_grad_()
        for path in paths:
            module, before = model.get_submodule(path), []
            hooks = (  # the first sees inputs before the module can change them in place
                module.register_forward_pre_hook(lambda _, inputs, before=before: before.append(_nodes(inputs))),
                module.register_forward_hook(
                    lambda _, inputs, output, path=path, before=before: watch(path, before.pop(), output)
                ),
            )
            for hook in hooks:
                stack.callback(hook.remove)
        model.eval()
        inputs = sample if isinstance(sample, tuple) else (sample,)
        inputs = [x.detach().requires_grad_(x.is_floating_point()) for x in inputs]
        with torch.enable_grad():
            top = model(*inputs)
    if not isinstance(top, torch.Tensor) or top.dim() != 2:
        raise Unsupported(f"local heads predict as the model does, and {type(model).__name__} gives no (N, outputs)")
    return top, [x for x in inputs if x.requires_grad]


def _nodes(inputs) -> list:
    return [getattr(x, "grad_fn", None) for x in inputs]


def _reached(node, stop=None) -> set:
    """Nodes of the autograd graph at and behind a node, as far as another."""
    seen, todo = set(), [node]
    while todo:
        node = todo.pop()
        if node is not None and node is not stop and node not in seen:
            seen.add(node)
            todo.extend(before for before, _ in node.next_functions)
    return seen


def _leaves(nodes) -> list:
    return [node.variable for node in nodes if hasattr(node, "variable")]


def _weights(nodes) -> int:
    """How many matrices and kernels are among the parameters."""
    return sum(isinstance(leaf, nn.Parameter) and leaf.dim() > 1 for leaf in _leaves(nodes))
