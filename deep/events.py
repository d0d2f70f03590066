"""What happens to a model between two steps of its training: the rank of its weights falls, its feedback starts anew.

An event is called before every step with the number of the step, and does something at some of them.  It depends on
that number and on the model alone, so that a resumed run meets it again exactly where it was interrupted.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer

from deep.ranks import scheduled_ranks, shrink
from deep.refresh import refresh
from linfa.ranks import RankSchedule

Event = Callable[[nn.Module, Optimizer, int], None]


@dataclass(frozen=True)
class Shrink:
    """Lower the rank of factored weights where a stage of their schedule ends; all stages are equally long.

    Args:
        schedule: of the ranks.
        steps: of the whole run.

    >>> import linfa, torch, deep
    >>> net = deep.promote(nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 4)), linfa.factored(linfa.bp(), 4))
    >>> event, optimizer = Shrink(RankSchedule(4, 2, stages=3), steps=9), torch.optim.Adam(net.parameters())
    >>> for step in range(9):
    ...     event(net, optimizer, step)
    ...     print(net[0].s.shape[-2], end=" ")
    4 4 4 3 3 3 2 2 2
    """

    schedule: RankSchedule
    steps: int

    def __call__(self, model: nn.Module, optimizer: Optimizer, step: int) -> None:
        before, now = (k * self.schedule.stages // self.steps for k in (step - 1, step))
        if step and before != now:
            shrink(model, scheduled_ranks(model, self.schedule, now), optimizer)


@dataclass(frozen=True)
class Refresh:
    """Start feedback anew from the weights every so many steps, by `deep.refresh`.

    Args:
        every: steps from one time to the next, at least 1.
    """

    every: int

    def __call__(self, model: nn.Module, optimizer: Optimizer, step: int) -> None:
        if step and step % self.every == 0:
            refresh(model)
