"""Published experiments, one a file, and what runs them.

recipe.py           what a recipe is
reproduce.py        runs one over seeds, beside the published numbers
figure.py           what is drawn of it
ldfa_fc.py          LDFA, fully connected            ldfa_retina.py     with a retina
ldfa_vgg.py         VGG-like                         ldfa_vit.py        vision transformer
directional_dfa.py  beside DFA, DKP and BP           svd_local.py       factored weights
sgr.py              local losses, reconciled         rank_collapse.py   FA with Muon and batch normalisation
biotorch.py         baselines                        imagenet.py        ResNet-50 and ViT-B/16
rank_classes.py     rank against classes (ours)
"""

from deep.recipes import (
    biotorch,
    directional_dfa,
    imagenet,
    ldfa_fc,
    ldfa_retina,
    ldfa_vgg,
    ldfa_vit,
    rank_classes,
    rank_collapse,
    sgr,
    svd_local,
)
from deep.recipes.recipe import Recipe
from deep.recipes.reproduce import reproduce

RECIPES: dict[str, Recipe] = {
    "ldfa-fc": ldfa_fc.RECIPE,
    "ldfa-retina": ldfa_retina.RECIPE,
    "ldfa-vgg": ldfa_vgg.RECIPE,
    "ldfa-vit": ldfa_vit.RECIPE,
    "directional-dfa": directional_dfa.FULLY_CONNECTED,
    "directional-dfa-cnn": directional_dfa.CONVOLUTIONAL,
    "svd-local": svd_local.RECIPE,
    "sgr": sgr.RECIPE,
    "rank-collapse": rank_collapse.RECIPE,
    "biotorch-lenet": biotorch.CIFAR_LENET,
    "biotorch-resnet20": biotorch.CIFAR_RESNET20,
    "biotorch-imagenet": biotorch.IMAGENET_RESNET18,
    "ldfa-imagenet-resnet50": imagenet.CONVOLUTIONAL,
    "ldfa-imagenet-vit": imagenet.TRANSFORMER,
    "rank-classes": rank_classes.RECIPE,
}
"""Every recipe by name."""

__all__ = ["RECIPES", "Recipe", "reproduce"]
