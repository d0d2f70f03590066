"""The baselines of BioTorch: LeNet and ResNet-20 on CIFAR-10, ResNet-18 on ImageNet."""

from dataclasses import replace

import linfa
from deep.experiment import Data, Experiment, Optimizer
from deep.recipes.recipe import Recipe
from deep.schedule import Schedule

RULES = {
    "BP": linfa.bp(), "FA": linfa.fa(), "DFA": linfa.dfa(), "uSF": linfa.sign_symmetry("uSF"),
    "brSF": linfa.sign_symmetry("brSF"), "frSF": linfa.sign_symmetry("frSF"),
}  # fmt: skip
SOURCE = "Sanfiz & Akrout, BioTorch: test errors of their table; the training here is ours."

LENET = Experiment(
    linfa.bp(),
    model="lenet",
    data=Data("cifar10", augment=("flip", "crop")),
    optimizer=Optimizer("sgd", lr=0.05, weight_decay=5e-4),
    schedule=Schedule("step", rate=0.1, milestones=(0.5, 0.75)),
    epochs=250,
    batch_size=128,
)


def arms(experiment):
    """Every rule that BioTorch has."""
    return {name: replace(experiment, rule=rule) for name, rule in RULES.items()}


def accuracies(*errors):
    """Test accuracies of the rules in %, of errors in %."""
    return {name: round(100 - error, 1) for name, error in zip(RULES, errors, strict=True)}


CIFAR_LENET = Recipe(
    "BioTorch on CIFAR-10, LeNet", SOURCE, arms(LENET), accuracies(14.2, 46.7, 54.2, 16.2, 16.0, 16.9), quick=0.012
)
CIFAR_RESNET20 = Recipe(
    "BioTorch on CIFAR-10, ResNet-20",
    SOURCE,
    arms(replace(LENET, model="resnet20", optimizer=replace(LENET.optimizer, lr=0.1))),
    accuracies(8.6, 32.2, 45.9, 10.1, 11.0, 11.2),
    quick=0.0005,
)
IMAGENET = replace(
    LENET,
    model="resnet18",
    data=Data("imagenet"),
    optimizer=replace(LENET.optimizer, lr=0.1, weight_decay=1e-4),
    schedule=Schedule("step", rate=0.1, milestones=(1 / 3, 2 / 3)),
    epochs=90,
    batch_size=256,
)
IMAGENET_RESNET18 = Recipe(
    "BioTorch on ImageNet, ResNet-18",
    SOURCE,
    arms(IMAGENET),
    accuracies(30.4, 85.3, 82.5, 35.0, 37.2, 36.5),
    quick=0.0001,
)
