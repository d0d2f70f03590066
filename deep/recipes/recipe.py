"""A published experiment: its arms, its budget and its numbers."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deep.experiment import Experiment


@dataclass(frozen=True)
class Smaller:
    """What takes the place of settings that a short run cannot fill.

    Args:
        below: the share of the budget below which it does.
        settings: fields of the experiments.
    """

    below: float
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Recipe:
    """A published experiment at its full budget, and at shares of it.

    Args:
        title: of the figure.
        source: the publication, what of it was read, and what is ours.
        arms: the experiments by name, at the full budget.
        published: test accuracy in % by arm, where there is a number.
        quick: the share of the budget that takes minutes on two cores.
        smaller: replacements for short runs.
        record_every: steps from one measurement of alignment and ranks to the next; None for none.
    """

    title: str
    source: str
    arms: Mapping[str, Experiment]
    published: Mapping[str, float] = field(default_factory=dict)
    quick: float = 0.01
    smaller: Smaller | None = None
    record_every: int | None = None

    def experiments(self, share: float, folder: Path | None = None, trust: str | None = None) -> dict[str, Experiment]:
        """The arms at a share in (0, 1] of the budget.

        Args:
            share: of passes over the images, then of images.
            folder: of the data.
            trust: SHA-256 of images to accept although they are not all of the published ones.

        Raises:
            ValueError: for another share, or as `deep.data.load`.
        """
        settings = self.smaller.settings if self.smaller is not None and share < self.smaller.below else {}
        out = {}
        for name, experiment in self.arms.items():
            data = dataclasses.replace(experiment.data, folder=folder, trust=trust)
            out[name] = dataclasses.replace(experiment, data=data, **settings).scaled(share)
        return out
