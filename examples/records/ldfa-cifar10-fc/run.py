"""LDFA on CIFAR-10 with the fully connected 3072-512-512-512-10 network, at a reduced budget.

The published runs (Hanut & Kadmon, arXiv 2502.20580) take 160 epochs at batch 32; these take fewer at batch 128, so
only the shape of the result can be compared: which ranks reach backpropagation, and how the direct variant depends
on r.

    python run.py DATA OUT [--epochs 12] [--seeds 3]

DATA holds the official CIFAR-10 files.  Runs that are whole are skipped, others go on from their last epoch.
"""

import argparse
import json
import statistics
from pathlib import Path

import torch

import deep
import linfa
from deep.data import cifar10, flip, rotate
from deep.models import mlp
from deep.train import train

RULES = {
    "BP": linfa.bp(),
    "r=64": linfa.ldfa(64),
    "r=32": linfa.ldfa(32),
    "r=16": linfa.ldfa(16),
    "r=10": linfa.ldfa(10),
    "direct r=1": linfa.ldfa(1, direct=True),
    "direct r=4": linfa.ldfa(4, direct=True),
    "direct r=10": linfa.ldfa(10, direct=True),
    "BP, width 64": linfa.bp(),
}
PUBLISHED = {
    "BP": 62.76, "r=64": 62.87, "r=32": 62.43, "r=16": 62.13, "r=10": 61.84, "direct r=1": 35.9, "direct r=4": 57.3,
    "direct r=10": 62.1, "BP, width 64": 58.10,
}  # fmt: skip


def augment(x, generator):
    return rotate(flip(x, generator), generator, degrees=10)


def folder(out, name, seed):
    return out / f"{name.replace(' ', '-').replace('=', '').replace(',', '')}-{seed}"


def draw(table, epochs):
    """Test accuracy of every arm, every seed a dot, beside the published numbers."""
    import matplotlib.pyplot as plt

    from linfa import plot

    with plot.style():
        figure, ax = plt.subplots(figsize=(8, 3.8), layout="constrained")
        for place, row in enumerate(table.values()):
            mean, std = row["mean"], row["std"]
            label = {"label": f"ours, {epochs} epochs, mean and standard deviation"} if not place else {}
            ax.errorbar(place, mean, std, fmt="o", color=plot.PALETTE[0], capsize=4, **label)
            ax.plot([place + 0.12] * len(row["runs"]), row["runs"], ".", color=plot.PALETTE[5], markersize=4)
            label = {"label": "published, 160 epochs"} if not place else {}
            ax.plot(place - 0.12, row["published"], "_", color=plot.PALETTE[1], markersize=14, **label)
        ax.set_xticks(range(len(table)), [name.replace(" ", "\n", 1) for name in table])
        ax.set(title="LDFA on CIFAR-10, 3072-512-512-512-10", ylabel="test accuracy, %")
        ax.legend(loc="lower left")
    return figure


def run(name, seed, data, out, epochs):
    rule = RULES[name]
    hidden = 64 if "width" in name else 512
    torch.manual_seed(seed)
    model = mlp((3072, hidden, hidden, hidden, 10))
    deep.promote(model, rule, sample=data["train"].normalised(torch.arange(2)), seed=seed)
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learning, lr=1e-3, weight_decay=4e-4, amsgrad=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 - epoch / epochs)
    settings = {
        "epochs": epochs,
        "adam": {"lr": 1e-3, "weight_decay": 4e-4, "amsgrad": True},
        "schedule": "linear to 0",
    }
    return train(
        model, rule, data["train"], data["test"], optimizer, folder(out, name, seed),
        epochs=epochs, seed=seed, scheduler=scheduler, augment=augment, settings=settings,
    )  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    data = {split: cifar10(args.data, split) for split in ("train", "test")}
    print(data["train"].source)
    accuracy: dict[str, list[float]] = {name: [] for name in RULES}
    for seed in range(args.seeds):
        for name in RULES:
            rows = run(name, seed, data, args.out, args.epochs)
            accuracy[name].append(100 * rows[-1]["test_accuracy"])
            print(f"{name:>14}  seed {seed}  {accuracy[name][-1]:.2f} %", flush=True)
    table = {
        name: {"mean": statistics.mean(a), "std": statistics.stdev(a) if len(a) > 1 else 0.0, "runs": a,
               "published": PUBLISHED[name]}
        for name, a in accuracy.items()
    }  # fmt: skip
    lines = [
        {"run": name, "seed": seed, **json.loads((folder(args.out, name, seed) / "run.json").read_text()), "epoch": row}
        for name in RULES
        for seed in range(args.seeds)
        for row in map(json.loads, (folder(args.out, name, seed) / "log.jsonl").read_text().splitlines())
    ]
    (args.out / "log.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    draw(table, args.epochs).savefig(args.out / "figure.png", dpi=150)
    (args.out / "table.json").write_text(json.dumps({"epochs": args.epochs, "test accuracy %": table}, indent=1) + "\n")
    for name, row in table.items():
        print(f"{name:>14}  {row['mean']:6.2f} +- {row['std']:.2f}   published, 160 epochs: {row['published']}")


if __name__ == "__main__":
    main()
