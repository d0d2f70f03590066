"""SVD-local learning beside backpropagation of the same factors and of full weights."""

from dataclasses import replace

import linfa
from deep.experiment import Data, Experiment, Optimizer
from deep.recipes.recipe import Recipe, Smaller
from deep.schedule import Schedule

BP = Experiment(
    linfa.bp(),
    model="vgg13",
    data=Data("cifar10", augment=("flip", "crop")),
    optimizer=Optimizer("adam", lr=1e-3),
    schedule=Schedule("cosine"),
    epochs=100,
    batch_size=128,
)


def arms(experiment, ranks):
    """Full weights under backpropagation and DFA, and factored ones under backpropagation and SVD-local learning."""
    out = {"BP": experiment, "DFA": replace(experiment, rule=linfa.dfa())}
    for rank in ranks:
        out[f"BP r={rank}"] = replace(experiment, rule=linfa.factored(linfa.bp(), rank))
        out[f"SVD-local r={rank}"] = replace(experiment, rule=linfa.svd_local(rank))
    return out


RECIPE = Recipe(
    title="SVD-local learning on CIFAR-10",
    source="'Feedback Alignment Meets Low-Rank Manifolds', arXiv 2510.25594: the networks are from the abstract, the "
    "training is ours, and no table was available. VGG-13, below 0.05 of the budget 3072-512-512-512-10.",
    arms=arms(BP, (16, 64, 256)),
    quick=0.02,
    smaller=Smaller(below=0.05, arms=arms(replace(BP, model="mlp"), (8, 32, 128))),
)
