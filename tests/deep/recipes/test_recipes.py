"""Every published experiment: its arms learn, and its budget is what was published."""

import dataclasses

import pytest
import torch
from hypothesis import settings

import deep
import linfa
from deep.data import Images, Shuffled
from deep.experiment import Data, Experiment
from deep.recipes import RECIPES, Recipe
from deep.recipes.recipe import Smaller

SHAPES = {"cifar10": (3, 32, 10), "cifar100": (3, 32, 100), "fashion-mnist": (1, 28, 10), "imagenet": (3, 64, 1000)}
"""Channels, side and classes; ImageNet at a size that tests can afford."""
HEAVY = ("vgg13", "resnet18", "resnet50", "vit", "vit-b16")
"""Models of which one arm a recipe is trained, and only by the thorough profile."""
THOROUGH = settings.get_current_profile_name() == "thorough"


def loader(experiment):
    channels, size, classes = SHAPES[experiment.data.name]
    if experiment.model == "vit-b16":
        size = 224
    classes = experiment.data.classes or classes
    channels = 1 if experiment.data.grayscale else channels
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 255, (4, channels, size, size), generator=generator, dtype=torch.uint8)
    return Shuffled(Images(x, torch.arange(4) % classes, classes, (0.5,) * channels, (0.25,) * channels, "noise"), 4)


def cases():
    """Every arm; of heavy models the last."""
    out = {}
    for name, recipe in RECIPES.items():
        for arms in (recipe.arms, recipe.smaller.arms if recipe.smaller else {}):
            for arm, experiment in arms.items():
                heavy = experiment.model in HEAVY and not experiment.sizes  # those of a smaller one
                out[name, experiment.model, None if heavy else arm] = pytest.param(
                    experiment, id=f"{name}-{experiment.model}-{arm}",
                    marks=pytest.mark.skipif(heavy and not THOROUGH, reason="large: with HYPOTHESIS_PROFILE=thorough"),
                )  # fmt: skip
    return list(out.values())


@pytest.mark.parametrize("experiment", cases())
def test_every_arm_takes_a_step(experiment):
    training = loader(experiment)
    model = experiment.network(training)
    optimizer = experiment.optimizer.build(model, experiment.rule)
    before = [p.detach().clone() for p in model.parameters() if p.requires_grad]
    x, y = next(training.batches(0))
    deep.loss(model, x, y, experiment.loss()).backward()
    optimizer.step()
    after = [p for p in model.parameters() if p.requires_grad]
    assert all(torch.isfinite(p).all() for p in after)
    assert sum(not torch.equal(p, q) for p, q in zip(before, after, strict=True)) >= 2


@pytest.mark.parametrize("name", RECIPES)
def test_published_numbers_belong_to_arms(name):
    recipe = RECIPES[name]
    assert set(recipe.published) <= set(recipe.arms)
    assert all(0 < accuracy < 100 for accuracy in recipe.published.values())
    assert 0 < recipe.quick < 1
    rules = [(arm.rule.fingerprint, arm.model, str(arm.sizes), arm.data) for arm in recipe.arms.values()]
    assert len(set(rules)) == len(rules)


def test_errors_of_biotorch_are_accuracies():
    assert RECIPES["biotorch-lenet"].published == {
        "BP": 85.8, "FA": 53.3, "DFA": 45.8, "uSF": 83.8, "brSF": 84.0, "frSF": 83.1,
    }  # fmt: skip


EXPERIMENT = Experiment(linfa.bp(), epochs=40, batch_size=100, data=Data(limit=1000))
SMALL = dataclasses.replace(EXPERIMENT, model="lenet")
RECIPE = Recipe("a", "ours", {"BP": EXPERIMENT}, {"BP": 90.0}, smaller=Smaller(0.1, {"BP": SMALL}))


@pytest.mark.parametrize(
    ("share", "model", "epochs", "images"),
    [(1, "cnn", 40, 1000), (0.5, "cnn", 20, 1000), (0.1, "cnn", 4, 1000), (0.01, "lenet", 1, 400),
     (0.001, "lenet", 1, 100)],
)  # fmt: skip
def test_a_share_of_the_budget(share, model, epochs, images):
    (experiment,) = RECIPE.experiments(share).values()
    assert (experiment.model, experiment.epochs) == (model, epochs)
    assert len(experiment.data.images("train")) == images
    assert RECIPE.at(share).published == ({"BP": 90.0} if model == "cnn" else {})


@pytest.mark.parametrize("share", [0, -1, 1.5])
def test_a_share_that_is_none(share):
    with pytest.raises(ValueError, match=r"a share of the budget is in \(0, 1\]"):
        RECIPE.experiments(share)
