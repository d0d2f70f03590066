"""Plain nets with the numbers of a promoted model, and the order in which their linear maps are called."""

import torch
from torch import nn

from .attention import Attention  # isort: skip
from .columns import CONVOLUTIONS  # isort: skip

LINEAR = (nn.Linear, *CONVOLUTIONS, nn.MultiheadAttention, Attention)


def plain_net(make, state):
    """A net from ``make`` with what is its own in a state, and attention by hand."""
    net = make()
    own = net.state_dict()
    net.load_state_dict({name: value for name, value in state.items() if name in own})
    for path, module in list(net.named_modules()):
        if isinstance(module, nn.MultiheadAttention):
            put(net, path, Attention(module))
    return net


def put(net, path, module):
    """Replace a submodule."""
    parent, _, name = path.rpartition(".")
    setattr(net.get_submodule(parent), name, module)


def apply(net, x):
    """The output of a net for an input, a tuple for several."""
    return net(*x) if isinstance(x, tuple) else net(x)


@torch.no_grad()
def called(net, x):
    """Paths of the layers with linear maps in the order in which a pass calls them."""
    order, layers = {}, {path: module for path, module in net.named_modules() if isinstance(module, LINEAR)}
    handles = [m.register_forward_pre_hook(lambda *_, path=path: order.setdefault(path)) for path, m in layers.items()]
    apply(net, x)
    for handle in handles:
        handle.remove()
    return list(order)
