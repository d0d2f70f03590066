"""A published experiment: its arms, its budget and its numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from deep.experiment import Experiment
from deep.recipes.figure import accuracies


@dataclass(frozen=True)
class Smaller:
    """What takes the place of the arms when there is no budget for their networks; ours, no number is published.

    Args:
        below: the share of the budget below which it does.
        arms: the experiments by name, at the same full budget.
    """

    below: float
    arms: Mapping[str, Experiment]


@dataclass(frozen=True)
class Recipe:
    """A published experiment at its full budget, and at shares of it.

    Args:
        title: of the figure.
        source: the publication, what of it was read, and what is ours.
        arms: the experiments by name, at the full budget.
        published: test accuracy in % by arm, where there is a number.
        quick: a share of the budget for a first look: minutes a run on two cores, but for ImageNet, which needs a GPU.
        smaller: arms of smaller networks for short runs.
        record_every: steps from one measurement of alignment and ranks to the next; None for none.
        figure: table of `deep.recipes.reproduce` -> matplotlib figure.
    """

    title: str
    source: str
    arms: Mapping[str, Experiment]
    published: Mapping[str, float] = field(default_factory=dict)
    quick: float = 0.01
    smaller: Smaller | None = None
    record_every: int | None = None
    figure: Callable = accuracies

    def at(self, share: float) -> "Recipe":
        """The recipe with the arms that a share of the budget trains."""
        if self.smaller is None or share >= self.smaller.below:
            return self
        return replace(self, arms=self.smaller.arms, published={}, smaller=None)

    def experiments(self, share: float, folder: Path | None = None, trust: Sequence[str] = ()) -> dict[str, Experiment]:
        """The arms at a share in (0, 1] of the budget: of passes over the images, below one of images.

        Args:
            share: of the budget.
            folder: of the data.
            trust: SHA-256 of images to accept although they are not all of the published ones.

        Raises:
            ValueError: for another share, or as `deep.data.load`.
        """
        arms = self.at(share).arms.items()
        found = {name: replace(arm, data=replace(arm.data, folder=folder, trust=tuple(trust))) for name, arm in arms}
        return {name: arm.scaled(share) for name, arm in found.items()}
