"""Where directional DFA spends its time: one step of a model under torch.profiler, in groups.

Gradients are of weights alone where errors are broadcast, and of inputs, too, in plain backpropagation.

python examples/records/step-time/directional_profile.py [cnn | vit] [batch]
"""

import copy
import sys
from collections import Counter
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.autograd import forward_ad
from torch.profiler import ProfilerActivity, profile

import linfa
from deep.derivatives import PUSHED
from deep.memory import keep_memory
from deep.models import build

sys.path.insert(0, str(Path(__file__).parents[3] / "tests" / "benchmarks"))
from step_time import Arm

PRODUCTS = ("aten::convolution", "aten::convolution_backward", "aten::addmm", "aten::mm")
ATTENTION = ("aten::scaled_dot_product_attention", "aten::bmm")


def group(event, tangent, back):
    """The group of an operation with all that is below it, or None."""
    if event.name in PRODUCTS:
        return "tangents through linear maps" if tangent else "gradients of linear maps" if back else "linear maps"
    if event.name in ATTENTION or "ScaledDotProduct" in event.name:
        return "attention, tangents and gradients among it"
    return "random numbers" if event.name == "aten::normal_" else None


def grouped(events) -> Counter:
    """Milliseconds by group: of the outermost operation that has one, and elsewhere of every operation by itself."""
    found = Counter()

    def walk(event, tangent, back):
        tangent = tangent or event.name == "tangent"
        back = back or event.name.startswith("autograd::engine")
        name = group(event, tangent, back)
        if name:
            found[name] += event.cpu_time_total / 1e3
            return
        found["elementwise and the rest"] += event.self_cpu_time_total / 1e3
        for child in event.cpu_children:
            walk(child, tangent, back)

    for event in events:
        if event.cpu_parent is None:
            walk(event, False, False)
    return found


def marked(function, pushed):
    """What pushes a tangent through a linear map, with a mark on it."""

    def either(x, weight, bias=None, *geometry):
        primal, tangent = forward_ad.unpack_dual(x)
        if tangent is None:
            return pushed(x, weight, bias, *geometry)
        y = function(primal, weight, bias, *geometry)
        with torch.profiler.record_function("tangent"):
            return forward_ad.make_dual(y, function(tangent.detach(), weight.detach(), None, *geometry))

    return either


def main(name="cnn", batch="128"):
    keep_memory()
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    x, y = torch.randn(int(batch), 3, 32, 32), torch.randint(0, 10, (int(batch),))
    model = build(name, 3, 32, 10)
    for function in (torch.convolution, F.linear):
        PUSHED[function] = marked(function, PUSHED[function])
    for label, rule in {"plain": None, "directional dfa": linfa.directional_dfa(directions=1)}.items():
        arm = Arm(copy.deepcopy(model), rule, x, y)
        for _ in range(3):
            arm.step()
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            arm.step()
        groups = grouped(seen.events())
        print(f"{label}: {sum(groups.values()):.0f} ms")
        for key, milliseconds in groups.most_common():
            print(f"  {key:<44} {milliseconds:7.0f} ms")


if __name__ == "__main__":
    main(*sys.argv[1:])
