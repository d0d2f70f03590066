"""Time and live memory of a training step, as ratios to plain backpropagation of the same model in the same run.

    python tests/benchmarks/step_time.py [--rounds 13] [--models cnn resnet20 vit] [--device cpu] [--compile]
        [--rules fa dfa] [--json FILE]

Learning rate 0 and flushed denormals, so that every arm times the same numbers.  Arms are interleaved in every round
and the median of the per-round ratios is quoted with its quartiles, beside the ratio of the fastest steps, which a busy
machine disturbs less.  Memory is what the autograd graph keeps alive between forward and backward (distinct saved
storages), and the feedback's own size beside it.  Where biotorch is installed, the rules that it has run beside ours,
but for transformers, whose tokens its direct rule does not take.
"""

import argparse
import contextlib
import copy
import importlib.util
import io
import json
import platform
import weakref

import torch
import torch.nn.functional as F
from rounds import interleaved, ratios

import deep
import linfa
from deep.models import build

RULES = {
    "bp (plain)": None,
    "bp": linfa.bp(),
    "fa": linfa.fa(),
    "kolen-pollack": linfa.kolen_pollack(0.0),
    **{name: linfa.sign_symmetry(name) for name in ("uSF", "brSF", "frSF")},
    "ldfa r=10 fixed": linfa.ldfa(10, "fixed"),
    "ldfa r=10 oja": linfa.ldfa(10, "oja"),
    "ldfa r=10 normative": linfa.ldfa(10, "normative"),
    "ldfa r=32 oja": linfa.ldfa(32, "oja"),
    "dfa": linfa.dfa(),
    "directional dfa": linfa.directional_dfa(directions=1),
    "weight mirror": linfa.weight_mirror(directions=1),
    "bp factored r=8": linfa.factored(linfa.bp(), 8),
    "svd-local r=8": linfa.svd_local(8),
    "svd-local r=32": linfa.svd_local(32),
}

BIOTORCH = ("fa", "uSF", "brSF", "frSF", "dfa")
"""Rules that biotorch has."""


class Arm:
    """One model under one rule, with the time of a step and its memory."""

    def __init__(self, model, rule, x, y, compiled=False):
        self.x, self.y = x, y
        if rule is not None:
            deep.promote(model, rule, sample=x)
        self.model = torch.compile(model) if compiled else model
        learning = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(learning, lr=0.0, momentum=0.9)
        inside = [p for name, p in model.named_parameters() if "feedback" in name]
        self.feedback = sum(p.numel() * p.element_size() for p in inside)

    def loss(self):
        if type(self.model).__module__.startswith("biotorch"):
            return F.cross_entropy(self.model(self.x, self.y, F.cross_entropy), self.y)
        return F.cross_entropy(self.model(self.x), self.y)

    def step(self):
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()

    def live(self):
        """Bytes that the graph of one forward pass keeps alive, parameters left out."""
        own = {p.untyped_storage().data_ptr() for p in self.model.parameters()}
        saved = weakref.WeakSet()  # a forward may save what it has forgotten when it ends

        def pack(tensor):
            saved.add(entry := Saved(tensor))
            return entry

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda entry: entry.tensor):
            loss = self.loss()
        storages = [entry.tensor.untyped_storage() for entry in saved if loss.requires_grad]
        return sum({s.data_ptr(): s.nbytes() for s in storages if s.data_ptr() not in own}.values())


class Saved:
    """A tensor that a graph keeps for its backward."""

    def __init__(self, tensor):
        self.tensor = tensor


def measure(name, rounds, device, batch, chosen, compiled):
    torch.manual_seed(0)
    x = torch.randn(batch, 3, 32, 32, device=device)
    y = torch.randint(0, 10, (batch,), device=device)
    base = build(name, 3, 32, 10).to(device)
    arms = {}
    for rule_name, rule in RULES.items():
        if rule is None or not chosen or rule_name in chosen:
            try:
                arms[rule_name] = Arm(copy.deepcopy(base), rule, x, y, compiled)
            except deep.Unsupported as reason:
                print(f"{name} does not run under {rule_name}: {reason}")
    if importlib.util.find_spec("biotorch") and not compiled and name != "vit":
        from biotorch.module.biomodule import BioModule

        for rule_name in (name for name in BIOTORCH if name in RULES and (not chosen or name in chosen)):
            with contextlib.redirect_stdout(io.StringIO()):
                theirs = BioModule(module=copy.deepcopy(base), mode=rule_name.lower(), output_dim=10).to(device)
            arms[f"biotorch {rule_name}"] = Arm(theirs, None, x, y)
    for arm in arms.values():
        arm.step()
        arm.step()
    times = interleaved({rule_name: arm.step for rule_name, arm in arms.items()}, rounds, device)
    plain, memory = times["bp (plain)"], arms["bp (plain)"].live()
    return {
        rule_name: {
            **ratios(times[rule_name], plain),
            "memory": round(arm.live() / memory, 3),
            "feedback MB": round(arm.feedback / 1e6, 2),
        }
        for rule_name, arm in arms.items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=13)
    parser.add_argument("--models", nargs="+", default=["cnn", "resnet20"])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rules", nargs="+", help="these alone, by the names in the output")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--json")
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    about = {"torch": torch.__version__, "machine": platform.machine(), "threads": torch.get_num_threads()}
    about |= {"device": args.device, "batch": args.batch, "rounds": args.rounds, "compiled": args.compile}
    result = {"about": about, "models": {}}
    for name in args.models:
        result["models"][name] = measure(name, args.rounds, args.device, args.batch, args.rules, args.compile)
        print(f"{name}, ratios to plain backpropagation (median [quartiles] of {args.rounds} rounds)")
        for rule_name, row in result["models"][name].items():
            low, high = row["time"]["quartiles"]
            print(
                f"  {rule_name:<22} time {row['time']['median']:.3f} [{low:.3f}, {high:.3f}]   "
                f"fastest {row['fastest']:.3f}   "
                f"live memory {row['memory']:.3f}   feedback {row['feedback MB']:.2f} MB   {row['step ms']:.1f} ms"
            )
    if args.json:
        with open(args.json, "w") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
