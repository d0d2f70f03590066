"""Forward-mode tangents that run along in the training forward: what random directions at the cuts become on the way.

The input has tangent 0, and at every cut a fresh v_l ~ N(0, I) for each sample joins the tangent that arrives there.
What comes out at the source of the error, d = sum_l J_l v_l, shows every edge its forward map: E[d v_l^T] = J_l.  One
forward-mode pass and no second forward (directional feedback alignment, Bacho & Chu, arXiv 2212.07282, read in the
authors' released code).  All tangents are gone when the model's forward returns; until the backward only the estimates
J^_l = mean over samples of d v_l^T are kept.  In evaluation mode and without gradients nothing of this happens.

What J^ estimates (ours): the mean of dy_i/dh_i, of each sample's output by its own activity, and so of each token's
where the error has tokens.  Batch normalisation in training mode lets an output depend on the whole batch.  Its forward
mode is exact; J^ sees the share that a sample has in its own statistics, and what it does to the outputs of others is
noise of mean zero.  Backpropagation collects that part, which no broadcast of e_i does.  The same holds for attention.

The gradient of the feedback is that of rate/2 |B - J^|^2, whatever the loss is: where the loss is multiplied, by a
gradient scaler or to accumulate, see `deep.set_loss_scale`.

While the forward runs, tangents and what autograd records of them take more memory than the activities themselves.
torch.compile runs a training forward without compiling it, and the functions of FSDP refuse tangents.  Activation
checkpointing raises above the first cut, for the backward runs its parts again, without tangents.
"""

import contextlib
import functools
import warnings
from typing import NamedTuple

import torch
from torch.autograd import forward_ad

from deep.derivatives import PUSHED, Instead
from deep.unsupported import Unsupported


class ForwardMode:
    """Mixed into the class of a promoted model: while it trains, a level of forward mode is open in its forward."""

    def forward(self, *args, **kwargs):
        if self.training and torch.is_grad_enabled():
            return _with_tangents(self, args, kwargs)
        return super().forward(*args, **kwargs)

    def __reduce_ex__(self, protocol):  # pickle does not find by name a class that is made here
        return _blank, (self.plain,), self.__getstate__()


@contextlib.contextmanager
def level():
    """A level of forward mode, for as long as it is open."""
    with forward_ad.dual_level(), Instead(PUSHED):
        yield


@torch.compiler.disable(reason="torch.compile does not trace forward-mode AD: this pass runs without, or not fullgraph")
def _with_tangents(model, args, kwargs):
    with level():
        return super(ForwardMode, model).forward(*args, **kwargs)


@functools.cache
def along(plain: type) -> type:
    """The class of a model whose training forward carries tangents.

    >>> from torch import nn
    >>> model = along(nn.Sequential)(nn.Flatten())
    >>> model, isinstance(model, nn.Sequential)
    (Sequential(
      (0): Flatten(start_dim=1, end_dim=-1)
    ), True)
    """
    return type(plain.__name__, (ForwardMode, plain), {"plain": plain, "__module__": plain.__module__})


def _blank(plain):
    kind = along(plain)
    return kind.__new__(kind)


def check_follows(model, cuts, sample):
    """Raise Unsupported where forward mode does not follow a model from all of its cuts, path -> module."""
    last = None

    def watch(path):
        def perturb(module, inputs):
            nonlocal last
            last = path
            x, _ = forward_ad.unpack_dual(inputs[0])
            return forward_ad.make_dual(x, torch.zeros_like(x)), *inputs[1:]

        return perturb

    handles = [module.register_forward_pre_hook(watch(path)) for path, module in cuts.items()]
    try:
        with torch.no_grad(), warnings.catch_warnings(), level():
            warnings.filterwarnings("ignore", ".*torch.jit.script", DeprecationWarning)  # torch's own, as this loads
            model(*sample) if isinstance(sample, tuple) else model(sample)
    except RuntimeError as reason:
        raise Unsupported(
            f"forward mode does not follow the model from the input of {last} on ({str(reason).splitlines()[0]}): use "
            "operations that it knows"
        ) from reason
    finally:
        for handle in handles:
            handle.remove()


class Probe(NamedTuple):
    """A direction that was added at a cut.

    Args:
        v: the direction, of the shape of the activity.
        mark: a tensor that has a tangent as long as the pass of this direction goes on.
    """

    v: torch.Tensor
    mark: torch.Tensor


def perturb(x) -> tuple[torch.Tensor, Probe, torch.Tensor]:
    """Split an activity at a cut: live and without tangent; the direction drawn; cut off, its tangent one v richer.

    Raises:
        RuntimeError: where no forward mode is on.
    """
    x, arriving = forward_ad.unpack_dual(x)
    v = torch.randn_like(x)
    tangent = v if arriving is None else arriving.detach() + v
    try:
        onward = forward_ad.make_dual(x.detach(), tangent)
    except RuntimeError as reason:
        raise RuntimeError(
            "a directional rule needs forward mode from the first cut to the error, and it is off: in training call "
            "the promoted model itself, not its parts (or open torch.autograd.forward_ad.dual_level() around them "
            "all); activation checkpointing, which runs parts again in the backward, does not go with this rule"
        ) from reason
    return x, Probe(v, onward), onward


def arrived(signal, probes) -> tuple[torch.Tensor, torch.Tensor]:
    """The signal without its tangent, and that tangent, what the directions of one pass have become.

    Raises:
        RuntimeError: if a direction belongs to a pass that is over.
    """
    signal, d = forward_ad.unpack_dual(signal)
    if any(forward_ad.unpack_dual(probe.mark).tangent is None for probe in probes):
        raise RuntimeError(
            "a direction comes from a forward pass that is over: in training call the promoted model itself, not its "
            "parts (or open torch.autograd.forward_ad.dual_level() around them all)"
        )
    return signal, torch.zeros_like(signal) if d is None else d.detach()
