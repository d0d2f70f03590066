"""How an autograd function is run: as it is, or in its form for forward mode and vmap."""

import torch
from torch._C._functorch import peek_interpreter_stack
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from deep.unsupported import Unsupported

PLAIN_COPY = "take a copy on backpropagation, deep.demote(copy.deepcopy(model)), or trace under torch.no_grad()"
"""The way out where a promoted model cannot go."""


def apply(kind, *args):
    """Run an autograd function, in its form for forward mode and vmap only where one of them is on.

    That form keeps the input alive until the graph goes, after its memory would have been free for gradients, and
    torch.compile cannot trace it.
    """
    if torch.is_grad_enabled() and _recorded():
        raise Unsupported(f"a trace has no room for the backward of {kind.__name__}: {PLAIN_COPY}")
    if not torch.compiler.is_compiling() and _transformed(args):
        return FORMS[kind].apply(*args)
    return kind.apply(*args) if torch.is_grad_enabled() else kind.forward(*args)


def _recorded():
    """Whether what runs is written down as a program, which torch would differentiate as it does any other.

    These are `torch.jit.trace`, `torch.export` and ``make_fx``.
    """
    if torch.compiler.is_compiling():
        return torch.compiler.is_exporting()
    return torch.jit.is_tracing() or get_proxy_mode() is not None


def _transformed(args):
    """Whether a transform of torch.func is on, be it of other tensors, or one of these has a forward-mode tangent."""
    tensors = (x for x in args if isinstance(x, torch.Tensor))
    return peek_interpreter_stack() is not None or any(forward_ad.unpack_dual(x).tangent is not None for x in tensors)


def alias(x):
    """The same numbers as a function may return them: autograd lets nobody change a view of its argument in place, as
    an activation with ``inplace=True`` does.
    """
    return x.detach()


def autocast(*tensors):
    """The tensors in autocast's dtype where autocast is on; None stays None."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(t if t is None else t.to(dtype) for t in tensors)


FORMS: dict[type, type] = {}
"""Autograd function -> its form for forward mode and vmap."""


def form_of(kind):
    """Decorates that form of an autograd function: a subclass with ``jvp``."""

    def register(form):
        form.generate_vmap_rule = True
        FORMS[kind] = form
        return form

    return register


def identity_form(kind, place):
    """Makes that form of a function whose value is its argument at a place, or a tuple of those at a slice."""

    @form_of(kind)
    class Identity(kind):
        @staticmethod
        def jvp(ctx, *tangents):
            passed = tangents[place]
            return tuple(t.view_as(t) for t in passed) if isinstance(place, slice) else passed.view_as(passed)


def detach(x):
    """``x.detach()``, except that a forward-mode tangent goes on: a cut stops errors, not the forward pass."""
    if not torch.compiler.is_compiling():
        tangent = forward_ad.unpack_dual(x).tangent
        if tangent is not None:
            return forward_ad.make_dual(x.detach(), tangent)
    return x.detach()
