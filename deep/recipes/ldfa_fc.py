"""LDFA, fully connected, CIFAR-10: the table of rank against accuracy."""

from dataclasses import replace

import linfa
from deep.experiment import Data, Experiment, Optimizer
from deep.recipes.recipe import Recipe
from deep.schedule import Schedule

BP = Experiment(
    linfa.bp(),
    model="mlp",
    data=Data("cifar10", augment=("flip", "rotate")),
    optimizer=Optimizer("adam", lr=5e-4, weight_decay=4e-4, amsgrad=True),
    schedule=Schedule("exponential", rate=0.975),
    epochs=160,
    batch_size=32,
)
RANKED = replace(BP, optimizer=replace(BP.optimizer, lr=6e-4))

RECIPE = Recipe(
    title="LDFA on CIFAR-10, 3072-512-512-512-10",
    source="Hanut & Kadmon, arXiv 2502.20580: settings from the authors' code, numbers read from their figures (best "
    "epoch, mean of 10). Our Oja rule uses each layer's own error also at the head, where their code takes the labels.",
    arms={
        "BP": BP,
        **{f"r={rank}": replace(RANKED, rule=linfa.ldfa(rank)) for rank in (64, 32, 16, 10)},
        **{f"direct r={rank}": replace(BP, rule=linfa.ldfa(rank, direct=True)) for rank in (1, 4, 10)},
        "BP, width 64": replace(BP, sizes={"hidden": (64, 64, 64)}),
    },
    published={
        "BP": 62.76, "r=64": 62.87, "r=32": 62.43, "r=16": 62.13, "r=10": 61.84, "direct r=1": 35.9,
        "direct r=4": 57.3, "direct r=10": 62.1, "BP, width 64": 58.10,
    },
    quick=0.0125,
)  # fmt: skip
