"""Directional DFA beside DFA, direct Kolen-Pollack and backpropagation, fully connected and convolutional."""

from dataclasses import replace

import linfa
from deep.experiment import Data, Experiment, Optimizer
from deep.recipes.recipe import Recipe
from deep.schedule import Schedule

BP = Experiment(
    linfa.bp(),
    model="mlp",
    sizes={"hidden": (800, 800)},
    data=Data("fashion-mnist"),
    optimizer=Optimizer("adam", lr=1e-4),
    schedule=Schedule("exponential", rate=0.95),
    epochs=100,
    batch_size=64,
)
SOURCE = (
    "Bacho & Chu, arXiv 2212.07282: settings from the authors' code (feedback by Adam, their second option); "
    "no table was read."
)


def arms(experiment):
    """The four rules."""
    rules = linfa.bp(), linfa.dfa(), linfa.dkp(0.0), linfa.directional_dfa(directions=1)
    names = "BP", "DFA", "DKP", "directional DFA"
    return {name: replace(experiment, rule=rule) for name, rule in zip(names, rules, strict=True)}


FULLY_CONNECTED = Recipe(
    title="Directional DFA on Fashion-MNIST, 784-800-800-10",
    source=f"{SOURCE} The number of hidden layers is ours.",
    arms=arms(BP),
    quick=0.03,
)

CONVOLUTIONAL = Recipe(
    title="Directional DFA on CIFAR-10, LeNet",
    source=f"{SOURCE} The network, LeNet with batch normalisation for 15C5-40C5-P2-128-10, is ours.",
    arms=arms(replace(BP, model="lenet", sizes={"norm": True}, data=Data("cifar10"))),
    quick=0.03,
)
