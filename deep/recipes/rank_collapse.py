"""Feedback alignment with Muon and batch normalisation: accuracy, and the ranks of what is learned from.

The rank of a trajectory is at most the number of gradients that were measured, one in 200 steps: compare arms at the
same step, and runs of other lengths not at their ends.
"""

from dataclasses import replace

import linfa
from deep.experiment import Data, Experiment, Optimizer
from deep.recipes.recipe import Recipe, Smaller
from deep.schedule import Schedule
from linfa.rules import NewtonSchulz

BP = Experiment(
    linfa.bp(),
    model="resnet18",
    data=Data("cifar100", augment=("flip", "crop")),
    optimizer=Optimizer("sgd", lr=0.1, weight_decay=5e-4, geometry_lr=0.02),
    schedule=Schedule("cosine"),
    epochs=200,
    batch_size=128,
)
SMALL = replace(BP, model="lenet", data=Data("cifar10", augment=("flip", "crop")), optimizer=Optimizer("adam", lr=1e-3))


def muon(rule):
    """The rule with the updates of Muon, in name and geometry."""
    return replace(linfa.muon(rule), geometry=NewtonSchulz())


def arms(experiment):
    """Backpropagation and feedback alignment, with and without each of the two."""
    out = {}
    for name, rule in (("BP", linfa.bp()), ("FA", linfa.fa())):
        for norm in (False, True):
            sizes = {**experiment.sizes, "norm": norm}
            plain = replace(experiment, rule=rule, sizes=sizes)
            label = f"{name} + BN" if norm else name
            out |= {label: plain, f"{label} + Muon": replace(plain, rule=muon(rule))}
    return out


RECIPE = Recipe(
    title="Feedback alignment, batch normalisation and Muon",
    source="Boeshertz, Pascanu & Clopath, arXiv 2606.11123: numbers reported second-hand, training ours. ResNet-18 on "
    "CIFAR-100; below 0.05 of the budget LeNet on CIFAR-10.",
    arms=arms(BP),
    published={"FA": 1.4, "FA + BN": 37.1, "FA + Muon": 25.3, "FA + BN + Muon": 46.1},
    quick=0.02,
    smaller=Smaller(below=0.05, arms=arms(SMALL)),
    record_every=200,
)
