"""The rank of feedback against the number of classes: is the error's dimension, K - 1, where accuracy ends to rise?"""

from dataclasses import replace

import linfa
from deep.experiment import Data, Experiment, Optimizer
from deep.recipes.recipe import Recipe
from deep.schedule import Schedule

BP = Experiment(
    linfa.bp(),
    model="mlp",
    sizes={"hidden": (256, 256, 256)},
    data=Data("cifar100", augment=("flip",)),
    optimizer=Optimizer("adam", lr=1e-3),
    schedule=Schedule("linear"),
    batch_size=64,
)
CLASSES = (5, 10, 20, 50, 100)
RANKS = (1, 2, 4, 9, 19, 49, 99)


def arms():
    """For every number of classes backpropagation, and the ranks up to a little more than the classes."""
    out = {}
    for K in CLASSES:
        task = replace(BP, data=replace(BP.data, classes=K), epochs=2000 // K)  # as many steps for every K
        out[f"K={K} BP"] = task
        ranks = [rank for rank in RANKS if rank < 2.5 * K]
        out |= {f"K={K} r={rank}": replace(task, rule=linfa.ldfa(rank)) for rank in ranks}
    return out


RECIPE = Recipe(
    title="Rank against classes, CIFAR-100",
    source="Ours: the first K classes of CIFAR-100 in a network 3072-256-256-256-K.",
    arms=arms(),
    quick=0.05,
)
