"""Successive gradient reconciliation beside greedy local learning and backpropagation."""

from dataclasses import replace

import linfa
from deep.recipes import svd_local
from deep.recipes.recipe import Recipe, Smaller

BP = replace(svd_local.BP, model="resnet32")
"""Neither publication says how to train on CIFAR-10, so both are trained alike."""


def arms(experiment, modules):
    """Backpropagation, and local losses of a few modules and of one layer a module, reconciled and not."""
    rules = {"BP": linfa.bp()}
    for name, number in ((f"{modules} modules", modules), ("a layer a module", None)):
        rules[f"local, {name}"] = linfa.sgr(number, lam=0.0)
        rules |= {f"SGR {lam}, {name}": linfa.sgr(number, lam=lam) for lam in (0.1, 1.0)}
    return {name: replace(experiment, rule=rule) for name, rule in rules.items()}


RECIPE = Recipe(
    title="Successive gradient reconciliation on CIFAR-10",
    source="Yang et al., ICML 2024, arXiv 2406.05222, trains on ImageNet; the method is from the abstract, its form, "
    "the networks and the training are ours. ResNet-32, below 0.05 of the budget LeNet with batch normalisation.",
    arms=arms(BP, 4),
    quick=0.02,
    smaller=Smaller(below=0.05, arms=arms(replace(BP, model="lenet", sizes={"norm": True}), 2)),
)
