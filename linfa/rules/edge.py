"""An edge: where feedback runs, from an error space to an activity space."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Edge:
    """Feedback from the error at one cut of the network to the activity at a lower cut.

    Cut l is the output of layer l: cut 0 is the input, cut L the output of a depth-L network.

    Args:
        activity: the cut whose teaching signal the edge delivers.
        source: the cut whose error it carries; ``activity + 1`` spans a single layer.

    >>> Edge(activity=1, source=2).single_layer
    True
    """

    activity: int
    source: int

    @property
    def single_layer(self) -> bool:
        """Whether the edge spans exactly one layer, so that its forward map is that layer's weight."""
        return self.source == self.activity + 1

    @property
    def taught(self) -> int:
        """Index, from 0, of the first weight that learns from what the edge delivers: below its cut, or on the input.

        >>> Edge(activity=2, source=3).taught, Edge(activity=0, source=3).taught
        (1, 0)
        """
        return max(self.activity - 1, 0)


@dataclass(frozen=True, eq=False)
class Moments:
    """What a plasticity may read of its edge.  Only the ones that it names in ``reads`` are computed.

    Args:
        G: E[carried activity^T], (n_e, n_h).  Where the error is carried over a single layer this is its weight
            gradient.
        C: covariance of what is carried, (n_e, n_e).
        J: the forward map of the edge, (n_e, n_h): the weight on a single layer, a product of weights over several; or
            the estimate of it that sampled directions give.
    """

    G: Any = None
    C: Any = None
    J: Any = None
