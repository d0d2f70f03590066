"""ImageNet settings for feedback of low rank: ResNet-50 and ViT-B/16."""

from dataclasses import replace

import linfa
from deep.experiment import Data, Experiment, Optimizer
from deep.recipes.biotorch import IMAGENET
from deep.recipes.ldfa_vit import constrained
from deep.recipes.recipe import Recipe
from deep.schedule import Schedule

RESNET50 = replace(IMAGENET, model="resnet50")
VIT = Experiment(
    linfa.bp(),
    model="vit-b16",
    data=Data("imagenet"),
    optimizer=Optimizer("adamw", lr=1e-3, weight_decay=0.3, feedback_lr=1.5e-2, feedback_decay=0.0),
    schedule=Schedule("cosine", warmup=10),
    epochs=300,
    batch_size=1024,
    label_smoothing=0.1,
    promotion={"exact": ("patch_embed", "blocks.10", "blocks.11")},
)

CONVOLUTIONAL = Recipe(
    title="LDFA on ImageNet, ResNet-50",
    source="Ours: no experiment of this kind is published.",
    arms={"BP": RESNET50} | {f"r={rank}": replace(RESNET50, rule=linfa.ldfa(rank)) for rank in (192, 64)},
    quick=0.0001,
)
TRANSFORMER = Recipe(
    title="LDFA on ImageNet, ViT-B/16",
    source="Hanut & Kadmon, arXiv 2502.20580: 300 epochs, ranks and the last blocks on backpropagation from the "
    "authors' configurations, in which no result was found; the rest is ours.",
    arms={"BP": VIT} | {f"r={rank}": constrained(VIT, rank) for rank in (192, 128, 64)},
    quick=0.0001,
)
