"""What bounds step times from below: the shortest programs that do what a rule cannot do without.

python examples/records/step-time/floors.py ROUNDS [resnet20] [ranks] [tangents] [reconciliation]

Every ratio is to plain backpropagation of the same model in the same round.  ResNet-20: an autograd function that does
nothing but backpropagation.  The CNN: one that hands on r channels of the error and learns nothing, or no error at all,
as feedback that is fixed and broadcast may.  Directional DFA on the CNN: its convolutions alone, and with the numbers
that it draws and the products that take a tangent through what is between the convolutions.  Reconciliation on sixteen
convolutions: its convolutions alone.  The last three run without autograd, on given errors.
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


@torch.no_grad()
def directional_convolutions(found):
    """Forward, tangent and weight gradient."""
    for number, (conv, x, y) in enumerate(found):
        conv(x)
        if number:
            conv(x)
        gradient(conv, x, y, False, True)


@torch.no_grad()
def directional(model, x):
    """The same with a draw at every cut, and tangents through what is between: statistics are taken for constant."""
    tangent, found = None, []
    for layer in model:
        inputs = x
        if isinstance(layer, nn.Conv2d) and found:
            drawn = torch.randn_like(x)
            tangent = drawn if tangent is None else tangent.add_(drawn)
        if isinstance(layer, nn.MaxPool2d):
            x, index = F.max_pool2d(x, 2, return_indices=True)
            tangent = tangent.flatten(2).gather(2, index.flatten(2)).view_as(x)
            continue
        x = layer(x)
        if isinstance(layer, nn.Conv2d):
            tangent = tangent if tangent is None else F.conv2d(tangent, layer.weight, padding=layer.padding)
            found.append((layer, inputs, x))
        elif tangent is not None and isinstance(layer, nn.BatchNorm2d):
            tangent = tangent * layer.weight[:, None, None]
        elif tangent is not None and isinstance(layer, nn.ReLU):
            tangent = tangent * (x > 0)
        elif tangent is not None:
            tangent = layer(tangent)
    for conv, before, after in found:
        gradient(conv, before, after, False, True)


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
    model = build("cnn", 3, 32, 10)
    found = seen(model, x)
    steps = {"plain": step(model, x, y), "directional dfa": step(model, x, y, linfa.directional_dfa(directions=1))}
    steps |= {"its convolutions": lambda: directional_convolutions(found)}
    show("CNN, directional", steps | {"with draws and products": lambda: directional(model, x)}, rounds)


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
