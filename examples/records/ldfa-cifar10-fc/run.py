"""LDFA on CIFAR-10 with the fully connected 3072-512-512-512-10 network, at a reduced budget.

    python run.py DATA OUT [--epochs 8] [--seeds 3]

The arms of the recipe ``ldfa-fc`` at batch 128 and a larger learning rate that falls linearly: a few epochs show
the shape of the result; ``linfa reproduce ldfa-fc`` keeps the published settings.  DATA holds the official CIFAR-10
files.  Runs that are whole are read, others go on where they were.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from deep.experiment import Optimizer
from deep.recipes import RECIPES, reproduce
from deep.schedule import Schedule


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    recipe = RECIPES["ldfa-fc"]
    reduced = {
        "optimizer": Optimizer("adam", lr=1e-3, weight_decay=4e-4, amsgrad=True), "schedule": Schedule("linear"),
        "epochs": args.epochs, "batch_size": 128,
    }  # fmt: skip
    arms = {name: replace(arm, **reduced) for name, arm in recipe.arms.items()}
    reproduce(replace(recipe, arms=arms), args.out, args.data, scale=1, seeds=range(args.seeds))
    print((args.out / "table.md").read_text())


if __name__ == "__main__":
    main()
