"""LDFA in a VGG-like network, CIFAR-10."""

from dataclasses import replace

import linfa
from deep.experiment import Data, Experiment, Optimizer
from deep.recipes.recipe import Recipe, Smaller
from deep.schedule import Schedule

BP = Experiment(
    linfa.bp(),
    model="vgg",
    data=Data("cifar10", augment=("flip", "crop")),
    optimizer=Optimizer("adam", lr=5e-4, weight_decay=4e-4, amsgrad=True),
    schedule=Schedule("exponential", rate=0.975),
    epochs=160,
    batch_size=128,
)
SMALL = replace(BP, model="cnn", sizes={"width": 16})


def arms(experiment, ranks):
    """Backpropagation, and feedback of these ranks in every layer."""
    return {"BP": experiment} | {f"r={rank}": replace(experiment, rule=linfa.ldfa(rank)) for rank in ranks}


RECIPE = Recipe(
    title="LDFA on CIFAR-10, VGG-like",
    source="Hanut & Kadmon, arXiv 2502.20580, trains such a network; its sizes and training here are ours, and no "
    "number was read.",
    arms=arms(BP, (64, 32, 16, 10)),
    quick=0.002,
    smaller=Smaller(below=0.05, arms=arms(SMALL, (16, 10, 4))),
)
