"""Local losses: every module of a model answers to a head of its own, and no error crosses modules.

`loss` runs the model's own forward.  Where a module ends, a hook takes the gradients of the module's loss, hands its
output on without a graph and lets the graph go, so that no two modules hold theirs at the same time.
"""

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import Function, grad
from torch.nn.attention import SDPBackend, sdpa_kernel

from deep import maps, ops
from deep.chain import Part
from deep.derivatives import Twice
from deep.layers import gradient_decay
from linfa.algebra import product
from linfa.rules import Rule


def loss(model: nn.Module, x, y, criterion: Callable = F.cross_entropy):
    """The loss of a batch, whose ``backward()`` fills the gradients of the model's rule: one call for every rule.

    For a rule with one loss it is ``criterion(model(x), y)``.  For local rules it is the sum over modules k of

        L_k = l_k + lam mean_i |h_k - g_(k-1)|^2,   l_k = criterion(logits_k, y),

    with h_k and g_(k-1) the gradients of sample i's own part of l_k and l_(k-1) at the output of module k-1, where the
    second is kept fixed; the last module has no head, and its logits are the model's.  What other samples share of a
    batch normalisation counts to both.

    Every module takes its gradients as soon as its forward pass is done and then lets its graph go, so that activations
    need the memory of the largest module alone; ``backward()`` multiplies what is kept by the factor that arrives.  So
    hooks and scaling of gradients, accumulation, dropout, batch normalisation and bfloat16 autocast work as usual.

    Args:
        model: promoted or not; also wrapped in DistributedDataParallel.
        x: its input, a tuple for several.
        y: what the criterion compares with.
        criterion: (logits (N, outputs), y) -> mean over the N samples.  Local rules call it once for each module, and
            for the model's own output last.

    Raises:
        RuntimeError: for an input that needs a gradient, float16 autocast (errors underflow before they are scaled: use
            bfloat16), modules that run in another order than on the sample of the promotion or inside activation
            checkpointing (which they do not need), and parameters that autograd does not reach (as under FSDP).

    With ``torch.compile``, compile what is inside of modules (``model.layer1.compile()``), for ``lam=0``: compiled code
    has no second derivative.  A compiled whole runs local losses uncompiled.

    >>> import deep, linfa
    >>> x, y = torch.randn(8, 4), torch.arange(8) % 3
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> loss(deep.promote(net, linfa.sgr(modules=2), sample=x), x, y).backward()
    >>> [name for name, p in net.named_parameters() if p.grad is not None]
    ['feedback_1_B', '0.weight', '0.bias', '2.weight', '2.bias']
    """
    if any(isinstance(module, LocalModel) for module in model.modules()):
        return model(Example(x, y, criterion))
    return criterion(call(model, x), y)


def modules(model: nn.Module) -> list[list[nn.Parameter]]:
    """The learning parameters of a model with local losses, module by module, each with its head's.

    >>> import deep, linfa
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> net = deep.promote(net, linfa.sgr(modules=2), sample=torch.zeros(1, 4))
    >>> for parameters in modules(net):  # before every step, after backward
    ...     norm = nn.utils.clip_grad_norm_(parameters, 1.0)
    >>> [len(parameters) for parameters in modules(net)]
    [3, 2]

    Raises:
        TypeError: for another model.
    """
    if not isinstance(model, LocalModel):
        raise TypeError(f"{type(model).__name__} has no modules with losses of their own: promote it with linfa.sgr")
    own = [part.names + model.local.heads(number) for number, part in enumerate(model.local.parts, 1)]
    named = dict(model.named_parameters())
    return [[named[name] for name in names if named[name].requires_grad] for names in own]


@dataclass(frozen=True)
class Split:
    """A rule and the parts of the model that it teaches one by one; ``loss_scale`` as `deep.set_loss_scale` says."""

    rule: Rule
    parts: tuple[Part, ...]
    loss_scale: float = 1.0

    def heads(self, number: int) -> tuple[str, ...]:
        """Names of the parameters of the head on part 1, 2 ..; none on the last."""
        names = self.rule.feedback.names if number < len(self.parts) else ()
        return tuple(f"feedback_{number}_{name}" for name in names)


class Example(NamedTuple):
    """What a model with local losses is called with, to return its loss."""

    x: Any
    y: Any
    criterion: Callable


class LocalModel:
    """Mixed into a model with local losses: ``local`` is its `Split`, the heads are parameters beside its own.

    Called with an input it gives the same as before, but the gradients that backpropagation would find are refused.
    """

    def forward(self, *args, **kwargs):
        if args and isinstance(args[0], Example):
            return _uncompiled(self, args[0]) if torch.compiler.is_compiling() else _loss(self, args[0])
        out = self.plain(*args, **kwargs)
        return Guarded.apply(out) if torch.is_grad_enabled() and out.requires_grad else out

    def plain(self, *args, **kwargs):
        """The forward pass of the model as it was."""
        return super().forward(*args, **kwargs)

    def extra_repr(self):
        return ", ".join(filter(None, (super().extra_repr(), f"rule={self.local.rule.name}")))

    def __reduce_ex__(self, protocol):  # its class is made here, and found under no name
        return _empty, (self.__class__.__bases__[1],), self.__getstate__()


@functools.cache
def localised(kind: type) -> type:
    """The class of a model, with local losses."""
    return type(kind)(f"Local{kind.__name__}", (LocalModel, kind), {})


def _empty(kind):
    made = localised(kind)
    return made.__new__(made)


def linear_maps(model) -> dict[str, nn.Module]:
    """The layers of a `LocalModel` whose weights its rule moves, by path."""
    return {path: module for path, module in model.named_modules() if isinstance(module, maps.LAYERS)}


def restore(model) -> None:
    """Take the losses and heads of a `LocalModel` away."""
    for number in range(1, len(model.local.parts)):
        for name in model.local.heads(number):
            delattr(model, name)
    del model.local
    model.__class__ = model.__class__.__bases__[1]


def pooled(h):
    """What a head reads of activities: (N, features) as they are, the mean of tokens (N, T, features), and the mean
    over positions of (N, channels, ...)."""
    if h.dim() == 2:
        return h
    tokens = h if h.dim() == 3 else h.flatten(2).mT
    return tokens.sum(1) / tokens.shape[1]  # divides what is small, in the backward, too


def _loss(model, example):
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    rule = replace(model.local.rule, decay=model.local.loss_scale * model.local.rule.decay)
    rates = {id(p): gradient_decay(rule) for m in linear_maps(model).values() for p, _ in maps.kernels(m).values()}
    heads = {head for number in range(1, len(model.local.parts)) for head in model.local.heads(number)}
    taught = [ops.decayed(p, rule.decay if name in heads else rates.get(id(p), 0.0)) for name, p in named.items()]
    return LocalLoss.apply(model, example, torch.is_grad_enabled(), tuple(named), *taught)


_uncompiled = torch.compiler.disable(_loss)
"""For a compiled whole; its modules stay uncompiled, too."""


class LocalLoss(Function):
    """The sum of the losses of all modules; the gradients are at hand when the forward pass is over."""

    @staticmethod
    def forward(ctx, model, example, learns, names, *parameters):
        run = _Pass(model, example, learns)
        run.forward()
        ctx.save_for_backward(*(run.gradients.get(name) for name in names))
        return run.value

    @staticmethod
    def backward(ctx, factor):
        if torch.is_grad_enabled():
            raise RuntimeError("local losses have no second derivative: call backward without create_graph=True")
        taught = (None if g is None else factor.to(g.dtype) * g for g in ctx.saved_tensors)
        return (None, None, None, None, *taught)


class Guarded(Function):
    """The identity, without a derivative."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return ops.alias(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Nothing is kept; torch.func asks for the method, to come to the error below."""

    @staticmethod
    def backward(ctx, error):
        raise RuntimeError(
            "this model learns from local losses, and the gradients asked for are those of backpropagation: use "
            "deep.loss(model, x, y, criterion).backward(), or deep.demote the model"
        )


class _Pass:
    """One forward pass through a model with local losses.

    ``value`` is the sum of the losses so far and ``gradients`` what they taught, by name of the parameter.
    """

    def __init__(self, model, example, learns):
        self.model, self.example, self.learns = model, example, learns
        self.split, self.named = model.local, dict(model.named_parameters())
        gone = [name for part in self.split.parts for name in part.names if name not in self.named]
        if gone:
            raise RuntimeError(f"the model has no parameter {gone[0]} any more: wrap the whole model, not its parts "
                               "(and compile a part in place, with part.compile())")  # fmt: skip
        self.value, self.gradients = torch.zeros(()), {}
        self.number = 0  # modules that are done
        self.input = self.below = None  # the input of the running module, and g_(k-1) there
        self.busy = False
        self.twice = Twice()

    def forward(self):
        x = self.example.x
        for tensor in x if isinstance(x, tuple) else (x,):
            if tensor.requires_grad:
                raise RuntimeError("the input needs a gradient, and local losses send none there: detach it")
        for device in {p.device.type for p in self.named.values()}:
            if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) is torch.float16:
                raise RuntimeError("float16 errors underflow before the loss is scaled: autocast to bfloat16")
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.enable_grad())
            if self.split.rule.route.lam:  # fused attention has no second derivative
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))
                stack.enter_context(self.twice)
            for part in self.split.parts[:-1]:
                module = self.model.get_submodule(part.end)
                stack.callback(module.register_forward_hook(functools.partial(self.cut, part.end)).remove)
            top = self.model.plain(*x) if isinstance(x, tuple) else self.model.plain(x)
            if self.number < len(self.split.parts) - 1:
                raise RuntimeError(f"{self.split.parts[self.number].end} did not run, or not as a module of its own")
            self.teach(top)

    def cut(self, path, module, inputs, output):
        """The hook at the end of a module: its output, without what led to it."""
        if self.busy:
            raise RuntimeError(f"{path} runs again while its gradients are taken: local losses free their graphs "
                               "module by module, so take activation checkpointing away from around it")  # fmt: skip
        if self.split.parts[self.number].end != path:
            raise RuntimeError(f"{path} ran out of turn, after {self.number} of {len(self.split.parts)} modules")
        self.teach(output)
        self.input = self.twice.start = output.detach().requires_grad_(bool(self.split.rule.route.lam))
        return self.input

    def teach(self, output):
        """Take the gradients of the loss of the module that ends here."""
        self.busy = True
        rule, number = self.split.rule, self.number + 1
        stored, head, logits = (), None, output
        if number < len(self.split.parts):
            output = output if output.requires_grad else output.detach().requires_grad_()  # all below is frozen
            stored = tuple(self.named[name].detach() for name in self.split.heads(number))
            head = product(rule.feedback.factors(stored, None)).mT.requires_grad_()  # C_k, (outputs, features)
            logits = F.linear(pooled(output), head)
        value = self.example.criterion(logits, self.example.y)
        objective, slopes = value.detach(), {value: None}
        with torch.autocast(output.device.type, enabled=False):
            if rule.route.lam and self.input is not None:
                above = self.twice.errors(value)
                gap, strength = above.detach() - self.below, rule.route.lam * len(logits)
                objective = objective + strength * gap.to(value.dtype).square().sum()
                slopes[above] = 2 * strength * gap
            if rule.route.lam and head is not None:
                (self.below,) = grad(value, output, retain_graph=True)
            if self.learns:
                self.learn(slopes, value, logits, head, stored)
        self.value = self.value.to(objective) + objective
        self.number, self.busy = number, False

    def learn(self, slopes, value, logits, head, stored):
        """Take the gradients of an objective, given its slope by each of the tensors that it is made of."""
        rule, part, heads = self.split.rule, self.split.parts[self.number], self.split.heads(self.number + 1)
        learn_head = [self.named[name].requires_grad for name in heads]
        names = [name for name in part.names if self.named[name].requires_grad]
        error = None
        if any(learn_head) and "C" in rule.plasticity.reads:
            (error,) = grad(value, logits, retain_graph=True)
            error = error.to(head.dtype).mT[None]
        wanted = [self.named[name] for name in names] + [head] * any(learn_head)
        found = list(grad(list(slopes), wanted, list(slopes.values()), allow_unused=True)) if wanted else []
        if names and all(g is None for g in found[: len(names)]):
            raise RuntimeError(f"no loss reaches the parameters {names[0]} .. of its module (are they sharded?)")
        self.gradients.update(zip(names, found, strict=False))
        if any(learn_head):
            taught = ops.feedback_gradients(rule, stored, found[-1], error, None)
            self.gradients.update(zip(heads, taught, strict=True))


def call(model, x):
    """The output of a model on an input, a tuple for several."""
    return model(*x) if isinstance(x, tuple) else model(x)
