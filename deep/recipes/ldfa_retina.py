"""LDFA, convolutional with a retina, grayscale CIFAR-10: rank and what learns."""

from dataclasses import replace

import linfa
from deep.experiment import Data, Experiment, Optimizer
from deep.recipes.recipe import Recipe
from deep.schedule import Schedule

BP = Experiment(
    linfa.bp(),
    model="retina",
    data=Data("cifar10", grayscale=True, augment=("flip", "rotate")),
    optimizer=Optimizer("adam", lr=5e-4, weight_decay=4e-4, amsgrad=True),
    schedule=Schedule("exponential", rate=0.975),
    epochs=160,
    batch_size=32,
    promotion={"exact": ("9", "11")},  # the classifier: convolutions alone are constrained
)
RANKS = (1, 4, 8, 16, 32)


RECIPE = Recipe(
    title="LDFA on grayscale CIFAR-10, a CNN with a retina",
    source="Hanut & Kadmon, arXiv 2502.20580: numbers read from the authors' figures. Sizes of the network and its "
    "training are ours (those of the fully connected one).",
    arms={
        "BP": BP,
        **{f"r={rank}": replace(BP, rule=linfa.ldfa(rank)) for rank in RANKS},
        **{f"r={rank}, Q learns": replace(BP, rule=linfa.ldfa(rank, "kolen-pollack")) for rank in RANKS},
    },
    published={
        "BP": 84.3, "r=1": 71.6, "r=4": 76.7, "r=8": 81.0, "r=16": 83.4, "r=32": 84.1, "r=1, Q learns": 67.7,
        "r=4, Q learns": 75.2, "r=8, Q learns": 78.2, "r=16, Q learns": 80.0, "r=32, Q learns": 82.1,
    },
    quick=0.002,
)  # fmt: skip
