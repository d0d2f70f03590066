"""Time of a training step and memory of its graphs under local losses, as ratios to backpropagation of the same model.

    python tests/benchmarks/local_memory.py [--rounds 13] [--models deep cnn resnet20] [--modules 2 4 8] [--device cpu]

As in step_time.py: learning rate 0, arms interleaved in every round, median of the per-round ratios with quartiles.
Memory is the most that autograd graphs keep alive at a time during a whole step (distinct saved storages, parameters
left out), and on a GPU also the most that was allocated beyond what there was before the step.  "deep" has sixteen
convolutions of one size, so that activations dominate and modules are alike.
"""

import argparse
import copy
import json
import platform

import torch
from rounds import interleaved, ratios
from torch import nn

import deep
import linfa
from deep.models import build


def convolutions(layers=16, width=32):
    body = [m for n in range(layers) for m in (nn.Conv2d(width if n else 3, width, 3, padding=1), nn.ReLU())]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def rules(modules):
    arms = {"bp": None, "local": linfa.local(), "sgr": linfa.sgr()}
    for number in modules:
        arms |= {f"local({number})": linfa.sgr(number, lam=0.0), f"sgr({number})": linfa.sgr(number)}
    return arms


class Kept:
    """A tensor that a graph keeps; counted in ``live`` as long as it lives."""

    def __init__(self, live, tensor):
        self.live, self.tensor, self.storage = live, tensor, tensor.untyped_storage()
        live.keep(self.storage, 1)

    def __del__(self):
        self.live.keep(self.storage, -1)


class Live:
    """Bytes that graphs keep, and the most there were."""

    def __init__(self, model):
        self.own = {p.untyped_storage().data_ptr() for p in model.parameters()}
        self.users, self.now, self.peak = {}, 0, 0

    def keep(self, storage, change):
        key = storage.data_ptr()
        before = self.users.get(key, 0)
        self.users[key] = before + change
        if key not in self.own and not (before and before + change):
            self.now += change * storage.nbytes()
            self.peak = max(self.peak, self.now)


class Arm:
    """One model under one rule."""

    def __init__(self, model, rule, x, y):
        self.model, self.x, self.y = model, x, y
        if rule is not None:
            deep.promote(model, rule, sample=x[:2])
        learning = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(learning, lr=0.0, momentum=0.9)

    def step(self):
        self.optimizer.zero_grad()
        deep.loss(self.model, self.x, self.y).backward()
        self.optimizer.step()

    def kept(self):
        """The most bytes that graphs keep during a step."""
        live = Live(self.model)
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: Kept(live, tensor), lambda kept: kept.tensor):
            self.step()
        return live.peak

    def allocated(self):
        """The most bytes allocated on the GPU during a step, beyond those before it."""
        self.optimizer.zero_grad()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        self.step()
        return torch.cuda.max_memory_allocated() - before


def measure(name, rounds, device, batch, modules):
    torch.manual_seed(0)
    x = torch.randn(batch, 3, 32, 32, device=device)
    y = torch.randint(0, 10, (batch,), device=device)
    base = (convolutions() if name == "deep" else build(name, 3, 32, 10)).to(device)
    arms = {rule_name: Arm(copy.deepcopy(base), rule, x, y) for rule_name, rule in rules(modules).items()}
    for arm in arms.values():
        arm.step()
    times = interleaved({rule_name: arm.step for rule_name, arm in arms.items()}, rounds, device)
    rows, plain = {}, arms["bp"]
    for rule_name, arm in arms.items():
        rows[rule_name] = {
            **ratios(times[rule_name], times["bp"]), "kept": round(arm.kept() / plain.kept(), 3)
        }  # fmt: skip
        if x.is_cuda:
            rows[rule_name]["allocated"] = round(arm.allocated() / plain.allocated(), 3)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=13)
    parser.add_argument("--models", nargs="+", default=["deep", "cnn", "resnet20"])
    parser.add_argument("--modules", nargs="+", type=int, default=[2, 4, 8])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json")
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    about = {"torch": torch.__version__, "machine": platform.machine(), "threads": torch.get_num_threads()}
    about |= {"device": args.device, "batch": args.batch, "rounds": args.rounds}
    result = {"about": about, "models": {}}
    for name in args.models:
        result["models"][name] = measure(name, args.rounds, args.device, args.batch, args.modules)
        print(f"{name}, ratios to backpropagation (median [quartiles] of {args.rounds} rounds)")
        for rule_name, row in result["models"][name].items():
            middle, (low, high) = row["time"].values()
            on_gpu = f"   allocated {row['allocated']:.3f}" if "allocated" in row else ""
            print(
                f"  {rule_name:<10} time {middle:.3f} [{low:.3f}, {high:.3f}]   fastest {row['fastest']:.3f}   "
                f"kept {row['kept']:.3f}{on_gpu}   {row['step ms']:.1f} ms"
            )
    if args.json:
        with open(args.json, "w") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
