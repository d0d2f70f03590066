"""Products with the weight of a layer that is not running: no rule reaches what a function does with a weight."""

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from deep import maps
from deep.unsupported import Unsupported

PRODUCTS = {
    "linear", "bilinear", "matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "addmm", "baddbmm", "einsum",
    "convolution", *(f"conv{kind}{n}d" for kind in ("", "_transpose") for n in (1, 2, 3)),
    "multi_head_attention_forward",
}  # fmt: skip
"""The names of functions of torch that take a weight as a matrix or a kernel."""


class Apart(TorchFunctionMode):
    """While it is open, it sees such products; a weight is known by its memory, so that its transpose is, too.

    Args:
        model: what runs.
        layers: path -> layer whose weights are watched.
    """

    def __init__(self, model: nn.Module, layers: dict[str, nn.Module]):
        super().__init__()
        self.paths = {_memory(W): path for path, layer in layers.items() for W in maps.parameters(layer)}
        self.owners, self.running, self.found, self.handles = {}, [], {}, []
        for module in model.modules():
            inner = [module.out_proj] if isinstance(module, nn.MultiheadAttention) else []  # which it does not call
            for W in (W for part in (module, *inner) for W in maps.parameters(part)):
                self.owners.setdefault(_memory(W), set()).add(module)

    def __enter__(self):
        def enter(module, inputs):
            self.running.append(module)

        def leave(module, inputs, output):
            self.running.pop()

        for module in set().union(*self.owners.values()):
            self.handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
        return super().__enter__()

    def __exit__(self, *failure):
        for handle in self.handles:
            handle.remove()
        return super().__exit__(*failure)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        for tensor in _tensors((*args, *(kwargs or {}).values())) if func.__name__ in PRODUCTS else ():
            memory = _memory(tensor)
            if memory in self.paths and self.owners[memory].isdisjoint(self.running):
                self.found[self.paths[memory]] = func.__name__
        return func(*args, **(kwargs or {}))

    def check(self) -> None:
        """Raise Unsupported for the products that it saw."""
        if self.found:
            texts = "; ".join(f"{name} takes the weight of {path}" for path, name in self.found.items())
            raise Unsupported(
                f"{texts}, past the layer and any rule: let a layer of its own that shares the weight do it, or leave "
                f"what it is on backpropagation with exact={tuple(self.found)!r}"
            )


def _memory(tensor):
    return tensor.untyped_storage().data_ptr()


def _tensors(things):
    for thing in things:
        if isinstance(thing, (tuple, list)):
            yield from _tensors(thing)
        elif isinstance(thing, torch.Tensor):
            yield thing
