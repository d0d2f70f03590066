"""Published experiments, one a file, and what runs them.

recipe.py    what a recipe is            reproduce.py  runs one over seeds, beside the published numbers
ldfa_fc.py   LDFA, fully connected
"""

from deep.recipes import ldfa_fc
from deep.recipes.recipe import Recipe
from deep.recipes.reproduce import reproduce

RECIPES: dict[str, Recipe] = {
    "ldfa-fc": ldfa_fc.RECIPE,
}
"""Every recipe by name."""

__all__ = ["RECIPES", "Recipe", "reproduce"]
