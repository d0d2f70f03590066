"""LDFA in a vision transformer, CIFAR-10: rank against accuracy."""

from dataclasses import replace

import linfa
from deep.experiment import Data, Experiment, Optimizer
from deep.recipes.recipe import Recipe, Smaller
from deep.schedule import Schedule

BP = Experiment(
    linfa.bp(),
    model="vit",
    data=Data("cifar10", augment=("trivial", "crop", "flip")),
    optimizer=Optimizer("adamw", lr=5e-4, weight_decay=0.1, feedback_lr=1.5e-2, feedback_decay=0.0),
    schedule=Schedule("cosine", warmup=10),
    epochs=250,
    batch_size=256,
    promotion={"exact": ("patch_embed",)},
)
SMALL = replace(
    BP,
    data=replace(BP.data, augment=("crop", "flip")),
    sizes={"patch": 8, "dim": 64, "depth": 4, "heads": 4},
    batch_size=64,
)


def constrained(experiment, rank):
    """Every linear map but the embedding, three times the rank for the fused one to queries, keys and values."""
    ranks = {"*.qkv": 3 * rank}
    return replace(experiment, rule=linfa.ldfa(rank, "normative"), promotion={**experiment.promotion, "ranks": ranks})


RECIPE = Recipe(
    title="LDFA on CIFAR-10, ViT",
    source="Hanut & Kadmon, arXiv 2502.20580, version 4: settings from the authors' code, numbers read from their "
    "figures. TrivialAugment for their AutoAugment, and the small network for short runs, without it, are ours.",
    arms={"BP": BP, **{f"r={rank}": constrained(BP, rank) for rank in (64, 48, 40, 32, 24, 16)}},
    published={"BP": 91.34, "r=64": 91.08, "r=48": 91.26, "r=40": 90.94, "r=32": 90.77, "r=24": 90.23, "r=16": 89.40},
    quick=0.004,
    smaller=Smaller(
        below=0.05, arms={"BP": SMALL, **{f"r={rank}": constrained(SMALL, rank) for rank in (21, 16, 10, 4, 1)}}
    ),
)
