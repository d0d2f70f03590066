"""What bounds step times from below: the shortest programs that do what a rule cannot do without.

python examples/records/step-time/floors.py ROUNDS [resnet20] [ranks] [tangents] [reconciliation]

Every ratio is to plain backpropagation of the same model in the same round.  ResNet-20: an autograd function that does
nothing but backpropagation.  The CNN: one that hands on r channels of the error and learns nothing, or no error at all,
as feedback that is fixed and broadcast may.  Directional DFA on the CNN, ResNet-20 and a ViT: the products of its
layers alone, beside those of backpropagation, then with the numbers that it draws, what they show and the errors that
are delivered.  Reconciliation on sixteen convolutions: its convolutions alone.  Products run without autograd.
"""

import copy
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import linfa
from deep.models import build

sys.path.insert(0, str(Path(__file__).parents[3] / "tests" / "benchmarks"))
import local_memory
from rounds import interleaved, ratios
from step_time import Arm


class Bare(torch.autograd.Function):
    """A convolution with its own gradient, in the shortest form that an autograd function can have."""

    @staticmethod
    def forward(ctx, x, weight, stride, padding):
        ctx.save_for_backward(x, weight)
        ctx.geometry = (stride, padding)
        return F.conv2d(x, weight, None, stride, padding)

    @staticmethod
    def backward(ctx, error):
        mask = (ctx.needs_input_grad[0], True, False)
        dx, dw, _ = torch.ops.aten.convolution_backward(
            error, *ctx.saved_tensors, None, *ctx.geometry, [1, 1], False, [0, 0], 1, mask
        )
        return dx, dw, None, None


class BareConv(nn.Conv2d):
    def forward(self, x):
        return Bare.apply(x, self.weight, self.stride, self.padding)


class BareRank(torch.autograd.Function):
    """A convolution with its own weight gradient, and of the error what a few channels carry, or nothing."""

    @staticmethod
    def forward(ctx, x, weight, stride, padding, P, Q):
        ctx.save_for_backward(x, weight, P, Q)
        ctx.geometry = (stride, padding, [1, 1], False, [0, 0], 1)
        return F.conv2d(x, weight, None, stride, padding)

    @staticmethod
    def backward(ctx, error):
        x, weight, P, Q = ctx.saved_tensors
        backward, dx = torch.ops.aten.convolution_backward, x if ctx.needs_input_grad[0] else None
        if P is not None and dx is not None:
            few = (P.expand(len(x), *P.shape) @ error.flatten(2)).unflatten(2, error.shape[2:])
            dx = backward(few, x, Q, None, *ctx.geometry, (True, False, False))[0]
        dw = backward(error, x, weight, None, *ctx.geometry, (False, True, False))[1]
        return dx, dw, None, None, None, None


class BareRankConv(nn.Conv2d):
    rank = None

    def forward(self, x):
        P = Q = None
        if self.rank is not None:
            P, Q = self.weight.new_ones(self.rank, self.out_channels), self.weight.detach()[: self.rank]
        return BareRank.apply(x, self.weight, self.stride, self.padding, P, Q)


def with_convolutions(model, kind, **attributes):
    model = copy.deepcopy(model)
    for module in model.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = kind
            vars(module).update(attributes)
    return model


def seen(model, x):
    """Every convolution with an input and an output of it."""
    found = []
    for layer in model:
        y = layer(x)
        if isinstance(layer, nn.Conv2d):
            found.append((layer, x.detach(), y.detach()))
        x = y
    return found


def gradient(conv, x, error, *mask):
    """The gradients of a convolution that the mask names: of its input, of its weight."""
    geometry = conv.stride, conv.padding, conv.dilation, False, [0, 0], conv.groups
    torch.ops.aten.convolution_backward(error, x, conv.weight, None, *geometry, (*mask, False))


def mapped(model, x):
    """Every linear layer and convolution with the input and the output that it has in a model."""
    found = []
    layers = [layer for layer in model.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    watch = [layer.register_forward_hook(lambda *seen: found.append(seen)) for layer in layers]
    with torch.no_grad():
        model(x)
    for hook in watch:
        hook.remove()
    return [(layer, inputs[0], y) for layer, inputs, y in found]


def pulled(layer, x, error, need_x, need_weight):
    """The gradients of a linear layer or a convolution by its input and its weight, where they are wanted."""
    if isinstance(layer, nn.Conv2d):
        gradient(layer, x, error, need_x, need_weight)
        return
    error = error.flatten(0, -2)
    if need_x:
        error @ layer.weight
    if need_weight:
        error.mT @ x.flatten(0, -2)


@torch.no_grad()
def backpropagated(found):
    """Forward, and the gradients of input and weight."""
    for number, (layer, x, y) in enumerate(found):
        layer(x)
        pulled(layer, x, y, number > 0, True)


@torch.no_grad()
def directional(found, drawn=False, classes=10):
    """Forward, tangent and weight gradient; the numbers drawn, d v^T and the delivered error, too."""
    d = torch.randn(len(found[0][1]), classes)
    for number, (layer, x, y) in enumerate(found):
        layer(x)
        if number:
            layer(x)
            if drawn:
                v = torch.randn_like(x).flatten(1)
                d @ (d.mT @ v)
        pulled(layer, x, y, False, True)


@torch.no_grad()
def reconciled_convolutions(found, modules):
    """Of every module but the first: forward, the error at its input, q through it, the slope of both, two weights."""
    size = len(found) // modules
    for number, (conv, x, y) in enumerate(found):
        first, inner = number < size, number % size > 0
        conv(x)
        gradient(conv, x, y, inner, True)  # the slope
        if not first:
            gradient(conv, x, y, True, True)  # the error at the input, and the gradient that q has there
            conv(x)  # q


def step(model, x, y, rule=None):
    return Arm(copy.deepcopy(model), rule, x, y).step


def show(title, steps, rounds):
    interleaved(steps, 2, "cpu")
    times = interleaved(steps, rounds, "cpu")
    print(title)
    for name, mine in times.items():
        row = ratios(mine, times["plain"])
        print(f"  {name:<40} {row['time']['median']:.3f} {row['time']['quartiles']}   fastest {row['fastest']:.3f}")


def resnet20(rounds, x, y):
    model = build("resnet20", 3, 32, 10)
    steps = {"plain": step(model, x, y), "plain again": step(model, x, y)}
    steps |= {"bare autograd function": step(with_convolutions(model, BareConv), x, y)}
    steps |= {"fa": step(model, x, y, linfa.fa()), "dfa": step(model, x, y, linfa.dfa())}
    show("ResNet-20", steps, rounds)


def ranks(rounds, x, y):
    model = build("cnn", 3, 32, 10)
    steps = {"plain": step(model, x, y), "plain again": step(model, x, y)}
    for rank in (10, 32):
        steps[f"bare, {rank} channels"] = step(with_convolutions(model, BareRankConv, rank=rank), x, y)
        for plasticity in ("fixed", "normative", "oja"):
            steps[f"ldfa r={rank}, {plasticity}"] = step(model, x, y, linfa.ldfa(rank, plasticity))
    steps |= {
        "bare, no error": step(with_convolutions(model, BareRankConv), x, y),
        "dfa": step(model, x, y, linfa.dfa()),
    }
    show("CNN, feedback of rank r and broadcast", steps, rounds)


def tangents(rounds, x, y):
    for name, few in {"cnn": len(x), "resnet20": len(x), "vit": len(x) // 4}.items():
        model, (x, y) = build(name, 3, 32, 10), (x[:few], y[:few])
        found, rule = mapped(model, x), linfa.directional_dfa(directions=1)
        steps = {"plain": step(model, x, y), "products of backpropagation": lambda f=found: backpropagated(f)}
        steps |= {"directional dfa": step(model, x, y, rule), "its products": lambda f=found: directional(f)}
        steps |= {"with draws, d v^T and e B": lambda f=found: directional(f, drawn=True)}
        show(f"{name}, directional", steps, rounds)


def reconciliation(rounds, x, y):
    model = local_memory.convolutions()
    found, steps = seen(model, x), {"plain": step(model, x, y)}
    for modules in (16, 4):
        rule = linfa.sgr() if modules == 16 else linfa.sgr(modules)
        steps[f"sgr, {modules} modules"] = local_memory.Arm(copy.deepcopy(model), rule, x, y).step
        steps[f"its convolutions, {modules} modules"] = lambda k=modules: reconciled_convolutions(found, k)
    show("Sixteen convolutions", steps, rounds)


def main(rounds, names, batch=128):
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    x, y = torch.randn(batch, 3, 32, 32), torch.randint(0, 10, (batch,))
    for name in names or PROGRAMS:
        PROGRAMS[name](rounds, x, y)


PROGRAMS = {f.__name__: f for f in (resnet20, ranks, tangents, reconciliation)}

if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
