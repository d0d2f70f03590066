"""What a recorder adds to training: the time of a measurement against that of a hundred steps.

    python tests/benchmarks/recorder.py --rounds 7 --models cnn resnet20

Steps and measurements take turns; the share is that of the medians.  ``--part`` measures on that many of the batch.
"""

import argparse
import json
import platform
import statistics

import torch
import torch.nn.functional as F
from rounds import seconds

import deep
import linfa
from deep.models import build

RULES = {"fa": linfa.fa(), "dfa": linfa.dfa(), "fa + muon": linfa.muon(linfa.fa())}


def measure(name, rule, args):
    """Median seconds of a step and of a measurement, and the share of the latter at one in ``args.every`` steps."""
    torch.manual_seed(0)
    x = torch.randn(args.batch, 3, 32, 32, device=args.device)
    y = torch.randint(0, 10, (args.batch,), device=args.device)
    model = deep.promote(build(name, 3, 32, 10).to(args.device), rule, sample=x)
    optimizer, recorder = deep.optimizer(model, lr=0.0), deep.Recorder(model, args.every)

    def step():
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    def record():
        recorder.measure(x[: args.part], y[: args.part])

    times = {step: [], record: []}
    for call in times:
        call()  # warm up
    for _ in range(args.rounds):
        for call, taken in times.items():
            taken.append(seconds(call, args.device))
    a, b = (statistics.median(taken) for taken in times.values())
    return {"step ms": round(1e3 * a, 2), "measurement ms": round(1e3 * b, 2), "share": round(b / (args.every * a), 4)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--models", nargs="+", default=["cnn", "resnet20"])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--part", type=int, help="samples to measure on; by default the batch")
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json")
    args = parser.parse_args()
    result = {"about": {"torch": torch.__version__, "machine": platform.machine(), **vars(args)}, "models": {}}
    for name in args.models:
        result["models"][name] = {}
        for rule_name, rule in RULES.items():
            row = result["models"][name][rule_name] = measure(name, rule, args)
            print(
                f"{name:<10} {rule_name:<10} step {row['step ms']:8.1f} ms   "
                f"measurement {row['measurement ms']:8.1f} ms   {100 * row['share']:.2f} % of training"
            )
    if args.json:
        with open(args.json, "w") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
