"""What bounds the step time of ResNet-20 from below: an autograd function that does nothing but backpropagation.

python examples/records/step-time/floors.py [rounds]
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
from step_time import Arm, quartiles


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


def with_convolutions(model, kind):
    model = copy.deepcopy(model)
    for module in model.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = kind
    return model


def main(rounds):
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    x, y = torch.randn(128, 3, 32, 32), torch.randint(0, 10, (128,))
    model = build("resnet20", 3, 32, 10)
    arms = {
        "plain": Arm(copy.deepcopy(model), None, x, y),
        "plain again": Arm(copy.deepcopy(model), None, x, y),
        "bare autograd function": Arm(with_convolutions(model, BareConv), None, x, y),
        "fa": Arm(copy.deepcopy(model), linfa.fa(), x, y),
        "dfa": Arm(copy.deepcopy(model), linfa.dfa(), x, y),
    }
    times = {name: [] for name in arms}
    for turn in range(rounds + 2):
        names = list(arms)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            seconds = arms[name].seconds()
            if turn >= 2:
                times[name].append(seconds)
    for name, mine in times.items():
        row = quartiles([a / b for a, b in zip(mine, times["plain"], strict=True)])
        print(f"{name:<32} {row['median']:.3f} {row['quartiles']}   fastest {min(mine) / min(times['plain']):.3f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 25)
