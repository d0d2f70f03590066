"""Where directional DFA spends its time: one step of the CNN under torch.profiler, in five groups.

Gradients of convolutions are of weights alone where errors are broadcast, and of inputs, too, in plain backpropagation.

python examples/records/step-time/directional_profile.py [batch]
"""

import copy
import sys
from collections import Counter
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

import linfa
from deep.derivatives import PUSHED
from deep.models import build

sys.path.insert(0, str(Path(__file__).parents[3] / "tests" / "benchmarks"))
from step_time import Arm

GROUPS = {
    "aten::convolution_backward": "gradients of convolutions", "aten::normal_": "random numbers",
    "aten::convolution": "convolutions of the forward pass",
}  # fmt: skip
"""Operation -> its group, which has all that is below it, too; what is left is elementwise and the rest."""


def grouped(events) -> Counter:
    """Milliseconds by group: of the outermost operation that has one, and elsewhere of every operation by itself."""
    found = Counter()

    def walk(event, tangent):
        tangent = tangent or event.name == "tangent"
        group = GROUPS.get(event.name)
        if group:
            group = "convolutions of tangents" if tangent and "forward" in group else group
            found[group] += event.cpu_time_total / 1e3
            return
        found["elementwise and the rest"] += event.self_cpu_time_total / 1e3
        for child in event.cpu_children:
            walk(child, tangent)

    for event in events:
        if event.cpu_parent is None and event.name != "step":
            walk(event, False)
        elif event.name == "step":
            for child in event.cpu_children:
                walk(child, False)
    return found


def marked(pushed):
    """What pushes a tangent through a convolution, with a mark on it."""

    def either(x, weight, bias, *geometry):
        primal, tangent = torch.autograd.forward_ad.unpack_dual(x)
        if tangent is None:
            return pushed(x, weight, bias, *geometry)
        y = torch.convolution(primal, weight, bias, *geometry)
        with torch.profiler.record_function("tangent"):
            tangent = torch.convolution(tangent.detach(), weight.detach(), None, *geometry)
        return torch.autograd.forward_ad.make_dual(y, tangent)

    return either


def main(batch):
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    x, y = torch.randn(batch, 3, 32, 32), torch.randint(0, 10, (batch,))
    model = build("cnn", 3, 32, 10)
    PUSHED[torch.convolution] = marked(PUSHED[torch.convolution])
    for name, rule in {"plain": None, "directional dfa": linfa.directional_dfa(directions=1)}.items():
        arm = Arm(copy.deepcopy(model), rule, x, y)
        for _ in range(2):
            arm.step()
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            arm.step()
        groups = grouped(seen.events())
        print(f"{name}: {sum(groups.values()):.0f} ms")
        for group, milliseconds in groups.most_common():
            print(f"  {group:<34} {milliseconds:7.0f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 128)
